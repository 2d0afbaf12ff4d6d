/* Packets in a UDP tunnel: joined to super-packets that are cut into the very same. */
#include <linux/virtio_net.h>

#include "coalesce.h"
#include "packets.h"
#include "segment.h"
#include "unit.h"

enum {
    PACKETS = 64,
};

static struct dp_coalescer coalescer;
static uint8_t packets[PACKETS][2048], wanted[PACKETS][2048];
static size_t sizes[PACKETS];
static unsigned received;

static void add_raw(size_t octets, uint32_t kinds) {
    struct dp_inner inner;
    sizes[received] = octets;
    memcpy(wanted[received], packets[received], octets);
    assert_int_equal(dp_inner_read(packets[received], octets, DP_FLOW_INBOUND, &inner), DP_OK);
    dp_coalesce_add(&coalescer, packets[received++], &inner, kinds);
}

static void begin(void) {
    coalescer.count = received = 0;
}

/* Cuts every super-packet again: what comes out is what went in, in its order. */
static void check_everything_comes_back(void) {
    static uint8_t whole[DP_IP_MAX + DP_ESP_TAILROOM];
    unsigned back = 0;
    for (unsigned i = 0; i < coalescer.count; i++) {
        struct dp_burst b;
        struct dp_inner inner;
        struct dp_segments segments;
        size_t octets = 0;
        dp_coalesce_finish(&coalescer, i, &b);
        for (unsigned k = 0; k < b.packets; octets += b.piece[k++].iov_len)
            memcpy(whole + octets, b.piece[k].iov_base, b.piece[k].iov_len);
        assert_int_equal(octets, b.octets);
        b.data = whole;
        assert_int_equal(dp_inner_read(whole, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
        assert_int_equal(dp_segments_begin(&segments, &b, &inner), DP_OK);
        assert_int_equal(segments.count, b.packets);
        uint32_t one;
        for (const uint8_t *packet; (packet = dp_segments_next(&segments, &one)) != NULL; back++) {
            assert_int_equal(one, sizes[back]);
            assert_memory_equal(packet, wanted[back], one);
        }
    }
    assert_int_equal(back, received);
}

static void a_run_becomes_one_super_packet(void **state) {
    (void)state;
    for (unsigned i = 0; i < ENVELOPES; i++)
        for (unsigned kind = 0; kind < 4; kind++) {
            struct envelope e = envelope_of(i);
            struct shape s = shape_of_kind(kind, 1001);
            begin();
            for (unsigned k = 0; k < 40; k++, s = shape_next(s, k == 39 ? 7 : 1001), e = envelope_next(e))
                add_raw(packet_wrap(packets[received], &e, &s), DP_OFFLOAD_ALL);
            assert_int_equal(coalescer.count, 1);
            struct dp_burst b;
            dp_coalesce_finish(&coalescer, 0, &b);
            assert_int_equal(b.packets, 40);
            assert_int_equal(b.gso_size, 1001);
            assert_int_equal(b.gso_type, packet_tunnel_type(&e, &s));
            assert_int_equal(b.tunnel_checksum, e.checksum);
            assert_int_equal(b.network, packet_tunnel_octets(&e));
            assert_int_equal(b.checksum_start, b.network + packet_ip_octets(&s));
            check_everything_comes_back();
        }
}

/* Where a kernel was not seen to have the tunnel, or cannot cut it, nothing of it is joined by what is in it; what has a checksum
 * of its own is UDP like any other. */
static void only_what_is_taken_is_joined(void **state) {
    (void)state;
    static const struct {
        uint32_t kinds;
        unsigned without_checksum, with_checksum;
    } rows[] = {
        {DP_OFFLOAD_ALL, 1, 1},
        {DP_OFFLOAD_ALL & ~DP_OFFLOAD_TUN_UDP_TUNNEL, 3, 1},
        {DP_OFFLOAD_ALL & ~(DP_OFFLOAD_TUN_UDP_TUNNEL | DP_OFFLOAD_TUN_USO4), 3, 3},
        {DP_OFFLOAD_TUN_UDP_TUNNEL, 3, 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned with = 0; with < 2; with++) {
            struct envelope e = envelope_of(with * 2);
            struct shape s = shape_new(4, DP_PROTOCOL_TCP, 100);
            begin();
            for (unsigned k = 0; k < 3; k++, s = shape_next(s, 100), e = envelope_next(e))
                add_raw(packet_wrap(packets[received], &e, &s), rows[i].kinds);
            assert_int_equal(coalescer.count, with ? rows[i].with_checksum : rows[i].without_checksum);
            check_everything_comes_back();
        }
}

enum change {
    NOTHING,
    OUTER_ID,
    OUTER_TOS,
    OUTER_TTL,
    OUTER_CHECKSUM,
    INNER_HOST,
    INNER_PORT,
    INNER_ID,
    INNER_TOS,
    SEQUENCE,
    PAYLOAD,
    GENEVE_OPTIONS,
    RAW, /* the octet at `value` is inverted */
};

static const struct {
    const char *what;
    unsigned envelope, kind;
    enum change change;
    uint32_t value;
    bool joins;
} seconds[] = {
    {"VXLAN", 0, 0, NOTHING, 0, true},
    {"Geneve", 4, 1, NOTHING, 0, true},
    {"another outer ID", 0, 0, OUTER_ID, 0, false},
    {"another outer ID, IPv6 has none", 1, 0, OUTER_ID, 0, true},
    {"outer congestion", 0, 0, OUTER_TOS, 3, false},
    {"outer traffic class", 1, 0, OUTER_TOS, 3, false},
    {"outer TTL", 0, 1, OUTER_TTL, 9, false},
    {"outer hop limit", 1, 1, OUTER_TTL, 9, false},
    {"an outer checksum", 0, 0, OUTER_CHECKSUM, 1, false},
    {"no outer checksum any more", 2, 0, OUTER_CHECKSUM, 0, false},
    {"another inner host", 0, 0, INNER_HOST, 9, false},
    {"another inner host, IPv6", 0, 1, INNER_HOST, 9, false},
    {"another inner port", 0, 0, INNER_PORT, 9, false},
    {"another inner port, UDP", 0, 2, INNER_PORT, 9, false},
    {"another inner ID", 0, 0, INNER_ID, 9, false},
    {"inner congestion", 0, 0, INNER_TOS, 3, false},
    {"a gap", 0, 0, SEQUENCE, 1, false},
    {"shorter", 0, 0, PAYLOAD, 99, true},
    {"longer", 0, 0, PAYLOAD, 1001, false},
    {"no payload", 0, 0, PAYLOAD, 0, false},
    {"other Geneve options", 4, 0, GENEVE_OPTIONS, 8, false},
    {"VXLAN flags", 0, 0, RAW, 28, false},
    {"VXLAN reserved", 0, 0, RAW, 35, false},
    {"VNI", 0, 0, RAW, 34, false},
    {"Ethernet destination", 0, 0, RAW, 36, false},
    {"Ethernet source", 0, 0, RAW, 47, false},
    {"EtherType", 0, 0, RAW, 49, false},
    {"an octet of Geneve's options", 4, 0, RAW, 40, false},
    {"Geneve's version", 4, 0, RAW, 28, false},
    {"Geneve's protocol", 4, 0, RAW, 30, false},
    {"wrong outer IPv4 checksum", 0, 0, RAW, 10, false},
    {"wrong inner IPv4 checksum", 0, 0, RAW, 60, false},
    {"wrong payload", 0, 0, RAW, 500, false},
    {"wrong payload behind an outer checksum", 2, 0, RAW, 500, false},
    {"wrong outer checksum", 2, 0, RAW, 26, false},
    {"wrong outer UDP length", 0, 0, RAW, 25, false},
    {"wrong inner length", 0, 0, RAW, 53, false},
    {"inner version", 0, 0, RAW, 50, false},
};

static void only_what_continues_the_run_joins_it(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        struct envelope e = envelope_of(seconds[i].envelope), next = envelope_next(e);
        struct shape first = shape_of_kind(seconds[i].kind, 1000), second = shape_next(first, 1000);
        uint32_t value = seconds[i].value;
        switch (seconds[i].change) {
        case OUTER_ID:
            next.udp.id = e.udp.id;
            break;
        case OUTER_TOS:
            next.udp.tos = (uint8_t)value;
            break;
        case OUTER_TTL:
            next.udp.ttl = (uint8_t)value;
            break;
        case OUTER_CHECKSUM:
            next.checksum = value;
            break;
        case INNER_HOST:
            second.host = (uint8_t)value;
            break;
        case INNER_PORT:
            second.source_port = (uint16_t)value;
            break;
        case INNER_ID:
            second.id = (uint16_t)value;
            break;
        case INNER_TOS:
            second.tos = (uint8_t)value;
            break;
        case SEQUENCE:
            second.sequence += value;
            break;
        case PAYLOAD:
            second.payload = (uint16_t)value;
            break;
        case GENEVE_OPTIONS:
            next.options = (uint8_t)value;
            break;
        default:
            break;
        }
        begin();
        add_raw(packet_wrap(packets[0], &e, &first), DP_OFFLOAD_ALL);
        size_t octets = packet_wrap(packets[1], &next, &second);
        if (seconds[i].change == RAW)
            packets[1][value] ^= 0xff;
        add_raw(octets, DP_OFFLOAD_ALL);
        if ((coalescer.count == 1) != seconds[i].joins)
            fail_msg("%s: %u super-packets", seconds[i].what, coalescer.count);
        check_everything_comes_back();
    }
}

/* Checksums that are wrong in the first packet show when the second comes. */
static void a_wrong_packet_begins_no_run(void **state) {
    (void)state;
    static const struct {
        unsigned envelope;
        size_t at;
    } rows[] = {{0, 10}, {0, 60}, {0, 500}, {2, 26}, {2, 500}, {3, 46}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct envelope e = envelope_of(rows[i].envelope);
        struct shape s = shape_new(4, DP_PROTOCOL_TCP, 1000);
        begin();
        size_t octets = packet_wrap(packets[0], &e, &s);
        packets[0][rows[i].at] ^= 1;
        add_raw(octets, DP_OFFLOAD_ALL);
        for (int more = 0; more < 2; more++) {
            s = shape_next(s, 1000);
            e = envelope_next(e);
            add_raw(packet_wrap(packets[received], &e, &s), DP_OFFLOAD_ALL);
        }
        if (coalescer.count != 2)
            fail_msg("octet %zu of tunnel %u: %u super-packets", rows[i].at, rows[i].envelope, coalescer.count);
        check_everything_comes_back();
    }
}

/* One level: what is in the inner tunnel is payload of the outer one, so UDP without a checksum joins nothing there either. */
static void a_tunnel_in_a_tunnel_is_payload(void **state) {
    (void)state;
    struct envelope outer = envelope_of(0), inner = envelope_of(2);
    for (unsigned with = 0; with < 2; with++) {
        struct shape s = shape_new(4, DP_PROTOCOL_TCP, 500);
        inner.checksum = with;
        begin();
        for (unsigned k = 0; k < 3; k++, s = shape_next(s, 500), inner = envelope_next(inner), outer = envelope_next(outer)) {
            uint8_t *packet = packets[received];
            struct shape middle = inner.udp;
            size_t at = packet_tunnel_octets(&outer);
            middle.payload = (uint16_t)(packet_wrap(packet + 100, &inner, &s) - packet_header_octets(&middle));
            (void)packet_wrap(packet, &outer, &middle);
            size_t octets = at + packet_wrap(packet + at, &inner, &s);
            add_raw(octets, DP_OFFLOAD_ALL);
        }
        assert_int_equal(coalescer.count, with ? 1 : 3);
        check_everything_comes_back();
    }
}

/* An Ethernet frame is as long as 60 octets at the least: what fills it is nobody's payload, though the checksum holds by chance
 * when it is taken for some. */
static void padding_of_the_frame_is_kept(void **state) {
    (void)state;
    struct envelope e = envelope_of(0);
    struct shape s = shape_new(4, DP_PROTOCOL_TCP, 100);
    static const uint8_t padding[] = {0xff, 0xf9, 0, 0, 0, 0}; /* -6: what the length in the pseudo-header would be more */
    begin();
    add_raw(packet_wrap(packets[0], &e, &s), DP_OFFLOAD_ALL);
    e = envelope_next(e);
    s = shape_next(s, 2);
    size_t octets = packet_wrap(packets[1], &e, &s);
    memcpy(packets[1] + octets, padding, sizeof padding);
    octets += sizeof padding;
    packet_put(packets[1] + 2, octets, 2);
    packet_put(packets[1] + 24, octets - 20, 2);
    packet_put(packets[1] + 10, 0, 2);
    packet_put(packets[1] + 10, (uint16_t)~packet_sum(packets[1], 20, 0), 2);
    add_raw(octets, DP_OFFLOAD_ALL);
    assert_int_equal(coalescer.count, 2);
    check_everything_comes_back();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_becomes_one_super_packet),       cmocka_unit_test(only_what_is_taken_is_joined),
        cmocka_unit_test(only_what_continues_the_run_joins_it), cmocka_unit_test(a_wrong_packet_begins_no_run),
        cmocka_unit_test(a_tunnel_in_a_tunnel_is_payload),      cmocka_unit_test(padding_of_the_frame_is_kept),
    };
    return cmocka_run_group_tests_name("udp_tunnel_join", tests, NULL, NULL);
}
