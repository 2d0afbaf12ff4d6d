/* The policy snapshot: the first rule that holds a packet decides, however many there are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"
#include "selectors.h"
#include "unit.h"

static struct dp_rule rule_any(uint8_t family, uint32_t tunnel) {
    return (struct dp_rule){.selector = any_selector(family), .tunnel = tunnel, .action = DP_PROTECT};
}

static struct dp_policy *build(const struct dp_rule *rules, size_t count) {
    struct dp_policy *policy = NULL;
    size_t bad = 0;
    assert_int_equal(dp_policy_build(rules, count, &policy, &bad), 0);
    assert_non_null(policy);
    return policy;
}

static struct dp_flow_key key_of(uint8_t family) {
    return (struct dp_flow_key){
        .family = family, .protocol = 6, .local_port = 1000, .remote_port = 443, .local = {10, 1, 0, 1}, .remote = {10, 2, 0, 1}};
}

static struct dp_decision decide(const struct dp_policy *policy, uint32_t interface, const struct dp_flow_key *key) {
    struct dp_flow flow;
    assert_true(dp_flow_from_key(&flow, key));
    return dp_policy_decide(policy, interface, &flow);
}

static void no_rules_hold_nothing(void **state) {
    (void)state;
    struct dp_flow_key key = key_of(4);
    struct dp_policy *policy = build(NULL, 0);
    assert_int_equal(decide(policy, 0, &key).rule, -1);
    assert_int_equal(decide(policy, 0, &key).action, DP_DISCARD);
    assert_false(dp_policy_discards(policy));
    dp_policy_free(policy);
    assert_int_equal(decide(NULL, 0, &key).rule, -1);
    assert_false(dp_policy_discards(NULL));
    dp_policy_free(NULL);
}

static void the_first_rule_that_holds_decides(void **state) {
    (void)state;
    struct dp_rule rules[3] = {rule_any(4, 11), rule_any(4, 12), rule_any(4, 13)};
    struct dp_flow_key key = key_of(4);
    rules[0].selector.remote_port_low = rules[0].selector.remote_port_high = 80;
    rules[1].action = DP_DISCARD;
    struct dp_policy *policy = build(rules, 3);
    struct dp_decision d = decide(policy, 0, &key);
    assert_int_equal(d.rule, 1);
    assert_int_equal(d.tunnel, 12);
    assert_int_equal(d.action, DP_DISCARD);
    key.remote_port = 80;
    d = decide(policy, 0, &key);
    assert_int_equal(d.rule, 0);
    assert_int_equal(d.tunnel, 11);
    assert_int_equal(d.action, DP_PROTECT);
    assert_true(dp_policy_discards(policy));
    dp_policy_free(policy);
}

static void interfaces_and_families_are_apart(void **state) {
    (void)state;
    struct dp_rule rules[4] = {rule_any(6, 1), rule_any(4, 2), rule_any(6, 3), rule_any(4, 4)};
    struct dp_flow_key key4 = key_of(4), key6 = key_of(6);
    rules[0].interface = rules[1].interface = 7;
    rules[2].interface = rules[3].interface = 2;
    struct dp_policy *policy = build(rules, 4);
    assert_int_equal(decide(policy, 7, &key6).rule, 0);
    assert_int_equal(decide(policy, 7, &key4).rule, 1);
    assert_int_equal(decide(policy, 2, &key6).rule, 2);
    assert_int_equal(decide(policy, 2, &key4).rule, 3);
    static const uint32_t others[] = {0, 1, 3, 6, 8, 4095, 4096, UINT32_MAX};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(decide(policy, others[i], &key4).rule, -1);
        assert_int_equal(decide(policy, others[i], &key6).rule, -1);
    }
    dp_policy_free(policy);
}

static void bounds_are_inclusive_and_opaque_is_no_port(void **state) {
    (void)state;
    struct dp_rule rule = rule_any(4, 0);
    rule.selector.remote_port_low = 400;
    rule.selector.remote_port_high = 65535;
    rule.selector.protocol_low = rule.selector.protocol_high = 6;
    struct dp_policy *policy = build(&rule, 1);
    static const struct {
        uint32_t port;
        uint16_t protocol;
        int32_t rule;
    } cases[] = {{399, 6, -1}, {400, 6, 0}, {65535, 6, 0}, {65536, 6, -1}, {400, 5, -1}, {400, 7, -1}, {400, 256, -1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dp_flow_key key = key_of(4);
        key.remote_port = cases[i].port;
        key.protocol = cases[i].protocol;
        assert_int_equal(decide(policy, 0, &key).rule, cases[i].rule);
    }
    dp_policy_free(policy);
}

static void malformed_rules_are_named(void **state) {
    (void)state;
    struct dp_rule bad[4];
    for (size_t i = 0; i < 4; i++)
        bad[i] = rule_any(4, 0);
    bad[0].selector.family = 5;
    bad[1].action = DP_BYPASS + 1;
    bad[2].interface = 4096;
    bad[3].selector.remote_port_high = 65537;
    for (size_t i = 0; i < 4; i++) {
        struct dp_rule rules[3] = {rule_any(4, 0), rule_any(6, 0), bad[i]};
        struct dp_policy *policy = NULL;
        size_t index = 0;
        assert_int_equal(dp_policy_build(rules, 3, &policy, &index), -EINVAL);
        assert_int_equal(index, 2);
        assert_null(policy);
    }
    struct dp_policy *policy = NULL;
    size_t index = 0;
    assert_int_equal(dp_policy_build(NULL, (1 << 20) + 1, &policy, &index), -EINVAL);
    assert_int_equal(index, 1 << 20);
}

static void malformed_flows_match_nothing(void **state) {
    (void)state;
    struct dp_rule rules[2] = {rule_any(4, 0), rule_any(6, 0)};
    struct dp_policy *policy = build(rules, 2);
    struct dp_flow_key keys[3] = {key_of(5), key_of(4), key_of(6)};
    int32_t found[3] = {9, 9, 9};
    keys[1].local_port = 65537;
    for (int linear = 0; linear < 2; linear++) {
        dp_policy_lookup(policy, 0, keys, found, 3, linear);
        assert_int_equal(found[0], -1);
        assert_int_equal(found[1], -1);
        assert_int_equal(found[2], 1);
    }
    dp_policy_free(policy);
}

/* ---- many rules: every answer equals the linear scan's ----------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t below(uint32_t n) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1d >> 32) * n >> 32);
}

static void set_range_of(uint32_t *low, uint32_t *high, uint32_t limit) {
    uint32_t a = below(limit), b = below(limit);
    *low = a < b ? a : b;
    *high = a < b ? b : a;
}

/* Varies the four octets from `at` on; what lies behind is 0 and 0xff. */
static void set_octets(uint8_t low[16], uint8_t high[16], size_t octets, size_t at, uint32_t first, uint32_t last) {
    memset(low, 0, 16);
    memset(high, 0, 16);
    memset(high, 0xff, octets);
    for (size_t i = 0; i < at; i++)
        low[i] = high[i] = (uint8_t)(0x20 + i);
    for (size_t i = 0; i < 4; i++) {
        low[at + i] = (uint8_t)(first >> (24 - 8 * i));
        high[at + i] = (uint8_t)(last >> (24 - 8 * i));
    }
}

