/* Several SAs with the same selectors, each another worker's: which of them a flow takes, and that it stays there (RFC 9611). The
 * steps of the loops are not called: `dp_spread` is asked. */
#include "spread_site.h"

enum {
    FLOWS = 96, /* no worker is without any: 3 * (2/3) ** 96 is nothing */
};

static void test_a_flow_has_one_worker_and_each_worker_has_flows(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    unsigned flows[WORKERS] = {0};
    for (uint32_t flow = 0; flow < FLOWS; flow++) {
        uint32_t worker = worker_of_flow(s, flow);
        flows[worker]++;
        rest(s);
        assert_int_equal(worker_of_flow(s, flow), worker);
    }
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_true(flows[w] > 0);
    dp_destroy(s->dp);
}

static void test_with_one_worker_there_is_no_table(void **state) {
    (void)state;
    struct dp *dp = plane_new(1);
    assert_null(dp->worker[0].outbound.flows);
    dp_destroy(dp);
}

/* Whether any of so many packets, one of each shape that `change` makes, goes to another worker than the others. */
static bool differ(struct site *s, struct shape shape, void (*change)(struct shape *shape, unsigned i)) {
    uint8_t packet[256];
    uint32_t first = UINT32_MAX;
    for (unsigned i = 0; i < FLOWS; i++) {
        change(&shape, i);
        struct dp_inner inner = read_packet(packet, packet_build(packet, &shape));
        uint32_t worker = worker_of(s, &inner);
        if (i != 0 && worker != first)
            return true;
        first = worker;
    }
    return false;
}

static void another_port(struct shape *shape, unsigned i) {
    shape->source_port = (uint16_t)(40000 + i);
}

static void another_host(struct shape *shape, unsigned i) {
    shape->host = (uint8_t)(1 + i);
}

static void test_addresses_tell_flows_apart_and_ports_those_of_tcp(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    for (uint8_t version = 4; version <= 6; version += 2) {
        assert_true(differ(s, shape_new(version, DP_PROTOCOL_TCP, 64), another_port));
        assert_false(differ(s, shape_new(version, DP_PROTOCOL_UDP, 64), another_port));
        assert_true(differ(s, shape_new(version, DP_PROTOCOL_UDP, 64), another_host));
    }
    dp_destroy(s->dp);
}

static void test_both_halves_of_an_ipv6_address_count(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    struct shape shape = shape_new(6, DP_PROTOCOL_UDP, 64);
    uint8_t packet[256];
    size_t octets = packet_build(packet, &shape);
    static const size_t at[] = {8 + 7, 8 + 15, 24 + 7, 24 + 15}; /* source and destination, the last octet of each half */
    for (unsigned half = 0; half < 4; half++) {
        bool different = false;
        uint32_t first = UINT32_MAX;
        for (unsigned i = 0; i < FLOWS; i++) {
            packet[at[half]] = (uint8_t)(1 + i);
            struct dp_inner inner = read_packet(packet, octets);
            uint32_t worker = worker_of(s, &inner);
            different = different || (i != 0 && worker != first);
            first = worker;
        }
        assert_true(different);
    }
    dp_destroy(s->dp);
}

static void test_fragments_go_with_the_rest_of_their_flow(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    for (unsigned host = 1; host < FLOWS; host++) {
        uint8_t packet[256];
        struct shape shape = shape_new(4, DP_PROTOCOL_UDP, 64);
        shape.host = (uint8_t)host;
        size_t octets = packet_build(packet, &shape);
        struct dp_inner whole = read_packet(packet, octets);
        packet_put(packet + 6, 0x2000, 2); /* the first, which shows ports */
        struct dp_inner first = read_packet(packet, octets);
        packet_put(packet + 6, 1, 2); /* the last */
        struct dp_inner last = read_packet(packet, octets);
        assert_true(first.fragment && last.later_fragment);
        uint32_t worker = worker_of(s, &whole);
        assert_int_equal(worker_of(s, &first), worker);
        assert_int_equal(worker_of(s, &last), worker);
    }
    dp_destroy(s->dp);
}

static void test_ipv6_fragments_go_with_the_rest_of_their_flow(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    for (unsigned host = 1; host < FLOWS; host++) {
        uint8_t packet[256], fragment[256];
        struct shape shape = shape_new(6, DP_PROTOCOL_UDP, 64);
        shape.host = (uint8_t)host;
        size_t octets = packet_build(packet, &shape);
        memcpy(fragment, packet, 40);
        memcpy(fragment + 48, packet + 40, octets - 40);
        packet_put(fragment + 4, octets - 40 + 8, 2);
        fragment[6] = 44; /* RFC 8200 §4.5 */
        struct dp_inner whole = read_packet(packet, octets);
        for (unsigned offset = 0; offset < 2; offset++) {
            packet_put(fragment + 40, (uint64_t)DP_PROTOCOL_UDP << 56 | (uint64_t)(offset << 3 | 1) << 32 | 7, 8);
            struct dp_inner part = read_packet(fragment, octets + 8);
            assert_true(part.fragment);
            assert_int_equal(worker_of(s, &part), worker_of(s, &whole));
        }
    }
    dp_destroy(s->dp);
}

