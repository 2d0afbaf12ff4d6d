#include "traffic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "engine.h"

static uint64_t get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

void dp_traffic_add(struct dp_tunnel_traffic *sum, const struct dp_sa *sa) {
    bool out = sa->direction == DP_OUTBOUND;
    *(out ? &sum->packets_out : &sum->packets_in) += get(&sa->packets) - sa->kept.packets;
    *(out ? &sum->octets_out : &sum->octets_in) += get(&sa->octets) - sa->kept.octets;
    *(out ? &sum->asked_out : &sum->asked_in) += get(&sa->asked) - sa->kept.asked;
    uint64_t *last = out ? &sum->last_out : &sum->last_in;
    *last = later(*last, get(&sa->last_use));
    *(out ? &sum->goes_on_out : &sum->goes_on_in) |= atomic_load_explicit(&sa->goes_on, memory_order_relaxed);
}

void dp_traffic_keep(struct dp *dp, struct dp_sa *sa) {
    dp_traffic_add(&dp->traffic[sa->tunnel].gone, sa);
    sa->kept.packets = get(&sa->packets);
    sa->kept.octets = get(&sa->octets);
    sa->kept.asked = get(&sa->asked);
}

void dp_traffic_keep_drops(struct dp *dp, const struct dp_sa *sa) {
    struct dp_traffic *t = &dp->traffic[sa->tunnel];
    for (unsigned r = 0; r < DP_DROP_COUNT; r++) {
        uint64_t n = get(&sa->drops[r]);
        if (n != 0 && t->drops == NULL)
            t->drops = calloc(DP_DROP_COUNT, sizeof *t->drops);
        if (n != 0 && t->drops != NULL)
            t->drops[r] += n;
    }
}

static void add_traffic(struct dp_tunnel_traffic *sum, const struct dp_tunnel_traffic *more) {
    sum->packets_in += more->packets_in;
    sum->octets_in += more->octets_in;
    sum->packets_out += more->packets_out;
    sum->octets_out += more->octets_out;
    sum->asked_in += more->asked_in;
    sum->asked_out += more->asked_out;
    sum->last_in = later(sum->last_in, more->last_in);
    sum->last_out = later(sum->last_out, more->last_out);
    sum->goes_on_in |= more->goes_on_in;
    sum->goes_on_out |= more->goes_on_out;
}

int dp_tunnel_import(struct dp *dp, uint32_t tunnel, const struct dp_tunnel_traffic *traffic, const uint64_t *drops) {
    if (tunnel >= dp->config.tunnels)
        return -EINVAL;
    struct dp_traffic *t = &dp->traffic[tunnel];
    if (t->drops == NULL)
        t->drops = calloc(DP_DROP_COUNT, sizeof *t->drops);
    if (t->drops == NULL)
        return -ENOMEM;
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        t->drops[r] += drops[r];
    add_traffic(&t->gone, traffic);
    dp->tunnels_used = tunnel < dp->tunnels_used ? dp->tunnels_used : tunnel + 1;
    return 0;
}

int dp_tunnel_forget(struct dp *dp, uint32_t tunnel) {
    if (tunnel >= dp->config.tunnels)
        return -EINVAL;
    free(dp->traffic[tunnel].drops);
    dp->traffic[tunnel] = (struct dp_traffic){0};
    atomic_store_explicit(&dp->tunnel[tunnel].acquire, false, memory_order_relaxed);
    return 0;
}

static void sum_up(struct dp *dp) {
    const struct dp_sa_table *table = &dp->sas;
    for (uint32_t i = 0; i < dp->tunnels_used; i++) {
        struct dp_traffic *t = &dp->traffic[i];
        t->sum = t->gone;
        t->senders = t->receivers = 0;
    }
    for (uint32_t slot = 0; slot <= table->slot_mask; slot++) {
        const struct dp_sa *sa = atomic_load_explicit(&table->inbound[slot], memory_order_relaxed);
        if (sa == NULL)
            continue;
        dp_traffic_add(&dp->traffic[sa->tunnel].sum, sa);
        dp->traffic[sa->tunnel].receivers++;
    }
    for (uint32_t i = 0; i < table->outbound_count; i++) {
        const struct dp_sa *sa = table->outbound[i];
        if (sa == NULL)
            continue;
        dp_traffic_add(&dp->traffic[sa->tunnel].sum, sa);
        dp->traffic[sa->tunnel].senders++;
    }
}

/* Whether packets that want an answer went in `direction` since anything came the other way. */
static bool unanswered(struct dp_traffic *t, uint32_t tunnel, unsigned direction, struct dp_unanswered *out) {
    bool outbound = direction == DP_OUTBOUND;
    const struct dp_tunnel_traffic *s = &t->sum;
    uint64_t asked = outbound ? s->asked_out : s->asked_in, packets = outbound ? s->packets_out : s->packets_in;
    uint64_t back = outbound ? s->last_in : s->last_out;
    if (back != t->before[direction].last || t->senders == 0 || t->receivers == 0) {
        t->before[direction].last = back;
        t->before[direction].asked = asked;
        t->before[direction].packets = packets;
    }
    if (asked == t->before[direction].asked)
        return false;
    *out = (struct dp_unanswered){
        .tunnel = tunnel,
        .direction = (uint8_t)direction,
        .goes_on = (outbound ? s->goes_on_out : s->goes_on_in) != 0,
        .asked = asked - t->before[direction].asked,
        .packets = packets - t->before[direction].packets,
        .last = back,
    };
    return true;
}

int dp_unanswered_scan(struct dp *dp, struct dp_unanswered *out, size_t n, uint32_t *cursor) {
    if (*cursor == 0)
        sum_up(dp);
    size_t found = 0;
    uint32_t at = *cursor;
    for (; at < dp->tunnels_used && found + 1 < n; at++)
        for (unsigned direction = DP_INBOUND; direction <= DP_OUTBOUND; direction++)
            found += unanswered(&dp->traffic[at], at, direction, &out[found]);
    *cursor = at < dp->tunnels_used && n > 1 ? at : 0;
    return (int)found;
}

void dp_traffic_finish(struct dp *dp) {
    for (uint32_t i = 0; dp->traffic != NULL && i < dp->tunnels_used; i++)
        free(dp->traffic[i].drops);
    free(dp->traffic);
}
