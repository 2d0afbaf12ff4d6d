/* The look-up: down the trees of the flow's interface and family, to the first rule that holds it. */
#include <string.h>

#include "flow.h"
#include "policy_tree.h"

static const struct dp_decision none = {.rule = -1, .action = DP_DISCARD};

static inline bool holds_v4(const struct dp_record_v4 *r, const struct dp_flow *flow, dp_upper upper) {
    const uint32_t *address = flow->address.v4;
    return (address[DP_LOCAL] - r->low[DP_LOCAL] <= r->span[DP_LOCAL]) &
           (address[DP_REMOTE] - r->low[DP_REMOTE] <= r->span[DP_REMOTE]) & dp_upper_within(upper, r->upper_low, r->upper_high);
}

static inline bool holds_v6(const struct dp_record_v6 *r, const struct dp_flow *flow, dp_upper upper) {
    const dp_u128 *address = flow->address.v6;
    return (address[DP_LOCAL] - r->low[DP_LOCAL] <= r->span[DP_LOCAL]) &
           (address[DP_REMOTE] - r->low[DP_REMOTE] <= r->span[DP_REMOTE]) & dp_upper_within(upper, r->upper_low, r->upper_high);
}

/* One look-up. `version` is a constant to the compiler wherever it is used. */
struct walk {
    const struct dp_policy *policy;
    const struct dp_flow *flow;
    dp_upper upper;
    uint64_t key[DP_KEY_WORDS_MAX];
};

static inline bool record_holds(const struct walk *w, int version, uint32_t record) {
    return version == DP_V6 ? holds_v6(&w->policy->v6[record], w->flow, w->upper)
                            : holds_v4(&w->policy->v4[record], w->flow, w->upper);
}

static inline struct dp_node descend(const struct walk *w, struct dp_node node) {
    for (uint32_t bits; (bits = DP_NODE_KIND(node)) - 1 < DP_CELL_BITS_MAX;) {
        uint32_t cell = (uint32_t)(w->key[node.how >> 4 & 15] >> (node.how >> 8)) & ((1u << bits) - 1);
        node = w->policy->nodes[node.first + cell];
    }
    return node;
}

static inline uint32_t search_leaf(const struct walk *w, int version, struct dp_node leaf, uint32_t best) {
    const uint32_t *ref = w->policy->refs + leaf.first, *end = ref + (leaf.how >> 4);
    for (; ref < end && *ref < best; ref++)
        if (record_holds(w, version, *ref))
            return *ref;
    return best;
}

static inline uint64_t sieve_mask(const struct dp_sieve *sieve, int dimension, uint64_t key) {
    uint64_t mask;
    memcpy(&mask, sieve->mask[dimension][key % DP_SIEVE_CELLS], sizeof mask);
    return mask;
}

static inline uint32_t search_sieve(const struct walk *w, int version, struct dp_node node, uint32_t best) {
    const int words = version == DP_V6 ? DP_ADDRESS_WORDS_V6 : DP_ADDRESS_WORDS_V4;
    const uint64_t *remote_key = w->key + words, *upper_key = remote_key + words;
    const uint32_t local = node.how >> DP_SIEVE_LOCAL & 127, remote = node.how >> DP_SIEVE_REMOTE & 127;
    for (const uint32_t *block = w->policy->refs + node.first;; block += DP_SIEVE_BLOCK_WORDS) {
        const struct dp_sieve *sieve = (const struct dp_sieve *)block;
        uint64_t left = sieve_mask(sieve, DP_DIMENSION_LOCAL, w->key[local / 32] >> local % 32) &
                        sieve_mask(sieve, DP_DIMENSION_REMOTE, remote_key[remote / 32] >> remote % 32) &
                        sieve_mask(sieve, DP_DIMENSION_LOCAL_PORT, upper_key[0] >> (node.how >> DP_SIEVE_LOCAL_PORT & 15)) &
                        sieve_mask(sieve, DP_DIMENSION_REMOTE_PORT, upper_key[1] >> (node.how >> DP_SIEVE_REMOTE_PORT & 15)) &
                        sieve_mask(sieve, DP_DIMENSION_PROTOCOL, upper_key[2] >> (node.how >> DP_SIEVE_PROTOCOL & 15));
        for (; left != 0; left &= left - 1) {
            uint32_t record = sieve->refs[__builtin_ctzll(left)];
            if (record >= best)
                return best;
            if (record_holds(w, version, record))
                return record;
        }
        if (sieve->rules <= DP_SIEVE_RULES)
            return best;
    }
}