static void test_the_first_takes_flows_whose_worker_has_none(void **state) {
    (void)state;
    struct site *s = site_new(2);
    unsigned flows[WORKERS] = {0};
    for (uint32_t flow = 0; flow < FLOWS; flow++)
        flows[worker_of_flow(s, flow)]++;
    assert_true(flows[0] > 0 && flows[1] > 0);
    assert_int_equal(flows[2], 0);
    dp_destroy(s->dp);
}

static void test_a_flow_that_is_under_way_moves_only_when_it_has_rested(void **state) {
    (void)state;
    struct site *s = site_new(1);
    unsigned moved = 0;
    for (uint32_t flow = 0; flow < FLOWS; flow++)
        assert_int_equal(worker_of_flow(s, flow), 0);
    add(s, 1);
    add(s, 2);
    for (unsigned i = 0; i < 5; i++) {
        s->now += DP_SPREAD_REST_NS - 1;
        for (uint32_t flow = 0; flow < FLOWS; flow++)
            assert_int_equal(worker_of_flow(s, flow), 0);
    }
    rest(s);
    for (uint32_t flow = 0; flow < FLOWS; flow++)
        moved += worker_of_flow(s, flow) != 0;
    assert_true(moved > 0);
    dp_destroy(s->dp);
}

static void test_what_was_handed_over_is_for_this_worker_where_it_has_one(void **state) {
    (void)state;
    struct site *s = site_new(2);
    struct dp_burst b = {.packets = 1, .handed = true};
    for (uint32_t flow = 0; flow < FLOWS; flow++) {
        struct dp_inner inner = flow_of(flow);
        struct dp_sa *found = dp_tunnel_outbound(&s->dp->tunnel[0], &inner.flow);
        static const uint32_t expected[WORKERS] = {0, 1, 0};
        for (uint32_t w = 0; w < WORKERS; w++) {
            uint32_t worker = UINT32_MAX;
            const struct dp_sa *sa = dp_spread(&s->dp->worker[w].outbound, found, &b, &inner, s->now, &worker);
            assert_int_equal(worker, expected[w]);
            assert_ptr_equal(sa, dp_sa_by_id(s->dp, s->out[expected[w]]));
        }
    }
    dp_destroy(s->dp);
}

/* A loop may find the first one's SA and then look for the others, while the control thread replaces the first in between. */
static void test_while_the_first_is_rekeyed_flows_stay_and_so_does_what_was_handed_over(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    struct dp_inner inner = flow_of(flow_for(s, 2, 0));
    struct dp_sa *found = dp_tunnel_outbound(&s->dp->tunnel[0], &inner.flow);
    assert_int_equal(found->worker, 0);
    dp_epoch_online(&reader(s)->epoch, &s->dp->epoch); /* as in a step: it stays allocated */
    rekey(s, 0);
    assert_ptr_not_equal(dp_tunnel_outbound(&s->dp->tunnel[0], &inner.flow), found);
    assert_int_equal(taken_by(s, found, &inner), 2);
    struct dp_burst b = {.packets = 1, .handed = true};
    uint32_t worker = UINT32_MAX;
    (void)dp_spread(&s->dp->worker[1].outbound, found, &b, &inner, s->now, &worker);
    assert_int_equal(worker, 1);
    assert_true(dp_sa_mates(found, dp_sa_by_id(s->dp, s->out[1])));
    dp_epoch_offline(&reader(s)->epoch);
    dp_destroy(s->dp);
}

static void test_sas_of_other_selectors_or_tunnels_are_no_mates(void **state) {
    (void)state;
    struct site *s = site_new(2);
    const struct dp_selector narrow = any_selector(4);
    uint32_t child;
    assert_int_equal(dp_child_add(s->dp, 0, &narrow, 1, &child), 0);
    dp_sa_id out = install(s, 0, 2);
    assert_int_equal(dp_child_switch(s->dp, 0, child, out), 0);
    const struct dp_sa *first = dp_sa_by_id(s->dp, s->out[0]);
    const struct dp_child *other = atomic_load(&s->dp->tunnel[1].children)->child[0];
    assert_true(dp_sa_mates(first, dp_sa_by_id(s->dp, s->out[1])));
    assert_false(dp_sa_mates(first, dp_sa_by_id(s->dp, out)));
    assert_false(dp_sa_mates(first, atomic_load(&other->outbound)));
    assert_false(dp_sa_mates(first, NULL));
    assert_null(dp_tunnel_mate(&s->dp->tunnel[0], first, 2));
    dp_destroy(s->dp);
}

/* ---- flows of one set */

/* The set in which a flow has its place. */
static const struct dp_spread_set *set_of(struct site *s, uint32_t flow) {
    rest(s);
    (void)worker_of_flow(s, flow);
    for (unsigned i = 0; i < DP_SPREAD_SETS; i++)
        for (unsigned place = 0; place < DP_SPREAD_PLACES; place++)
            if (reader(s)->flows[i].last[place] == s->now)
                return &reader(s)->flows[i];
    fail();
    return NULL;
}

