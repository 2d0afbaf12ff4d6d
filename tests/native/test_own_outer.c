/* Our own ESP and IKE out of a TUN interface: dropped when addresses and SPI are ours, and nothing else is. */
#include "inner.h"
#include "own_outer.h"
#include "plane.h"

enum {
    SPI = 0x11223344,
    OUTER = 64, /* octets of the packets here */
};

static struct dp_addr outer(unsigned host, uint16_t port) {
    return (struct dp_addr){.family = 4, .port = port, .ip = {192, 0, 2, (uint8_t)host}};
}

static struct dp_addr outer6(unsigned host, uint16_t port) {
    return (struct dp_addr){.family = 6, .port = port, .ip = {0x20, 1, 0xd, 0xb8, [15] = (uint8_t)host}};
}

static struct dp_sa_params params_of(uint32_t spi, struct dp_addr local, struct dp_addr remote) {
    struct dp_sa_params p = plane_params(spi, 0, 0);
    p.path.local = local;
    p.path.remote = remote;
    return p;
}

static int setup(void **state) {
    struct dp *dp = plane_new(1);
    struct dp_sa_params v4 = params_of(SPI, outer(1, 4500), outer(2, 4500)), v6 = params_of(SPI, outer6(1, 0), outer6(2, 0));
    plane_install(dp, DP_OUTBOUND, &v4);
    plane_install(dp, DP_OUTBOUND, &v6);
    *state = dp;
    return 0;
}

static int teardown(void **state) {
    dp_destroy(*state);
    return 0;
}

static void put_32(uint8_t *at, uint32_t value) {
    for (int i = 3; i >= 0; i--, value >>= 8)
        at[i] = (uint8_t)value;
}

/* An IPv4 header from 192.0.2.`source` to 192.0.2.`destination`. */
static uint8_t *header(uint8_t *packet, uint8_t protocol, unsigned source, unsigned destination) {
    memset(packet, 0, OUTER);
    memcpy(packet, (const uint8_t[]){0x45, 0, 0, OUTER, 0x12, 0x34, 0, 0, 64, protocol, 0, 0}, 12);
    memcpy(packet + 12, (const uint8_t[]){192, 0, 2, (uint8_t)source, 192, 0, 2, (uint8_t)destination}, 8);
    return packet + 20;
}

static uint8_t *header6(uint8_t *packet, uint8_t next, unsigned source, unsigned destination) {
    memset(packet, 0, OUTER);
    packet[0] = 0x60;
    packet[5] = OUTER - 40;
    packet[6] = next;
    memcpy(packet + 8, outer6(source, 0).ip, 16);
    memcpy(packet + 24, outer6(destination, 0).ip, 16);
    return packet + 40;
}

static uint8_t *udp_header(uint8_t *at, uint16_t source, uint16_t destination) {
    put_32(at, (uint32_t)source << 16 | destination);
    at[5] = OUTER - 20;
    return at + 8;
}

static void fragment(uint8_t *packet, uint16_t id, uint16_t field) {
    put_32(packet + 4, (uint32_t)id << 16 | field);
}

