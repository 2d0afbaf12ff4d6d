#include "tap.h"

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "esp_wire.h"
#include "octets.h"
#include "tap_block.h"

enum {
    EXTRA_RINGS = 2, /* of port 500, and of the control thread */
};

/* ---- whom it is about */

static bool wants(const struct dp_tap *tap, uint32_t what, uint32_t tunnel) {
    return (tap->config.what & what) != 0 && (tap->config.tunnel == UINT32_MAX || tap->config.tunnel == tunnel);
}

/* Of what was dropped before its tunnel was known. */
static bool wants_interface(const struct dp_tap *tap, uint32_t interface) {
    return (tap->config.what & DP_TAP_INNER) != 0 && (tap->config.tunnel == UINT32_MAX || tap->config.interface == interface);
}

/* Of a datagram that belongs to no SA of ESP. */
static bool wants_peer(const struct dp_tap *tap, const struct dp_addr *remote) {
    if ((tap->config.what & DP_TAP_OUTER) == 0)
        return false;
    if (tap->config.tunnel == UINT32_MAX)
        return true;
    for (uint32_t i = 0; i < tap->config.peers; i++)
        if (tap->peer[i].family == remote->family && memcmp(tap->peer[i].ip, remote->ip, sizeof remote->ip) == 0)
            return true;
    return false;
}

static struct dp_tap_ring *ring_of(struct dp_tap *tap, const struct dp_loop *loop) {
    return &tap->ring[2 * loop->worker + loop->direction];
}

static uint32_t flag_of(const struct dp_loop *loop) {
    return loop->direction == DP_OUTBOUND ? DP_TAP_OUTBOUND : DP_TAP_INBOUND;
}

static void put_inner_as(struct dp_tap *tap, struct dp_loop *loop, const struct dp_tap_packet *p, enum dp_drop reason) {
    if (p->key > tap->interfaces)
        return;
    dp_tap_begin(tap, ring_of(tap, loop), p);
    dp_tap_end(ring_of(tap, loop), reason);
}

static void put_inner(struct dp_tap *tap, struct dp_loop *loop, uint32_t interface, const struct iovec *part, size_t parts,
                      enum dp_drop reason, uint64_t now) {
    struct dp_tap_packet p = {.key = interface + 1, .flag = flag_of(loop), .now = now, .part = part, .parts = parts};
    put_inner_as(tap, loop, &p, reason);
}

static void put_packet(struct dp_tap *tap, struct dp_loop *loop, uint32_t interface, const uint8_t *data, size_t octets,
                       enum dp_drop reason, uint64_t now) {
    struct iovec whole = {(void *)(uintptr_t)data, octets};
    put_inner(tap, loop, interface, &whole, 1, reason, now);
}

static void put_outer(struct dp_tap *tap, struct dp_tap_ring *ring, const struct dp_tap_datagram *d, uint32_t flag,
                      enum dp_drop reason, uint64_t now) {
    dp_tap_begin_outer(tap, ring, d, flag, now);
    dp_tap_end(ring, reason);
}

/* ---- the loops' end */

void dp_tap_outgoing(struct dp_tap *tap, struct dp_loop *loop, uint32_t tunnel, const struct dp_burst *b, uint64_t now) {
    if (wants(tap, DP_TAP_INNER, tunnel))
        put_packet(tap, loop, b->interface, b->data, b->octets, DP_OK, now);
}

static void put_sent(struct dp_tap *tap, struct dp_loop *loop, const struct dp_burst *b, enum dp_drop reason, uint64_t now) {
    struct dp_tap_datagram d = {
        .source = &b->local,
        .destination = &b->remote,
        .udp = b->encapsulation == DP_ENCAPSULATION_UDP,
        .tos = b->tos,
        .hop_limit = b->hop_limit,
        .df = b->df == DP_DF_SET,
        .flow_label = b->flow_label,
    };
    if (!wants(tap, DP_TAP_OUTER, b->tunnel))
        return;
    for (uint32_t at = 0; at < b->octets; at += (uint32_t)d.octets) {
        uint32_t left = b->octets - at;
        d.data = b->data + at;
        d.octets = b->gso_size != 0 && b->gso_size < left ? b->gso_size : left;
        put_outer(tap, ring_of(tap, loop), &d, DP_TAP_OUTBOUND, reason, now);
    }
}

