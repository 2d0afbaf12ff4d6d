#include "spread.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "child.h"
#include "engine.h"
#include "mix.h"

int dp_spread_open(struct dp_loop *loop) {
    if (loop->dp->config.workers == 1 || loop->direction != DP_OUTBOUND)
        return 0;
    loop->flows = calloc(DP_SPREAD_FLOWS, sizeof *loop->flows);
    return loop->flows != NULL ? 0 : -ENOMEM;
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

static struct dp_sa *of_flow(struct dp_loop *loop, struct dp_sa *sa, const struct dp_tunnel *tunnel, uint64_t h, uint64_t now) {
    struct dp_spread_flow *flow = &loop->flows[h % DP_SPREAD_FLOWS];
    bool under_way = dp_spread_under_way(flow, now);
    uint32_t worker = under_way ? flow->worker : (uint32_t)((h >> 32) % loop->dp->config.workers);
    struct dp_sa *one = dp_tunnel_spreads(tunnel) ? dp_tunnel_mate(tunnel, sa, worker) : NULL;
    flow->worker = one != NULL ? worker : sa->worker;
    flow->last = now;
    return one != NULL ? one : sa;
}

struct dp_sa *dp_spread(struct dp_loop *loop, struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                        uint64_t now) {
    const struct dp_tunnel *tunnel = &loop->dp->tunnel[sa->tunnel];
    if (loop->flows == NULL)
        return sa;
    if (b->handed) {
        struct dp_sa *ours = dp_tunnel_spreads(tunnel) ? dp_tunnel_mate(tunnel, sa, loop->worker) : NULL;
        return ours != NULL ? ours : sa;
    }
    return of_flow(loop, sa, tunnel, hash(loop->dp->flow_seed ^ sa->tunnel, &inner->flow, inner->fragment), now);
}
