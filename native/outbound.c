/* The outbound flow, in the order of a packet. All of it runs in the thread that has the worker's outbound loop (run_outbound in
 * worker.c; in a rig, whoever calls the step), and a step ends with everything sent.
 *
 *  1. dp_outbound_step  takes bursts, in this order:
 *       release_held        those that waited for an SA
 *       dp_handover_take    those that another worker's outbound thread has read (outbound_taken)
 *       dp_loop_visit       those that the TUN devices have now (outbound_device)
 *  2. outbound_burst    decides once for all packets of a burst:
 *       dp_inner_read, dp_segments_begin    the inner header, and how many packets the burst holds
 *       dp_own_outer_came_back              what we sent ourselves is not sealed once more
 *       dp_fragment_lend                    a later fragment shows no ports: those of its first, where they may follow it
 *       dp_policy_decide_packet             the tunnel (SPD)
 *       dp_tunnel_outbound                  the SA; none: acquire asks the control thread for one, and dp_hold_put keeps the burst
 *       dp_spread                           of several SAs like it the one that the flow takes
 *       dp_hand_over                        the SA is another worker's: its outbound thread goes on at 1
 *  3. send_burst        finds the link, the outer header's fields (dp_outer_fields) and whether all packets fit (dp_oversize)
 *  4. send_segments     asks the SA for all of them (dp_seal_begin) and makes one after the other; where they are too long,
 *                       send_fragments
 *  5. seal_into_run     for each: room_for, dp_seal_next (sequence number and ESP), add_to_run
 *  6. dp_loop_flush     sends the runs, each of equal datagrams, on the link (dp_link_send) */
#include <errno.h>
#include <string.h>

#include "child.h"
#include "engine.h"
#include "esp.h"
#include "examples.h"
#include "fragment.h"
#include "fragment_follow.h"
#include "handover.h"
#include "hold.h"
#include "inner.h"
#include "io_report.h"
#include "io_set.h"
#include "loop.h"
#include "outer.h"
#include "oversize.h"
#include "own_outer.h"
#include "policy.h"
#include "punt.h"
#include "seal.h"
#include "segment.h"
#include "spread.h"
#include "tap.h"
#include "traffic.h"

/* What UDP_SEGMENT takes: one UDP payload's worth of octets over IPv4, in at most 64 datagrams (128 only since Linux 6.9). */
enum {
    DP_DATAGRAM_MAX = 65507,
    DP_RUN_MAX = 64,
};

/* Where the ESP packets of a burst go, and how. */
struct egress {
    struct dp_io *io;
    const struct dp_path *path;
    uint32_t interface, tunnel;
    uint32_t limit; /* packets are fragmented to this before they are sealed; 0: none is */
    struct dp_outer_fields fields;
};

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

/* A run is a burst of equal datagrams, the last of which may be shorter. Whether the one built last takes another of `octets`: it
 * goes to the same place, with the same outer header. */
static bool extends_run(const struct dp_loop *loop, const struct egress *e, size_t octets) {
    if (loop->out_count == 0 || !loop->run_open || loop->out_io != e->io || loop->run_path != e->path)
        return false;
    const struct dp_burst *b = &loop->out[loop->out_count - 1];
    return b->tos == e->fields.tos && b->df == e->fields.df && b->hop_limit == e->fields.hop_limit &&
           b->flow_label == e->fields.flow_label && octets <= b->gso_size && b->packets < DP_RUN_MAX &&
           b->octets + octets <= DP_DATAGRAM_MAX && octets <= loop->built.octets - loop->built.used;
}

/* Room for one more ESP packet of `octets` ≤ DP_DATAGRAM_MAX, sending what is there first when it must. */
static uint8_t *room_for(struct dp_loop *loop, const struct egress *e, size_t octets, uint64_t now) {
    if (!extends_run(loop, e, octets)) {
        loop->run_open = false;
        size_t aligned = (loop->built.used + 63) & ~(size_t)63;
        if (loop->out_count == DP_BURSTS || (loop->out_count != 0 && loop->out_io != e->io) ||
            aligned + octets > loop->built.octets) {
            dp_loop_flush(loop, true, now);
            aligned = 0;
        }
        loop->built.used = aligned;
    }
    return loop->built.base + loop->built.used;
}

/* Adds the ESP packet that was built in that room. */
static void add_to_run(struct dp_loop *loop, const struct egress *e, uint8_t *packet, size_t octets, uint64_t now) {
    loop->built.used += octets;
    loop->out_io = e->io;
    if (loop->run_open) {
        struct dp_burst *b = &loop->out[loop->out_count - 1];
        b->octets += (uint32_t)octets;
        b->packets++;
        loop->run_open = octets == b->gso_size;
        return;
    }
    loop->run_path = e->path;
    loop->run_open = (atomic_load_explicit(&e->io->offloads, memory_order_relaxed) & DP_OFFLOAD_UDP_SEGMENT) != 0;
    loop->out[loop->out_count++] = (struct dp_burst){
        .data = packet,
        .octets = (uint32_t)octets,
        .packets = 1,
        .gso_size = (uint16_t)octets,
        .tos = e->fields.tos,
        .df = e->fields.df,
        .hop_limit = e->fields.hop_limit,
        .flow_label = e->fields.flow_label,
        .encapsulation = e->path->encapsulation,
        .interface = e->interface,
        .link = e->path->link,
        .tunnel = e->tunnel,
        .local = e->path->local,
        .remote = e->path->remote,
        .now = now,
    };
}

