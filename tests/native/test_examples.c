/* What is kept of packets that were dropped: enough to see which they were, a few of each reason, and nothing of their contents. */
#include <errno.h>

#include "examples.h"
#include "plane.h"
#include "sa.h"

enum {
    QUEUE = 64,
    ROOM = 4 * DP_EXAMPLES,
};

static int setup(void **state) {
    struct dp *dp = plane_new(1);
    struct dp_addr here = loopback(4500);
    assert_int_equal(dp_mem_tun_attach(dp, 0, 0, QUEUE), 0);
    assert_int_equal(dp_mem_tun_attach(dp, 0, 1, QUEUE), 0);
    assert_int_equal(dp_mem_link_attach(dp, 0, DP_ENCAPSULATION_UDP, &here, QUEUE), 0);
    *state = dp;
    return 0;
}

static int teardown(void **state) {
    dp_destroy(*state);
    return 0;
}

/* A UDP packet from 10.1.0.`host` to 10.2.0.1:53. */
static void send_from(struct dp *dp, uint32_t interface, uint8_t host, uint64_t now) {
    uint8_t packet[PACKET];
    plane_packet(packet, 0x5a);
    packet[9] = 17;
    packet[15] = host;
    static const uint8_t ports[4] = {0x1f, 0x90, 0, 53};
    memcpy(packet + 20, ports, sizeof ports);
    assert_int_equal(dp_mem_tun_push(dp, 0, interface, packet, PACKET), 0);
    assert_int_equal(dp_outbound_step(dp, 0, QUEUE, now), 1);
}

static int kept(struct dp *dp, unsigned reason, struct dp_example out[ROOM]) {
    return dp_examples_read(dp, reason, out, ROOM);
}

static void test_an_outgoing_packet_shows_its_flow_and_where_it_was(void **state) {
    struct dp_example found[ROOM];
    send_from(*state, 1, 7, START);
    assert_int_equal(kept(*state, DP_DROP_policy_none, found), 1);
    const struct dp_example *e = &found[0];
    assert_int_equal(e->now, START);
    assert_int_equal(e->reason, DP_DROP_policy_none);
    assert_int_equal(e->family, 4);
    assert_memory_equal(e->source, ((const uint8_t[]){10, 1, 0, 7}), 4);
    assert_memory_equal(e->destination, ((const uint8_t[]){10, 2, 0, 1}), 4);
    assert_int_equal(e->protocol, 17);
    assert_int_equal(e->source_port, 8080);
    assert_int_equal(e->destination_port, 53);
    assert_int_equal(e->interface, 1);
    assert_int_equal(e->tunnel, UINT32_MAX);
    assert_int_equal(e->spi, 0);
    assert_int_equal(e->direction, DP_OUTBOUND);
    assert_int_equal(e->outer, 0);
}

static void test_a_stream_is_one_example_and_becomes_younger(void **state) {
    struct dp_example found[ROOM];
    send_from(*state, 0, 1, START);
    send_from(*state, 0, 2, START);
    send_from(*state, 0, 1, START + SECOND);
    assert_int_equal(kept(*state, DP_DROP_policy_none, found), 2);
    assert_int_equal(found[0].source[3], 1);
    assert_int_equal(found[0].now, START + SECOND);
    assert_int_equal(found[1].source[3], 2);
    assert_int_equal(found[1].now, START);
}

static void test_the_last_ones_stay(void **state) {
    struct dp_example found[ROOM];
    for (uint8_t host = 1; host <= 2 * DP_EXAMPLES + 1; host++)
        send_from(*state, 0, host, START + host * SECOND);
    assert_int_equal(kept(*state, DP_DROP_policy_none, found), DP_EXAMPLES);
    for (int i = 0; i < DP_EXAMPLES; i++)
        assert_in_range(found[i].source[3], DP_EXAMPLES + 2, 2 * DP_EXAMPLES + 1);
}

