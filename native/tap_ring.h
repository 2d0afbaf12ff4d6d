/* A ring of pcapng blocks: one thread writes, the control thread reads, nobody waits. */
#ifndef DP_TAP_RING_H
#define DP_TAP_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_tap_ring {
    _Alignas(64) _Atomic uint64_t head; /* octets ever written */
    uint64_t from;                      /* where what dp_tap_ring_reserve gave begins */
    uint32_t held;                      /* octets of the block there that waits to be ended; 0: none */
    _Alignas(64) _Atomic uint64_t tail; /* octets ever read */
    uint8_t *base;
    size_t octets; /* a power of two */
};

/* -errno. */
int dp_tap_ring_open(struct dp_tap_ring *ring, size_t octets);
void dp_tap_ring_close(struct dp_tap_ring *ring);

/* Room for a block of at most `octets` (a multiple of 4), one behind the other; NULL: there is none. */
uint8_t *dp_tap_ring_reserve(struct dp_tap_ring *ring, size_t octets);
/* The block that was written there is to be read. */
void dp_tap_ring_publish(struct dp_tap_ring *ring, size_t octets);

/* The oldest block, which begins with its type and its length in octets; NULL: there is none. */
uint8_t *dp_tap_ring_oldest(struct dp_tap_ring *ring, uint32_t *octets);
/* It was read. */
void dp_tap_ring_take(struct dp_tap_ring *ring, uint32_t octets);

#endif
