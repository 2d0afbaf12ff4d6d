/* The policy snapshot: ordered rules for all interfaces. */
#include "policy.h"

#include <errno.h>
#include <stdlib.h>

struct rule {
    struct dp_box box;
    uint32_t interface, tunnel;
    uint8_t action;
};

struct dp_policy {
    size_t count;
    bool discards;
    struct rule rules[];
};

enum { RULES_MAX = 1 << 20 };

static bool rule_read(struct rule *out, const struct dp_rule *rule) {
    out->interface = rule->interface;
    out->tunnel = rule->tunnel;
    out->action = rule->action;
    return (rule->action == DP_DISCARD || rule->action == DP_PROTECT) && dp_box_from_selector(&out->box, &rule->selector);
}

int dp_policy_build(const struct dp_rule *rules, size_t count, struct dp_policy **out, size_t *bad) {
    if (count > RULES_MAX) {
        *bad = RULES_MAX;
        return -EINVAL;
    }
    struct dp_policy *policy = calloc(1, sizeof *policy + count * sizeof policy->rules[0]);
    if (policy == NULL)
        return -ENOMEM;
    policy->count = count;
    for (size_t i = 0; i < count; i++) {
        if (!rule_read(&policy->rules[i], &rules[i])) {
            free(policy);
            *bad = i;
            return -EINVAL;
        }
        policy->discards |= rules[i].action == DP_DISCARD;
    }
    *out = policy;
    return 0;
}

void dp_policy_free(struct dp_policy *policy) {
    free(policy);
}

struct dp_decision dp_policy_decide(const struct dp_policy *policy, uint32_t interface, const struct dp_flow *flow) {
    for (size_t i = 0; policy != NULL && i < policy->count; i++) {
        const struct rule *rule = &policy->rules[i];
        if (rule->interface == interface && dp_box_holds(&rule->box, flow))
            return (struct dp_decision){.rule = (int32_t)i, .tunnel = rule->tunnel, .action = rule->action};
    }
    return (struct dp_decision){.rule = -1, .action = DP_DISCARD};
}

bool dp_policy_discards(const struct dp_policy *policy) {
    return policy != NULL && policy->discards;
}

void dp_policy_lookup(const struct dp_policy *policy, uint32_t interface, const struct dp_flow_key *keys, int32_t *rules, size_t n,
                      int linear) {
    (void)linear;
    for (size_t i = 0; i < n; i++) {
        struct dp_flow flow;
        rules[i] = dp_flow_from_key(&flow, &keys[i]) ? dp_policy_decide(policy, interface, &flow).rule : -1;
    }
}

size_t dp_policy_octets(const struct dp_policy *policy) {
    return sizeof *policy + policy->count * sizeof policy->rules[0];
}