void dp_tap_sent(struct dp_tap *tap, struct dp_loop *loop, const struct dp_burst *b, unsigned n, uint64_t now) {
    for (unsigned i = 0; i < n; i++)
        put_sent(tap, loop, &b[i], DP_OK, now);
}

static bool wants_received(const struct dp_tap *tap, const struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data,
                           size_t octets) {
    const struct dp_sa *sa = octets >= DP_ESP_HEADER ? dp_sa_by_spi(&loop->dp->sas, dp_read_32(data)) : NULL;
    return (sa != NULL && wants(tap, DP_TAP_OUTER, sa->tunnel)) || wants_peer(tap, &b->remote);
}

void dp_tap_received(struct dp_tap *tap, struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data, size_t octets,
                     uint64_t now) {
    struct dp_tap_datagram d = {
        .source = &b->remote,
        .destination = &b->local,
        .udp = b->encapsulation == DP_ENCAPSULATION_UDP,
        .tos = b->tos,
        .data = data,
        .octets = octets,
    };
    dp_tap_end(ring_of(tap, loop), DP_OK);
    if (wants_received(tap, loop, b, data, octets))
        dp_tap_begin_outer(tap, ring_of(tap, loop), &d, DP_TAP_INBOUND, now);
}

void dp_tap_done(struct dp_tap *tap, struct dp_loop *loop) {
    dp_tap_end(ring_of(tap, loop), DP_OK);
}

void dp_tap_undo(struct dp_tap *tap, struct dp_loop *loop) {
    ring_of(tap, loop)->held = 0;
}

void dp_tap_answered(struct dp_tap *tap, struct dp_loop *loop, const struct dp_burst *b, const uint8_t *answer, size_t octets,
                     uint64_t now) {
    struct dp_tap_datagram d = {.source = &b->local, .destination = &b->remote, .udp = true, .data = answer, .octets = octets};
    if (wants_peer(tap, &b->remote))
        put_outer(tap, ring_of(tap, loop), &d, DP_TAP_OUTBOUND, DP_OK, now);
}

void dp_tap_told(struct dp_tap *tap, struct dp_loop *loop, uint32_t interface, const uint8_t *packet, size_t octets, uint64_t now) {
    struct iovec whole = {(void *)(uintptr_t)packet, octets};
    struct dp_tap_packet p = {.key = interface + 1, .flag = DP_TAP_INBOUND, .now = now, .part = &whole, .parts = 1};
    if (wants_interface(tap, interface))
        put_inner_as(tap, loop, &p, DP_OK);
}

void dp_tap_opened(struct dp_tap *tap, struct dp_loop *loop, const struct dp_sa *sa, const uint8_t *packet, size_t octets,
                   uint64_t now) {
    if (wants(tap, DP_TAP_INNER, sa->tunnel))
        put_packet(tap, loop, sa->interface, packet, octets, DP_OK, now);
}

/* ---- what is dropped */

void dp_tap_drop_outgoing(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, uint32_t interface, const uint8_t *packet,
                          size_t octets, uint64_t now) {
    if (wants_interface(tap, interface))
        put_packet(tap, loop, interface, packet, octets, reason, now);
}

void dp_tap_drop_received(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason) {
    dp_tap_end(ring_of(tap, loop), reason);
}

void dp_tap_drop_run(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, uint64_t now) {
    for (uint32_t at = 0, octets; at < b->octets; at += octets) {
        uint32_t left = b->octets - at;
        octets = b->gso_size != 0 && b->gso_size < left ? b->gso_size : left;
        dp_tap_received(tap, loop, b, b->data + at, octets, now);
        dp_tap_end(ring_of(tap, loop), reason);
    }
}

