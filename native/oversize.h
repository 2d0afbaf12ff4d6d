/* Packets longer than their tunnel's MTU. Routes and interfaces have that MTU too, so the kernel deals with most of them before
 * they come here; what comes is what it could not know: no route of ours leads into the tunnel, the MTU fell a moment ago, or the
 * outer packet is to be fragmented and not the inner one. */
#ifndef DP_OVERSIZE_H
#define DP_OVERSIZE_H

#include "engine.h"
#include "inner.h"
#include "segment.h"

/* Fits the packets of a burst to the tunnel's MTU: lowers the MSS of a SYN, cuts TCP super-packets shorter (and segments over IPv6
 * whose sender is not told), tells the sender of what must not be fragmented (DP_DROP_mtu). `*limit` is what packets are to be
 * fragmented to before they are sealed, 0: none is; `df` is cleared for those that are fragmented outside: what may be, where the
 * tunnel wants it so or the peer would discard fragments made before (RFC 4301 §7), and IPv6 that no sender could or should make
 * shorter. */
enum dp_drop dp_oversize(struct dp_loop *loop, const struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                         struct dp_segments *s, uint8_t *df, uint32_t *limit, uint64_t now);

#endif
