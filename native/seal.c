#include "seal.h"

#include "esp.h"
#include "punt.h"

#define DP_SA_PERIOD UINT64_C(10000000000) /* ns */

void dp_sa_raise(struct dp_loop *loop, struct dp_sa *sa, uint32_t flags, uint64_t now) {
    if ((flags & ~atomic_load_explicit(&sa->flags, memory_order_relaxed)) == 0)
        return;
    uint32_t before = atomic_fetch_or_explicit(&sa->flags, flags, memory_order_relaxed);
    struct dp_punt punt = {
        .kind = DP_PUNT_SA,
        .link = UINT16_MAX,
        .tunnel = sa->tunnel,
        .sa = sa->id,
        .spi = sa->esp.spi,
        .flags = before | flags,
        .interface = UINT32_MAX,
        .now = now,
    };
    if (sa->direction == DP_INBOUND)
        punt.remote = sa->peer;
    (void)dp_punt_send(loop, DP_CHANNEL_TRUSTED, &punt, NULL, 0);
}

/* Why an SA of another generation is dead. By any loop, out of the way of those that live. */
__attribute__((cold)) enum dp_drop dp_sa_dead(const struct dp_sa *sa) {
    return (atomic_load_explicit(&sa->generation, memory_order_relaxed) & DP_SA_RETIRED) != 0 ? DP_DROP_retired
                                                                                              : DP_DROP_guest_cloned;
}

/* The numbers are used up: those that there are, or those that are reserved. */
__attribute__((cold)) static enum dp_drop no_number(const struct dp_sa *sa, uint64_t last, uint32_t *raise) {
    if (last != sa->sequence_end)
        return DP_DROP_unreserved;
    *raise = DP_SA_SEQUENCE_EXHAUSTED;
    return DP_DROP_sequence_exhausted;
}

/* Whether the SA may send `n` more packets, `octets` together, and the flags that this raises. */
static enum dp_drop check_life(const struct dp *dp, const struct dp_sa *sa, uint32_t n, size_t octets, uint32_t *raise) {
    uint64_t total_octets = atomic_load_explicit(&sa->octets, memory_order_relaxed) + octets;
    uint64_t total_packets = atomic_load_explicit(&sa->packets, memory_order_relaxed) + n;
    *raise = 0;
    if (atomic_load_explicit(&sa->generation, memory_order_relaxed) !=
        atomic_load_explicit(&dp->generation, memory_order_acquire)) {
        enum dp_drop dead = dp_sa_dead(sa);
        *raise = dead == DP_DROP_guest_cloned ? DP_SA_HARD_LIMIT : 0;
        return dead;
    }
    if (total_octets > sa->hard_octets || total_packets > sa->hard_packets) {
        *raise = DP_SA_HARD_LIMIT;
        return DP_DROP_hard_limit;
    }
    /* RFC 4303 §3.3.3: never cycles. A bound may be set that the SA has gone beyond meanwhile. */
    uint64_t last = atomic_load_explicit(&sa->sequence_last, memory_order_relaxed);
    if ((last < sa->sequence) | (last - sa->sequence < n))
        return no_number(sa, last, raise);
    if (total_octets >= sa->soft_octets || total_packets >= sa->soft_packets)
        *raise |= DP_SA_SOFT_LIMIT;
    if (sa->sequence + n > sa->sequence_soft)
        *raise |= DP_SA_SEQUENCE_SOFT;
    return DP_OK;
}

bool dp_seal_begin(struct dp_loop *loop, struct dp_sa *sa, uint32_t n, size_t octets, uint64_t now) {
    uint32_t raise;
    if (check_life(loop->dp, sa, n, octets, &raise) != DP_OK)
        return false;
    if (raise != 0)
        dp_sa_raise(loop, sa, raise, now);
    return true;
}

enum dp_drop dp_seal_next(struct dp_sa *sa, uint8_t *inner, size_t octets, uint8_t version, uint8_t *out) {
    /* The number is spent whatever becomes of the packet: a nonce is never tried twice. */
    uint64_t sequence = ++sa->sequence;
    enum dp_drop reason = dp_esp_seal(&sa->esp, sequence, inner, octets, version == 4 ? DP_NH_IPV4 : DP_NH_IPV6, out);
    if (reason != DP_OK)
        dp_sa_drop(sa, reason);
    return reason;
}

/* Two periods are remembered: what was sent since the one before the current one began is recent. */
static void mark_period(struct dp_sa *sa, uint32_t n, uint64_t now) {
    uint64_t age = now - sa->period_at, before = sa->sequence - n;
    if (age < DP_SA_PERIOD)
        return;
    atomic_store_explicit(&sa->recent, age < 2 * DP_SA_PERIOD ? sa->period_sequence : before, memory_order_relaxed);
    sa->period_sequence = before;
    sa->period_at = now;
}

void dp_seal_end(struct dp_loop *loop, struct dp_sa *sa, uint32_t n, size_t octets, uint64_t now) {
    if (n == 0) {
        atomic_store_explicit(&sa->sequence_shown, sa->sequence, memory_order_relaxed);
        return;
    }
    dp_add(&sa->packets, n);
    dp_add(&sa->octets, octets);
    /* Whoever sees the number sees what was counted up to it (dp_sa_snapshot). */
    atomic_store_explicit(&sa->sequence_shown, sa->sequence, memory_order_release);
    if (atomic_load_explicit(&sa->first_use, memory_order_relaxed) == 0)
        atomic_store_explicit(&sa->first_use, now, memory_order_relaxed);
    atomic_store_explicit(&sa->last_use, now, memory_order_relaxed);
    mark_period(sa, n, now);
    dp_add(&loop->packets, n);
    dp_add(&loop->octets, octets);
}

enum dp_drop dp_seal_packet(struct dp_loop *loop, struct dp_sa *sa, uint8_t *inner, size_t octets, uint8_t version, uint8_t *out,
                            uint64_t now) {
    uint32_t raise;
    enum dp_drop reason = check_life(loop->dp, sa, 1, octets, &raise);
    if (reason == DP_OK) {
        reason = dp_seal_next(sa, inner, octets, version, out);
        dp_seal_end(loop, sa, reason == DP_OK, octets, now);
    } else {
        dp_sa_drop(sa, reason);
    }
    if (raise != 0)
        dp_sa_raise(loop, sa, raise, now);
    return reason;
}
