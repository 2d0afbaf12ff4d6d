/* What joins a super-packet and what does not; and that cutting it again gives back what came in. */
#include "coalesce.h"

#include <linux/virtio_net.h>

#include "packets.h"
#include "segment.h"
#include "unit.h"

enum {
    PACKETS = 64,
    ROOM = 2048,
    EVERYTHING = DP_OFFLOAD_TUN_TSO4 | DP_OFFLOAD_TUN_TSO6 | DP_OFFLOAD_TUN_USO4 | DP_OFFLOAD_TUN_USO6,
};

static struct dp_coalescer coalescer;
static uint8_t packets[PACKETS][ROOM], wanted[PACKETS][ROOM];
static size_t sizes[PACKETS];
static unsigned received;

static void begin(void) {
    coalescer.count = 0;
    received = 0;
}

/* A packet as it lies in `packets` already, or built from a shape. */
static void add_raw(size_t octets, uint32_t kinds) {
    struct dp_inner inner;
    sizes[received] = octets;
    memcpy(wanted[received], packets[received], octets);
    assert_int_equal(dp_inner_read(packets[received], octets, DP_FLOW_INBOUND, &inner), DP_OK);
    dp_coalesce_add(&coalescer, packets[received++], &inner, kinds);
}

static void add(const struct shape *s) {
    add_raw(packet_build(packets[received], s), EVERYTHING);
}

/* The super-packet in one piece, as the kernel gets it. */
static size_t gather(const struct dp_burst *b, uint8_t *out) {
    size_t octets = 0;
    for (unsigned i = 0; i < b->packets; i++) {
        memcpy(out + octets, b->piece[i].iov_base, b->piece[i].iov_len);
        octets += b->piece[i].iov_len;
    }
    assert_int_equal(octets, b->octets);
    return octets;
}

static bool taken[PACKETS];

/* The earliest packet not yet taken with these octets; every earlier packet of its flow was taken before it. */
static void take(const uint8_t *packet, size_t octets) {
    for (unsigned i = 0; i < received; i++) {
        if (taken[i])
            continue;
        if (sizes[i] == octets && memcmp(wanted[i], packet, octets) == 0) {
            taken[i] = true;
            return;
        }
        size_t ports = packet[0] >> 4 == 4 ? 20 : 40, addresses = ports == 20 ? 12 : 8, protocol = ports == 20 ? 9 : 6;
        assert_false(wanted[i][protocol] == packet[protocol] &&
                     memcmp(wanted[i] + addresses, packet + addresses, ports - addresses + 4) == 0);
    }
    fail_msg("a packet of %zu octets that did not come in", octets);
}