void dp_tap_drop_opened(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, const struct dp_sa *sa,
                        const uint8_t *packet, size_t octets, uint64_t now) {
    if (wants(tap, DP_TAP_INNER, sa->tunnel))
        put_packet(tap, loop, sa->interface, packet, octets, reason, now);
    else
        dp_tap_end(ring_of(tap, loop), reason); /* of the datagram that it came in */
}

void dp_tap_drop_unsent(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, bool to_links,
                        uint32_t interface, uint64_t now) {
    if (to_links) {
        put_sent(tap, loop, b, reason, now);
        return;
    }
    if (!wants_interface(tap, interface))
        return;
    if (b->piece != NULL)
        put_inner(tap, loop, interface, b->piece, b->packets, reason, now);
    else
        put_packet(tap, loop, interface, b->data, b->octets, reason, now);
}

/* ---- IKE */

static struct dp_tap_ring *ring_of_port(struct dp_tap *tap, const struct dp *dp) {
    return &tap->ring[2 * dp->config.workers];
}

void dp_tap_ike_received(struct dp_tap *tap, struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote,
                         const uint8_t *message, size_t octets, enum dp_drop reason, uint64_t now) {
    struct dp_tap_datagram d = {.source = remote, .destination = local, .udp = true, .data = message, .octets = octets};
    if (wants_peer(tap, remote))
        put_outer(tap, ring_of_port(tap, dp), &d, DP_TAP_INBOUND, reason, now);
}

void dp_tap_ike_answered(struct dp_tap *tap, struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote,
                         const uint8_t *answer, size_t octets, uint64_t now) {
    struct dp_tap_datagram d = {.source = local, .destination = remote, .udp = true, .data = answer, .octets = octets};
    if (wants_peer(tap, remote))
        put_outer(tap, ring_of_port(tap, dp), &d, DP_TAP_OUTBOUND, DP_OK, now);
}

/* What the control thread sends. */
static void put_ours(struct dp *dp, const struct dp_tap_datagram *d) {
    struct dp_tap *tap = dp_tap_of(dp);
    if (tap != NULL && wants_peer(tap, d->destination))
        put_outer(tap, &tap->ring[2 * dp->config.workers + 1], d, DP_TAP_OUTBOUND, DP_OK, dp_boottime());
}

void dp_tap_ike_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote, const uint8_t *message,
                     size_t octets) {
    struct dp_tap_datagram d = {.source = local, .destination = remote, .udp = true, .data = message, .octets = octets};
    d.marker = local->port != DP_IKE_PORT;
    put_ours(dp, &d);
}

void dp_tap_keepalive(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote) {
    static const uint8_t keepalive = 0xff; /* RFC 3948 §2.3 */
    struct dp_tap_datagram d = {.source = local, .destination = remote, .udp = true, .data = &keepalive, .octets = 1};
    put_ours(dp, &d);
}

/* ---- the control thread's end */

static void tap_free(struct dp *dp, void *thing) {
    struct dp_tap *tap = thing;
    (void)dp;
    if (tap == NULL)
        return;
    for (uint32_t i = 0; i < tap->rings; i++)
        dp_tap_ring_close(&tap->ring[i]);
    free(tap->id);
    free(tap->missed);
    free(tap->taken);
    free(tap);
}

static int fill(struct dp_tap *tap, const struct dp_tap_config *config, const struct dp_addr *peers) {
    size_t keys = (size_t)tap->interfaces + 1;
    tap->config = *config;
    tap->id = malloc(keys * sizeof *tap->id);
    tap->missed = calloc(keys, sizeof *tap->missed);
    tap->taken = calloc(keys, sizeof *tap->taken);
    if (tap->id == NULL || tap->missed == NULL || tap->taken == NULL)
        return -ENOMEM;
    memset(tap->id, 0xff, keys * sizeof *tap->id);
    if (config->peers != 0)
        memcpy(tap->peer, peers, config->peers * sizeof *peers);
    for (uint32_t i = 0; i < tap->rings; i++) {
        int error = dp_tap_ring_open(&tap->ring[i], config->ring_octets);
        if (error != 0)
            return error;
    }
    return 0;
}

