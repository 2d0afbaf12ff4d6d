/* Which of several SAs with the same selectors, each another worker's, a packet takes (RFC 9611). */
#ifndef DP_SPREAD_H
#define DP_SPREAD_H

#include "inner.h"
#include "io.h"
#include "sa.h"

struct dp_loop;

enum {
    DP_SPREAD_FLOWS = 16384, /* that a loop tells apart; two with one place move together */
};
#define DP_SPREAD_REST_NS UINT64_C(500000000) /* what a flow has sent that long ago has overtaken nothing any more */

/* The worker that a flow's packets go to, and when the last did. The outbound loop's own that reads them. */
struct dp_spread_flow {
    uint64_t last; /* 0: none yet */
    uint32_t worker;
};

static inline bool dp_spread_under_way(const struct dp_spread_flow *flow, uint64_t now) {
    return flow->last != 0 && now - flow->last < DP_SPREAD_REST_NS;
}

/* Workers > 1: the table of a loop. 0 or -ENOMEM. */
int dp_spread_open(struct dp_loop *loop);
void dp_spread_close(struct dp_loop *loop);

/* `sa`, or one like it: that of the worker which the flow's hash names. A flow that is under way keeps its worker, whatever SAs
 * come meanwhile, until it has rested for DP_SPREAD_REST_NS: packets by two SAs would overtake each other. What another worker has
 * handed over is for this one. Constant while nothing has the same selectors. */
struct dp_sa *dp_spread(struct dp_loop *loop, struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                        uint64_t now);

#endif
