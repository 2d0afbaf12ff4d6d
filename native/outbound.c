/* Outbound: TUN → inner header → policy → CHILD_SA → life → ESP → link. */
#include <errno.h>
#include <string.h>

#include "engine.h"

enum {
    DP_DATAGRAM_MAX = 65507
}; /* of UDP over IPv4 */

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

/* Whether the SA may send one more packet of `octets`, and the flags that this raises (RFC 4301 §4.4.2.1, lifetime). */
static enum dp_drop check_life(const struct dp *dp, const struct dp_sa *sa, size_t octets, uint32_t *raise) {
    uint64_t total_octets = atomic_load_explicit(&sa->octets, memory_order_relaxed) + octets;
    uint64_t total_packets = atomic_load_explicit(&sa->packets, memory_order_relaxed) + 1;
    *raise = 0;
    if (sa->generation != atomic_load_explicit(&dp->generation, memory_order_acquire)) {
        *raise = DP_SA_HARD_LIMIT;
        return DP_DROP_guest_cloned;
    }
    if (total_octets > sa->hard_octets || total_packets > sa->hard_packets) {
        *raise = DP_SA_HARD_LIMIT;
        return DP_DROP_hard_limit;
    }
    if (sa->sequence >= sa->sequence_last) { /* RFC 4303 §3.3.3: never cycles */
        *raise = DP_SA_SEQUENCE_EXHAUSTED;
        return DP_DROP_sequence_exhausted;
    }
    if (total_octets >= sa->soft_octets || total_packets >= sa->soft_packets)
        *raise |= DP_SA_SOFT_LIMIT;
    if (sa->sequence >= sa->sequence_soft)
        *raise |= DP_SA_SEQUENCE_SOFT;
    return DP_OK;
}

enum dp_drop dp_seal_packet(struct dp_loop *loop, struct dp_sa *sa, uint8_t *inner, size_t octets, uint8_t version, uint8_t *out,
                            uint64_t now) {
    uint32_t raise;
    enum dp_drop reason = check_life(loop->dp, sa, octets, &raise);
    if (reason == DP_OK) {
        /* The number is spent whatever becomes of the packet: a nonce is never tried twice. */
        uint64_t sequence = ++sa->sequence;
        reason = dp_esp_seal(&sa->esp, sequence, inner, octets, version == 4 ? DP_NH_IPV4 : DP_NH_IPV6, out);
        atomic_store_explicit(&sa->sequence_shown, sequence, memory_order_relaxed);
    }
    if (raise != 0)
        dp_sa_raise(loop, sa, raise, now);
    if (reason != DP_OK) {
        dp_add(&sa->drops[reason], 1);
        return reason;
    }
    dp_add(&sa->packets, 1);
    dp_add(&sa->octets, octets);
    if (atomic_load_explicit(&sa->first_use, memory_order_relaxed) == 0)
        atomic_store_explicit(&sa->first_use, now, memory_order_relaxed);
    atomic_store_explicit(&sa->last_use, now, memory_order_relaxed);
    dp_add(&loop->packets, 1);
    dp_add(&loop->octets, octets);
    return DP_OK;
}

/* Asks the control plane for an SA, once until it has taken the tunnel's sticky flag. Nobody looks for flags whose punt was lost:
 * then the next packet asks again. */
static void acquire(struct dp_loop *loop, uint32_t tunnel, const struct dp_burst *b, uint64_t now) {
    _Atomic bool *asked = &loop->dp->tunnel[tunnel].acquire;
    if (atomic_load_explicit(asked, memory_order_relaxed) || atomic_exchange_explicit(asked, true, memory_order_relaxed))
        return;
    struct dp_punt punt = {.kind = DP_PUNT_ACQUIRE, .link = UINT16_MAX, .tunnel = tunnel, .interface = b->interface, .now = now};
    size_t quoted = b->octets < DP_PUNT_INNER_MAX ? b->octets : DP_PUNT_INNER_MAX;
    if (!dp_punt_send(loop, DP_CHANNEL_TRUSTED, &punt, b->data, quoted))
        atomic_store_explicit(asked, false, memory_order_relaxed);
}

static enum dp_drop send_failure(bool to_links, int error) {
    bool full = error == EAGAIN || error == ENOBUFS;
    if (!to_links)
        return full ? DP_DROP_tun_full : DP_DROP_tun_gone;
    if (full)
        return DP_DROP_send_full;
    return error == EMSGSIZE ? DP_DROP_too_big : DP_DROP_send_error;
}

void dp_loop_flush(struct dp_loop *loop, bool to_links, uint64_t now) {
    unsigned at = 0;
    while (at < loop->out_count) {
        int sent = loop->out_io->ops->send(loop->out_io, &loop->out[at], loop->out_count - at);
        if (sent > 0) {
            at += (unsigned)sent;
            continue;
        }
        enum dp_drop reason = send_failure(to_links, -sent);
        dp_drop(loop, reason);
        if (reason == DP_DROP_send_error || reason == DP_DROP_tun_gone)
            dp_io_report(loop, loop->out_io, to_links, -sent, now);
        at++;
    }
    loop->out_count = 0;
    loop->built.used = 0;
}

