/* The maximum segment size that a TCP SYN announces (RFC 9293 §3.7.1), lowered to what the tunnel carries whole. */
#ifndef DP_MSS_H
#define DP_MSS_H

#include "inner.h"

/* Lowers the MSS option of a SYN that passed dp_inner_read to `mss` octets where it is larger, mending the checksum, unless that
 * is `partial`: only the pseudo-header summed, which the option is not part of. Other packets, and SYNs without the option, are
 * left alone. Whether it changed anything. */
bool dp_mss_clamp(uint8_t *packet, const struct dp_inner *inner, uint16_t mss, bool partial);

#endif
