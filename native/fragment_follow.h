/* What becomes of a fragment where selectors ask for ports that only the first of its datagram shows (RFC 4301 §7.3): where both
 * sides agreed on it (N(NON_FIRST_FRAGMENTS_ALSO), dp_sa.fragments_also) the later ones follow the first, with its ports. Where an
 * SA with OPAQUE ports is for them (§7.2), they go by that, as policy says, and are checked all the same. */
#ifndef DP_FRAGMENT_FOLLOW_H
#define DP_FRAGMENT_FOLLOW_H

#include "engine.h"
#include "inner.h"
#include "policy.h"

/* Before policy is asked about a fragment from a TUN device: a later one is decided by the flow of its first, which `inner` gets,
 * where that leads into an SA by which it may follow. DP_OK, DP_DROP_fragment_refused. */
enum dp_drop dp_fragment_lend(struct dp_loop *loop, const struct dp_policy *policy, struct dp_burst *b, struct dp_inner *inner,
                              uint64_t now);
/* When its SA is known (NULL: it is being negotiated): the first fragment is remembered, a later one goes where it may, and is
 * checked by itself where its SA is for such alone. DP_OK,
 * DP_DROP_fragment_refused, DP_DROP_fragment_ports. */
enum dp_drop dp_fragment_admit(struct dp_loop *loop, const struct dp_policy *policy, struct dp_burst *b,
                               const struct dp_inner *inner, uint32_t tunnel, const struct dp_sa *sa, uint64_t now);
/* Why no rule holds a packet. */
enum dp_drop dp_fragment_no_rule(const struct dp_policy *policy, uint32_t interface, const struct dp_inner *inner);

/* A fragment that came in; `held`: by the SA's selectors as it is. A later one that may follow gets the flow of its first. DP_OK,
 * DP_DROP_selectors, DP_DROP_fragment_refused, DP_DROP_fragment_ports. */
enum dp_drop dp_fragment_inbound(struct dp_loop *loop, const struct dp_sa *sa, const uint8_t *packet, struct dp_inner *inner,
                                 bool held, uint64_t now);

/* Whether later fragments of what `sa` carries would not be held by its selectors. Then its peer discards them unless both sides
 * agreed otherwise (`fragments_also`). */
bool dp_fragment_shows_too_little(const struct dp *dp, const struct dp_sa *sa, const struct dp_flow *flow);

#endif
