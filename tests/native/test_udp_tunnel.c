/* Super-packets in a UDP tunnel: cut into the packets that the sender would have made, and made of those that it made. */
#include <linux/virtio_net.h>

#include "coalesce.h"
#include "packets.h"
#include "segment.h"
#include "unit.h"
#include "vteps.h"

enum {
    ROOM = 65536,
    CANARY = 0xa7,
    PACKETS = 64,
};

/* Every tunnel there is: outer IPv4 or IPv6, VXLAN or Geneve with options, its checksum zero or not. */
static struct envelope envelope_of(unsigned i) {
    struct envelope e = envelope_new(i % 2 != 0 ? 6 : 4);
    e.checksum = i & 2;
    e.geneve = i & 4;
    e.options = i & 4 ? 12 : 0;
    return e;
}

enum {
    ENVELOPES = 8
};

static uint8_t type_of(const struct envelope *e, const struct shape *s) {
    unsigned inner = s->protocol == DP_PROTOCOL_UDP ? VIRTIO_NET_HDR_GSO_UDP_L4
                     : s->version == 4              ? VIRTIO_NET_HDR_GSO_TCPV4
                                                    : VIRTIO_NET_HDR_GSO_TCPV6;
    return (uint8_t)(inner | (e->udp.version == 4 ? VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 : VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6));
}

/* ---- cut ----------------------------------------------------------------------------------------------------------------------
 */

struct super {
    uint8_t *data; /* a block of exactly the super-packet and the tailroom */
    struct dp_burst burst;
    struct dp_inner inner;
};

/* As the kernel hands it over: both checksums that are to be written hold the pseudo-header. */
static struct super super_new(const struct envelope *e, const struct shape *all, uint16_t gso_size) {
    size_t before = packet_tunnel_octets(e), upper = before + packet_ip_octets(all), udp = packet_ip_octets(&e->udp);
    struct super s = {.data = malloc(before + packet_header_octets(all) + all->payload + DP_ESP_TAILROOM)};
    assert_non_null(s.data);
    size_t octets = packet_wrap(s.data, e, all);
    s.burst = (struct dp_burst){
        .data = s.data,
        .octets = (uint32_t)octets,
        .gso_size = gso_size,
        .gso_type = type_of(e, all),
        .needs_checksum = true,
        .tunnel_checksum = e->checksum,
        .network = (uint16_t)before,
        .checksum_start = (uint16_t)upper,
        .checksum_offset = all->protocol == DP_PROTOCOL_UDP ? 6 : 16,
    };
    packet_put(s.data + upper + s.burst.checksum_offset, packet_pseudo(s.data + before, all, (uint32_t)(octets - upper)), 2);
    if (e->checksum)
        packet_put(s.data + udp + 6, packet_pseudo(s.data, &e->udp, (uint32_t)(octets - udp)), 2);
    assert_int_equal(dp_inner_read(s.data, octets, DP_FLOW_OUTBOUND, &s.inner), DP_OK);
    return s;
}

static void check_cut(struct envelope e, const struct shape *all, uint16_t gso_size) {
    static uint8_t wanted[ROOM];
    struct super s = super_new(&e, all, gso_size);
    struct dp_segments segments;
    assert_int_equal(dp_segments_begin(&segments, &s.burst, &s.inner), DP_OK);
    struct shape one = *all;
    uint32_t octets;
    uint16_t left = all->payload;
    one.payload = 0;
    for (unsigned i = 0; i == 0 || left != 0; i++, e = envelope_next(e)) {
        one = i == 0 ? one : shape_next(one, 0);
        one.payload = left < gso_size ? left : gso_size;
        uint8_t *packet = dp_segments_next(&segments, &octets);
        assert_non_null(packet);
        assert_int_equal(octets, packet_wrap(wanted, &e, &one));
        assert_memory_equal(packet, wanted, octets);
        memset(packet, CANARY, octets + DP_ESP_TAILROOM);
        left = (uint16_t)(left - one.payload);
    }
    assert_null(dp_segments_next(&segments, &octets));
    free(s.data);
}

static void every_packet_is_the_one_the_sender_would_have_made(void **state) {
    (void)state;
    for (unsigned i = 0; i < ENVELOPES; i++)
        for (unsigned kind = 0; kind < 4; kind++) {
            struct shape all = shape_of_kind(kind, 50000);
            check_cut(envelope_of(i), &all, 1336);
            all.payload = 3 * 1001;
            check_cut(envelope_of(i), &all, 1001);
            all.payload = 1;
            check_cut(envelope_of(i), &all, 1001);
        }
}