/* Looking at a packet costs more than counting it: a flood is only counted. */
static void test_a_flood_is_looked_at_a_few_times_a_second(void **state) {
    struct dp_example found[ROOM];
    struct dp_counters counters;
    for (uint8_t host = 1; host <= 100; host++)
        send_from(*state, 0, host, START);
    assert_int_equal(kept(*state, DP_DROP_policy_none, found), DP_EXAMPLES);
    for (int i = 0; i < DP_EXAMPLES; i++)
        assert_int_equal(found[i].source[3], i + 1);
    send_from(*state, 0, 101, START + SECOND / DP_EXAMPLES_A_SECOND);
    send_from(*state, 0, 102, START + SECOND / DP_EXAMPLES_A_SECOND);
    assert_int_equal(kept(*state, DP_DROP_policy_none, found), DP_EXAMPLES);
    assert_int_equal(found[0].source[3], 101);
    assert_int_equal(found[1].source[3], 2);
    dp_counters_read(*state, &counters);
    assert_int_equal(counters.drops[DP_DROP_policy_none], 102);
}

static void test_reasons_are_apart_and_bounds_are_kept(void **state) {
    struct dp_example found[ROOM];
    send_from(*state, 0, 1, START);
    assert_int_equal(kept(*state, DP_DROP_no_sa, found), 0);
    plane_protect(*state);
    send_from(*state, 0, 1, START);
    assert_int_equal(kept(*state, DP_DROP_no_sa, found), 1);
    assert_int_equal(dp_examples_read(*state, DP_DROP_no_sa, found, 0), 0);
    assert_int_equal(dp_examples_read(*state, DP_DROP_COUNT, found, ROOM), -EINVAL);
}

static void receive(struct dp *dp, const struct dp_mem_meta *meta, const uint8_t *data, size_t octets) {
    assert_int_equal(dp_mem_link_push(dp, 0, 0, meta, data, octets), 0);
    assert_int_equal(dp_inbound_step(dp, 0, QUEUE, START), 1);
}

static void test_a_datagram_that_is_not_opened_shows_its_outer_addresses_and_spi(void **state) {
    struct dp_example found[ROOM];
    struct dp_mem_meta meta = {.local = loopback(4500), .remote = {.family = 4, .port = 666, .ip = {198, 51, 100, 1}}};
    uint8_t data[40] = {0xc0, 0xff, 0xee, 1};
    receive(*state, &meta, data, sizeof data);
    assert_int_equal(kept(*state, DP_DROP_unknown_spi, found), 1);
    const struct dp_example *e = &found[0];
    assert_int_equal(e->outer, 1);
    assert_int_equal(e->spi, 0xc0ffee01);
    assert_int_equal(e->protocol, 17);
    assert_memory_equal(e->source, meta.remote.ip, 4);
    assert_memory_equal(e->destination, meta.local.ip, 4);
    assert_int_equal(e->source_port, 666);
    assert_int_equal(e->destination_port, 4500);
    assert_int_equal(e->direction, DP_INBOUND);
    receive(*state, &meta, data, 3); /* too short for an SPI */
    assert_int_equal(kept(*state, DP_DROP_runt, found), 1);
    assert_int_equal(found[0].spi, 0);
}

/* Out of one TUN and back by the same SA, whose inbound half has no TUN to go to. */
static void test_a_packet_that_was_opened_shows_itself_with_its_tunnel(void **state) {
    struct dp *dp = *state;
    struct dp_example found[ROOM];
    struct dp_selector any = any_selector(4);
    struct dp_mem_meta meta;
    uint8_t sealed[256];
    uint32_t spi, child;
    plane_protect(dp);
    assert_int_equal(dp_spi_allocate(dp, 0xab000000, &spi), 0);
    struct dp_sa_params params = plane_params(spi, 0, 4500);
    params.interface = 3;
    params.tunnel = 2;
    (void)plane_install(dp, DP_INBOUND, &params);
    params.tunnel = 0;
    dp_sa_id out = plane_install(dp, DP_OUTBOUND, &params);
    assert_int_equal(dp_child_add(dp, 0, &any, 1, &child), 0);
    assert_int_equal(dp_child_switch(dp, 0, child, out), 0);
    send_from(dp, 0, 9, START);
    int octets = dp_mem_link_pull(dp, 0, 0, &meta, sealed, sizeof sealed);
    assert_true(octets > 0);
    struct dp_mem_meta back = {.local = meta.remote, .remote = meta.local};
    receive(dp, &back, sealed, (size_t)octets);
    assert_int_equal(kept(dp, DP_DROP_tun_gone, found), 1);
    assert_int_equal(found[0].outer, 0);
    assert_int_equal(found[0].source[3], 9);
    assert_int_equal(found[0].destination_port, 53);
    assert_int_equal(found[0].tunnel, 2);
    assert_int_equal(found[0].interface, 3);
    assert_int_equal(found[0].spi, spi);
    receive(dp, &back, sealed, (size_t)octets);
    assert_int_equal(kept(dp, DP_DROP_replay, found), 1);
    assert_int_equal(found[0].outer, 1); /* it was opened before, not now */
    assert_int_equal(found[0].tunnel, 2);
}

