/* The inbound flow, in the order of a packet. All of it runs in the thread that has the worker's inbound loop (run_outbound in
 * worker.c, or run_inbound while both directions keep the worker busy; in a rig, whoever calls the step), and a step ends with
 * everything written.
 *
 *  1. dp_inbound_step   takes bursts, in this order:
 *       dp_early_take       what came before an SA that is there now (take_early)
 *       dp_handover_take    those that another worker's inbound thread has received (inbound_taken)
 *       dp_loop_visit       those that the links have now (inbound_device)
 *  2. inbound_burst     takes each datagram of a burst by itself:
 *       belongs_elsewhere   its SA is another worker's: dp_hand_over, and that worker's inbound thread goes on at 1
 *       not_esp             keepalive or IKE: to the control thread
 *  3. dp_open_packet    finds the SA and opens the packet where it lies (open_for):
 *       came_early          it has none yet, and a request of ours under way names its SPI: kept until then (early.h)
 *       life_over, dp_replay_check, dp_esp_open, dp_replay_commit
 *       check_inner         the inner header, the SA's selectors
 *  4. inbound_datagram  judges what is authentic: note_peer, policy_allows (SPD), dp_ecn_decapsulate, follow_settings
 *  5. deliver           joins packets of one flow into super-packets (dp_coalesce_add)
 *  6. flush             dp_loop_flush writes them to the TUN device */
#include "inbound.h"

#include <errno.h>
#include <string.h>

#include "child.h"
#include "coalesce.h"
#include "early.h"
#include "esp.h"
#include "examples.h"
#include "flow.h"
#include "fragment_follow.h"
#include "handover.h"
#include "inner.h"
#include "io_report.h"
#include "io_set.h"
#include "loop.h"
#include "mss.h"
#include "policy.h"
#include "replay.h"
#include "sa.h"
#include "sa_peer.h"
#include "seal.h"
#include "strangers.h"
#include "tap.h"
#include "traffic.h"

/* A packet that was opened where it lay has its ESP header and IV before it (dp_burst.piece), and before them DP_ESP_HEADROOM, or
 * the trailer and ICV of a datagram that was opened before it. No cipher has a shorter IV or ICV. */
static_assert((int)DP_ESP_HEADER + (int)DP_AEAD_IV + (int)DP_ESP_TRAILER + (int)DP_ICV_MIN >= (int)DP_TUN_HEADROOM,
              "the TUN device's header takes their place");

static uint32_t load_be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool life_over(const struct dp *dp, const struct dp_sa *sa, enum dp_drop *reason) {
    if (atomic_load_explicit(&sa->generation, memory_order_relaxed) != atomic_load_explicit(&dp->generation, memory_order_acquire))
        *reason = dp_sa_dead(sa);
    else if (atomic_load_explicit(&sa->octets, memory_order_relaxed) >= sa->hard_octets ||
             atomic_load_explicit(&sa->packets, memory_order_relaxed) >= sa->hard_packets)
        *reason = DP_DROP_hard_limit;
    else
        return false;
    return true;
}

/* The packet was authentic: that is a sign of life, whatever it holds. */
static void seen_alive(struct dp_sa *sa, uint64_t now) {
    if (atomic_load_explicit(&sa->first_use, memory_order_relaxed) == 0)
        atomic_store_explicit(&sa->first_use, now, memory_order_relaxed);
    atomic_store_explicit(&sa->last_use, now, memory_order_relaxed);
    atomic_store_explicit(&sa->sequence_shown, sa->replay.highest, memory_order_relaxed);
}

static void count_packet(struct dp_loop *loop, struct dp_sa *sa, uint32_t octets, uint64_t now) {
    dp_add(&sa->packets, 1);
    dp_add(&sa->octets, octets);
    dp_add(&loop->packets, 1);
    dp_add(&loop->octets, octets);
    uint64_t total_octets = atomic_load_explicit(&sa->octets, memory_order_relaxed);
    uint64_t total_packets = atomic_load_explicit(&sa->packets, memory_order_relaxed);
    uint32_t raise = 0;
    if (total_octets >= sa->soft_octets || total_packets >= sa->soft_packets)
        raise |= DP_SA_SOFT_LIMIT;
    if (total_octets >= sa->hard_octets || total_packets >= sa->hard_packets)
        raise |= DP_SA_HARD_LIMIT;
    if (raise != 0)
        dp_sa_raise(loop, sa, raise, now);
}