int dp_tap_start(struct dp *dp, const struct dp_tap_config *config, const struct dp_addr *peers) {
    if (dp_tap_of(dp) != NULL)
        return -EBUSY;
    if (config->ring_octets < DP_TAP_RING_LEAST || (config->ring_octets & (config->ring_octets - 1)) != 0 ||
        config->peers > DP_TAP_PEERS)
        return -EINVAL;
    uint32_t rings = 2 * dp->config.workers + EXTRA_RINGS;
    size_t octets = sizeof(struct dp_tap) + rings * sizeof(struct dp_tap_ring);
    struct dp_tap *tap = aligned_alloc(64, (octets + 63) & ~(size_t)63);
    if (tap == NULL)
        return -ENOMEM;
    memset(tap, 0, octets);
    tap->rings = rings;
    tap->interfaces = dp->config.interfaces;
    int error = fill(tap, config, peers);
    if (error != 0) {
        tap_free(dp, tap);
        return error;
    }
    atomic_store_explicit(&dp->tap, tap, memory_order_release);
    return 0;
}

void dp_tap_stop(struct dp *dp) {
    dp_epoch_retire(dp, tap_free, atomic_exchange_explicit(&dp->tap, NULL, memory_order_seq_cst));
}

void dp_tap_finish(struct dp *dp) {
    tap_free(dp, atomic_exchange_explicit(&dp->tap, NULL, memory_order_relaxed));
}

/* The ring whose oldest block is older than those of the others; NULL: all are empty. */
static struct dp_tap_ring *next_ring(struct dp_tap *tap, uint8_t **block, uint32_t *octets) {
    struct dp_tap_ring *found = NULL;
    uint64_t oldest = 0;
    for (uint32_t i = 0; i < tap->rings; i++) {
        uint32_t total, time[2];
        uint8_t *b = dp_tap_ring_oldest(&tap->ring[i], &total);
        if (b == NULL)
            continue;
        memcpy(time, b + 12, sizeof time);
        uint64_t when = (uint64_t)time[0] << 32 | time[1];
        if (found != NULL && when >= oldest)
            continue;
        found = &tap->ring[i];
        oldest = when;
        *block = b;
        *octets = total;
    }
    return found;
}

int dp_tap_read(struct dp *dp, uint8_t *out, size_t room, uint32_t *unnamed) {
    struct dp_tap *tap = dp_tap_of(dp);
    size_t used = 0;
    uint8_t *block = NULL;
    uint32_t octets = 0, key;
    *unnamed = UINT32_MAX;
    if (tap == NULL)
        return -ENOENT;
    for (struct dp_tap_ring *ring; (ring = next_ring(tap, &block, &octets)) != NULL && octets <= room - used; used += octets) {
        memcpy(&key, block + 8, sizeof key);
        if (tap->id[key] == UINT32_MAX) {
            *unnamed = key;
            break;
        }
        memcpy(out + used, block, octets);
        memcpy(out + used + 8, &tap->id[key], sizeof tap->id[key]);
        tap->taken[key]++;
        dp_tap_ring_take(ring, octets);
    }
    return (int)used;
}

int dp_tap_name(struct dp *dp, uint32_t key, uint32_t id) {
    struct dp_tap *tap = dp_tap_of(dp);
    if (tap == NULL || key > tap->interfaces)
        return -ENOENT;
    tap->id[key] = id;
    return 0;
}

int dp_tap_counts(const struct dp *dp, uint32_t key, uint64_t *taken, uint64_t *missed) {
    const struct dp_tap *tap = dp_tap_of(dp);
    if (tap == NULL || key > tap->interfaces)
        return -ENOENT;
    *taken = tap->taken[key];
    *missed = atomic_load_explicit(&tap->missed[key], memory_order_relaxed);
    return 0;
}
