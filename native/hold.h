/* Packets that wait for an SA: kept while it is negotiated, decided again when one comes, bounded in octets and time. */
#ifndef DP_HOLD_H
#define DP_HOLD_H

#include <stdatomic.h>

#include "io.h"

enum {
    DP_HOLD_TUNNELS = 32, /* for all tunnels of a worker together: as much as for so many */
};
#define DP_HOLD_NS UINT64_C(10000000000) /* after this long whoever sent it has sent it again */

struct dp_loop;
struct dp_hold;

/* For one outbound loop, `octets` for one tunnel at the most. NULL: no memory. */
struct dp_hold *dp_hold_new(uint32_t tunnels, uint32_t octets);
void dp_hold_free(struct dp_hold *hold);

/* Keeps a copy of the burst, after dropping what waited too long. false: there is no room, or this one waited too long. */
bool dp_hold_put(struct dp_hold *hold, struct dp_loop *loop, uint32_t tunnel, const struct dp_burst *b, uint64_t now);
/* Whether packets of the tunnel wait. */
bool dp_hold_waits(const struct dp_hold *hold, uint32_t tunnel);
/* Shows each held burst, oldest first. From the control thread, while no loop may let go of any (dp_receive_idle). */
void dp_hold_show(const struct dp_hold *hold, void (*show)(void *to, uint32_t tunnel, const struct dp_burst *b), void *to);
/* Hands every held burst to `again`, oldest first; it may be put back by it. Bursts that waited too long are dropped as no_sa. */
void dp_hold_release(struct dp_hold *hold, struct dp_loop *loop, uint64_t now,
                     enum dp_drop (*again)(struct dp_loop *loop, struct dp_burst *b, uint64_t now));

#endif