static void any_sum_is_written_as_it_must_be(void **state) {
    (void)state;
    struct envelope e = envelope_of(2);
    for (unsigned i = 0; i <= UINT16_MAX; i++) { /* each sum once, the one too that is written 0xffff, in the tunnel and outside */
        struct shape all = shape_new(4, DP_PROTOCOL_UDP, 6);
        all.source_port = e.udp.source_port = (uint16_t)i;
        check_cut(e, &all, 4);
    }
}

static void the_longest_geneve_options_fit(void **state) {
    (void)state;
    struct envelope e = envelope_of(7);
    struct shape all = shape_new(6, DP_PROTOCOL_TCP, 5000);
    e.options = 252;
    all.options = 40;
    check_cut(e, &all, 1000);
}

static void a_single_packets_checksum_is_completed_in_a_tunnel(void **state) {
    (void)state;
    static uint8_t wanted[ROOM];
    for (unsigned i = 0; i < 70000; i += 3) {
        struct envelope e = envelope_of(0);
        struct shape one = shape_new(4, DP_PROTOCOL_UDP, 6);
        one.content = i;
        one.source_port = (uint16_t)i;
        struct super s = super_new(&e, &one, 0);
        struct dp_segments segments;
        uint32_t octets;
        s.burst.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        assert_int_equal(dp_segments_begin(&segments, &s.burst, &s.inner), DP_OK);
        assert_ptr_equal(dp_segments_next(&segments, &octets), s.data);
        assert_int_equal(octets, packet_wrap(wanted, &e, &one));
        assert_memory_equal(s.data, wanted, octets);
        free(s.data);
    }
}

static void its_payloads_are_not_made_smaller(void **state) {
    (void)state;
    struct envelope e = envelope_of(0);
    struct shape all = shape_new(4, DP_PROTOCOL_TCP, 5000);
    struct super s = super_new(&e, &all, 1000);
    struct dp_segments segments;
    assert_int_equal(dp_segments_begin(&segments, &s.burst, &s.inner), DP_OK);
    assert_false(dp_segments_limit(&segments, 800)); /* what is too long is fragmented, or its sender told, as one by one */
    assert_int_equal(segments.count, 5);
    free(s.data);
}

enum field {
    GSO_TYPE,
    NETWORK,
    CHECKSUM_START,
    CHECKSUM_OFFSET,
    OCTET, /* of the packet: `value` is written at `at` */
};

static const struct {
    const char *what;
    unsigned kind; /* of shape_of_kind */
    enum field field;
    uint16_t value;
    uint8_t at;
    enum dp_drop drop;
} lies[] = {
    {"nothing", 0, NETWORK, 50, 0, DP_OK},
    {"outer IPv6", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6, 0, DP_DROP_offload_kind},
    {"both outer versions", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV4 | DP_GSO_UDP_TUNNEL, 0, DP_DROP_offload_kind},
    {"nothing in the tunnel", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4, 0, DP_DROP_offload_kind},
    {"TCPv6 in the tunnel", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4, 0, DP_DROP_offload_kind},
    {"UDP in the tunnel", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_UDP_L4 | VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4, 0, DP_DROP_offload_kind},
    {"TCP without a tunnel", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV4, 0, DP_DROP_offload_kind},
    {"outer TCP", 0, OCTET, 6, 9, DP_DROP_offload_kind},
    {"inner IP in the UDP header", 0, NETWORK, 26, 0, DP_DROP_offload_fields},
    {"inner IP at the start", 0, NETWORK, 0, 0, DP_DROP_offload_fields},
    {"inner IP at an odd octet", 0, NETWORK, 51, 0, DP_DROP_offload_fields},
    {"inner IP at the end", 0, NETWORK, 65535, 0, DP_DROP_offload_fields},
    {"inner IP in the Ethernet header", 0, NETWORK, 48, 0, DP_DROP_offload_fields},
    {"checksum in the outer header", 0, CHECKSUM_START, 20, 0, DP_DROP_offload_fields},
    {"checksum elsewhere", 0, CHECKSUM_START, 72, 0, DP_DROP_offload_fields},
    {"UDP checksum where TCP's is", 2, CHECKSUM_OFFSET, 16, 0, DP_DROP_offload_fields},
    {"outer UDP length", 0, OCTET, 0xff, 24, DP_DROP_offload_fields},
    {"inner length longer", 0, OCTET, 0xff, 52, DP_DROP_offload_fields},
    {"inner length shorter", 0, OCTET, 60, 53, DP_DROP_offload_fields},
    {"inner version", 0, OCTET, 0x65, 50, DP_DROP_offload_fields},
    {"inner fragment", 0, OCTET, 0x20, 56, DP_DROP_offload_fields},
    {"inner IP options instead of TCP", 0, OCTET, 0x4f, 50, DP_DROP_offload_fields},
    {"TCP header beyond the packet", 0, OCTET, 0xf0, 82, DP_DROP_offload_fields},
    {"outer fragment", 0, OCTET, 0x20, 6, DP_DROP_offload_fields},
};

