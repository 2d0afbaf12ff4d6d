#include "handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"
#include "events.h"

enum {
    LINE = 64,
    DP_RING_ALL = 4 << 20,   /* octets that may wait for one loop, shared by its producers; touched only where used */
    DP_RING_MOST = 2 << 20,  /* of one ring: about a millisecond at 10 Gb/s */
    DP_RING_LEAST = 1 << 18, /* a few of the largest bursts */
};

/* What lies in a ring: entries one behind the other, each in one piece. One that would not fit before the end is preceded by a
 * filler to the end, published together with it. */
struct entry {
    uint32_t take;   /* octets from this entry to the next, a multiple of LINE */
    uint32_t filler; /* nothing but room */
    struct dp_burst burst;
    uint8_t headroom[DP_ESP_HEADROOM];
    _Alignas(LINE) uint8_t data[];
};

struct dp_ring {
    uint8_t *base;
    size_t octets;
    /* The producer's; positions only grow, their place is their remainder. */
    _Alignas(LINE) _Atomic size_t head;
    size_t tail_seen;
    /* The consumer's. */
    _Alignas(LINE) _Atomic size_t tail;
    size_t head_seen, peeked;
};

struct dp_ring *dp_ring_new(size_t octets) {
    struct dp_ring *r = aligned_alloc(LINE, sizeof *r);
    if (r == NULL)
        return NULL;
    memset(r, 0, sizeof *r);
    r->octets = octets;
    r->base = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->base == MAP_FAILED) {
        free(r);
        return NULL;
    }
    /* Plaintext passes through here. */
    (void)madvise(r->base, octets, MADV_DONTDUMP);
    return r;
}

void dp_ring_free(struct dp_ring *r) {
    if (r == NULL)
        return;
    munmap(r->base, r->octets);
    free(r);
}

static struct entry *at(const struct dp_ring *r, size_t position) {
    return (struct entry *)(void *)(r->base + (position & (r->octets - 1)));
}

/* Whether `need` octets from `head` on are free. */
static bool room(struct dp_ring *r, size_t head, size_t need) {
    if (r->octets - (head - r->tail_seen) >= need)
        return true;
    r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
    return r->octets - (head - r->tail_seen) >= need;
}

bool dp_ring_push(struct dp_ring *r, const struct dp_burst *b) {
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    size_t take = (sizeof(struct entry) + b->octets + DP_ESP_TAILROOM + LINE - 1) & ~(size_t)(LINE - 1);
    size_t to_end = r->octets - (head & (r->octets - 1)), filler = take > to_end ? to_end : 0;
    if (!room(r, head, filler + take))
        return false;
    if (filler != 0) {
        struct entry *skipped = at(r, head);
        skipped->take = (uint32_t)filler;
        skipped->filler = 1;
    }
    struct entry *e = at(r, head + filler);
    e->take = (uint32_t)take;
    e->filler = 0;
    e->burst = *b;
    e->burst.data = e->data;
    e->burst.handed = true;
    memcpy(e->data, b->data, b->octets);
    atomic_store_explicit(&r->head, head + filler + take, memory_order_release);
    return true;
}

bool dp_ring_waiting(struct dp_ring *r) {
    if (r->peeked == r->head_seen)
        r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
    return r->peeked != r->head_seen;
}

struct dp_burst *dp_ring_peek(struct dp_ring *r) {
    if (!dp_ring_waiting(r))
        return NULL;
    struct entry *e = at(r, r->peeked);
    if (e->filler) {
        r->peeked += e->take;
        e = at(r, r->peeked);
    }
    r->peeked += e->take;
    return &e->burst;
}

void dp_ring_release(struct dp_ring *r) {
    atomic_store_explicit(&r->tail, r->peeked, memory_order_release);
}

/* ---- between the loops */

static size_t ring_octets(uint32_t workers) {
    size_t octets = DP_RING_MOST;
    while (octets > DP_RING_LEAST && octets * (workers - 1) > DP_RING_ALL)
        octets /= 2;
    return octets;
}

int dp_handover_open(struct dp *dp, struct dp_loop *loop) {
    uint32_t workers = dp->config.workers;
    if (workers == 1)
        return 0;
    loop->from = calloc(workers, sizeof(struct dp_ring *));
    if (loop->from == NULL)
        return -ENOMEM;
    for (uint32_t w = 0; w < workers; w++) {
        if (w == loop->worker)
            continue;
        loop->from[w] = dp_ring_new(ring_octets(workers));
        if (loop->from[w] == NULL)
            return -ENOMEM;
    }
    return 0;
}