/* What an authentic packet holds: DP_OK, or why it goes no further. */
static enum dp_drop check_inner(struct dp_loop *loop, const struct dp_sa *sa, const uint8_t *plain,
                                const struct dp_esp_opened *opened, struct dp_inner *inner, uint64_t now) {
    if (opened->next_header == DP_NH_DUMMY)
        return DP_DROP_dummy;
    if (opened->next_header != DP_NH_IPV4 && opened->next_header != DP_NH_IPV6)
        return DP_DROP_next_header;
    enum dp_drop reason = dp_inner_read(plain, opened->octets, DP_FLOW_INBOUND, inner);
    if (reason != DP_OK)
        return reason;
    if (inner->version != (opened->next_header == DP_NH_IPV4 ? 4 : 6))
        return DP_DROP_inner_version;
    bool held = dp_selectors_hold(sa->selectors, &inner->flow)                          /* RFC 4301 §5.2 */
                || (inner->quotes && dp_selectors_hold(sa->selectors, &inner->quoted)); /* and §6.2 */
    if (inner->fragment)
        return dp_fragment_inbound(loop, sa, plain, inner, held, now); /* and §7.3 */
    return held ? DP_OK : DP_DROP_selectors;
}

static enum dp_drop open_for(struct dp_loop *loop, struct dp_sa *sa, const uint8_t *packet, size_t octets, uint8_t *plain,
                             uint64_t now, struct dp_inbound_result *result) {
    enum dp_drop reason;
    if (life_over(loop->dp, sa, &reason))
        return reason;
    uint64_t sequence = dp_replay_infer(&sa->replay, load_be32(packet + 4), sa->esp.esn);
    result->sequence = sequence;
    reason = dp_replay_check(&sa->replay, sequence);
    if (reason != DP_OK)
        return reason;
    struct dp_esp_opened opened;
    if (plain == packet) /* the plaintext falls on the ciphertext */
        plain += DP_ESP_HEADER + sa->esp.cipher->iv_octets;
    result->plain = plain;
    reason = dp_esp_open(&sa->esp, sequence, packet, octets, plain, &opened);
    if (reason == DP_DROP_icv || reason == DP_DROP_esp_length || reason == DP_DROP_crypto_fault)
        return reason;
    /* Authentic from here on, even if its padding is bad: only now may anything move. */
    enum dp_drop again = dp_replay_commit(&sa->replay, sequence);
    if (again != DP_OK)
        return again;
    seen_alive(sa, now);
    if (reason != DP_OK)
        return reason;
    return check_inner(loop, sa, plain, &opened, &result->inner, now);
}

enum dp_drop dp_open_packet(struct dp_loop *loop, const uint8_t *packet, size_t octets, uint8_t *plain, uint64_t now,
                            struct dp_inbound_result *result) {
    result->sa = NULL;
    if (octets < DP_ESP_HEADER)
        return DP_DROP_runt;
    struct dp_sa *sa = dp_sa_by_spi(&loop->dp->sas, load_be32(packet));
    if (sa == NULL || sa->worker != loop->worker) /* one window, one writer */
        return DP_DROP_unknown_spi;
    if (dp_early_due(loop)) /* asked after the SA was found, since it may be one that packets wait for */
        return DP_DROP_unknown_spi;
    result->sa = sa;
    enum dp_drop reason = open_for(loop, sa, packet, octets, plain, now, result);
    if (reason == DP_OK) {
        count_packet(loop, sa, result->inner.octets, now);
        dp_talk_count(sa, dp_talk_of(sa, result->plain, &result->inner, DP_LOCAL));
    } else {
        dp_sa_drop(sa, reason);
    }
    return reason;
}

/* Notes where the newest authentic packet came from; a change is for the control plane to judge (RFC 7296 §2.23). */
static void note_peer(struct dp_loop *loop, struct dp_sa *sa, const struct dp_addr *remote, uint64_t now) {
    if (memcmp(&sa->peer, remote, sizeof *remote) == 0)
        return;
    bool moved = sa->peer.family != 0;
    dp_sa_set_peer(sa, remote);
    if (moved)
        dp_sa_raise(loop, sa, DP_SA_PEER_MOVED, now);
}

