/* Flows of several workers (spread.h) go to another process, where each keeps to the worker that it has. What was read has left by
 * then, and can be overtaken all the same: the peer opens two SAs by two workers, and one may be busy for longer than this takes.
 *
 * The seed alone would not do. It says where a flow goes that begins; one that was under way when the SA of that worker came is
 * with another one for as long as it does not rest, which may be hours. So those that are under way go along: a few octets each.
 * Which flow a place is follows from the seed and the number of its tunnel, which is the same there. */
#include <errno.h>
#include <string.h>

#include "engine.h"

struct record {
    uint32_t loop, place;
    struct dp_spread_flow flow;
};
static_assert(sizeof(struct record) == 24 && (int)DP_SPREAD_FLOWS == 16384,
              "what is changed of this, or of how places follow from a flow, makes another model of the hand-over (messages.py)");

int dp_flows_export(const struct dp *dp, uint64_t now, uint64_t *seed, uint8_t *out, size_t room, size_t *octets) {
    if (!dp_receive_idle(dp))
        return -EBUSY;
    *seed = dp->flow_seed;
    *octets = 0;
    for (uint32_t w = 0; w < dp->config.workers; w++) {
        const struct dp_spread_flow *flows = dp->worker[w].outbound.flows;
        for (uint32_t i = 0; flows != NULL && i < DP_SPREAD_FLOWS; i++) {
            if (!dp_spread_under_way(&flows[i], now))
                continue;
            struct record r = {.loop = w, .place = i, .flow = {.last = flows[i].last, .worker = flows[i].worker}};
            if (room - *octets >= sizeof r && *octets <= room)
                memcpy(out + *octets, &r, sizeof r);
            *octets += sizeof r;
        }
    }
    return *octets <= room ? 0 : -ENOBUFS;
}

static bool fits(const struct dp *dp, const struct record *r) {
    return r->loop < dp->config.workers && dp->worker[r->loop].outbound.flows != NULL && r->place < DP_SPREAD_FLOWS &&
           r->flow.worker < dp->config.workers;
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
        dp->worker[r.loop].outbound.flows[r.place] = r.flow;
    }
    return 0;
}
