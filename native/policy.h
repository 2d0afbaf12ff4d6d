/* The policy snapshot inside the data plane. dp.h has its construction; this is what the loops call. */
#ifndef DP_POLICY_H
#define DP_POLICY_H

#include "inner.h"

struct dp_decision {
    int32_t rule; /* index in the order given, -1: none holds the packet */
    uint32_t tunnel;
    uint8_t action; /* enum dp_action; DP_DISCARD when there is no rule */
    bool opaque;    /* the rule is for later fragments alone */
};

/* The first rule of `interface` that holds the flow; none where that is OPAQUE and the flow lacks ports that it should
 * show, as no sound packet does. Wait-free, allocates nothing. A NULL policy decides "none". */
struct dp_decision dp_policy_decide(const struct dp_policy *policy, uint32_t interface, const struct dp_flow *flow);
/* The first rule of `interface` that holds the packet or, where it is an ICMP error, the packet that it quotes (RFC 4301 §6). A
 * rule that lets what is quoted bypass says nothing of the error: no rule of the kernel's routing could have known. */
struct dp_decision dp_policy_decide_packet(const struct dp_policy *policy, uint32_t interface, const struct dp_inner *inner);
/* Whether any rule discards: if none does, inbound packets need no reverse look-up. */
bool dp_policy_discards(const struct dp_policy *policy);
/* Whether the rules of an interface protect into more than one tunnel: then a group has no one peer to go to. */
bool dp_policy_shared(const struct dp_policy *policy, uint32_t interface);
/* Whether a rule of an interface protects or bypasses certain ports only: a later fragment, which shows none, may have been meant.
 */
bool dp_policy_asks_ports(const struct dp_policy *policy, uint32_t interface);

#endif
