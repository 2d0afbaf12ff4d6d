/* Stateful fragment checking: what follows a first fragment, and what never does. */
#include "fragment_state.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

enum {
    SECOND_PORT = 53
};
#define NOW UINT64_C(1000000000000)

static struct dp_fragment part_of(uint32_t id, uint32_t from, uint32_t to, bool more) {
    struct dp_fragment f = {
        .flow = {.family = 4,
                 .protocol = 17,
                 .port = {DP_PORT_OPAQUE, DP_PORT_OPAQUE},
                 .address = {.v4 = {0x0a010001, 0x0a020001}}},
        .id = id,
        .from = from,
        .to = to,
        .more = more,
        .sound = true,
    };
    if (from == 0) {
        f.flow.port[DP_LOCAL] = 1000;
        f.flow.port[DP_REMOTE] = SECOND_PORT;
    }
    return f;
}

static int setup(void **state) {
    *state = dp_fragment_states_new(1);
    return *state == NULL;
}

static int teardown(void **state) {
    dp_fragment_states_free(*state);
    return 0;
}

static enum dp_drop first(struct dp_fragment_states *s, struct dp_fragment f) {
    return dp_fragment_first(s, &f, NOW);
}

static enum dp_drop later(struct dp_fragment_states *s, struct dp_fragment f) {
    return dp_fragment_later(s, &f, NOW);
}

static void later_fragments_follow_their_first_and_get_its_flow(void **state) {
    struct dp_fragment f = part_of(7, 1480, 2960, true);
    struct dp_flow flow;
    assert_false(dp_fragment_known(*state, &f, NOW, &flow));
    assert_int_equal(later(*state, f), DP_DROP_fragment_ports);
    assert_int_equal(first(*state, part_of(7, 0, 1480, true)), DP_OK);
    assert_true(dp_fragment_known(*state, &f, NOW, &flow));
    assert_int_equal(flow.port[DP_REMOTE], SECOND_PORT);
    assert_int_equal(later(*state, f), DP_OK);
    assert_int_equal(later(*state, part_of(7, 2960, 3000, false)), DP_OK);
    assert_int_equal(later(*state, part_of(7, 2960, 3000, false)), DP_DROP_fragment_ports); /* all were there: forgotten */
}

static void of_another_datagram_host_place_or_protocol_nothing_follows(void **state) {
    assert_int_equal(first(*state, part_of(7, 0, 1480, true)), DP_OK);
    struct dp_fragment f[5];
    for (int i = 0; i < 5; i++)
        f[i] = part_of(7, 1480, 1500, false);
    f[0].id = 8;
    f[1].flow.address.v4[DP_LOCAL]++;
    f[2].flow.address.v4[DP_REMOTE]++;
    f[3].place = 1;
    f[4].flow.protocol = 6;
    for (int i = 0; i < 5; i++)
        assert_int_equal(later(*state, f[i]), DP_DROP_fragment_ports);
    assert_int_equal(later(*state, part_of(7, 1480, 1500, false)), DP_OK);
}

static void of_ipv6_the_first_alone_says_which_protocol_it_is(void **state) {
    struct dp_fragment a = part_of(1u << 31, 0, 1200, true), b = part_of(1u << 31, 1200, 1300, false);
    struct dp_flow flow;
    a.flow.family = b.flow.family = 6;
    for (int end = 0; end < 2; end++)
        a.flow.address.v6[end] = b.flow.address.v6[end] = (dp_u128)0x20010db8 << 96 | (unsigned)end;
    b.flow.protocol = 6;
    assert_int_equal(first(*state, a), DP_OK);
    assert_true(dp_fragment_known(*state, &b, NOW, &flow));
    assert_int_equal(flow.protocol, 17);
    assert_int_equal(later(*state, b), DP_OK);
}

static void they_may_come_in_any_order_behind_the_first(void **state) {
    assert_int_equal(first(*state, part_of(7, 0, 800, true)), DP_OK);
    static const uint32_t at[] = {4000, 1600, 3200, 800, 2400};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(later(*state, part_of(7, at[i], at[i] + 800, at[i] != 4000)), DP_OK);
    assert_int_equal(later(*state, part_of(7, 800, 1600, true)), DP_DROP_fragment_ports);
}