static enum dp_drop judge(const struct dp_policy *policy, uint32_t interface, const struct dp_inner *inner) {
    if (dp_flow_multicast(&inner->flow, DP_LOCAL) && dp_policy_shared(policy, interface))
        return DP_DROP_multicast_shared;
    if (!dp_policy_discards(policy))
        return DP_OK;
    struct dp_decision decision = dp_policy_decide_packet(policy, interface, inner);
    return decision.rule >= 0 && decision.action == DP_DISCARD ? DP_DROP_policy_inbound : DP_OK;
}

/* What is dropped on the way out is dropped on the way in, though an SA would carry it: discarded traffic, and groups where several
 * tunnels share the interface. */
static enum dp_drop policy_allows(struct dp_loop *loop, uint32_t interface, const struct dp_inner *inner) {
    const struct dp_policy *policy = atomic_load_explicit(&loop->dp->policy, memory_order_acquire);
    struct dp_verdict *last = &loop->last_verdict;
    if (policy == NULL)
        return DP_OK;
    if (inner->quotes) /* errors of one flow may be about many */
        return judge(policy, interface, inner);
    if (last->policy != policy || last->interface != interface || !dp_flow_same(&last->flow, &inner->flow))
        *last = (struct dp_verdict){policy, interface, judge(policy, interface, inner), inner->flow};
    return last->verdict;
}

/* RFC 3948 §2.2, §2.3: what shares the port with ESP. true: the datagram was that. */
static bool not_esp(struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data, uint32_t octets, uint64_t now) {
    if (b->encapsulation != DP_ENCAPSULATION_UDP)
        return false;
    if (octets == 1 && data[0] == DP_NAT_KEEPALIVE) {
        dp_add(&loop->keepalives, 1);
        return true;
    }
    if (octets < DP_NON_ESP_MARKER || load_be32(data) != 0)
        return false;
    dp_strangers_ike(loop, b, data + DP_NON_ESP_MARKER, octets - DP_NON_ESP_MARKER, now);
    return true;
}

/* Sends what was coalesced. */
static void flush(struct dp_loop *loop, uint64_t now) {
    struct dp_coalescer *c = &loop->coalescer;
    for (unsigned i = 0; i < c->count; i++)
        dp_coalesce_finish(c, i, &loop->out[i]);
    loop->out_count = c->count;
    c->count = 0;
    dp_loop_flush(loop, false, now);
}

static void deliver(struct dp_loop *loop, struct dp_io *io, uint8_t *plain, const struct dp_inner *inner, uint64_t now) {
    struct dp_coalescer *c = &loop->coalescer;
    if (c->count == DP_BURSTS || (c->count != 0 && loop->out_io != io))
        flush(loop, now);
    loop->out_io = io;
    uint32_t kinds = atomic_load_explicit(&io->offloads, memory_order_relaxed);
    if ((kinds & DP_OFFLOAD_TUN_UDP_TUNNEL) != 0 && inner->flow.protocol == DP_PROTOCOL_UDP &&
        !dp_vtep_known(&loop->dp->vteps, loop->dp->flow_seed, io->number, &inner->flow, now))
        kinds &= ~(uint32_t)DP_OFFLOAD_TUN_UDP_TUNNEL;
    dp_coalesce_add(c, plain, inner, kinds);
}

/* DSCP and MSS as the tunnel wants them. */
static void follow_settings(const struct dp_tunnel *tunnel, struct dp_inbound_result *r, uint8_t outer_tos) {
    struct dp_tunnel_settings settings = dp_tunnel_settings_of(tunnel);
    uint16_t mss = r->inner.version == 4 ? settings.mss4 : settings.mss6;
    if (settings.dscp_in)
        dp_dscp_decapsulate(r->plain, outer_tos);
    if (mss != 0)
        (void)dp_mss_clamp(r->plain, &r->inner, mss, false);
}

static int inbound_burst(struct dp_loop *loop, const struct dp_burst *b, uint64_t now);

static void inbound_early(struct dp_loop *loop, const struct dp_burst *b, uint64_t now) {
    (void)inbound_burst(loop, b, now);
}

