/* The peer of an inbound SA: written by one loop, read whole by any thread. */
#ifndef DP_SA_PEER_H
#define DP_SA_PEER_H

#include "sa.h"

/* Notes an inbound SA's peer, for the loop and for whoever reads the SA. By the loop that owns it, or before anybody sees the SA.
 */
void dp_sa_set_peer(struct dp_sa *sa, const struct dp_addr *peer);
/* The peer's address whole, by any thread, though the loop may be writing it. */
void dp_sa_get_peer(const struct dp_sa *sa, struct dp_addr *peer);

#endif
