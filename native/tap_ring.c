#include "tap_ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* In place of a block's type: the next one is at the ring's beginning. */
#define SKIP UINT32_C(0)

int dp_tap_ring_open(struct dp_tap_ring *ring, size_t octets) {
    void *p = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    (void)madvise(p, octets, MADV_DONTDUMP); /* plaintext passes through here */
    ring->base = p;
    ring->octets = octets;
    return 0;
}

void dp_tap_ring_close(struct dp_tap_ring *ring) {
    if (ring->base != NULL)
        munmap(ring->base, ring->octets);
}

uint8_t *dp_tap_ring_reserve(struct dp_tap_ring *ring, size_t octets) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t at = head & (ring->octets - 1), left = ring->octets - at, skip = left < octets ? left : 0;
    if (ring->octets - (head - tail) < skip + octets)
        return NULL;
    if (skip != 0)
        memcpy(ring->base + at, &(const uint32_t){SKIP}, sizeof(uint32_t)); /* blocks are multiples of 4 long */
    ring->from = head + skip;
    return ring->base + (ring->from & (ring->octets - 1));
}

void dp_tap_ring_publish(struct dp_tap_ring *ring, size_t octets) {
    atomic_store_explicit(&ring->head, ring->from + octets, memory_order_release);
}

uint8_t *dp_tap_ring_oldest(struct dp_tap_ring *ring, uint32_t *octets) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (head == tail)
        return NULL;
    uint8_t *block = ring->base + (tail & (ring->octets - 1));
    uint32_t words[2];
    memcpy(words, block, sizeof words[0]);
    if (words[0] == SKIP) { /* a block follows it: they are published together */
        tail += ring->octets - (tail & (ring->octets - 1));
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
        block = ring->base;
    }
    memcpy(words, block, sizeof words);
    *octets = words[1];
    return block;
}

void dp_tap_ring_take(struct dp_tap_ring *ring, uint32_t octets) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, tail + octets, memory_order_release);
}