/* Cuts every super-packet again: what comes out is what went in, in the order of each flow. */
static void check_everything_comes_back(void) {
    static uint8_t whole[DP_IP_MAX + DP_ESP_TAILROOM];
    memset(taken, 0, sizeof taken);
    unsigned back = 0;
    for (unsigned i = 0; i < coalescer.count; i++) {
        struct dp_burst b;
        struct dp_inner inner;
        struct dp_segments segments;
        dp_coalesce_finish(&coalescer, i, &b);
        size_t octets = gather(&b, whole);
        b.data = whole;
        assert_int_equal(dp_inner_read(whole, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
        assert_int_equal(dp_segments_begin(&segments, &b, &inner), DP_OK);
        assert_int_equal(segments.count, b.packets);
        uint32_t one;
        for (const uint8_t *packet; (packet = dp_segments_next(&segments, &one)) != NULL; back++)
            take(packet, one);
    }
    assert_int_equal(back, received);
}

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

/* ---- the second packet of two: does it join? ----------------------------------------------------------------------------------
 */

enum change {
    NOTHING,
    SEQUENCE,
    ACKNOWLEDGMENT,
    WINDOW,
    TOS,
    TTL,
    DF,
    ID,
    FLOW_LABEL,
    PORT,
    HOST,
    OPTIONS,
    PAYLOAD,
    FLAGS,
    OCTET, /* `value` is the place; the octet there is inverted, which breaks a checksum */
};

static const struct {
    const char *what;
    unsigned kind; /* of shape_of_kind */
    enum change change;
    uint32_t value;
    bool joins;
} seconds[] = {
    {"TCP", 0, NOTHING, 0, true},
    {"TCP over IPv6", 1, NOTHING, 0, true},
    {"UDP", 2, NOTHING, 0, true},
    {"UDP over IPv6", 3, NOTHING, 0, true},
    {"a gap", 0, SEQUENCE, 1, false},
    {"an overlap", 1, SEQUENCE, 0xffffffff, false},
    {"the same again", 0, SEQUENCE, (uint32_t)-1000, false},
    {"acknowledges more", 0, ACKNOWLEDGMENT, 1, false},
    {"acknowledges more, IPv6", 1, ACKNOWLEDGMENT, 1, false},
    {"another window", 0, WINDOW, 1, false},
    {"another TOS", 0, TOS, 0xb8, false},
    {"congestion experienced", 2, TOS, 3, false},
    {"another traffic class", 1, TOS, 1, false},
    {"another TTL", 0, TTL, 63, false},
    {"another hop limit", 3, TTL, 63, false},
    {"DF off", 0, DF, 0, false},
    {"an ID skipped", 0, ID, 1, false},
    {"the same ID", 2, ID, 0xffff, false},
    {"another flow label", 1, FLOW_LABEL, 5, false},
    {"another flow label, UDP", 3, FLOW_LABEL, 5, false},
    {"another port", 0, PORT, 40001, false},
    {"another port, UDP", 2, PORT, 40001, false},
    {"another host", 0, HOST, 9, false},
    {"another host, IPv6", 1, HOST, 9, false},
    {"other options", 0, OPTIONS, 8, false},
    {"shorter", 0, PAYLOAD, 999, true},
    {"shorter, UDP", 2, PAYLOAD, 1, true},
    {"longer", 0, PAYLOAD, 1001, false},
    {"longer, UDP", 3, PAYLOAD, 1001, false},
    {"no payload", 0, PAYLOAD, 0, false},
    {"no payload, UDP", 2, PAYLOAD, 0, false},
    {"PSH", 0, FLAGS, DP_TCP_ACK | DP_TCP_PSH, true},
    {"FIN", 0, FLAGS, DP_TCP_ACK | DP_TCP_FIN, false},
    {"SYN", 0, FLAGS, DP_TCP_ACK | 2, false},
    {"RST", 1, FLAGS, DP_TCP_ACK | 4, false},
    {"URG", 1, FLAGS, DP_TCP_ACK | 0x20, false},
    {"ECE", 0, FLAGS, DP_TCP_ACK | DP_TCP_ECE, false},
    {"CWR", 0, FLAGS, DP_TCP_ACK | DP_TCP_CWR, false},
    {"no ACK", 0, FLAGS, 0, false},
    {"wrong payload", 0, OCTET, 500, false},
    {"wrong last octet", 1, OCTET, 1071, false},
    {"wrong payload, UDP", 2, OCTET, 500, false},
    {"wrong payload, UDP over IPv6", 3, OCTET, 500, false},
    {"wrong IPv4 checksum", 0, OCTET, 10, false},
    {"wrong TCP checksum", 0, OCTET, 36, false},
    {"reserved bits", 0, OCTET, 32, false},
    {"wrong UDP length", 2, OCTET, 24, false},
};

static void change(struct shape *s, enum change what, uint32_t value) {
    switch (what) {
    case SEQUENCE:
        s->sequence += value;
        break;
    case ACKNOWLEDGMENT:
        s->acknowledgment += value;
        break;
    case WINDOW:
        s->window = (uint16_t)(s->window + value);
        break;
    case TOS:
        s->tos = (uint8_t)value;
        break;
    case TTL:
        s->ttl = (uint8_t)value;
        break;
    case DF:
        s->no_df = true;
        break;
    case ID:
        s->id = (uint16_t)(s->id + value);
        break;
    case FLOW_LABEL:
        s->flow_label = value;
        break;
    case PORT:
        s->source_port = (uint16_t)value;
        break;
    case HOST:
        s->host = (uint8_t)value;
        break;
    case OPTIONS:
        s->options = (uint8_t)value;
        break;
    case PAYLOAD:
        s->payload = (uint16_t)value;
        break;
    case FLAGS:
        s->flags = (uint8_t)value;
        break;
    default:
        break;
    }
}

static void only_what_continues_the_run_joins_it(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        struct shape first = shape_of_kind(seconds[i].kind, 1000), second = shape_next(first, 1000);
        change(&second, seconds[i].change, seconds[i].value);
        begin();
        add(&first);
        size_t octets = packet_build(packets[1], &second);
        if (seconds[i].change == OCTET)
            packets[1][seconds[i].value] ^= 0xff;
        add_raw(octets, EVERYTHING);
        if ((coalescer.count == 1) != seconds[i].joins)
            fail_msg("%s: %u super-packets", seconds[i].what, coalescer.count);
        check_everything_comes_back();
    }
}

/* The same for the first of two: a packet that may not begin a run. */
static const struct {
    const char *what;
    unsigned kind;
    size_t at;
} firsts[] = {
    {"wrong payload", 0, 600}, {"wrong payload, UDP", 3, 600}, {"wrong IPv4 checksum", 0, 11}, {"wrong TCP checksum", 1, 57},
    {"reserved bits", 1, 52},  {"wrong UDP length", 2, 25},    {"wrong UDP checksum", 2, 26},
};

static void a_wrong_packet_begins_no_run(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        struct shape s = shape_of_kind(firsts[i].kind, 1000);
        begin();
        size_t octets = packet_build(packets[0], &s);
        packets[0][firsts[i].at] ^= 0x01;
        add_raw(octets, EVERYTHING);
        for (int more = 0; more < 2; more++) {
            s = shape_next(s, 1000);
            add(&s);
        }
        if (coalescer.count != 2)
            fail_msg("%s: %u super-packets", firsts[i].what, coalescer.count);
        assert_memory_equal(packets[0], wanted[0], octets);
        check_everything_comes_back();
    }
}