enum shape {
    PREFIXES,   /* nested, with port ranges */
    RECTANGLES, /* wide ranges in every dimension */
    CROSS,      /* narrow in one dimension, wide in all others, in turns */
    DISJOINT,   /* pairs of networks, one a tunnel */
    SHAPES
};

static void set_address(struct dp_selector *s, int end, enum shape shape, uint32_t i, size_t octets, size_t at) {
    uint32_t first, last, prefix = shape == CROSS ? 20 + below(13) : 4 + below(29);
    if (shape == RECTANGLES) {
        set_range_of(&first, &last, UINT32_MAX);
    } else if (shape == DISJOINT) {
        first = 0x0a000000 + (i << 8);
        last = first + 255;
    } else {
        uint32_t host = prefix == 32 ? 0 : UINT32_MAX >> prefix;
        first = (0x0a000000 | below(1 << 24)) & ~host;
        last = first | host;
    }
    set_octets(end == DP_LOCAL ? s->local_low : s->remote_low, end == DP_LOCAL ? s->local_high : s->remote_high, octets, at, first,
               last);
}

static struct dp_rule rule_of(enum shape shape, uint8_t family, uint32_t i) {
    static const uint16_t protocols[] = {6, 17, 1};
    struct dp_rule rule = rule_any(family, i);
    struct dp_selector *s = &rule.selector;
    size_t octets = family == 6 ? 16 : 4, at = family == 6 ? 2 * below(4) : 0; /* IPv6: 0, 2, 4 or 6 octets are common */
    if (shape != CROSS || i % 3 == 0)
        set_address(s, DP_LOCAL, shape, i, octets, at);
    if (shape != CROSS || i % 3 == 1)
        set_address(s, DP_REMOTE, shape, i, octets, at);
    if (shape == PREFIXES || shape == RECTANGLES)
        set_range_of(&s->local_port_low, &s->local_port_high, 65537);
    if (shape == PREFIXES || shape == RECTANGLES || (shape == CROSS && i % 3 == 2))
        set_range_of(&s->remote_port_low, &s->remote_port_high, shape == CROSS ? 600 : 65537);
    if (shape != DISJOINT && below(3) != 0)
        s->protocol_low = s->protocol_high = protocols[below(3)];
    return rule;
}

