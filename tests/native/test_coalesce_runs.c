/* Super-packets of many packets: what one looks like, what ends it, and that cutting it again gives back what came in. */
#include <linux/virtio_net.h>

#include "coalesced.h"

static void a_run_becomes_one_super_packet(void **state) {
    (void)state;
    static const uint8_t types[] = {VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4,
                                    VIRTIO_NET_HDR_GSO_UDP_L4};
    for (unsigned kind = 0; kind < 4; kind++) {
        struct shape s = shape_of_kind(kind, 1001);
        begin();
        for (unsigned i = 0; i < 40; i++, s = shape_next(s, 1001))
            add(&s);
        assert_int_equal(coalescer.count, 1);
        struct dp_burst b;
        dp_coalesce_finish(&coalescer, 0, &b);
        assert_int_equal(b.packets, 40);
        assert_int_equal(b.gso_size, 1001);
        assert_int_equal(b.gso_type, types[kind]);
        assert_true(b.needs_checksum);
        assert_int_equal(b.headers, packet_header_octets(&s));
        assert_int_equal(b.octets, packet_header_octets(&s) + 40 * 1001);
        assert_ptr_equal(b.data, packets[0]);
        assert_ptr_equal(b.piece[7].iov_base, packets[7] + packet_header_octets(&s)); /* nothing was moved */
        check_everything_comes_back();
    }
}

static void a_packet_alone_is_not_touched(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 4; kind++) {
        struct shape s = shape_of_kind(kind, 700);
        begin();
        add(&s);
        struct dp_burst b;
        dp_coalesce_finish(&coalescer, 0, &b);
        assert_int_equal(b.gso_type, VIRTIO_NET_HDR_GSO_NONE);
        assert_false(b.needs_checksum);
        assert_memory_equal(packets[0], wanted[0], sizes[0]);
    }
}

static void nothing_follows_a_short_tail_or_psh(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 4; kind++) {
        struct shape s = shape_of_kind(kind, 1000);
        begin();
        add(&s);
        s = shape_next(s, 600);
        add(&s);
        s = shape_next(s, 600);
        add(&s);
        s = shape_next(s, 600);
        add(&s);
        assert_int_equal(coalescer.count, 2);
        check_everything_comes_back();
    }
    struct shape s = shape_new(6, DP_PROTOCOL_TCP, 1000);
    begin();
    for (int i = 0; i < 6; i++, s = shape_next(s, 1000)) {
        s.flags = i == 2 || i == 3 ? DP_TCP_ACK | DP_TCP_PSH : DP_TCP_ACK;
        add(&s);
    }
    assert_int_equal(coalescer.count, 3); /* 0 1 2P | 3P | 4 5 */
    check_everything_comes_back();
}

static void a_super_packet_does_not_outgrow_ip(void **state) {
    (void)state;
    struct shape s = shape_new(4, DP_PROTOCOL_TCP, 1460);
    begin();
    for (unsigned i = 0; i < 50; i++, s = shape_next(s, 1460))
        add(&s);
    assert_int_equal(coalescer.count, 2); /* 52 + 44 * 1460 is the most below 65536 */
    assert_int_equal(coalescer.super[0].pieces, 44);
    check_everything_comes_back();
    s = shape_new(4, DP_PROTOCOL_UDP, 10);
    begin();
    for (unsigned i = 0; i < PACKETS; i++, s = shape_next(s, 10))
        add(&s);
    assert_int_equal(coalescer.count, 1);
    check_everything_comes_back();
}

static void flows_are_kept_apart(void **state) {
    (void)state;
    struct shape flow[4];
    for (unsigned f = 0; f < 4; f++)
        flow[f] = shape_of_kind(f, 500);
    begin();
    for (unsigned i = 0; i < 48; i++) {
        unsigned f = i * 7 % 4;
        add(&flow[f]);
        flow[f] = shape_next(flow[f], 500);
    }
    assert_int_equal(coalescer.count, 4);
    check_everything_comes_back();
}

static void an_acknowledgment_of_another_flow_ends_no_run(void **state) {
    (void)state;
    struct shape data = shape_new(4, DP_PROTOCOL_TCP, 1000), acknowledgment = shape_new(4, DP_PROTOCOL_TCP, 0);
    acknowledgment.source_port = 5555;
    begin();
    for (int i = 0; i < 5; i++, data = shape_next(data, 1000)) {
        add(&data);
        add(&acknowledgment);
    }
    assert_int_equal(coalescer.count, 6);
    check_everything_comes_back();
    /* Of the same flow it does: what follows must not overtake it. */
    begin();
    add(&data);
    acknowledgment = shape_next(data, 0);
    add(&acknowledgment);
    data = shape_next(acknowledgment, 1000);
    add(&data);
    assert_int_equal(coalescer.count, 3);
    check_everything_comes_back();
}