static bool ours_at(struct dp *dp, const uint8_t *packet, size_t octets, uint64_t now) {
    struct dp_inner inner;
    assert_int_equal(dp_inner_read(packet, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    return dp_own_outer_looks(&inner.flow) && dp_own_outer_came_back(&dp->worker[0].outbound, packet, &inner, now);
}

static bool ours(struct dp *dp, const uint8_t *packet) {
    return ours_at(dp, packet, OUTER, START);
}

static void test_bare_esp_is_ours_by_spi_and_both_addresses(void **state) {
    static const struct {
        uint32_t spi;
        unsigned source, destination;
        bool ours;
    } rows[] = {
        {SPI, 1, 2, true}, {SPI + 1, 1, 2, false}, {SPI, 3, 2, false}, {SPI, 1, 3, false}, {SPI, 2, 1, false}, {0, 1, 2, false},
    };
    uint8_t packet[OUTER];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_32(header(packet, DP_PROTOCOL_ESP, rows[i].source, rows[i].destination), rows[i].spi);
        assert_int_equal(ours(*state, packet), rows[i].ours);
        put_32(header6(packet, DP_PROTOCOL_ESP, rows[i].source, rows[i].destination), rows[i].spi);
        assert_int_equal(ours(*state, packet), rows[i].ours);
    }
}

static void test_esp_in_udp_leaves_by_port_4500(void **state) {
    uint8_t packet[OUTER];
    put_32(udp_header(header(packet, DP_PROTOCOL_UDP, 1, 2), 4500, 4500), SPI);
    assert_true(ours(*state, packet));
    put_32(udp_header(header(packet, DP_PROTOCOL_UDP, 1, 2), 4500, 40001), SPI); /* a peer behind NAT */
    assert_true(ours(*state, packet));
    put_32(udp_header(header(packet, DP_PROTOCOL_UDP, 1, 2), 4501, 4500), SPI);
    assert_false(ours(*state, packet));
    put_32(udp_header(header(packet, DP_PROTOCOL_UDP, 1, 2), 4500, 4500), SPI + 1);
    assert_false(ours(*state, packet));
}

static void test_ike_is_ours_once_it_was_sent(void **state) {
    struct dp *dp = *state;
    uint8_t message[28] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, packet[OUTER];
    struct dp_addr local = outer(1, 500), remote = outer(2, 500);
    memcpy(udp_header(header(packet, DP_PROTOCOL_UDP, 1, 2), 500, 500), message, sizeof message);
    assert_false(ours(dp, packet));
    dp_ike_sent(dp, &local, &remote, message, sizeof message);
    assert_true(ours(dp, packet));
    packet[20 + 8] ^= 1; /* another program's */
    assert_false(ours(dp, packet));
    memcpy(udp_header(header(packet, DP_PROTOCOL_UDP, 1, 2), 4500, 4500) + 4, message, sizeof message);
    assert_true(ours(dp, packet));
    memcpy(udp_header(header(packet, DP_PROTOCOL_UDP, 3, 2), 4500, 4500) + 4, message, sizeof message);
    assert_false(ours(dp, packet));
    dp_ike_sent(dp, &local, &remote, message, 15); /* no IKE header */
}

static void test_later_fragments_follow_their_first(void **state) {
    struct dp *dp = *state;
    uint8_t packet[OUTER];
    header(packet, DP_PROTOCOL_ESP, 1, 2);
    fragment(packet, 7, 100);
    assert_false(ours_at(dp, packet, OUTER, START)); /* whose it is, nobody can tell */
    put_32(header(packet, DP_PROTOCOL_ESP, 1, 2), SPI);
    fragment(packet, 7, 0x2000);
    assert_true(ours_at(dp, packet, OUTER, START));
    header(packet, DP_PROTOCOL_ESP, 1, 2);
    fragment(packet, 7, 0x2000 | 100);
    assert_true(ours_at(dp, packet, OUTER, START + 1));
    fragment(packet, 7, 200);
    assert_true(ours_at(dp, packet, OUTER, START + 2));
    fragment(packet, 8, 200); /* of another packet */
    assert_false(ours_at(dp, packet, OUTER, START + 2));
    fragment(packet, 7, 200); /* the number comes again one day */
    assert_false(ours_at(dp, packet, OUTER, START + 2 * SECOND));
}

static void test_ipv6_fragments_too(void **state) {
    struct dp *dp = *state;
    uint8_t packet[OUTER], *at = header6(packet, 44, 1, 2);
    at[0] = DP_PROTOCOL_ESP;
    at[3] = 1; /* more fragments */
    put_32(at + 4, 99);
    put_32(at + 8, SPI);
    assert_true(ours(dp, packet));
    put_32(at + 8, 0);
    at[2] = 1; /* an offset */
    assert_true(ours(dp, packet));
    put_32(at + 4, 98);
    assert_false(ours(dp, packet));
}

static void test_what_is_too_short_for_an_spi_is_not_ours(void **state) {
    struct dp *dp = *state;
    for (uint8_t octets = 20; octets < OUTER; octets++) {
        uint8_t *packet = malloc(octets), whole[OUTER]; /* by itself, for the sanitizer to see its end */
        header(whole, octets % 2 != 0 ? DP_PROTOCOL_ESP : DP_PROTOCOL_UDP, 1, 2);
        udp_header(whole + 20, octets % 3 != 0 ? 4500 : 500, 4500);
        whole[3] = octets;
        memcpy(packet, whole, octets);
        assert_false(ours_at(dp, packet, octets, START));
        free(packet);
    }
}

static void test_it_follows_sas_that_move_and_go(void **state) {
    struct dp *dp = *state;
    uint8_t packet[OUTER];
    struct dp_sa_params p = params_of(0x500, outer(1, 0), outer(9, 0));
    dp_sa_id id = plane_install(dp, DP_OUTBOUND, &p), twin = plane_install(dp, DP_OUTBOUND, &p);
    put_32(header(packet, DP_PROTOCOL_ESP, 1, 9), 0x500);
    assert_true(ours(dp, packet));
    p.path.remote = outer(10, 0);
    assert_int_equal(dp_sa_set_path(dp, id, &p.path), 0);
    assert_true(ours(dp, packet)); /* the twin is still there */
    assert_int_equal(dp_sa_remove(dp, twin), 0);
    assert_false(ours(dp, packet));
    put_32(header(packet, DP_PROTOCOL_ESP, 1, 10), 0x500);
    assert_true(ours(dp, packet));
    assert_int_equal(dp_sa_remove(dp, id), 0);
    assert_false(ours(dp, packet));
}

/* As many as a large gateway has, and as many rekeys: the table grows, and never fills up with what was removed. */
static void test_thousands_come_and_go(void **state) {
    struct dp *dp = *state;
    uint8_t packet[OUTER];
    struct dp_path path = {.local = outer(1, 0), .remote = outer(7, 0)};
    enum {
        MANY = 20000
    };
    for (uint32_t spi = 0; spi < MANY; spi++)
        assert_int_equal(dp_own_outer_add(dp, 0x10000 + spi, &path), 0);
    for (uint32_t spi = 0; spi < MANY; spi++) {
        put_32(header(packet, DP_PROTOCOL_ESP, 1, 7), 0x10000 + spi);
        assert_true(ours(dp, packet));
        dp_own_outer_remove(dp, 0x10000 + spi, &path);
        assert_false(ours(dp, packet));
        assert_int_equal(dp_own_outer_add(dp, 0x20000 + spi, &path), 0);
        (void)dp_reclaim(dp);
    }
    put_32(header(packet, DP_PROTOCOL_ESP, 1, 7), 0x20000 + MANY);
    assert_false(ours(dp, packet));
    put_32(header(packet, DP_PROTOCOL_ESP, 1, 2), SPI);
    assert_true(ours(dp, packet));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bare_esp_is_ours_by_spi_and_both_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_esp_in_udp_leaves_by_port_4500, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ike_is_ours_once_it_was_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_later_fragments_follow_their_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipv6_fragments_too, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_too_short_for_an_spi_is_not_ours, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_follows_sas_that_move_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thousands_come_and_go, setup, teardown),
    };
    return cmocka_run_group_tests_name("own_outer", tests, NULL, NULL);
}