static void lying_offload_headers_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct envelope e = envelope_of(0);
        struct shape all = shape_of_kind(lies[i].kind, 20);
        struct super s = super_new(&e, &all, 10);
        if (lies[i].field == GSO_TYPE)
            s.burst.gso_type = (uint8_t)lies[i].value;
        else if (lies[i].field == NETWORK)
            s.burst.network = lies[i].value;
        else if (lies[i].field == CHECKSUM_START)
            s.burst.checksum_start = lies[i].value;
        else if (lies[i].field == CHECKSUM_OFFSET)
            s.burst.checksum_offset = lies[i].value;
        else
            s.data[lies[i].at] = (uint8_t)lies[i].value;
        struct dp_segments segments;
        enum dp_drop drop = dp_inner_read(s.data, s.burst.octets, DP_FLOW_OUTBOUND, &s.inner);
        if (drop == DP_OK)
            drop = dp_segments_begin(&segments, &s.burst, &s.inner);
        if (drop != lies[i].drop)
            fail_msg("%s: drop reason %d", lies[i].what, drop);
        free(s.data);
    }
}

/* ---- joined -------------------------------------------------------------------------------------------------------------------
 */

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
            assert_int_equal(b.gso_type, type_of(&e, &s));
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

/* ---- whose tunnel it is -------------------------------------------------------------------------------------------------------
 */

static struct dp_inner read_of(const uint8_t *packet, size_t octets, enum dp_direction_of_flow direction) {
    struct dp_inner inner;
    assert_int_equal(dp_inner_read(packet, octets, direction, &inner), DP_OK);
    return inner;
}

static void an_end_is_shown_by_a_checksum_in_the_tunnel(void **state) {
    (void)state;
    struct envelope e = envelope_of(0);
    struct shape s = shape_new(4, DP_PROTOCOL_TCP, 10);
    struct super one = super_new(&e, &s, 0);
    assert_true(dp_vtep_shown(&one.burst, &one.inner));
    one.burst.checksum_start = 20; /* of the UDP datagram itself, as any program's */
    assert_false(dp_vtep_shown(&one.burst, &one.inner));
    one.burst.checksum_start = 70;
    one.burst.needs_checksum = false;
    assert_false(dp_vtep_shown(&one.burst, &one.inner));
    one.burst.needs_checksum = true;
    one.inner.flow.protocol = DP_PROTOCOL_TCP;
    assert_false(dp_vtep_shown(&one.burst, &one.inner));
    free(one.data);
}

static void an_end_is_known_by_interface_address_and_port_for_a_while(void **state) {
    (void)state;
    enum {
        SECOND = 1000000000
    };
    static struct dp_vteps vteps;
    const uint64_t now = 5, secret = 99;
    for (unsigned version = 4; version <= 6; version += 2) {
        struct shape out = shape_new((uint8_t)version, DP_PROTOCOL_UDP, 10), back = out;
        size_t octets = packet_build(packets[0], &out);
        struct dp_inner from = read_of(packets[0], octets, DP_FLOW_OUTBOUND);
        octets = packet_build(packets[1], &back); /* to the same address: the ends change places */
        struct dp_inner to = read_of(packets[1], octets, DP_FLOW_INBOUND);
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
        cmocka_unit_test(every_packet_is_the_one_the_sender_would_have_made),
        cmocka_unit_test(any_sum_is_written_as_it_must_be),
        cmocka_unit_test(the_longest_geneve_options_fit),
        cmocka_unit_test(a_single_packets_checksum_is_completed_in_a_tunnel),
        cmocka_unit_test(its_payloads_are_not_made_smaller),
        cmocka_unit_test(lying_offload_headers_are_refused),
        cmocka_unit_test(a_run_becomes_one_super_packet),
        cmocka_unit_test(only_what_is_taken_is_joined),
        cmocka_unit_test(only_what_continues_the_run_joins_it),
        cmocka_unit_test(a_wrong_packet_begins_no_run),
        cmocka_unit_test(a_tunnel_in_a_tunnel_is_payload),
        cmocka_unit_test(padding_of_the_frame_is_kept),
        cmocka_unit_test(an_end_is_shown_by_a_checksum_in_the_tunnel),
        cmocka_unit_test(an_end_is_known_by_interface_address_and_port_for_a_while),
    };
    return cmocka_run_group_tests_name("udp_tunnel", tests, NULL, NULL);
}
