/* Flows of several workers (spread.h) go to another process, where each keeps to the worker that it has. What was read has left by
 * then, and can be overtaken all the same: the peer opens two SAs by two workers, and one may be busy for longer than this takes.
 *
 * The seed alone would not do. It says where a flow goes that begins; one that was under way when the SA of that worker came is
 * with another one for as long as it does not rest, which may be hours. So those that are under way go along: a few octets each.
 * Which flow a place is follows from the seed, the selectors and the number of its tunnel, which are the same there. */
#include <errno.h>
#include <string.h>

#include "engine.h"

/* A set of which a flow is under way. */
struct record {
    uint32_t loop, set;
    uint64_t last[DP_SPREAD_PLACES], last_without;
    uint32_t tag[DP_SPREAD_PLACES];
    uint16_t worker[DP_SPREAD_PLACES];
};
static_assert(sizeof(struct record) == 72 && (int)DP_SPREAD_SETS == 4096,
              "what is changed of this, or of how places follow from a flow, makes another model of the hand-over (messages.py)");

static bool rests(const struct dp_spread_set *set, uint64_t now) {
    for (unsigned i = 0; i < DP_SPREAD_PLACES; i++)
        if (!dp_spread_rests(set->last[i], now))
            return false;
    return dp_spread_rests(set->last_without, now);
}

static struct record record_of(const struct dp_spread_set *set, uint32_t loop, uint32_t number) {
    struct record r = {.loop = loop, .set = number, .last_without = set->last_without};
    memcpy(r.last, set->last, sizeof r.last);
    memcpy(r.tag, set->tag, sizeof r.tag);
    memcpy(r.worker, set->worker, sizeof r.worker);
    return r;
}

int dp_flows_export(const struct dp *dp, uint64_t now, uint64_t *seed, uint8_t *out, size_t room, size_t *octets) {
    if (!dp_receive_idle(dp))
        return -EBUSY;
    *seed = dp->flow_seed;
    *octets = 0;
    for (uint32_t w = 0; w < dp->config.workers; w++) {
        const struct dp_spread_set *flows = dp->worker[w].outbound.flows;
        for (uint32_t i = 0; flows != NULL && i < DP_SPREAD_SETS; i++) {
            if (rests(&flows[i], now))
                continue;
            struct record r = record_of(&flows[i], w, i);
            if (room - *octets >= sizeof r && *octets <= room)
                memcpy(out + *octets, &r, sizeof r);
            *octets += sizeof r;
        }
    }
    return *octets <= room ? 0 : -ENOBUFS;
}

static bool fits(const struct dp *dp, const struct record *r) {
    for (unsigned i = 0; i < DP_SPREAD_PLACES; i++)
        if (r->worker[i] >= dp->config.workers)
            return false;
    return r->loop < dp->config.workers && dp->worker[r->loop].outbound.flows != NULL && r->set < DP_SPREAD_SETS;
}

int dp_flows_import(struct dp *dp, uint64_t seed, const uint8_t *records, size_t octets) {
    struct record r;
    for (uint32_t w = 0; w < dp->config.workers; w++)
        if (dp->worker[w].outbound.running)
            return -EBUSY;
    if (octets % sizeof r != 0)
        return -EINVAL;
    for (size_t at = 0; at < octets; at += sizeof r) {
        memcpy(&r, records + at, sizeof r);
        if (!fits(dp, &r))
            return -EINVAL;
    }
    dp->flow_seed = seed;
    for (size_t at = 0; at < octets; at += sizeof r) {
        memcpy(&r, records + at, sizeof r);
        struct dp_spread_set *set = &dp->worker[r.loop].outbound.flows[r.set];
        memcpy(set->last, r.last, sizeof r.last);
        memcpy(set->tag, r.tag, sizeof r.tag);
        memcpy(set->worker, r.worker, sizeof r.worker);
        set->last_without = r.last_without;
    }
    return 0;
}
