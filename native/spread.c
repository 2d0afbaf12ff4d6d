#include "spread.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "engine.h"
#include "handover.h"
#include "loop.h"
#include "mix.h"

int dp_spread_open(struct dp_loop *loop) {
    if (loop->dp->config.workers == 1 || loop->direction != DP_OUTBOUND)
        return 0;
    size_t octets = DP_SPREAD_SETS * sizeof *loop->flows;
    loop->flows = aligned_alloc(_Alignof(struct dp_spread_set), octets);
    if (loop->flows == NULL)
        return -ENOMEM;
    memset(loop->flows, 0, octets);
    return 0;
}

void dp_spread_close(struct dp_loop *loop) {
    free(loop->flows);
    loop->flows = NULL;
}

/* By addresses; ports tell TCP flows apart, all of whose packets show them. Fragments of other protocols do not, and go with the
 * rest of their flow. */
static uint64_t hash(uint64_t seed, const struct dp_flow *flow, bool fragment) {
    uint64_t h = dp_mix(seed ^ flow->family);
    for (int end = DP_LOCAL; end <= DP_REMOTE; end++) {
        if (flow->family == 6)
            h = dp_mix(dp_mix(h ^ (uint64_t)flow->address.v6[end]) ^ (uint64_t)(flow->address.v6[end] >> 64));
        else
            h = dp_mix(h ^ flow->address.v4[end]);
        if (flow->protocol == IPPROTO_TCP && !fragment)
            h = dp_mix(h ^ flow->port[end]);
    }
    return h;
}

/* Whether nothing of what this loop has sent by worker `by` can be overtaken by what it sends by worker `next` from now on. */
static bool has_passed(struct dp_loop *loop, uint32_t by, uint32_t next, uint64_t now) {
    if (by != loop->worker)
        return dp_handover_passed(loop, by, next);
    dp_loop_flush(loop, true, now);
    return true;
}

/* The place of a flow that is under way, or else one that it may have from now on; DP_SPREAD_PLACES: none. */
static unsigned place_of(const struct dp_spread_set *set, uint32_t tag, uint64_t now, bool *under_way) {
    unsigned found = DP_SPREAD_PLACES;
    for (unsigned i = 0; i < DP_SPREAD_PLACES; i++) {
        bool over = dp_spread_rests(set->last[i], now);
        if (!over && set->tag[i] == tag) {
            *under_way = true;
            return i;
        }
        found = over ? i : found;
    }
    *under_way = false;
    return dp_spread_rests(set->last_without, now) ? found : DP_SPREAD_PLACES;
}

static struct dp_sa *of_flow(struct dp_loop *loop, struct dp_sa *sa, const struct dp_tunnel *tunnel, uint64_t h, uint64_t now,
                             uint32_t *worker) {
    struct dp_spread_set *set = &loop->flows[h % DP_SPREAD_SETS];
    bool under_way;
    unsigned i = place_of(set, (uint32_t)(h >> 32), now, &under_way);
    *worker = sa->worker;
    if (i == DP_SPREAD_PLACES) {
        set->last_without = now;
        return sa;
    }
    uint32_t wanted = under_way ? set->worker[i] : (uint32_t)(h >> 16) % loop->dp->config.workers;
    struct dp_sa *one = dp_tunnel_mate(tunnel, sa, wanted);
    if (one != NULL || (under_way && wanted != sa->worker && !has_passed(loop, wanted, sa->worker, now)))
        *worker = wanted;
    set->last[i] = now;
    set->tag[i] = (uint32_t)(h >> 32);
    set->worker[i] = (uint16_t)*worker;
    return one != NULL ? one : sa;
}

struct dp_sa *dp_spread(struct dp_loop *loop, struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                        uint64_t now, uint32_t *worker) {
    const struct dp_tunnel *tunnel = &loop->dp->tunnel[sa->tunnel];
    uint64_t key = atomic_load_explicit(&sa->likes, memory_order_relaxed);
    if (!b->handed)
        return of_flow(loop, sa, tunnel, hash(loop->dp->flow_seed ^ key, &inner->flow, inner->fragment), now, worker);
    struct dp_sa *ours = dp_tunnel_mate(tunnel, sa, loop->worker);
    *worker = ours != NULL ? loop->worker : sa->worker;
    if (*worker != loop->worker) /* which sends at once what it gets, and may be ahead of what was sealed here before */
        dp_loop_flush(loop, true, now);
    return ours != NULL ? ours : sa;
}