static void take_early(struct dp_loop *loop, uint64_t now) {
    dp_early_take(loop, now, inbound_early, flush);
}

/* No SA was found for a datagram, or others go first. true: it is kept until there is one. Else `reason` is what it is after all;
 * an SA may have come between two looks. */
__attribute__((noinline)) static bool came_early(struct dp_loop *loop, const struct dp_burst *b, uint8_t *data, uint32_t octets,
                                                 uint64_t now, struct dp_inbound_result *r, enum dp_drop *reason) {
    for (int look = 0; look < 2 && *reason == DP_DROP_unknown_spi; look++) {
        enum dp_early_answer answer = DP_EARLY_STRANGE;
        if (dp_early_due(loop))
            take_early(loop, now);
        else
            answer = dp_early_keep(loop, b, data, octets, now);
        if (answer == DP_EARLY_KEPT) {
            struct dp_tap *tap = dp_tap_of(loop->dp);
            if (tap != NULL)
                dp_tap_undo(tap, loop);
            return true;
        }
        if (answer == DP_EARLY_FULL)
            *reason = DP_DROP_reserved_dropped;
        else if (dp_sa_by_spi(&loop->dp->sas, load_be32(data)) != NULL)
            *reason = dp_open_packet(loop, data, octets, data, now, r);
    }
    return false;
}

/* One datagram of a burst: opened where it lies, so the burst's memory is not needed again before it is sent. */
static enum dp_drop inbound_datagram(struct dp_loop *loop, const struct dp_burst *b, uint8_t *data, uint32_t octets, uint64_t now,
                                     struct dp_inbound_result *r) {
    enum dp_drop reason = dp_open_packet(loop, data, octets, data, now, r);
    if (reason == DP_DROP_unknown_spi && came_early(loop, b, data, octets, now, r, &reason))
        return DP_OK;
    if (reason == DP_DROP_unknown_spi)
        dp_strangers_esp(loop, b, data, octets, now);
    if (reason != DP_OK)
        return reason;
    if (r->sa->replay.highest == r->sequence)
        note_peer(loop, r->sa, &b->remote, now);
    reason = policy_allows(loop, r->sa->interface, &r->inner);
    if (reason != DP_OK)
        return reason;
    reason = dp_ecn_decapsulate(r->plain, &r->inner, b->tos);
    if (reason != DP_OK)
        return reason;
    follow_settings(&loop->dp->tunnel[r->sa->tunnel], r, b->tos);
    const struct dp_io_set *tuns = atomic_load_explicit(&loop->dp->worker[loop->worker].tuns, memory_order_acquire);
    struct dp_io *io = tuns != NULL && r->sa->interface < tuns->count ? tuns->io[r->sa->interface] : NULL;
    if (io == NULL)
        return DP_DROP_tun_gone;
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (__builtin_expect(tap != NULL, 0))
        dp_tap_opened(tap, loop, r->sa, r->plain, r->inner.octets, now);
    deliver(loop, io, r->plain, &r->inner, now);
    return DP_OK;
}

/* Whether a reason is about a packet that was opened and read. */
static bool is_about_inner(enum dp_drop reason) {
    switch (reason) {
    case DP_DROP_selectors:
    case DP_DROP_multicast_shared:
    case DP_DROP_policy_inbound:
    case DP_DROP_ecn:
    case DP_DROP_tun_gone:
        return true;
    default:
        return false;
    }
}

/* A datagram goes no further: shown as the packet in it where that was read, else as it came. */
__attribute__((noinline)) static void drop_one(struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b,
                                               const uint8_t *data, uint32_t octets, const struct dp_inbound_result *r,
                                               uint64_t now) {
    if (is_about_inner(reason))
        dp_drop_opened(loop, reason, r->sa, r->plain, r->inner.octets, now);
    else
        dp_drop_datagrams(loop, reason, b, octets >= DP_ESP_HEADER ? load_be32(data) : 0, r->sa, 1, now);
}

/* The worker that owns the SA of a datagram; our own number where that cannot be told. */
static uint32_t owner_of(const struct dp_loop *loop, const uint8_t *data, uint32_t octets) {
    const struct dp_sa *sa = octets >= DP_ESP_HEADER ? dp_sa_by_spi(&loop->dp->sas, load_be32(data)) : NULL;
    return sa != NULL ? sa->worker : loop->worker;
}