static inline struct dp_decision decide(struct walk *w, int version, uint32_t interface) {
    const struct dp_policy *p = w->policy;
    const struct dp_forest_place place = p->places[interface][version];
    const struct dp_tree *tree = p->trees + place.first, *end = tree + place.count;
    uint32_t best = UINT32_MAX;
    for (; tree < end && tree->lowest < best; tree++) {
        struct dp_node node = descend(w, tree->root);
        best = DP_NODE_KIND(node) == DP_NODE_LEAF ? search_leaf(w, version, node, best) : search_sieve(w, version, node, best);
    }
    if (best == UINT32_MAX)
        return none;
    struct dp_decision decision = p->decisions[version][best];
    return decision.opaque && !w->flow->portless ? none : decision;
}

static inline void key_put_v6(uint64_t words[DP_ADDRESS_WORDS_V6], dp_u128 address) {
    for (int i = 0; i < DP_ADDRESS_WORDS_V6; i++)
        words[i] = (uint64_t)(address >> 32 * i);
}

static struct dp_decision decide_v4(struct walk *w, uint32_t interface) {
    w->key[0] = w->flow->address.v4[DP_LOCAL];
    w->key[1] = w->flow->address.v4[DP_REMOTE];
    w->key[2] = w->flow->port[DP_LOCAL];
    w->key[3] = w->flow->port[DP_REMOTE];
    w->key[4] = w->flow->protocol;
    return decide(w, DP_V4, interface);
}

static struct dp_decision decide_v6(struct walk *w, uint32_t interface) {
    key_put_v6(w->key, w->flow->address.v6[DP_LOCAL]);
    key_put_v6(w->key + DP_ADDRESS_WORDS_V6, w->flow->address.v6[DP_REMOTE]);
    w->key[2 * DP_ADDRESS_WORDS_V6] = w->flow->port[DP_LOCAL];
    w->key[2 * DP_ADDRESS_WORDS_V6 + 1] = w->flow->port[DP_REMOTE];
    w->key[2 * DP_ADDRESS_WORDS_V6 + 2] = w->flow->protocol;
    return decide(w, DP_V6, interface);
}

struct dp_decision dp_policy_decide(const struct dp_policy *policy, uint32_t interface, const struct dp_flow *flow) {
    if (policy == NULL || interface >= policy->interfaces)
        return none;
    struct walk w;
    w.policy = policy;
    w.flow = flow;
    w.upper = dp_upper_pack(flow->port[DP_LOCAL], flow->port[DP_REMOTE], flow->protocol);
    return flow->family == 6 ? decide_v6(&w, interface) : decide_v4(&w, interface);
}

static int32_t decide_linearly(const struct dp_policy *policy, uint32_t interface, const struct dp_flow *flow) {
    for (uint32_t i = 0; policy != NULL && i < policy->count; i++)
        if (policy->given[i].interface == interface && dp_box_bounds(&policy->given[i].box, flow))
            return dp_box_holds(&policy->given[i].box, flow) ? (int32_t)i : -1;
    return -1;
}

void dp_policy_lookup(const struct dp_policy *policy, uint32_t interface, const struct dp_flow_key *keys, int32_t *rules, size_t n,
                      int linear) {
    for (size_t i = 0; i < n; i++) {
        struct dp_flow flow;
        if (!dp_flow_from_key(&flow, &keys[i]))
            rules[i] = -1;
        else if (linear)
            rules[i] = decide_linearly(policy, interface, &flow);
        else
            rules[i] = dp_policy_decide(policy, interface, &flow).rule;
    }
}
