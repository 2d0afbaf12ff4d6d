/* The policy snapshot: from ordered rules to records and trees, and its end. */
#include "policy.h"

#include <errno.h>
#include <stdlib.h>

#include "flow.h"
#include "policy_tree.h"

enum {
    RULES_MAX = 1 << 20,
    INTERFACES_MAX = 4096, /* dp_config.interfaces */
    CACHE_LINE = 64
};

/* What only the construction needs, of the rules of one family. */
struct sorting {
    struct dp_region *regions; /* of each record */
    uint32_t *records;         /* by interface, rising */
    uint32_t *ends;            /* of each interface's in records */
};

static struct dp_region region_of(const struct dp_box *box) {
    struct dp_region r;
    for (int end = DP_LOCAL; end <= DP_REMOTE; end++) {
        r.dimension[DP_DIMENSION_LOCAL + end] = box->family == 6 ? (struct dp_interval){box->low.v6[end], box->high.v6[end]}
                                                                 : (struct dp_interval){box->low.v4[end], box->high.v4[end]};
        r.dimension[DP_DIMENSION_LOCAL_PORT + end] = (struct dp_interval){box->port_low[end], box->port_high[end]};
    }
    r.dimension[DP_DIMENSION_PROTOCOL] = (struct dp_interval){box->protocol_low, box->protocol_high};
    return r;
}

static void put_record(struct dp_policy *p, int version, uint32_t record, const struct dp_box *box) {
    dp_upper low = dp_upper_pack(box->port_low[DP_LOCAL], box->port_low[DP_REMOTE], box->protocol_low);
    dp_upper high = dp_upper_pack(box->port_high[DP_LOCAL], box->port_high[DP_REMOTE], box->protocol_high);
    if (version == DP_V6)
        p->v6[record] = (struct dp_record_v6){
            {box->low.v6[DP_LOCAL], box->low.v6[DP_REMOTE]},
            {box->high.v6[DP_LOCAL] - box->low.v6[DP_LOCAL], box->high.v6[DP_REMOTE] - box->low.v6[DP_REMOTE]},
            low,
            high};
    else
        p->v4[record] = (struct dp_record_v4){
            {box->low.v4[DP_LOCAL], box->low.v4[DP_REMOTE]},
            {box->high.v4[DP_LOCAL] - box->low.v4[DP_LOCAL], box->high.v4[DP_REMOTE] - box->low.v4[DP_REMOTE]},
            low,
            high};
}

static int version_of(const struct dp_box *box) {
    return box->family == 6 ? DP_V6 : DP_V4;
}

/* Checks the rules and takes what does not depend on their family. */
static int read_rules(struct dp_policy *p, const struct dp_rule *rules, size_t count, size_t *bad) {
    p->given = calloc(count + 1, sizeof p->given[0]);
    if (p->given == NULL)
        return -ENOMEM;
    p->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const struct dp_rule *rule = &rules[i];
        bool valid = rule->interface < INTERFACES_MAX && rule->action <= DP_BYPASS &&
                     dp_box_from_selector(&p->given[i].box, &rule->selector);
        if (!valid) {
            *bad = i;
            return -EINVAL;
        }
        p->given[i].interface = rule->interface;
        p->discards |= rule->action == DP_DISCARD;
        p->records[version_of(&p->given[i].box)]++;
        if (rule->interface >= p->interfaces)
            p->interfaces = rule->interface + 1;
    }
    return 0;
}

static bool asks_ports(const struct dp_box *box) {
    return box->port_high[DP_LOCAL] < DP_PORT_OPAQUE || box->port_high[DP_REMOTE] < DP_PORT_OPAQUE;
}

