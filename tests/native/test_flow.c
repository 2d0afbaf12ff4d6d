/* Boxes and flows: what a traffic selector holds (RFC 4301 §4.4.1.1, RFC 7296 §3.13.1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "selectors.h"
#include "unit.h"

/* 10.1.2.3:1000 <-> 10.2.4.5:2000, UDP */
static struct dp_flow_key key_v4(void) {
    return (struct dp_flow_key){
        .family = 4, .protocol = 17, .local_port = 1000, .remote_port = 2000, .local = {10, 1, 2, 3}, .remote = {10, 2, 4, 5}};
}

static struct dp_flow_key key_v6(void) {
    return (struct dp_flow_key){.family = 6,
                                .protocol = 17,
                                .local_port = 1000,
                                .remote_port = 2000,
                                .local = {0x20, 1, 0xd, 0xb8, [7] = 1, [15] = 9},
                                .remote = {0x20, 1, 0xd, 0xb8, [7] = 2, [15] = 9}};
}

static bool holds(const struct dp_selector *s, const struct dp_flow_key *k) {
    struct dp_box box;
    struct dp_flow flow;
    assert_true(dp_box_from_selector(&box, s));
    assert_true(dp_flow_from_key(&flow, k));
    return dp_box_holds(&box, &flow);
}

static void any_holds_every_flow_of_its_family(void **state) {
    (void)state;
    struct dp_selector s4 = any_selector(4), s6 = any_selector(6);
    struct dp_flow_key k4 = key_v4(), k6 = key_v6();
    assert_true(holds(&s4, &k4));
    assert_true(holds(&s6, &k6));
    assert_false(holds(&s4, &k6));
    assert_false(holds(&s6, &k4));
    k4.protocol = 256;
    k4.local_port = k4.remote_port = 65536;
    assert_true(holds(&s4, &k4));
}

/* One dimension of the selector is [low, high]; the flow has `value` in it. */
struct range_case {
    uint32_t low, high, value;
    bool held;
};

static const struct range_case port_cases[] = {
    {1000, 2000, 999, false},
    {1000, 2000, 1000, true},
    {1000, 2000, 1500, true},
    {1000, 2000, 2000, true},
    {1000, 2000, 2001, false},
    {0, 65535, 65535, true},
    {0, 65535, 65536, false}, /* a specific range shows no OPAQUE */
    {65536, 65536, 65536, true},
    {65536, 65536, 65535, false},
    {0, 65536, 65536, true},
    {0, 0, 0, true},
    {0, 0, 1, false},
};

static void ports_are_inclusive_ranges_and_opaque_is_apart(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof port_cases / sizeof port_cases[0]; i++) {
        const struct range_case *c = &port_cases[i];
        struct dp_selector local = any_selector(4), remote = any_selector(4);
        struct dp_flow_key local_key = key_v4(), remote_key = key_v4();
        local.local_port_low = remote.remote_port_low = c->low;
        local.local_port_high = remote.remote_port_high = c->high;
        local_key.local_port = remote_key.remote_port = c->value;
        assert_int_equal(holds(&local, &local_key), c->held);
        assert_int_equal(holds(&remote, &remote_key), c->held);
    }
}

static const struct range_case protocol_cases[] = {
    {17, 17, 17, true},    {17, 17, 16, false},    {17, 17, 18, false}, {0, 255, 255, true}, {0, 255, 256, false},
    {256, 256, 256, true}, {256, 256, 255, false}, {0, 256, 256, true}, {0, 0, 0, true},
};

static void protocols_are_inclusive_ranges_and_opaque_is_apart(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof protocol_cases / sizeof protocol_cases[0]; i++) {
        const struct range_case *c = &protocol_cases[i];
        struct dp_selector s = any_selector(6);
        struct dp_flow_key k = key_v6();
        s.protocol_low = (uint16_t)c->low;
        s.protocol_high = (uint16_t)c->high;
        k.protocol = (uint16_t)c->value;
        assert_int_equal(holds(&s, &k), c->held);
    }
}

/* The range is [x.1, x.2] of the last octet but with borrow and carry into the first: 9.255.255.255 and 11.0.0.0 lie outside. */
static void addresses_are_ranges_compared_as_numbers(void **state) {
    (void)state;
    static const struct {
        uint8_t first, last;
        bool held;
    } cases[] = {{9, 255, false}, {10, 0, false}, {10, 1, true}, {10, 2, true}, {11, 3, true}, {11, 4, false}, {12, 2, false}};
    for (int family = 4; family <= 6; family += 2) {
        size_t last = family == 4 ? 3 : 15;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct dp_selector local = any_selector((uint8_t)family), remote = local;
            struct dp_flow_key k = family == 4 ? key_v4() : key_v6();
            uint8_t low[16] = {10, [15] = 0}, high[16] = {11};
            low[last] = 1;
            high[last] = 3;
            memcpy(local.local_low, low, 16);
            memcpy(local.local_high, high, 16);
            memcpy(remote.remote_low, low, 16);
            memcpy(remote.remote_high, high, 16);
            memset(k.local, 0, 16);
            k.local[0] = cases[i].first;
            k.local[last] = cases[i].last;
            memcpy(k.remote, k.local, 16);
            assert_int_equal(holds(&local, &k), cases[i].held);
            assert_int_equal(holds(&remote, &k), cases[i].held);
        }
    }
}