/* Seals one packet and adds it, or drops it. `admitted`: dp_seal_begin said that the SA may send it. Whether it was sealed. */
static inline bool seal_into_run(struct dp_loop *loop, struct dp_sa *sa, const struct egress *e, uint8_t *packet, uint32_t octets,
                                 uint8_t version, bool admitted, uint64_t now) {
    size_t sealed = dp_esp_sealed_octets(&sa->esp, octets);
    uint8_t *out = room_for(loop, e, sealed, now);
    if (sa->esp.tfc_octets > octets) /* TFC padding would run into what was read behind the packet */
        packet = memcpy(loop->padded, packet, octets);
    enum dp_drop reason =
        admitted ? dp_seal_next(sa, packet, octets, version, out) : dp_seal_packet(loop, sa, packet, octets, version, out, now);
    if (reason == DP_OK)
        add_to_run(loop, e, out, sealed, now);
    else
        dp_drop_outgoing(loop, reason, e->interface, packet, octets, 1, now);
    return reason == DP_OK;
}

/* An IPv4 packet or fragment by itself, out of the way of send_segments, which most packets take. */
__attribute__((noinline)) static void send_one(struct dp_loop *loop, struct dp_sa *sa, const struct egress *e, uint8_t *packet,
                                               uint32_t octets, uint64_t now) {
    (void)seal_into_run(loop, sa, e, packet, octets, 4, false, now);
}

/* The packets of a burst, those that are too long as fragments. */
static void send_fragments(struct dp_loop *loop, struct dp_sa *sa, const struct egress *e, struct dp_segments *s, uint64_t now) {
    uint32_t octets;
    for (uint8_t *packet; (packet = dp_segments_next(s, &octets)) != NULL;) {
        struct dp_inner inner;
        struct dp_fragments f;
        if (octets <= e->limit) {
            send_one(loop, sa, e, packet, octets, now);
            continue;
        }
        if (dp_inner_read(packet, octets, DP_FLOW_OUTBOUND, &inner) != DP_OK || !dp_fragments_begin(&f, packet, &inner, e->limit)) {
            dp_drop_outgoing(loop, DP_DROP_mtu, e->interface, packet, octets, 1, now);
            continue;
        }
        while ((packet = dp_fragments_next(&f, &octets)) != NULL)
            send_one(loop, sa, e, packet, octets, now);
    }
}

/* The packets of a burst as they are. The SA is asked once for all of them, and for each only when it may not send them all. */
static void send_segments(struct dp_loop *loop, struct dp_sa *sa, const struct egress *e, struct dp_segments *s, uint8_t version,
                          uint64_t now) {
    bool admitted = dp_seal_begin(loop, sa, s->count, s->octets_all, now);
    uint32_t octets, sent = 0;
    size_t octets_sent = 0;
    for (uint8_t *packet; (packet = dp_segments_next(s, &octets)) != NULL;) {
        if (!seal_into_run(loop, sa, e, packet, octets, version, admitted, now))
            continue;
        sent++;
        octets_sent += octets;
    }
    if (admitted)
        dp_seal_end(loop, sa, sent, octets_sent, now);
}

static enum dp_drop send_burst(struct dp_loop *loop, struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                               struct dp_segments *s, uint64_t now) {
    const struct dp_path *path = atomic_load_explicit(&sa->path, memory_order_acquire);
    const struct dp_io_set *links = atomic_load_explicit(&loop->dp->worker[loop->worker].links, memory_order_acquire);
    struct dp_io *io = links != NULL && path->link < links->count ? links->io[path->link] : NULL;
    /* An SA has one sequence counter and so one writer: never seal for another worker. */
    if (io == NULL || io->encapsulation != path->encapsulation || sa->worker != loop->worker)
        return DP_DROP_no_link;
    struct egress e = {
        .io = io,
        .path = path,
        .interface = b->interface,
        .tunnel = sa->tunnel,
        .fields = dp_outer_fields(loop->dp, path, b->data, inner),
    };
    enum dp_drop reason = dp_oversize(loop, sa, b, inner, s, &e.fields.df, &e.limit, now);
    if (reason != DP_OK)
        return reason;
    if (dp_esp_sealed_octets(&sa->esp, e.limit != 0 ? e.limit : s->octets_most) > DP_DATAGRAM_MAX)
        return DP_DROP_too_big;
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (__builtin_expect(tap != NULL, 0))
        dp_tap_outgoing(tap, loop, sa->tunnel, b, now);
    if (e.limit != 0)
        send_fragments(loop, sa, &e, s, now);
    else
        send_segments(loop, sa, &e, s, inner->version, now);
    return DP_OK;
}

static void release_held(struct dp_loop *loop, uint64_t now);