static void what_overlaps_is_refused_and_all_that_comes_after_it(void **state) {
    static const struct {
        uint32_t from, to;
    } overlaps[] = {{8, 16},      {792, 1600},  {1592, 2400}, {1600, 2400}, {1600, 2408},
                    {2392, 2400}, {1608, 1616}, {800, 2400},  {800, 4000}};
    for (uint32_t i = 0; i < sizeof overlaps / sizeof *overlaps; i++) {
        assert_int_equal(first(*state, part_of(i, 0, 800, true)), DP_OK);
        assert_int_equal(later(*state, part_of(i, 1600, 2400, true)), DP_OK);
        assert_int_equal(later(*state, part_of(i, overlaps[i].from, overlaps[i].to, true)), DP_DROP_fragment_refused);
        assert_int_equal(later(*state, part_of(i, 800, 1600, true)), DP_DROP_fragment_refused);
    }
}

static void a_second_first_fragment_overlaps_the_first(void **state) {
    assert_int_equal(first(*state, part_of(7, 0, 800, true)), DP_OK);
    assert_int_equal(first(*state, part_of(7, 0, 800, true)), DP_DROP_fragment_refused);
    assert_int_equal(later(*state, part_of(7, 800, 900, false)), DP_DROP_fragment_refused);
}

static void nothing_lies_behind_the_last_fragment(void **state) {
    assert_int_equal(first(*state, part_of(7, 0, 800, true)), DP_OK);
    assert_int_equal(later(*state, part_of(7, 1600, 2000, false)), DP_OK);
    assert_int_equal(later(*state, part_of(7, 2000, 2008, true)), DP_DROP_fragment_refused);
    assert_int_equal(first(*state, part_of(8, 0, 800, true)), DP_OK);
    assert_int_equal(later(*state, part_of(8, 1600, 2000, true)), DP_OK);
    assert_int_equal(later(*state, part_of(8, 800, 1000, false)), DP_DROP_fragment_refused);
}

static void too_many_holes_are_refused(void **state) {
    assert_int_equal(first(*state, part_of(7, 0, 8, true)), DP_OK);
    for (uint32_t i = 1; i < DP_FRAGMENT_RUNS; i++)
        assert_int_equal(later(*state, part_of(7, 16 * i, 16 * i + 8, true)), DP_OK);
    assert_int_equal(later(*state, part_of(7, 1600, 1608, true)), DP_DROP_fragment_refused);
}

static void they_are_remembered_for_a_while(void **state) {
    struct dp_fragment f = part_of(7, 800, 1600, true), again = part_of(7, 0, 800, true);
    assert_int_equal(first(*state, again), DP_OK);
    assert_int_equal(dp_fragment_later(*state, &f, NOW + DP_FRAGMENT_NS - 1), DP_OK);
    f = part_of(7, 1600, 2400, true);
    assert_int_equal(dp_fragment_later(*state, &f, NOW + DP_FRAGMENT_NS), DP_DROP_fragment_ports);
    assert_int_equal(dp_fragment_first(*state, &again, NOW + DP_FRAGMENT_NS), DP_OK); /* the identification comes round */
    assert_int_equal(dp_fragment_later(*state, &f, NOW + DP_FRAGMENT_NS), DP_OK);
}

static void a_flood_of_first_fragments_displaces_the_oldest_of_its_own(void **state) {
    struct dp_fragment other = part_of(1, 0, 800, true);
    other.flow.address.v4[DP_LOCAL] = 0x0a010063; /* by the seed in another set */
    assert_int_equal(first(*state, other), DP_OK);
    for (uint32_t id = 0; id < 100000; id++)
        assert_int_equal(first(*state, part_of(id, 0, 800, true)), DP_OK);
    for (uint32_t id = 100000 - DP_FRAGMENT_WAYS; id < 100000; id++)
        assert_int_equal(later(*state, part_of(id, 800, 900, false)), DP_OK);
    assert_int_equal(later(*state, part_of(100000 - DP_FRAGMENT_WAYS - 1, 800, 900, false)), DP_DROP_fragment_ports);
    other.from = 800;
    other.to = 900;
    assert_int_equal(later(*state, other), DP_OK);
}

/* ---- reading */