/* Which interfaces have rules for certain ports. 0 or -ENOMEM. */
static int find_ports(struct dp_policy *p, const struct dp_rule *rules) {
    p->asks_ports = calloc(p->interfaces + 1, sizeof p->asks_ports[0]);
    for (size_t i = 0; p->asks_ports != NULL && i < p->count; i++)
        p->asks_ports[rules[i].interface] |= rules[i].action != DP_DISCARD && asks_ports(&p->given[i].box);
    return p->asks_ports != NULL ? 0 : -ENOMEM;
}

/* Which interfaces have rules of more than one tunnel. 0 or -ENOMEM. */
static int find_shared(struct dp_policy *p, const struct dp_rule *rules) {
    const struct dp_rule **first = calloc(p->interfaces + 1, sizeof first[0]); /* of each interface, its first that protects */
    p->shared = calloc(p->interfaces + 1, sizeof p->shared[0]);
    int result = first != NULL && p->shared != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; i < p->count && result == 0; i++) {
        const struct dp_rule **seen = &first[rules[i].interface];
        if (rules[i].action != DP_PROTECT)
            continue;
        if (*seen == NULL)
            *seen = &rules[i];
        p->shared[rules[i].interface] |= (*seen)->tunnel != rules[i].tunnel;
    }
    free(first);
    return result;
}

static size_t whole_lines(size_t octets) {
    return (octets / CACHE_LINE + 1) * CACHE_LINE;
}

static bool allocate(struct dp_policy *p) {
    p->v4 = aligned_alloc(CACHE_LINE, whole_lines(p->records[DP_V4] * sizeof p->v4[0]));
    p->v6 = aligned_alloc(CACHE_LINE, whole_lines(p->records[DP_V6] * sizeof p->v6[0]));
    p->places = calloc(p->interfaces + 1, sizeof p->places[0]);
    bool all = p->v4 != NULL && p->v6 != NULL && p->places != NULL;
    for (int version = DP_V4; version <= DP_V6; version++) {
        p->decisions[version] = malloc((p->records[version] + 1) * sizeof p->decisions[version][0]);
        all = all && p->decisions[version] != NULL;
    }
    return all;
}

/* Numbers the rules of one family, and sorts the numbers by interface. */
static void sort_records(struct dp_policy *p, int version, const struct dp_rule *rules, struct sorting *s) {
    for (uint32_t i = 0; i < p->count; i++)
        if (version_of(&p->given[i].box) == version)
            s->ends[p->given[i].interface + 1]++;
    for (uint32_t i = 0; i < p->interfaces; i++)
        s->ends[i + 1] += s->ends[i];
    for (uint32_t i = 0, record = 0; i < p->count; i++) {
        const struct dp_given_rule *given = &p->given[i];
        if (version_of(&given->box) != version)
            continue;
        s->regions[record] = region_of(&given->box);
        s->records[s->ends[given->interface]++] = record;
        p->decisions[version][record] =
            (struct dp_decision){(int32_t)i, rules[i].tunnel, rules[i].action, dp_box_opaque(&given->box)};
        put_record(p, version, record++, &given->box);
    }
}

static int add_forest(struct dp_policy *p, const struct dp_forest *forest, struct dp_forest_place *place) {
    struct dp_tree *trees = realloc(p->trees, (p->tree_count + forest->count) * sizeof trees[0]);
    if (trees == NULL)
        return -ENOMEM;
    p->trees = trees;
    *place = (struct dp_forest_place){p->tree_count, forest->count};
    for (uint32_t i = 0; i < forest->count; i++)
        trees[p->tree_count++] = forest->tree[i];
    return 0;
}

static int build_forests(struct dp_policy *p, int version, const struct sorting *s) {
    uint8_t family = version == DP_V6 ? 6 : 4;
    for (uint32_t i = 0, from = 0; i < p->interfaces; from = s->ends[i++]) {
        struct dp_forest forest;
        if (s->ends[i] == from)
            continue;
        int result = dp_forest_build(&p->stores, s->regions, family, s->records + from, s->ends[i] - from, &forest);
        if (result == 0)
            result = add_forest(p, &forest, &p->places[i][version]);
        if (result != 0)
            return result;
    }
    return 0;
}

