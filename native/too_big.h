/* What the sender of a packet that is too long is told: "fragmentation needed" (RFC 1191 §4) or "packet too big" (RFC 4443 §3.2).
 */
#ifndef DP_TOO_BIG_H
#define DP_TOO_BIG_H

#include "inner.h"

enum {
    DP_TOO_BIG_MAX = 1280 /* octets of the message */
};

/* Builds the ICMP message about `packet`, which passed dp_inner_read outbound, into `out` (DP_TOO_BIG_MAX octets). It comes from
 * where the packet was going: the kernel drops what a TUN device brings from an address of this host's own, and the receiver goes
 * by what is quoted. The octets of the message; 0: none may be sent about this packet (RFC 1122 §3.2.2, RFC 4443 §2.4). */
size_t dp_too_big_make(uint8_t *out, const uint8_t *packet, const struct dp_inner *inner, uint32_t mtu);

#endif
