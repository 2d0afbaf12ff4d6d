/* The policy: built, looked up, put in force. */
#ifndef DP_DP_POLICY_H
#define DP_DP_POLICY_H

#include "dp_addresses.h"

enum dp_action {
    DP_DISCARD = 0,
    DP_PROTECT = 1,
    DP_BYPASS = 2, /* not for a TUN interface: what came into one all the same is dropped, and counted as policy_bypass */
};

struct dp_rule {
    struct dp_selector selector;
    uint32_t interface; /* TUN interface the rule belongs to, below 4096 */
    uint32_t tunnel;    /* under PROTECT */
    uint8_t action;     /* enum dp_action */
    uint8_t pad[7];
};

struct dp_policy; /* an immutable snapshot of ordered rules for all interfaces */

/* Compiles `count` rules (0..2^20): the first that holds a packet decides; none: DISCARD, counted as policy_none. -EINVAL with the
 * index of the offending rule in `*bad`; -ENOMEM. */
int dp_policy_build(const struct dp_rule *rules, size_t count, struct dp_policy **out, size_t *bad);
void dp_policy_free(struct dp_policy *policy);

/* A packet's flow, as dp_selector describes it: addresses in network order. */
struct dp_flow_key {
    uint8_t family;
    uint8_t pad;
    uint16_t protocol;
    uint32_t local_port, remote_port;
    uint8_t local[16], remote[16];
};
/* The index of the rule that decides, or -1. `n` flows at once; `linear` scans rule by rule (the oracle of the tests). */
void dp_policy_lookup(const struct dp_policy *policy, uint32_t interface, const struct dp_flow_key *keys, int32_t *rules, size_t n,
                      int linear);
/* Octets that the snapshot takes. */
size_t dp_policy_octets(const struct dp_policy *policy);

/* Publishes a snapshot, which the data plane owns from now on, and retires the one before. */
void dp_policy_install(struct dp *dp, struct dp_policy *policy);

#endif