/* A flow at a corner of a rule's box, or one beyond it: where a wrong bound shows. */
static void corner(uint8_t out[16], const uint8_t low[16], const uint8_t high[16], size_t octets) {
    memcpy(out, below(2) ? low : high, 16);
    if (below(3) == 0)
        out[octets - 1] = (uint8_t)(out[octets - 1] + (below(2) ? 1 : -1));
    else if (below(4) == 0)
        out[below((uint32_t)octets)] = (uint8_t)below(256);
}

static uint32_t port_corner(uint32_t low, uint32_t high) {
    uint32_t port = below(2) ? low : high;
    port += below(3) == 0 ? below(2) ? 1 : UINT32_MAX : 0;
    return port <= DP_PORT_OPAQUE ? port : below(65537);
}

static struct dp_flow_key flow_near(const struct dp_selector *s) {
    struct dp_flow_key key = {.family = s->family, .protocol = below(2) ? s->protocol_low : (uint16_t)below(257)};
    size_t octets = s->family == 6 ? 16 : 4;
    corner(key.local, s->local_low, s->local_high, octets);
    corner(key.remote, s->remote_low, s->remote_high, octets);
    key.local_port = port_corner(s->local_port_low, s->local_port_high);
    key.remote_port = port_corner(s->remote_port_low, s->remote_port_high);
    return key;
}

enum {
    RULES = 2000,
    FLOWS = 2000
};

static void compare_with_the_linear_scan(enum shape shape, uint8_t family, uint32_t count) {
    struct dp_rule *rules = calloc(count, sizeof rules[0]);
    struct dp_flow_key *keys = calloc(FLOWS, sizeof keys[0]);
    static int32_t found[FLOWS], expected[FLOWS];
    assert_true(rules != NULL && keys != NULL);
    random_state = 0x9e3779b97f4a7c15 + count;
    for (uint32_t i = 0; i < count; i++)
        rules[i] = rule_of(shape, family, i);
    for (uint32_t i = 0; i < FLOWS; i++)
        keys[i] = flow_near(&rules[below(count)].selector);
    struct dp_policy *policy = build(rules, count);
    dp_policy_lookup(policy, 0, keys, found, FLOWS, 0);
    dp_policy_lookup(policy, 0, keys, expected, FLOWS, 1);
    size_t hits = 0;
    for (size_t i = 0; i < FLOWS; i++) {
        hits += expected[i] >= 0;
        if (found[i] != expected[i])
            fail_msg("shape %d, IPv%u, %u rules, flow %zu: rule %d, not %d", shape, family, count, i, found[i], expected[i]);
    }
    assert_in_range(hits, FLOWS / 10, FLOWS); /* the flows do meet the rules */
    dp_policy_free(policy);
    free(rules);
    free(keys);
}

static void many_rules_answer_as_a_linear_scan(void **state) {
    (void)state;
    static const uint32_t counts[] = {8, 9, 17, 65, 129, 200, RULES};
    for (enum shape shape = PREFIXES; shape < SHAPES; shape++)
        for (uint8_t family = 4; family <= 6; family += 2)
            for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
                compare_with_the_linear_scan(shape, family, counts[i]);
}

/* Every rule overlaps every other and none hides one: no cut parts them, and memory must not grow without bound. */
static void rules_that_no_cut_parts_stay_small(void **state) {
    (void)state;
    enum {
        N = 20000
    };
    struct dp_rule *rules = calloc(N, sizeof rules[0]);
    assert_non_null(rules);
    for (uint32_t i = 0; i < N; i++) {
        rules[i] = rule_any(4, i);
        set_octets(rules[i].selector.local_low, rules[i].selector.local_high, 4, 0, N - i, UINT32_MAX - i);
        set_octets(rules[i].selector.remote_low, rules[i].selector.remote_high, 4, 0, i, UINT32_MAX - N + i);
    }
    struct dp_policy *policy = build(rules, N);
    assert_in_range(dp_policy_octets(policy), 1, 32 << 20);
    struct dp_flow_key key = {.family = 4};
    int32_t found, expected;
    for (uint32_t i = 0; i < N; i += 997) {
        memcpy(key.local, rules[i].selector.local_low, 4);
        memcpy(key.remote, rules[i].selector.remote_high, 4);
        dp_policy_lookup(policy, 0, &key, &found, 1, 0);
        dp_policy_lookup(policy, 0, &key, &expected, 1, 1);
        assert_int_equal(found, expected);
    }
    dp_policy_free(policy);
    free(rules);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_rules_hold_nothing),
        cmocka_unit_test(the_first_rule_that_holds_decides),
        cmocka_unit_test(interfaces_and_families_are_apart),
        cmocka_unit_test(bounds_are_inclusive_and_opaque_is_no_port),
        cmocka_unit_test(malformed_rules_are_named),
        cmocka_unit_test(malformed_flows_match_nothing),
        cmocka_unit_test(many_rules_answer_as_a_linear_scan),
        cmocka_unit_test(rules_that_no_cut_parts_stay_small),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