static int build_version(struct dp_policy *p, int version, const struct dp_rule *rules) {
    int result = -ENOMEM;
    size_t n = p->records[version];
    struct sorting s = {malloc((n + 1) * sizeof *s.regions), malloc((n + 1) * sizeof *s.records),
                        calloc(p->interfaces + 1, sizeof *s.ends)};
    if (s.regions != NULL && s.records != NULL && s.ends != NULL) {
        sort_records(p, version, rules, &s);
        result = build_forests(p, version, &s);
    }
    free(s.regions);
    free(s.records);
    free(s.ends);
    return result;
}

static int build(struct dp_policy *p, const struct dp_rule *rules, size_t count, size_t *bad) {
    int result = read_rules(p, rules, count, bad);
    if (result == 0)
        result = find_shared(p, rules);
    if (result == 0)
        result = find_ports(p, rules);
    if (result == 0 && !allocate(p))
        result = -ENOMEM;
    for (int version = DP_V4; version <= DP_V6 && result == 0; version++)
        result = build_version(p, version, rules);
    dp_store_seal(&p->stores.nodes);
    dp_store_seal(&p->stores.refs);
    p->nodes = (const struct dp_node *)p->stores.nodes.words;
    p->refs = p->stores.refs.words;
    return result;
}

int dp_policy_build(const struct dp_rule *rules, size_t count, struct dp_policy **out, size_t *bad) {
    if (count > RULES_MAX) {
        *bad = RULES_MAX;
        return -EINVAL;
    }
    struct dp_policy *p = calloc(1, sizeof *p);
    if (p == NULL)
        return -ENOMEM;
    int result = build(p, rules, count, bad);
    if (result != 0) {
        dp_policy_free(p);
        return result;
    }
    *out = p;
    return 0;
}

void dp_policy_free(struct dp_policy *policy) {
    if (policy == NULL)
        return;
    for (int version = DP_V4; version <= DP_V6; version++)
        free(policy->decisions[version]);
    dp_store_free(&policy->stores.nodes);
    dp_store_free(&policy->stores.refs);
    free(policy->trees);
    free(policy->places);
    free(policy->shared);
    free(policy->asks_ports);
    free(policy->v4);
    free(policy->v6);
    free(policy->given);
    free(policy);
}

struct dp_decision dp_policy_decide_packet(const struct dp_policy *policy, uint32_t interface, const struct dp_inner *inner) {
    struct dp_decision own = dp_policy_decide(policy, interface, &inner->flow);
    if (!inner->quotes)
        return own;
    struct dp_decision quoted = dp_policy_decide(policy, interface, &inner->quoted);
    bool first = quoted.rule >= 0 && (own.rule < 0 || quoted.rule < own.rule);
    return first && quoted.action != DP_BYPASS ? quoted : own;
}

bool dp_policy_discards(const struct dp_policy *policy) {
    return policy != NULL && policy->discards;
}

bool dp_policy_shared(const struct dp_policy *policy, uint32_t interface) {
    return policy != NULL && interface < policy->interfaces && policy->shared[interface];
}

bool dp_policy_asks_ports(const struct dp_policy *policy, uint32_t interface) {
    return policy != NULL && interface < policy->interfaces && policy->asks_ports[interface];
}

size_t dp_policy_octets(const struct dp_policy *p) {
    size_t octets =
        sizeof *p + p->count * sizeof p->given[0] + p->interfaces * sizeof p->places[0] + p->tree_count * sizeof p->trees[0];
    octets += p->records[DP_V4] * sizeof p->v4[0] + p->records[DP_V6] * sizeof p->v6[0] + p->count * sizeof p->decisions[0][0];
    return octets + (p->stores.nodes.count + p->stores.refs.count) * sizeof(uint32_t);
}
