/* Which of several SAs with the same selectors, each another worker's, a packet takes (RFC 9611). */
#ifndef DP_SPREAD_H
#define DP_SPREAD_H

#include "inner.h"
#include "io.h"
#include "sa.h"

struct dp_loop;

enum {
    DP_SPREAD_SETS = 4096, /* of flows, in each loop */
    DP_SPREAD_PLACES = 4,  /* flows that one set tells apart */
};
#define DP_SPREAD_REST_NS UINT64_C(500000000) /* what a flow has sent that long ago has overtaken nothing any more */

/* The worker that a flow's packets go to, and when the last did. The outbound loop's own that reads them.
 *
 * A flow is under way until it has rested for DP_SPREAD_REST_NS. A place belongs to one flow, known by 32 further bits of its hash,
 * while that is under way. A flow that finds no place goes with the first of the SAs, and so does everyone who has no place in
 * that set until all of those have rested: whether one of them began or goes on cannot be told. So no flow moves for the sake
 * of another one. What has no place has the worker of the first SA, and moves at once where that becomes another one. */
struct dp_spread_set {
    _Alignas(64) uint64_t last[DP_SPREAD_PLACES]; /* 0: none yet */
    uint64_t last_without;                        /* when a flow without a place sent; 0: none has */
    uint32_t tag[DP_SPREAD_PLACES];
    uint16_t worker[DP_SPREAD_PLACES];
};
static_assert(sizeof(struct dp_spread_set) == 64, "a look is one cache line");

static inline bool dp_spread_rests(uint64_t last, uint64_t now) {
    return last == 0 || now - last >= DP_SPREAD_REST_NS;
}

/* Workers > 1: the table of a loop. 0 or -ENOMEM. */
int dp_spread_open(struct dp_loop *loop);
void dp_spread_close(struct dp_loop *loop);

/* `sa`, or one like it: that of the worker which the flow's hash names. A flow that is under way keeps its worker, whatever SAs
 * come meanwhile: packets by two SAs would overtake each other. Where its worker has none any more it goes to `sa`, as soon as what
 * it has sent is not on its way between workers any longer; until then *worker is the one that hands it on. What another worker
 * has handed over is for this one; where it has none, for the worker of `sa`, once what was sealed here is sent. *worker: whose
 * loop is to have the burst. For loops that have a table. */
struct dp_sa *dp_spread(struct dp_loop *loop, struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                        uint64_t now, uint32_t *worker);

#endif
