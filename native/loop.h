/* What the steps of both directions share: which devices are received from, and how the bursts that were built are sent. */
#ifndef DP_LOOP_H
#define DP_LOOP_H

#include "engine.h"

/* Lets `visit` receive from each device that is ready, beginning with another one each time, until `budget` packets have moved. */
int dp_loop_visit(struct dp_loop *loop, const struct dp_io_set *set, uint32_t budget, uint64_t now,
                  int (*visit)(struct dp_loop *loop, struct dp_io *io, uint32_t budget, uint64_t now));
/* Sends what `out` holds and empties it. */
void dp_loop_flush(struct dp_loop *loop, bool to_links, uint64_t now);

#endif