void dp_handover_close(struct dp *dp, struct dp_loop *loop) {
    for (uint32_t w = 0; loop->from != NULL && w < dp->config.workers; w++)
        dp_ring_free(loop->from[w]);
    free(loop->from);
}

size_t dp_handover_octets(const struct dp_loop *loop) {
    size_t octets = 0;
    for (uint32_t w = 0; loop->from != NULL && w < loop->dp->config.workers; w++)
        octets += loop->from[w] != NULL ? loop->from[w]->octets : 0;
    return octets;
}

static struct dp_loop *loop_of(const struct dp_loop *like, uint32_t worker) {
    struct dp_worker *w = &like->dp->worker[worker];
    return like->direction == DP_OUTBOUND ? &w->outbound : &w->inbound;
}

enum dp_drop dp_hand_over(struct dp_loop *loop, uint32_t owner, const struct dp_burst *b) {
    if (!dp_ring_push(loop_of(loop, owner)->from[loop->worker], b))
        return DP_DROP_handover_full;
    loop->to_wake |= UINT64_C(1) << owner;
    dp_add(&loop->handed_over, b->packets);
    return DP_OK;
}

void dp_handover_wake(struct dp_loop *loop) {
    uint64_t to_wake = loop->to_wake;
    loop->to_wake = 0;
    /* Pairs with the fence in dp_handover_sleep: either we see the loop asleep, or it sees what we pushed. */
    dp_epoch_fence();
    for (; to_wake != 0; to_wake &= to_wake - 1) {
        struct dp_loop *owner = loop_of(loop, (uint32_t)__builtin_ctzll(to_wake));
        if (atomic_load_explicit(&owner->asleep, memory_order_relaxed))
            dp_loop_wake(owner);
    }
}

bool dp_handover_waiting(const struct dp_loop *loop) {
    for (uint32_t w = 0; loop->from != NULL && w < loop->dp->config.workers; w++)
        if (loop->from[w] != NULL && dp_ring_waiting(loop->from[w]))
            return true;
    return false;
}

static bool released(const struct dp_ring *r) {
    return atomic_load_explicit(&r->head, memory_order_acquire) == atomic_load_explicit(&r->tail, memory_order_acquire);
}

/* A ring's room is given back when what was in it is sent or handed on; so this order. */
bool dp_handover_passed(const struct dp_loop *loop, uint32_t by, uint32_t next) {
    return released(loop_of(loop, by)->from[loop->worker]) && released(loop_of(loop, next)->from[by]);
}

static bool all_released(const struct dp_loop *loop, uint32_t workers) {
    for (uint32_t w = 0; loop->from != NULL && w < workers; w++)
        if (loop->from[w] != NULL && !released(loop->from[w]))
            return false;
    return true;
}

static bool all_empty(const struct dp *dp) {
    uint32_t workers = dp->config.workers;
    for (uint32_t w = 0; w < workers; w++)
        if (!all_released(&dp->worker[w].outbound, workers) || !all_released(&dp->worker[w].inbound, workers))
            return false;
    return true;
}

/* What an owner hands on once more (dp_spread) is in the next ring before it leaves the one that it came by. Behind the back of one
 * look it may get into a ring that was looked at; a second look finds it there, as long as it goes no further. So no CHILD may be
 * switched between dp_receive_pause and this: the control thread calls both, and does nothing else in between. */
bool dp_handover_empty(const struct dp *dp) {
    return all_empty(dp) && all_empty(dp);
}

int dp_handover_take(struct dp_loop *loop, uint32_t budget, uint64_t now,
                     int (*take)(struct dp_loop *loop, struct dp_burst *b, uint64_t now),
                     void (*finish)(struct dp_loop *loop, uint64_t now)) {
    uint32_t workers = loop->dp->config.workers, moved = 0;
    for (uint32_t i = 0; i < workers && moved < budget; i++) {
        struct dp_ring *ring = loop->from[(loop->turn + i) % workers];
        struct dp_burst *b;
        uint32_t before = moved;
        while (ring != NULL && moved < budget && (b = dp_ring_peek(ring)) != NULL) {
            dp_add(&loop->taken_over, b->packets);
            moved += (uint32_t)take(loop, b, now);
        }
        if (moved != before) {
            finish(loop, now);
            dp_ring_release(ring);
        }
    }
    return (int)moved;
}

bool dp_handover_sleep(struct dp_loop *loop) {
    if (loop->from == NULL)
        return true;
    atomic_store_explicit(&loop->asleep, true, memory_order_relaxed);
    dp_epoch_fence();
    if (!dp_handover_waiting(loop))
        return true;
    dp_handover_awake(loop);
    return false;
}

void dp_handover_awake(struct dp_loop *loop) {
    if (loop->from != NULL)
        atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
}