static void checksums_that_are_not_as_computed_pass_unjoined(void **state) {
    (void)state;
    /* UDP without a checksum. */
    struct shape s = shape_new(4, DP_PROTOCOL_UDP, 100);
    begin();
    for (int i = 0; i < 3; i++, s = shape_next(s, 100)) {
        size_t octets = packet_build(packets[received], &s);
        memset(packets[received] + 26, 0, 2);
        add_raw(octets, EVERYTHING);
    }
    assert_int_equal(coalescer.count, 3);
    /* A TCP checksum of zero, written as all ones: right, but cutting would write it as zeros. */
    s = shape_new(4, DP_PROTOCOL_TCP, 100);
    size_t octets = packet_build(packets[0], &s);
    s.window = (uint16_t)(s.window + (packets[0][36] << 8 | packets[0][37]));
    octets = packet_build(packets[0], &s);
    assert_int_equal(packets[0][36] | packets[0][37], 0);
    begin();
    memset(packets[0] + 36, 0xff, 2);
    add_raw(octets, EVERYTHING);
    s = shape_next(s, 100);
    add(&s);
    assert_int_equal(coalescer.count, 2);
    check_everything_comes_back();
}

/* ---- runs ---------------------------------------------------------------------------------------------------------------------
 */

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
        cmocka_unit_test(only_what_continues_the_run_joins_it),
        cmocka_unit_test(a_wrong_packet_begins_no_run),
        cmocka_unit_test(checksums_that_are_not_as_computed_pass_unjoined),
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
