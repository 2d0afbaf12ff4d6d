/* Ends of UDP tunnels (VXLAN: RFC 7348, Geneve: RFC 8926) that a kernel behind a TUN interface has.
 *
 * A kernel takes a super-packet in a UDP tunnel for what it is where the tunnel ends; a program that reads the same port with a
 * socket would get all of its packets as one datagram. So such super-packets go only where a kernel has shown that the tunnel is
 * its own: with a packet whose checksum it left to us, and which lies in UDP, as no program can send it. Both ends of such a tunnel
 * use the same destination port. */
#ifndef DP_VTEPS_H
#define DP_VTEPS_H

#include <stdatomic.h>

#include "inner.h"
#include "io.h"
#include "offload.h"

#define DP_VTEP_NS UINT64_C(10000000000) /* so long it is believed: an address may become another host's */

enum {
    DP_VTEPS = 256, /* a power of two */
};

/* By a hash of interface, address and port; a newer one takes its place by chance. All zero: none. Written by the outbound loops,
 * read by the inbound ones. */
struct dp_vteps {
    struct {
        _Atomic uint64_t key, at;
    } seen[DP_VTEPS];
};

/* Whether a burst of a TUN interface shows an end of a tunnel, which is then to be remembered. */
static inline bool dp_vtep_shown(const struct dp_burst *b, const struct dp_inner *inner) {
    return b->needs_checksum && inner->flow.protocol == DP_PROTOCOL_UDP && !inner->fragment &&
           b->checksum_start > inner->header + DP_UDP_HEADER;
}

/* The flow is outbound, its local end that of the tunnel. `secret`: nobody else's. */
void dp_vtep_remember(struct dp_vteps *vteps, uint64_t secret, uint32_t interface, const struct dp_flow *flow, uint64_t now);
/* Whether an inbound flow goes to one that was shown lately. */
bool dp_vtep_known(const struct dp_vteps *vteps, uint64_t secret, uint32_t interface, const struct dp_flow *flow, uint64_t now);

#endif
