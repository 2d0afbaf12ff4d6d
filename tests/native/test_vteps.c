/* Whose tunnel it is: ends that a kernel has shown, and how long they are believed. */
#include "packets.h"
#include "unit.h"
#include "vteps.h"

static struct dp_inner read_of(const uint8_t *packet, size_t octets, enum dp_direction_of_flow direction) {
    struct dp_inner inner;
    assert_int_equal(dp_inner_read(packet, octets, direction, &inner), DP_OK);
    return inner;
}

static void an_end_is_shown_by_a_checksum_in_the_tunnel(void **state) {
    (void)state;
    struct envelope e = envelope_of(0);
    struct shape s = shape_new(4, DP_PROTOCOL_TCP, 10);
    uint8_t packet[2048];
    struct dp_inner inner = read_of(packet, packet_wrap(packet, &e, &s), DP_FLOW_OUTBOUND);
    struct dp_burst one = {.needs_checksum = true, .checksum_start = 70, .checksum_offset = 16};
    assert_true(dp_vtep_shown(&one, &inner));
    one.checksum_start = 20; /* of the UDP datagram itself, as any program's */
    assert_false(dp_vtep_shown(&one, &inner));
    one.checksum_start = 70;
    one.needs_checksum = false;
    assert_false(dp_vtep_shown(&one, &inner));
    one.needs_checksum = true;
    inner.flow.protocol = DP_PROTOCOL_TCP;
    assert_false(dp_vtep_shown(&one, &inner));
}

static void an_end_is_known_by_interface_address_and_port_for_a_while(void **state) {
    (void)state;
    enum {
        SECOND = 1000000000
    };
    static struct dp_vteps vteps;
    const uint64_t now = 5, secret = 99;
    uint8_t packet[2048];
    for (unsigned version = 4; version <= 6; version += 2) {
        struct shape out = shape_new((uint8_t)version, DP_PROTOCOL_UDP, 10), back = out;
        size_t octets = packet_build(packet, &out);
        struct dp_inner from = read_of(packet, octets, DP_FLOW_OUTBOUND);
        octets = packet_build(packet, &back); /* to the same address: the ends change places */
        struct dp_inner to = read_of(packet, octets, DP_FLOW_INBOUND);
        to.flow.address = from.flow.address;
        to.flow.port[DP_LOCAL] = from.flow.port[DP_REMOTE];
        assert_false(dp_vtep_known(&vteps, secret, 1, &to.flow, now));
        dp_vtep_remember(&vteps, secret, 1, &from.flow, now);
        assert_true(dp_vtep_known(&vteps, secret, 1, &to.flow, now));
        assert_true(dp_vtep_known(&vteps, secret, 1, &to.flow, now - 3)); /* the loops' clocks are not the same instant */
        assert_false(dp_vtep_known(&vteps, secret, 2, &to.flow, now));
        struct dp_flow other = to.flow;
        other.port[DP_LOCAL]++;
        assert_false(dp_vtep_known(&vteps, secret, 1, &other, now));
        other = to.flow;
        if (version == 4)
            other.address.v4[DP_LOCAL]++;
        else
            other.address.v6[DP_LOCAL]++;
        assert_false(dp_vtep_known(&vteps, secret, 1, &other, now));
        assert_false(dp_vtep_known(&vteps, secret, 1, &to.flow, now + DP_VTEP_NS));
        dp_vtep_remember(&vteps, secret, 1, &from.flow, now + 2 * SECOND);
        assert_true(dp_vtep_known(&vteps, secret, 1, &to.flow, now + DP_VTEP_NS));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_end_is_shown_by_a_checksum_in_the_tunnel),
        cmocka_unit_test(an_end_is_known_by_interface_address_and_port_for_a_while),
    };
    return cmocka_run_group_tests_name("vteps", tests, NULL, NULL);
}
