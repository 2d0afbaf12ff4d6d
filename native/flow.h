/* A packet's flow and a selector in the form the data plane computes with: host order, both ends indexed by DP_LOCAL and DP_REMOTE.
 */
#ifndef DP_FLOW_H
#define DP_FLOW_H

#include <stdbool.h>

#include "dp.h"
#include "esp_wire.h"
#include "octets.h"

enum {
    DP_LOCAL = 0,
    DP_REMOTE = 1
};

struct dp_flow {
    uint8_t family;    /* 4 or 6 */
    bool portless;     /* a later fragment, or a protocol without ports; else OPAQUE ports are those of a header cut off */
    uint16_t protocol; /* or DP_PROTOCOL_OPAQUE */
    uint32_t port[2];  /* or DP_PORT_OPAQUE; ICMP: type << 8 | code in both */
    union {
        uint32_t v4[2];
        dp_u128 v6[2];
    } address;
};

/* Whether a policy answers both alike, whatever it is: the same addresses, protocol and ports. */
static inline bool dp_flow_same(const struct dp_flow *a, const struct dp_flow *b) {
    if (a->family != b->family || a->portless != b->portless || a->protocol != b->protocol ||
        a->port[DP_LOCAL] != b->port[DP_LOCAL] || a->port[DP_REMOTE] != b->port[DP_REMOTE])
        return false;
    if (a->family == 6)
        return a->address.v6[DP_LOCAL] == b->address.v6[DP_LOCAL] && a->address.v6[DP_REMOTE] == b->address.v6[DP_REMOTE];
    return a->address.v4[DP_LOCAL] == b->address.v4[DP_LOCAL] && a->address.v4[DP_REMOTE] == b->address.v4[DP_REMOTE];
}

/* Whether the address of one end is that of a group (RFC 5771, RFC 4291 §2.7). */
static inline bool dp_flow_multicast(const struct dp_flow *flow, int end) {
    return flow->family == 6 ? (uint8_t)(flow->address.v6[end] >> 120) == 0xff : flow->address.v4[end] >> 28 == 0xe;
}

struct dp_box {
    uint8_t family;
    uint16_t protocol_low, protocol_high;
    uint32_t port_low[2], port_high[2];
    union {
        uint32_t v4[2];
        dp_u128 v6[2];
    } low, high;
};

/* Whether it is for what shows no ports alone (OPAQUE), which is later fragments (RFC 4301 §7.2), or protocols without any. */
static inline bool dp_box_opaque(const struct dp_box *box) {
    return ((box->port_low[DP_LOCAL] | box->port_low[DP_REMOTE]) & DP_PORT_OPAQUE) != 0;
}

/* From the form of dp.h. false: unknown family, a bound out of range, or low above high. */
bool dp_box_from_selector(struct dp_box *box, const struct dp_selector *selector);
/* A key without ports is that of a packet that has none to show. */
bool dp_flow_from_key(struct dp_flow *flow, const struct dp_flow_key *key);
bool dp_box_holds(const struct dp_box *box, const struct dp_flow *flow);
/* The same by addresses and numbers alone, be the box OPAQUE or not. */
bool dp_box_bounds(const struct dp_box *box, const struct dp_flow *flow);

/* Selectors of an SA or CHILD: a packet is inside when any box holds it. */
struct dp_selectors {
    uint32_t count;
    bool opaque; /* every box is */
    struct dp_box box[];
};
/* NULL: -EINVAL (0 or more than 256, or a bad one) or -ENOMEM, in errno. */
struct dp_selectors *dp_selectors_new(const struct dp_selector *selectors, size_t count);
/* Whether they are equal lists. Selectors are a set (RFC 7296 §2.9): whoever has several CHILDren with the same gives them in one
 * order, each once. */
bool dp_selectors_same(const struct dp_selectors *a, const struct dp_selectors *b);
/* Of equal ones the same in every process; `seed`: any number. */
uint64_t dp_selectors_hash(const struct dp_selectors *selectors, uint64_t seed);
bool dp_selectors_hold(const struct dp_selectors *selectors, const struct dp_flow *flow);
/* Whether a packet of this flow with some ports would be inside. */
bool dp_selectors_hold_but_for_ports(const struct dp_selectors *selectors, const struct dp_flow *flow);

#endif