/* One decision and one SA for all packets of a burst, which are counted in it as far as that can be told. */
static enum dp_drop outbound_burst(struct dp_loop *loop, struct dp_burst *b, uint64_t now) {
    struct dp_inner inner;
    struct dp_segments s;
    b->packets = 1;
    enum dp_drop reason = dp_inner_read(b->data, b->octets, DP_FLOW_OUTBOUND, &inner);
    if (reason == DP_OK)
        reason = dp_segments_begin(&s, b, &inner);
    if (reason != DP_OK)
        return reason;
    b->packets = s.count;
    if (dp_own_outer_looks(&inner.flow) && !b->handed && dp_own_outer_came_back(loop, b->data, &inner, now))
        return DP_DROP_own_outer;
    if (dp_vtep_shown(b, &inner))
        dp_vtep_remember(&loop->dp->vteps, loop->dp->flow_seed, b->interface, &inner.flow, now);
    const struct dp_policy *policy = atomic_load_explicit(&loop->dp->policy, memory_order_acquire);
    if (dp_flow_multicast(&inner.flow, DP_REMOTE) && dp_policy_shared(policy, b->interface))
        return DP_DROP_multicast_shared;
    if (inner.fragment) {
        reason = dp_fragment_lend(loop, policy, b, &inner, now);
        if (reason != DP_OK)
            return reason;
    }
    struct dp_decision decision = dp_policy_decide_packet(policy, b->interface, &inner);
    if (decision.rule < 0)
        return dp_fragment_no_rule(policy, b->interface, &inner);
    if (decision.action == DP_BYPASS)
        return DP_DROP_policy_bypass;
    if (decision.action != DP_PROTECT || decision.tunnel >= loop->dp->config.tunnels)
        return DP_DROP_policy_discard;
    struct dp_sa *sa = dp_tunnel_outbound(&loop->dp->tunnel[decision.tunnel], &inner.flow);
    if (sa == NULL && inner.quotes)
        sa = dp_tunnel_outbound(&loop->dp->tunnel[decision.tunnel], &inner.quoted);
    if (inner.fragment) {
        reason = dp_fragment_admit(loop, policy, b, &inner, decision.tunnel, sa, now);
        if (reason != DP_OK)
            return reason;
    }
    if (sa == NULL) {
        acquire(loop, decision.tunnel, b, now);
        return dp_hold_put(loop->hold, loop, decision.tunnel, b, now) ? DP_OK : DP_DROP_no_sa;
    }
    if (dp_hold_waits(loop->hold, decision.tunnel))
        release_held(loop, now);
    uint32_t worker = sa->worker;
    if (loop->flows != NULL)
        sa = dp_spread(loop, sa, b, &inner, now, &worker);
    if (worker != loop->worker)
        return dp_hand_over(loop, worker, b);
    enum dp_talk talk = dp_talk_of(sa, b->data, &inner, DP_REMOTE); /* sealing may change the headers */
    reason = send_burst(loop, sa, b, &inner, &s, now);
    if (reason == DP_OK)
        dp_talk_count(sa, talk);
    b->packets = s.count; /* a super-packet may have been cut into more */
    return reason;
}

/* Packets that waited for an SA go first: they are older than what the devices have, and than a burst that finds an SA which came
 * since. While a CHILD is being switched (an odd number) that cannot be told, and they are asked each time. */
static void release_held(struct dp_loop *loop, uint64_t now) {
    uint32_t switches = atomic_load_explicit(&loop->dp->switches, memory_order_acquire);
    if (atomic_load_explicit(&loop->dp->paused, memory_order_acquire)) /* the control thread may be looking at them */
        return;
    if (switches == loop->switches && switches % 2 == 0)
        return;
    loop->switches = switches;
    dp_hold_release(loop->hold, loop, now, outbound_burst);
    dp_loop_flush(loop, true, now);
}

static int outbound_taken(struct dp_loop *loop, struct dp_burst *b, uint64_t now) {
    enum dp_drop reason = outbound_burst(loop, b, now);
    if (reason != DP_OK)
        dp_drop_burst(loop, reason, b, now);
    return (int)b->packets;
}

static void flush(struct dp_loop *loop, uint64_t now) {
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
    uint32_t moved = 0;
    for (int i = 0; i < got; i++) {
        enum dp_drop reason = outbound_burst(loop, &loop->in[i], now);
        if (reason != DP_OK)
            dp_drop_burst(loop, reason, &loop->in[i], now);
        moved += loop->in[i].packets;
    }
    dp_loop_flush(loop, true, now);
    return (int)moved;
}

int dp_outbound_step(struct dp *dp, uint32_t worker, uint32_t budget, uint64_t now) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    struct dp_loop *loop = &dp->worker[worker].outbound;
    dp_epoch_online(&loop->epoch, &dp->epoch);
    release_held(loop, now);
    int moved = loop->from != NULL ? dp_handover_take(loop, budget, now, outbound_taken, flush) : 0;
    moved +=
        dp_loop_visit(loop, atomic_load_explicit(&dp->worker[worker].tuns, memory_order_acquire), budget, now, outbound_device);
    dp_epoch_offline(&loop->epoch);
    return moved;
}