static void malformed_selectors_are_refused(void **state) {
    (void)state;
    struct dp_box box;
    struct dp_selector s = any_selector(5);
    assert_false(dp_box_from_selector(&box, &s));
    for (uint8_t family = 4; family <= 6; family += 2) {
        s = any_selector(family);
        s.protocol_low = s.protocol_high = 257;
        assert_false(dp_box_from_selector(&box, &s));
        s = any_selector(family);
        s.protocol_low = 18;
        s.protocol_high = 17;
        assert_false(dp_box_from_selector(&box, &s));
        s = any_selector(family);
        s.local_port_high = 65537;
        assert_false(dp_box_from_selector(&box, &s));
        s = any_selector(family);
        s.remote_port_high = 65537;
        assert_false(dp_box_from_selector(&box, &s));
        s = any_selector(family);
        s.local_port_low = 2;
        s.local_port_high = 1;
        assert_false(dp_box_from_selector(&box, &s));
        s = any_selector(family);
        s.remote_port_low = 2;
        s.remote_port_high = 1;
        assert_false(dp_box_from_selector(&box, &s));
        s = any_selector(family);
        s.local_low[3] = 2;
        memset(s.local_high, 0, 16);
        assert_false(dp_box_from_selector(&box, &s));
        s = any_selector(family);
        s.remote_low[3] = 2;
        memset(s.remote_high, 0, 16);
        assert_false(dp_box_from_selector(&box, &s));
    }
}

static void malformed_flows_are_refused(void **state) {
    (void)state;
    struct dp_flow flow;
    struct dp_flow_key k = key_v4();
    k.family = 0;
    assert_false(dp_flow_from_key(&flow, &k));
    k = key_v4();
    k.protocol = 257;
    assert_false(dp_flow_from_key(&flow, &k));
    k = key_v4();
    k.local_port = 65537;
    assert_false(dp_flow_from_key(&flow, &k));
    k = key_v4();
    k.remote_port = 65537;
    assert_false(dp_flow_from_key(&flow, &k));
}

static void selectors_hold_what_any_of_their_boxes_holds(void **state) {
    (void)state;
    struct dp_selector s[2] = {any_selector(4), any_selector(6)};
    s[0].remote_port_low = s[0].remote_port_high = 53;
    struct dp_selectors *selectors = dp_selectors_new(s, 2);
    assert_non_null(selectors);
    assert_int_equal(selectors->count, 2);
    struct dp_flow flow;
    struct dp_flow_key k4 = key_v4(), k6 = key_v6();
    assert_true(dp_flow_from_key(&flow, &k4));
    assert_false(dp_selectors_hold(selectors, &flow));
    k4.remote_port = 53;
    assert_true(dp_flow_from_key(&flow, &k4));
    assert_true(dp_selectors_hold(selectors, &flow));
    assert_true(dp_flow_from_key(&flow, &k6));
    assert_true(dp_selectors_hold(selectors, &flow));
    free(selectors);
}

static void selectors_number_1_to_256_and_each_is_checked(void **state) {
    (void)state;
    struct dp_selector s[257];
    for (size_t i = 0; i < 257; i++)
        s[i] = any_selector(4);
    struct dp_selectors *selectors = dp_selectors_new(s, 256);
    assert_non_null(selectors);
    free(selectors);
    errno = 0;
    assert_null(dp_selectors_new(s, 257));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(dp_selectors_new(s, 0));
    assert_int_equal(errno, EINVAL);
    s[1].family = 0;
    errno = 0;
    assert_null(dp_selectors_new(s, 2));
    assert_int_equal(errno, EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_holds_every_flow_of_its_family),
        cmocka_unit_test(ports_are_inclusive_ranges_and_opaque_is_apart),
        cmocka_unit_test(protocols_are_inclusive_ranges_and_opaque_is_apart),
        cmocka_unit_test(addresses_are_ranges_compared_as_numbers),
        cmocka_unit_test(malformed_selectors_are_refused),
        cmocka_unit_test(malformed_flows_are_refused),
        cmocka_unit_test(selectors_hold_what_any_of_their_boxes_holds),
        cmocka_unit_test(selectors_number_1_to_256_and_each_is_checked),
    };
    return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
