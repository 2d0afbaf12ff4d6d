/* What waits in a data plane for an SA goes to another one: packets of tunnels that are coming up, and ESP that came before its SA.
 *
 * While receiving is paused no loop lets go of what it holds, so the control thread may look at it. */
#include <errno.h>
#include <string.h>

#include "early.h"
#include "engine.h"
#include "events.h"
#include "hold.h"

enum {
    ALIGN = 8, /* of each record */
};
static_assert(sizeof(struct dp_kept) % ALIGN == 0, "records lie one behind the other");

struct writer {
    uint8_t *out;
    size_t room, used;
    uint8_t worker;
};

static void write_one(struct writer *w, struct dp_kept k, const struct dp_burst *b) {
    size_t take = sizeof k + ((b->octets + ALIGN - 1u) & ~(size_t)(ALIGN - 1));
    if (take <= w->room && w->used <= w->room - take) {
        k.since = b->now;
        k.octets = b->octets;
        memset(w->out + w->used, 0, take);
        memcpy(w->out + w->used, &k, sizeof k);
        memcpy(w->out + w->used + sizeof k, b->data, b->octets);
    }
    w->used += take;
}

static void write_held(void *to, uint32_t tunnel, const struct dp_burst *b) {
    struct dp_kept k = {
        .tunnel = tunnel,
        .interface = b->interface,
        .gso_size = b->gso_size,
        .gso_type = b->gso_type,
        .needs_checksum = b->needs_checksum,
        .checksum_start = b->checksum_start,
        .checksum_offset = b->checksum_offset,
        .lent_protocol = b->lent_protocol,
        .lent_port = {b->lent_port[0], b->lent_port[1]},
        .remembered = b->remembered,
        .lent = b->lent,
        .tunnel_checksum = b->tunnel_checksum,
        .worker = ((const struct writer *)to)->worker,
    };
    write_one(to, k, b);
}

static void write_early(void *to, uint32_t spi, const struct dp_burst *b) {
    struct dp_kept k = {
        .spi = spi,
        .link = b->link,
        .tos = b->tos,
        .encapsulation = b->encapsulation,
        .local = b->local,
        .remote = b->remote,
    };
    write_one(to, k, b);
}

int dp_kept_export(struct dp *dp, uint8_t *out, size_t room, size_t *octets) {
    struct writer w = {.out = out, .room = room};
    if (!dp_receive_idle(dp))
        return -EBUSY;
    for (uint32_t i = 0; i < dp->config.workers; i++) {
        w.worker = (uint8_t)i;
        dp_hold_show(dp->worker[i].outbound.hold, write_held, &w);
    }
    dp_early_show(dp, write_early, &w);
    *octets = w.used;
    return w.used <= room ? 0 : -ENOBUFS;
}

static int keep_held(struct dp *dp, const struct dp_kept *k, struct dp_burst *b, uint64_t now) {
    if (k->tunnel >= dp->config.tunnels || k->interface >= dp->config.interfaces || k->worker >= dp->config.workers)
        return -EINVAL;
    struct dp_loop *loop = &dp->worker[k->worker].outbound; /* which reads what is behind it, too */
    b->interface = k->interface;
    b->gso_size = k->gso_size;
    b->gso_type = k->gso_type;
    b->needs_checksum = k->needs_checksum != 0;
    b->checksum_start = k->checksum_start;
    b->checksum_offset = k->checksum_offset;
    b->lent_protocol = k->lent_protocol;
    memcpy(b->lent_port, k->lent_port, sizeof b->lent_port);
    b->remembered = k->remembered != 0;
    b->lent = k->lent != 0;
    b->tunnel_checksum = k->tunnel_checksum != 0;
    return dp_hold_put(loop->hold, loop, k->tunnel, b, now) ? 0 : -ENOSPC;
}

/* The SA may be there by now: then it takes them first. */
static int keep_early(struct dp *dp, const struct dp_kept *k, struct dp_burst *b) {
    struct dp_sa *sa = dp_sa_by_spi(&dp->sas, k->spi);
    b->packets = 1;
    b->link = k->link;
    b->tos = k->tos;
    b->encapsulation = k->encapsulation;
    b->local = k->local;
    b->remote = k->remote;
    int error = sa != NULL ? dp_early_begin(dp, k->spi, &k->remote) : 0;
    if (error == 0)
        error = dp_early_restore(dp, k->spi, b);
    if (sa != NULL && dp_early_ready(dp, k->spi, sa->worker))
        dp_loop_wake(&dp->worker[sa->worker].inbound);
    return error;
}

int dp_kept_import(struct dp *dp, const struct dp_kept *k, const uint8_t *packet, uint64_t now) {
    struct dp_burst b = {.data = (uint8_t *)(uintptr_t)packet, .octets = k->octets, .now = k->since};
    if (!dp_receive_idle(dp))
        return -EBUSY;
    if (k->octets == 0 || k->octets > DP_IP_MAX || k->since == 0 || k->encapsulation > DP_ENCAPSULATION_UDP)
        return -EINVAL;
    return k->spi == 0 ? keep_held(dp, k, &b, now) : keep_early(dp, k, &b);
}