static void test_what_is_no_sound_packet_shows_what_it_can(void **state) {
    static const struct {
        uint8_t octets[48];
        uint32_t length;
        uint8_t family;
        unsigned reason;
    } rows[] = {
        {{0}, 1, 0, DP_DROP_inner_version},
        {{0x45, 0, 0, 100, 0, 0, 0, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}, 20, 4, DP_DROP_inner_length},
        {{0x45, 0, 0, 19}, 19, 0, DP_DROP_inner_length},
        {{0x60}, 39, 0, DP_DROP_inner_length},
        {{0x60, 0, 0, 0, 0, 9, 6}, 40, 6, DP_DROP_inner_length},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dp_example found[ROOM];
        struct dp *dp = plane_new(1);
        assert_int_equal(dp_mem_tun_attach(dp, 0, 0, QUEUE), 0);
        assert_int_equal(dp_mem_tun_push(dp, 0, 0, rows[i].octets, rows[i].length), 0);
        assert_int_equal(dp_outbound_step(dp, 0, QUEUE, START), 1);
        assert_int_equal(kept(dp, rows[i].reason, found), 1);
        assert_int_equal(found[0].family, rows[i].family);
        assert_int_equal(found[0].protocol, rows[i].family != 0 ? 6 : 256);
        assert_int_equal(found[0].source_port, 65536);
        dp_destroy(dp);
    }
    (void)state;
}

static void test_what_a_device_does_not_take_is_shown_too(void **state) {
    struct dp_example found[ROOM];
    struct dp_loop *loop = &((struct dp *)*state)->worker[0].outbound;
    uint8_t packet[PACKET] = {0xc0, 0xff, 0xee, 2};
    struct dp_burst b = {.data = packet, .octets = PACKET, .packets = 3, .interface = 1, .encapsulation = DP_ENCAPSULATION_ESP};
    b.local = loopback(0);
    b.remote = loopback(0);
    dp_drop_unsent(loop, DP_DROP_send_error, &b, true, 1, START);
    assert_int_equal(kept(*state, DP_DROP_send_error, found), 1);
    assert_int_equal(found[0].protocol, 50);
    assert_int_equal(found[0].source_port, 65536);
    assert_int_equal(found[0].spi, 0xc0ffee02);
    plane_packet(packet, 0);
    dp_drop_unsent(loop, DP_DROP_tun_full, &b, false, 2, START);
    assert_int_equal(kept(*state, DP_DROP_tun_full, found), 1);
    assert_int_equal(found[0].outer, 0);
    assert_int_equal(found[0].interface, 2);
    assert_int_equal(found[0].protocol, 253);
    struct dp_counters counters;
    dp_counters_read(*state, &counters);
    assert_int_equal(counters.drops[DP_DROP_tun_full], 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_outgoing_packet_shows_its_flow_and_where_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stream_is_one_example_and_becomes_younger, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_last_ones_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_flood_is_looked_at_a_few_times_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reasons_are_apart_and_bounds_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_datagram_that_is_not_opened_shows_its_outer_addresses_and_spi, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_packet_that_was_opened_shows_itself_with_its_tunnel, setup, teardown),
        cmocka_unit_test(test_what_is_no_sound_packet_shows_what_it_can),
        cmocka_unit_test_setup_teardown(test_what_a_device_does_not_take_is_shown_too, setup, teardown),
    };
    return cmocka_run_group_tests_name("examples", tests, NULL, NULL);
}
