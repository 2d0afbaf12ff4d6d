/* Addresses, the ways of packets outside, and selectors, as Python gives them. */
#ifndef DP_DP_ADDRESSES_H
#define DP_DP_ADDRESSES_H

#include "dp_common.h"

struct dp_addr {
    uint8_t family; /* 4, 6; 0: unset */
    uint8_t pad;
    uint16_t port;  /* 0 under IP protocol 50 */
    uint32_t scope; /* IPv6 link-local zone, else 0 */
    uint8_t ip[16]; /* IPv4 in the first four */
};

enum dp_encapsulation {
    DP_ENCAPSULATION_ESP = 0, /* IP protocol 50 */
    DP_ENCAPSULATION_UDP = 1, /* RFC 3948 */
};

enum dp_df { /* the outer IPv4 don't-fragment bit (RFC 4301 §8.1) */
    DP_DF_COPY = 0,
    DP_DF_SET = 1,
    DP_DF_CLEAR = 2,
};

enum dp_dscp { /* the outer DSCP (RFC 2983) */
    DP_DSCP_COPY = 0,
    DP_DSCP_ZERO = 1,
    DP_DSCP_VALUE = 2, /* dp_path.dscp_value */
};

enum dp_outer {                  /* further choices about the outer header, a mask */
    DP_OUTER_HOP_LIMIT_COPY = 1, /* TTL or hop limit of the inner packet (RFC 2983 calls such a tunnel uniform) */
    DP_OUTER_FLOW_LABEL = 2,     /* IPv6: a flow label for each inner flow (RFC 6438 §3); else zero */
    DP_OUTER_NO_ECN = 4, /* not ECN-capable, for a peer that does not merge the marks (RFC 6040 §4.1, compatibility mode) */
};

/* Where an outbound SA's packets go. */
struct dp_path {
    struct dp_addr local;
    struct dp_addr remote;
    uint8_t encapsulation; /* enum dp_encapsulation */
    uint8_t df;            /* enum dp_df */
    uint8_t dscp;          /* enum dp_dscp */
    uint8_t dscp_value;    /* under DP_DSCP_VALUE: 0..63 */
    uint16_t link;         /* index that dp_link_attach or dp_mem_link_attach gave */
    uint8_t hop_limit;     /* outer TTL or hop limit, 1..255; 0: the host's own */
    uint8_t outer;         /* enum dp_outer */
};

/* A traffic selector pair (RFC 4301 §4.4.1.1, RFC 7296 §3.13), all bounds inclusive. 256 as protocol and 65536 as port stand for
 * OPAQUE, so "any" is 0..256 and 0..65536. Ports 65536..65536 hold later fragments (RFC 4301 §7.2) and protocols without
 * ports, and no whole packet whose ports are cut off. ICMP type and code lie in both ports as type << 8 | code. */
struct dp_selector {
    uint8_t family; /* 4 or 6 */
    uint8_t pad;
    uint16_t protocol_low, protocol_high;
    uint16_t pad2;
    uint32_t local_port_low, local_port_high;
    uint32_t remote_port_low, remote_port_high;
    uint8_t local_low[16], local_high[16];
    uint8_t remote_low[16], remote_high[16];
};

#endif