static struct dp_fragment read_as(const uint8_t *packet, size_t octets) {
    uint8_t *exactly = malloc(octets);
    struct dp_inner inner;
    struct dp_fragment f;
    memcpy(exactly, packet, octets);
    assert_int_equal(dp_inner_read(exactly, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_true(inner.fragment);
    dp_fragment_read(exactly, &inner, 3, &f);
    free(exactly);
    return f;
}

static struct dp_fragment v4(uint8_t protocol, uint16_t field, size_t octets) {
    uint8_t p[256] = {
        0x45, 0, 0, (uint8_t)octets, 0x12, 0x34, (uint8_t)(field >> 8), (uint8_t)field, 64, protocol, 0, 0, 10, 1, 0, 1, 10,
        2,    0, 1};
    return read_as(p, octets);
}

static void what_a_fragment_holds_is_read(void **state) {
    (void)state;
    struct dp_fragment f = v4(17, 0x2000 | 185, 20 + 24);
    assert_true(f.sound);
    assert_true(f.more);
    assert_int_equal(f.id, 0x1234);
    assert_int_equal(f.place, 3);
    assert_int_equal(f.from, 1480);
    assert_int_equal(f.to, 1504);
    assert_int_equal(f.flow.port[DP_LOCAL], DP_PORT_OPAQUE);
    f = v4(17, 185, 20 + 23);
    assert_true(f.sound && !f.more);

    /* destination options before and behind the fragment header */
    uint8_t p[80] = {0x60, 0, 0, 0, 0, 32, 60, 64};
    const uint8_t chain[] = {44, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 17, 0, 1, 4, 0, 0, 0, 0, 4, 210, 0, 53};
    p[8] = p[24] = 0xfd;
    memcpy(p + 40, chain, sizeof chain);
    f = read_as(p, 72);
    assert_true(f.sound);
    assert_int_equal(f.id, 0xdeadbeef);
    assert_int_equal(f.from, 0);
    assert_int_equal(f.to, 16);
    assert_int_equal(f.flow.port[DP_REMOTE], 53);
}

static void what_no_sender_would_make_is_not_sound(void **state) {
    (void)state;
    assert_false(v4(17, 0x2000 | 185, 20 + 23).sound); /* octets not in units of eight */
    assert_false(v4(17, 185, 20).sound);               /* none at all */
    assert_false(v4(17, 0x1fff, 20 + 8).sound);        /* beyond what a datagram may have */
    assert_true(v4(17, 0x1fff, 20 + 7).sound);
    /* a first one without its whole upper-layer header */
    static const struct { uint8_t protocol, octets; } headers[] = {{6, 24}, {17, 8}, {1, 8}, {132, 16}, {33, 16}, {136, 8}};
    for (unsigned i = 0; i < sizeof headers / sizeof *headers; i++) {
        assert_true(v4(headers[i].protocol, 0x2000, 20u + headers[i].octets).sound);
        if (headers[i].octets > 8)
            assert_false(v4(headers[i].protocol, 0x2000, 20u + headers[i].octets - 8).sound);
    }
    /* a fragment of a fragment */
    uint8_t p[72] = {0x60, 0, 0, 0, 0, 32, 44, 64};
    const uint8_t chain[] = {44, 0, 0, 1, 0, 0, 0, 1, 17, 0, 0, 1, 0, 0, 0, 2, 4, 210, 0, 53};
    memcpy(p + 40, chain, sizeof chain);
    assert_false(read_as(p, 72).sound);
}

static void an_unsound_one_is_refused(void **state) {
    struct dp_fragment tiny = part_of(7, 0, 8, true), bad = part_of(8, 800, 900, true);
    tiny.sound = bad.sound = false;
    assert_int_equal(first(*state, tiny), DP_DROP_fragment_refused);
    assert_int_equal(later(*state, part_of(7, 8, 16, true)), DP_DROP_fragment_ports);
    assert_int_equal(first(*state, part_of(8, 0, 800, true)), DP_OK);
    assert_int_equal(later(*state, bad), DP_DROP_fragment_refused);
    assert_int_equal(later(*state, part_of(8, 800, 900, false)), DP_DROP_fragment_refused);
}

/* ---- two workers */

struct flood {
    struct dp_fragment_states *states;
    uint32_t host, followed;
};

static void *send_datagrams(void *argument) {
    struct flood *flood = argument;
    for (uint32_t id = 0; id < 20000; id++) {
        struct dp_fragment a = part_of(id, 0, 800, true), b = part_of(id, 800, 900, false);
        a.flow.address.v4[DP_LOCAL] = b.flow.address.v4[DP_LOCAL] = flood->host;
        if (dp_fragment_first(flood->states, &a, NOW) == DP_OK)
            flood->followed += dp_fragment_later(flood->states, &b, NOW) == DP_OK;
    }
    return NULL;
}

static void workers_share_it(void **state) {
    struct flood flood[2] = {{*state, 0x0a010001, 0}, {*state, 0x0a010002, 0}};
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, send_datagrams, &flood[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(flood[i].followed, 20000);
    }
}

static enum dp_drop alone(struct dp_fragment_states *s, struct dp_fragment f) {
    return dp_fragment_alone(s, &f, NOW);
}

static void alone_they_need_no_first_and_overlap_nothing(void **state) {
    struct dp_flow flow;
    struct dp_fragment f = part_of(7, 800, 1600, true);
    assert_int_equal(alone(*state, f), DP_OK);
    assert_false(dp_fragment_known(*state, &f, NOW, &flow)); /* none follows it */
    assert_int_equal(later(*state, part_of(7, 1600, 2400, true)), DP_DROP_fragment_ports);
    assert_int_equal(alone(*state, part_of(7, 2400, 2500, false)), DP_OK);
    assert_int_equal(first(*state, part_of(7, 0, 800, true)), DP_OK);
    assert_true(dp_fragment_known(*state, &f, NOW, &flow));
    assert_int_equal(alone(*state, part_of(7, 1600, 2400, true)), DP_OK);
    assert_false(dp_fragment_known(*state, &f, NOW, &flow)); /* all were there: forgotten */
    assert_int_equal(alone(*state, part_of(7, 1600, 2400, true)), DP_OK);
    assert_int_equal(alone(*state, part_of(7, 2392, 2500, true)), DP_DROP_fragment_refused);
    assert_int_equal(first(*state, part_of(7, 0, 800, true)), DP_DROP_fragment_refused);
}

static void a_first_one_that_overlaps_those_before_it_is_refused(void **state) {
    assert_int_equal(alone(*state, part_of(7, 800, 1600, true)), DP_OK);
    assert_int_equal(first(*state, part_of(7, 0, 808, true)), DP_DROP_fragment_refused);
    assert_int_equal(alone(*state, part_of(7, 1600, 2400, true)), DP_DROP_fragment_refused);
    assert_int_equal(alone(*state, part_of(8, 800, 1600, false)), DP_OK);
    assert_int_equal(first(*state, part_of(8, 0, 1608, true)), DP_DROP_fragment_refused);
}

static void none_lies_in_the_transport_header(void **state) {
    static const struct {
        uint8_t protocol;
        uint32_t least;
    } headers[] = {{6, 24}, {17, 8}, {33, 16}, {132, 16}, {1, 8}};
    for (uint32_t i = 0; i < sizeof headers / sizeof *headers; i++)
        for (uint32_t at = 8; at <= headers[i].least; at += 8) {
            struct dp_fragment f = part_of(100 * i + at, at, at + 64, true);
            f.flow.protocol = headers[i].protocol;
            assert_int_equal(alone(*state, f), at < headers[i].least ? DP_DROP_fragment_refused : DP_OK);
        }
    struct dp_fragment hidden = part_of(99, 800, 1600, true);
    hidden.flow.protocol = DP_PROTOCOL_OPAQUE;
    assert_int_equal(alone(*state, hidden), DP_DROP_fragment_refused);
}

static void of_ipv6_none_claims_another_protocol_than_its_first(void **state) {
    for (int first_comes = 0; first_comes < 2; first_comes++) {
        struct dp_fragment a = part_of(40 + first_comes, 0, 1200, true), b = part_of(40 + first_comes, 1200, 1300, false);
        a.flow.family = b.flow.family = 6;
        for (int end = 0; end < 2; end++)
            a.flow.address.v6[end] = b.flow.address.v6[end] = (dp_u128)0x20010db8 << 96 | (unsigned)end;
        b.flow.protocol = 6;
        assert_int_equal(first_comes ? first(*state, a) : alone(*state, b), DP_OK);
        assert_int_equal(first_comes ? alone(*state, b) : first(*state, a), DP_DROP_fragment_refused);
    }
}

#define STATEFUL(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        STATEFUL(later_fragments_follow_their_first_and_get_its_flow),
        STATEFUL(of_another_datagram_host_place_or_protocol_nothing_follows),
        STATEFUL(of_ipv6_the_first_alone_says_which_protocol_it_is),
        STATEFUL(they_may_come_in_any_order_behind_the_first),
        STATEFUL(what_overlaps_is_refused_and_all_that_comes_after_it),
        STATEFUL(a_second_first_fragment_overlaps_the_first),
        STATEFUL(nothing_lies_behind_the_last_fragment),
        STATEFUL(too_many_holes_are_refused),
        STATEFUL(they_are_remembered_for_a_while),
        STATEFUL(a_flood_of_first_fragments_displaces_the_oldest_of_its_own),
        cmocka_unit_test(what_a_fragment_holds_is_read),
        cmocka_unit_test(what_no_sender_would_make_is_not_sound),
        STATEFUL(an_unsound_one_is_refused),
        STATEFUL(workers_share_it),
        STATEFUL(alone_they_need_no_first_and_overlap_nothing),
        STATEFUL(a_first_one_that_overlaps_those_before_it_is_refused),
        STATEFUL(none_lies_in_the_transport_header),
        STATEFUL(of_ipv6_none_claims_another_protocol_than_its_first),
    };
    return cmocka_run_group_tests_name("fragment state", tests, NULL, NULL);
}
