#include "sa_state.h"

#include <string.h>

#include "sa_peer.h"

enum {
    WORD_BITS = 64,
    ALL_FLAGS = DP_SA_SOFT_LIMIT | DP_SA_HARD_LIMIT | DP_SA_SEQUENCE_SOFT | DP_SA_SEQUENCE_EXHAUSTED | DP_SA_PEER_MOVED,
};

static_assert((int)DP_WINDOW_WORDS == DP_REPLAY_WINDOW_MAX / WORD_BITS + 1, "the largest window fits");

static uint64_t get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void set(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, n, memory_order_relaxed);
}

/* Sums and products of what is counted, which stop at the top. */
static uint64_t plus(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t times(uint64_t n, uint32_t octets) {
    uint64_t product;
    return __builtin_mul_overflow(n, octets, &product) ? UINT64_MAX : product;
}

bool dp_sa_state_valid(unsigned direction, bool esn, const struct dp_sa_state *s) {
    uint64_t end = esn ? UINT64_MAX : UINT32_MAX;
    if (s->sequence > end || s->bound > end) /* an SA may have been beyond its bound when it was set */
        return false;
    if ((s->flags & ~(uint32_t)ALL_FLAGS) != 0 || s->last_drop >= DP_DROP_COUNT)
        return false;
    if (s->peer.family != 0 && s->peer.family != 4 && s->peer.family != 6)
        return false;
    return direction == DP_OUTBOUND ? s->window == 0 : s->window == 0 || dp_replay_octets(s->window) != 0;
}

static void load_counters(struct dp_sa *sa, const struct dp_sa_state *s) {
    set(&sa->packets, s->packets);
    set(&sa->octets, s->octets);
    set(&sa->asked, s->asked);
    set(&sa->first_use, s->first_use);
    set(&sa->last_use, s->last_use);
    set(&sa->sequence_shown, s->sequence);
    atomic_store_explicit(&sa->flags, s->flags, memory_order_relaxed);
    atomic_store_explicit(&sa->goes_on, s->goes_on != 0, memory_order_relaxed);
    atomic_store_explicit(&sa->last_drop, s->last_drop, memory_order_relaxed);
    sa->segment = s->segment;
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        set(&sa->drops[r], s->drops[r]);
}

static void load_outbound(struct dp_sa *sa, const struct dp_sa_state *s) {
    sa->sequence = s->sequence;
    set(&sa->recent, s->recent);
    sa->period_sequence = s->period_sequence;
    sa->period_at = s->period_at;
    if (s->bound != 0)
        set(&sa->sequence_last, s->bound);
    if (!sa->esp.cipher->random_iv || (sa->esp.seeded && s->iv != 0))
        sa->esp.iv = s->iv;
}

static void load_inbound(struct dp_sa *sa, const struct dp_sa_state *s) {
    dp_replay_load(&sa->replay, s->sequence, s->words, s->window / WORD_BITS + (s->window != 0));
    if (s->bound != 0)
        set(&sa->replay.limit, s->bound);
    if (s->peer.family != 0)
        dp_sa_set_peer(sa, &s->peer);
}

void dp_sa_state_load(struct dp_sa *sa, const struct dp_sa_state *s) {
    if (s != NULL) {
        load_counters(sa, s);
        sa->bound = s->bound;
        if (sa->direction == DP_OUTBOUND)
            load_outbound(sa, s);
        else
            load_inbound(sa, s);
    }
    sa->iv_ahead = sa->esp.iv - sa->sequence;
    sa->packets_ahead = get(&sa->packets) - sa->sequence;
}

/* What any thread may read. */
static void save_shared(const struct dp_sa *sa, struct dp_sa_state *s) {
    memset(s, 0, sizeof *s);
    s->sequence = atomic_load_explicit(&sa->sequence_shown, memory_order_acquire);
    s->packets = get(&sa->packets);
    s->octets = get(&sa->octets);
    s->asked = get(&sa->asked);
    s->first_use = get(&sa->first_use);
    s->last_use = get(&sa->last_use);
    s->recent = get(&sa->recent);
    s->flags = atomic_load_explicit(&sa->flags, memory_order_relaxed);
    s->goes_on = atomic_load_explicit(&sa->goes_on, memory_order_relaxed);
    s->last_drop = (uint16_t)atomic_load_explicit(&sa->last_drop, memory_order_relaxed);
    if (sa->direction == DP_OUTBOUND)
        s->path = *atomic_load_explicit(&sa->path, memory_order_relaxed);
    dp_sa_get_peer(sa, &s->peer);
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        s->drops[r] = get(&sa->drops[r]);
}

void dp_sa_state_save(const struct dp_sa *sa, struct dp_sa_state *s) {
    save_shared(sa, s);
    s->segment = sa->segment;
    s->bound = sa->bound;
    if (sa->direction == DP_OUTBOUND) {
        s->sequence = sa->sequence;
        s->iv = sa->esp.iv;
        s->period_sequence = sa->period_sequence;
        s->period_at = sa->period_at;
    } else {
        s->sequence = sa->replay.highest;
        s->window = sa->replay.window;
        dp_replay_save(&sa->replay, s->words);
    }
}

void dp_sa_state_save_bound(const struct dp_sa *sa, uint32_t most, struct dp_sa_state *s) {
    save_shared(sa, s);
    uint64_t left = sa->bound - s->sequence;
    if (sa->direction == DP_OUTBOUND) {
        s->packets = sa->packets_ahead + sa->bound; /* each packet has a number of its own */
        s->iv = sa->esp.cipher->random_iv ? 0 : sa->iv_ahead + sa->bound;
        s->period_sequence = sa->bound;
    } else {
        left = plus(left, sa->replay.window + 1); /* those of the window may come yet, and one is being counted */
        s->packets = plus(s->packets, left);
    }
    s->octets = plus(s->octets, times(left, most));
    s->sequence = sa->bound;
}
