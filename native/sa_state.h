/* What an SA has used of itself: taken out of one that no loop holds any more, and put into one that none has seen yet. */
#ifndef DP_SA_STATE_H
#define DP_SA_STATE_H

#include "sa.h"

/* Whether an SA of this direction can go on from there. */
bool dp_sa_state_valid(unsigned direction, bool esn, const struct dp_sa_state *state);
/* A new SA goes on from there; NULL: from its beginning. */
void dp_sa_state_load(struct dp_sa *sa, const struct dp_sa_state *state);
/* The state of an SA that is retired. */
void dp_sa_state_save(const struct dp_sa *sa, struct dp_sa_state *state);
/* The state of one that goes on: as if it had used all numbers up to its bound, for packets of `most` octets. */
void dp_sa_state_save_bound(const struct dp_sa *sa, uint32_t most, struct dp_sa_state *state);

#endif