/* `count` flows with one set. */
static void flows_of_one_set(struct site *s, uint32_t *flows, unsigned count) {
    static uint16_t held[DP_SPREAD_SETS];
    memset(held, 0, sizeof held);
    const struct dp_spread_set *base = reader(s)->flows, *full = NULL;
    uint32_t end = 0;
    for (; full == NULL; end++) {
        const struct dp_spread_set *set = set_of(s, end);
        full = ++held[set - base] == count ? set : NULL;
    }
    unsigned found = 0;
    for (uint32_t flow = 0; flow < end; flow++)
        if (set_of(s, flow) == full)
            flows[found++] = flow;
    assert_int_equal(found, count);
    rest(s);
}

enum {
    CROWD = DP_SPREAD_PLACES + 2
};

static void test_a_flow_that_finds_no_place_goes_with_the_first_and_moves_nobody(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    uint32_t flows[CROWD], alone[CROWD];
    flows_of_one_set(s, flows, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        alone[i] = worker_of_flow(s, flows[i]);
        rest(s);
    }
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < CROWD; i++)
            assert_int_equal(worker_of_flow(s, flows[i]), i < DP_SPREAD_PLACES ? alone[i] : 0);
    dp_destroy(s->dp);
}

/* Nobody can tell whether it begins or has gone on without a place. */
static void test_nobody_gets_a_place_while_one_without_is_under_way(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    uint32_t flows[CROWD], last = CROWD - 1;
    flows_of_one_set(s, flows, CROWD);
    for (uint32_t tries = 0; worker_of_flow(s, flows[last]) == 0; tries++) { /* one that would move is needed as the last */
        assert_true(tries < last);
        uint32_t first = flows[tries];
        flows[tries] = flows[last];
        flows[last] = first;
        rest(s);
    }
    uint32_t alone = worker_of_flow(s, flows[last]);
    rest(s);
    for (unsigned i = 0; i < CROWD; i++)
        (void)worker_of_flow(s, flows[i]);
    for (unsigned i = 0; i < 4; i++) { /* the places become free, and the one without goes on */
        s->now += DP_SPREAD_REST_NS / 2;
        assert_int_equal(worker_of_flow(s, flows[last]), 0);
    }
    rest(s);
    assert_int_equal(worker_of_flow(s, flows[last]), alone);
    dp_destroy(s->dp);
}

/* The same addresses by the SA of another tunnel, or of a CHILD with other selectors, that has no other workers: they do not take
 * flows with them to where it has one. */
static void test_what_looks_the_same_by_another_sa_moves_no_flow(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    uint32_t workers[FLOWS], child;
    const struct dp_selector narrow = any_selector(4);
    assert_int_equal(dp_child_add(s->dp, 0, &narrow, 1, &child), 0);
    dp_sa_id out = install(s, 0, 0);
    assert_int_equal(dp_child_switch(s->dp, 0, child, out), 0);
    struct dp_sa *others[] = {dp_sa_by_id(s->dp, out), atomic_load(&atomic_load(&s->dp->tunnel[1].children)->child[0]->outbound)};
    for (unsigned round = 0; round < 3; round++)
        for (uint32_t flow = 0; flow < FLOWS; flow++) {
            struct dp_inner inner = flow_of(flow);
            uint32_t worker = worker_of_flow(s, flow);
            if (round == 0)
                workers[flow] = worker;
            assert_int_equal(worker, workers[flow]);
            for (unsigned each = 0; each < 2; each++)
                assert_int_equal(taken_by(s, others[each], &inner), 0);
        }
    dp_destroy(s->dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flow_has_one_worker_and_each_worker_has_flows),
        cmocka_unit_test(test_with_one_worker_there_is_no_table),
        cmocka_unit_test(test_addresses_tell_flows_apart_and_ports_those_of_tcp),
        cmocka_unit_test(test_both_halves_of_an_ipv6_address_count),
        cmocka_unit_test(test_fragments_go_with_the_rest_of_their_flow),
        cmocka_unit_test(test_ipv6_fragments_go_with_the_rest_of_their_flow),
        cmocka_unit_test(test_the_first_takes_flows_whose_worker_has_none),
        cmocka_unit_test(test_a_flow_that_is_under_way_moves_only_when_it_has_rested),
        cmocka_unit_test(test_what_was_handed_over_is_for_this_worker_where_it_has_one),
        cmocka_unit_test(test_while_the_first_is_rekeyed_flows_stay_and_so_does_what_was_handed_over),
        cmocka_unit_test(test_sas_of_other_selectors_or_tunnels_are_no_mates),
        cmocka_unit_test(test_a_flow_that_finds_no_place_goes_with_the_first_and_moves_nobody),
        cmocka_unit_test(test_nobody_gets_a_place_while_one_without_is_under_way),
        cmocka_unit_test(test_what_looks_the_same_by_another_sa_moves_no_flow),
    };
    return cmocka_run_group_tests_name("spread", tests, NULL, NULL);
}
