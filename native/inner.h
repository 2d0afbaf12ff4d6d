/* The inner packet: header checks, its flow, ECN and DSCP between inner and outer headers. */
#ifndef DP_INNER_H
#define DP_INNER_H

#include "checksum.h"
#include "flow.h"

enum dp_direction_of_flow {
    DP_FLOW_OUTBOUND,
    DP_FLOW_INBOUND
}; /* outbound: the source is local */

struct dp_inner {
    struct dp_flow flow;
    struct dp_flow quoted; /* of an ICMP error: the flow of the packet that it is about, reversed as it goes the other way */
    uint32_t octets;       /* total length by the header: ≤ what was given */
    uint16_t header;       /* octets before the upper layer, extension headers included */
    uint8_t version;       /* 4 or 6 */
    uint8_t tos;           /* TOS or traffic class */
    bool dont_fragment;    /* IPv4 DF; always true for IPv6 */
    bool fragment;         /* any fragment, first or later */
    bool later_fragment;   /* any but the first */
    bool quotes;           /* an ICMP error, whole, that quotes a packet of the host it goes to: `quoted` is set */
};

/* Checks the header of an inner packet of which `octets` are at hand (TFC padding may follow it) and reads its flow. Non-first
 * fragments, cut-off upper headers and protocols without ports have DP_PORT_OPAQUE; at most 8 IPv6 extension headers are followed.
 * DP_OK, DP_DROP_inner_version, _inner_length, _inner_header. */
enum dp_drop dp_inner_read(const uint8_t *packet, size_t octets, enum dp_direction_of_flow direction, struct dp_inner *inner);

/* The outer TOS for an inner one: ECN as RFC 6040 §4.1 (normal mode, or compatibility mode under DP_OUTER_NO_ECN), DSCP by enum
 * dp_dscp. */
uint8_t dp_outer_tos(uint8_t inner_tos, const struct dp_path *path);
/* Merges the outer ECN field into the inner packet (RFC 6040 §4.2, figure 4), mending the IPv4 checksum. DP_OK or DP_DROP_ecn. */
enum dp_drop dp_ecn_decapsulate(uint8_t *packet, const struct dp_inner *inner, uint8_t outer_tos);
/* Gives the inner packet the outer DSCP (RFC 2983 §3.1, uniform model), its ECN field as it is, mending the IPv4 checksum. */
void dp_dscp_decapsulate(uint8_t *packet, uint8_t outer_tos);
/* RFC 1624 §3, equation 3: the checksum at `checksum` after one 16-bit word of what it covers changed. A wrong one stays wrong. */
void dp_checksum_mend(uint8_t *checksum, uint16_t old_word, uint16_t new_word);

#endif