static void only_the_latest_packet_of_a_flow_is_joined(void **state) {
    (void)state;
    struct shape s = shape_new(4, DP_PROTOCOL_UDP, 300), big = shape_next(s, 900), third = shape_next(big, 300);
    third.id = (uint16_t)(s.id + 1); /* would continue the first */
    begin();
    add(&s);
    add(&big);
    add(&third);
    assert_int_equal(coalescer.count, 3);
    check_everything_comes_back();
}

static void fragments_and_options_pass_and_end_the_run(void **state) {
    (void)state;
    struct shape s = shape_new(4, DP_PROTOCOL_UDP, 1000);
    begin();
    add(&s);
    s = shape_next(s, 1000);
    size_t octets = packet_build(packets[1], &s);
    packets[1][6] = 0x20; /* more fragments */
    add_raw(octets, EVERYTHING);
    octets = packet_build(packets[2], &s);
    packets[2][6] = 0;
    packets[2][7] = 0x7d; /* a later fragment: its ports are payload */
    add_raw(octets, EVERYTHING);
    s.payload = 1000;
    add(&s); /* continues the first, but must stay behind the fragments */
    assert_int_equal(coalescer.count, 4);

    begin();
    s = shape_new(4, DP_PROTOCOL_TCP, 1000);
    for (int i = 0; i < 3; i++, s = shape_next(s, 1000)) {
        octets = packet_build(packets[received], &s);
        uint8_t *p = packets[received];
        memmove(p + 24, p + 20, octets - 20);
        memset(p + 20, 1, 4); /* IP options */
        p[0] = 0x46;
        packet_put(p + 2, octets + 4, 2);
        packet_put(p + 10, 0, 2);
        packet_put(p + 10, (uint16_t)~packet_sum(p, 24, 0), 2);
        add_raw(octets + 4, EVERYTHING);
    }
    assert_int_equal(coalescer.count, 3);
    check_everything_comes_back();
}

static void what_the_device_does_not_take_is_not_made(void **state) {
    (void)state;
    static const uint32_t needed[] = {DP_OFFLOAD_TUN_TSO4, DP_OFFLOAD_TUN_TSO6, DP_OFFLOAD_TUN_USO4, DP_OFFLOAD_TUN_USO6};
    for (unsigned kind = 0; kind < 4; kind++)
        for (int with = 0; with < 2; with++) {
            struct shape s = shape_of_kind(kind, 100);
            begin();
            for (int i = 0; i < 3; i++, s = shape_next(s, 100))
                add_raw(packet_build(packets[received], &s), with != 0 ? needed[kind] : EVERYTHING & ~needed[kind]);
            assert_int_equal(coalescer.count, with != 0 ? 1 : 3);
        }
}

static void any_mix_comes_back_as_it_was(void **state) {
    (void)state;
    uint64_t seed = 20240607;
    for (int round = 0; round < 2000; round++) {
        struct shape flow[6];
        unsigned flows = 1 + (unsigned)(unit_draw(&seed) % 6);
        for (unsigned f = 0; f < flows; f++) {
            flow[f] = shape_of_kind((unsigned)(unit_draw(&seed) % 4), (uint16_t)(1 + unit_draw(&seed) % 1400));
            flow[f].source_port = (uint16_t)(1000 + f);
            flow[f].sequence = (uint32_t)unit_draw(&seed);
        }
        begin();
        while (received < PACKETS) {
            struct shape *s = &flow[unit_draw(&seed) % flows];
            size_t octets = packet_build(packets[received], s);
            if (unit_draw(&seed) % 16 == 0) /* any octet of what follows addresses and ports */
                packets[received][(s->version == 4 ? 24 : 44) + unit_draw(&seed) % (s->payload + 4u)] ^= 1;
            add_raw(octets, EVERYTHING);
            uint64_t odd = unit_draw(&seed) % 24;
            if (odd != 0) /* else the same once more */
                *s = shape_next(*s, odd == 1 ? (uint16_t)(unit_draw(&seed) % 1400) : s->payload);
            if (odd == 2)
                change(s, (enum change)(1 + unit_draw(&seed) % (OPTIONS - 1)), (uint32_t)unit_draw(&seed) & 0x1f);
            if (odd == 3)
                s->flags ^= DP_TCP_PSH;
        }
        check_everything_comes_back();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_becomes_one_super_packet),
        cmocka_unit_test(a_packet_alone_is_not_touched),
        cmocka_unit_test(nothing_follows_a_short_tail_or_psh),
        cmocka_unit_test(a_super_packet_does_not_outgrow_ip),
        cmocka_unit_test(flows_are_kept_apart),
        cmocka_unit_test(an_acknowledgment_of_another_flow_ends_no_run),
        cmocka_unit_test(only_the_latest_packet_of_a_flow_is_joined),
        cmocka_unit_test(fragments_and_options_pass_and_end_the_run),
        cmocka_unit_test(what_the_device_does_not_take_is_not_made),
        cmocka_unit_test(any_mix_comes_back_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
