/* Which networks were here lately: in bounded memory, so that now and then one that was not seems to have been. A flood from random
 * addresses hardly comes twice from one; whoever means it asks again. */
#ifndef DP_SEEN_H
#define DP_SEEN_H

#include <stdbool.h>

#include "dp.h"

struct dp_seen;

/* Of the last one to two periods of `seconds`. NULL: no memory. */
struct dp_seen *dp_seen_new(uint64_t secret, uint32_t seconds);
/* Whether somebody of this network was here; he was from now on. */
bool dp_seen_before(struct dp_seen *seen, const struct dp_addr *address, uint64_t now);
/* That is going to be asked about somebody: what it takes is fetched from memory meanwhile. */
void dp_seen_prefetch(const struct dp_seen *seen, const struct dp_addr *address);

#endif