/* Datagrams of a burst, one behind the other, that belong to another worker. */
struct foreign_run {
    uint32_t owner, from, to, packets;
};

static void hand_over(struct dp_loop *loop, const struct dp_burst *b, struct foreign_run *f, uint64_t now) {
    if (f->packets == 0)
        return;
    struct dp_burst part = *b;
    part.data += f->from;
    part.octets = f->to - f->from;
    part.packets = f->packets;
    enum dp_drop reason = dp_hand_over(loop, f->owner, &part);
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (tap != NULL && reason != DP_OK)
        dp_tap_drop_run(tap, loop, reason, &part, now);
    if (reason != DP_OK)
        dp_drop_datagrams(loop, reason, &part, load_be32(part.data), NULL, f->packets, now);
    f->packets = 0;
}

/* Whether the datagram is another worker's; it is handed over together with its neighbours. */
static bool belongs_elsewhere(struct dp_loop *loop, const struct dp_burst *b, struct foreign_run *f, uint32_t at, uint32_t octets,
                              uint64_t now) {
    uint32_t owner = owner_of(loop, b->data + at, octets);
    if (owner != f->owner || owner == loop->worker)
        hand_over(loop, b, f, now);
    if (owner == loop->worker)
        return false;
    if (f->packets++ == 0)
        f->from = at;
    f->owner = owner;
    f->to = at + octets;
    return true;
}

/* The datagrams of a burst, which share nothing but their addresses: the kernel aggregates by those alone. How many they are. */
static int inbound_burst(struct dp_loop *loop, const struct dp_burst *b, uint64_t now) {
    struct foreign_run foreign = {.owner = loop->worker};
    bool shared = loop->from != NULL && !b->handed;
    int datagrams = 0;
    for (uint32_t at = 0; at < b->octets || datagrams == 0; datagrams++) {
        uint32_t left = b->octets - at, octets = b->gso_size != 0 && b->gso_size < left ? b->gso_size : left;
        uint8_t *data = b->data + at;
        if (shared && belongs_elsewhere(loop, b, &foreign, at, octets, now)) {
            at += octets;
            continue;
        }
        at += octets;
        struct dp_tap *tap = dp_tap_of(loop->dp);
        if (__builtin_expect(tap != NULL, 0))
            dp_tap_received(tap, loop, b, data, octets, now);
        if (not_esp(loop, b, data, octets, now))
            continue;
        struct dp_inbound_result r;
        enum dp_drop reason = inbound_datagram(loop, b, data, octets, now, &r);
        if (reason != DP_OK)
            drop_one(loop, reason, b, data, octets, &r, now);
    }
    hand_over(loop, b, &foreign, now);
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (__builtin_expect(tap != NULL, 0))
        dp_tap_done(tap, loop);
    return datagrams;
}

static int inbound_taken(struct dp_loop *loop, struct dp_burst *b, uint64_t now) {
    return inbound_burst(loop, b, now);
}

static int inbound_device(struct dp_loop *loop, struct dp_io *io, uint32_t budget, uint64_t now) {
    loop->received.used = 0;
    int got = io->ops->receive(io, &loop->received, loop->in, budget < DP_BURSTS ? budget : DP_BURSTS);
    dp_io_report_offload(loop, io, true, now);
    if (got < 0) {
        dp_io_report(loop, io, true, -got, now);
        return 0;
    }
    int moved = 0;
    for (int i = 0; i < got; i++)
        moved += inbound_burst(loop, &loop->in[i], now);
    flush(loop, now);
    return moved;
}

int dp_inbound_step(struct dp *dp, uint32_t worker, uint32_t budget, uint64_t now) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    struct dp_loop *loop = &dp->worker[worker].inbound;
    dp_epoch_online(&loop->epoch, &dp->epoch);
    loop->last_verdict.policy = NULL;
    if (dp_early_due(loop))
        take_early(loop, now);
    int moved = loop->from != NULL ? dp_handover_take(loop, budget, now, inbound_taken, flush) : 0;
    moved +=
        dp_loop_visit(loop, atomic_load_explicit(&dp->worker[worker].links, memory_order_acquire), budget, now, inbound_device);
    dp_epoch_offline(&loop->epoch);
    return moved;
}
