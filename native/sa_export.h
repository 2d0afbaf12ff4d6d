/* How an SA leaves, for whoever has more than one to take. */
#ifndef DP_SA_EXPORT_H
#define DP_SA_EXPORT_H

#include <stddef.h>

struct dp;
struct dp_sa;

/* Whether `dp_sa_export` with `room` octets for the keying material would give it away now: 0, or the -errno that dp.h says of it.
 * NULL: there is no such SA. */
int dp_sa_can_leave(const struct dp *dp, const struct dp_sa *sa, size_t room);
/* It has left: nothing of its key stays here. */
void dp_sa_wipe_key(struct dp *dp, struct dp_sa *sa);

#endif