/* Room for one more burst of `octets` to `io`, sending what is there first when it must. NULL: never fits. */
static uint8_t *room_for(struct dp_loop *loop, struct dp_io *io, size_t octets, uint64_t now) {
    if (loop->out_count == DP_BURSTS || (loop->out_count != 0 && loop->out_io != io))
        dp_loop_flush(loop, true, now);
    uint8_t *room = dp_area_take(&loop->built, octets);
    if (room == NULL) {
        dp_loop_flush(loop, true, now);
        room = dp_area_take(&loop->built, octets);
    }
    loop->out_io = io;
    return room;
}

static uint8_t outer_df(const struct dp_path *path, const struct dp_inner *inner) {
    if (path->df != DP_DF_COPY)
        return path->df;
    return inner->dont_fragment ? DP_DF_SET : DP_DF_CLEAR;
}

static enum dp_drop send_sealed(struct dp_loop *loop, struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                                uint64_t now) {
    const struct dp_path *path = atomic_load_explicit(&sa->path, memory_order_acquire);
    const struct dp_io_set *links = atomic_load_explicit(&loop->dp->worker[loop->worker].links, memory_order_acquire);
    struct dp_io *io = links != NULL && path->link < links->count ? links->io[path->link] : NULL;
    /* An SA has one sequence counter and so one writer: never seal for another worker. */
    if (io == NULL || io->encapsulation != path->encapsulation || sa->worker != loop->worker)
        return DP_DROP_no_link;
    size_t sealed = dp_esp_sealed_octets(&sa->esp, inner->octets);
    if (sealed > DP_DATAGRAM_MAX)
        return DP_DROP_too_big;
    uint8_t *plain = b->data;
    size_t padded = sa->esp.tfc_octets > inner->octets ? sa->esp.tfc_octets : 0;
    uint8_t *out = room_for(loop, io, sealed + (padded != 0 ? padded + DP_ESP_TAILROOM : 0), now);
    if (out == NULL)
        return DP_DROP_too_big;
    if (padded != 0) { /* TFC padding would run into the next packet read */
        plain = out + sealed;
        memcpy(plain, b->data, inner->octets);
    }
    enum dp_drop reason = dp_seal_packet(loop, sa, plain, inner->octets, inner->version, out, now);
    if (reason != DP_OK)
        return reason;
    loop->out[loop->out_count++] = (struct dp_burst){
        .data = out,
        .octets = (uint32_t)sealed,
        .tos = dp_outer_tos(inner->tos, path->dscp),
        .df = outer_df(path, inner),
        .encapsulation = path->encapsulation,
        .interface = b->interface,
        .link = path->link,
        .local = path->local,
        .remote = path->remote,
        .now = now,
    };
    return DP_OK;
}

static enum dp_drop outbound_packet(struct dp_loop *loop, const struct dp_burst *b, uint64_t now) {
    struct dp_inner inner;
    enum dp_drop reason = dp_inner_read(b->data, b->octets, DP_FLOW_OUTBOUND, &inner);
    if (reason != DP_OK)
        return reason;
    const struct dp_policy *policy = atomic_load_explicit(&loop->dp->policy, memory_order_acquire);
    struct dp_decision decision = dp_policy_decide(policy, b->interface, &inner.flow);
    if (decision.rule < 0)
        return DP_DROP_policy_none;
    if (decision.action != DP_PROTECT || decision.tunnel >= loop->dp->config.tunnels)
        return DP_DROP_policy_discard;
    struct dp_sa *sa = dp_tunnel_outbound(&loop->dp->tunnel[decision.tunnel], &inner.flow);
    if (sa == NULL) {
        acquire(loop, decision.tunnel, b, now);
        return dp_hold_put(loop->hold, loop, decision.tunnel, b, now) ? DP_OK : DP_DROP_no_sa;
    }
    return send_sealed(loop, sa, b, &inner, now);
}

/* Packets that waited for an SA go first: they are older than what the devices have. */
static void release_held(struct dp_loop *loop, uint64_t now) {
    uint32_t switches = atomic_load_explicit(&loop->dp->switches, memory_order_acquire);
    if (switches == loop->switches)
        return;
    loop->switches = switches;
    dp_hold_release(loop->hold, loop, now, outbound_packet);
    dp_loop_flush(loop, true, now);
}

static int outbound_device(struct dp_loop *loop, struct dp_io *io, uint32_t budget, uint64_t now) {
    loop->received.used = 0;
    int got = io->ops->receive(io, &loop->received, loop->in, budget < DP_BURSTS ? budget : DP_BURSTS);
    if (got < 0) {
        atomic_store_explicit(&io->failed, true, memory_order_relaxed);
        dp_io_report(loop, io, false, -got, now);
        return 0;
    }
    for (int i = 0; i < got; i++) {
        enum dp_drop reason = outbound_packet(loop, &loop->in[i], now);
        if (reason != DP_OK)
            dp_drop(loop, reason);
    }
    dp_loop_flush(loop, true, now);
    return got;
}

int dp_outbound_step(struct dp *dp, uint32_t worker, uint32_t budget, uint64_t now) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    struct dp_loop *loop = &dp->worker[worker].outbound;
    dp_epoch_online(&loop->epoch, &dp->epoch);
    release_held(loop, now);
    int moved =
        dp_loop_visit(loop, atomic_load_explicit(&dp->worker[worker].tuns, memory_order_acquire), budget, now, outbound_device);
    dp_epoch_offline(&loop->epoch);
    return moved;
}
