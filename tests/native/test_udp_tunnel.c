/* Super-packets in a UDP tunnel: cut into the packets that the sender would have made. */
#include <linux/virtio_net.h>

#include "packets.h"
#include "segment.h"
#include "unit.h"

enum {
    ROOM = 65536,
    CANARY = 0xa7,
};

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
        .gso_type = packet_tunnel_type(e, all),
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_packet_is_the_one_the_sender_would_have_made),
        cmocka_unit_test(any_sum_is_written_as_it_must_be),
        cmocka_unit_test(the_longest_geneve_options_fit),
        cmocka_unit_test(a_single_packets_checksum_is_completed_in_a_tunnel),
        cmocka_unit_test(its_payloads_are_not_made_smaller),
        cmocka_unit_test(lying_offload_headers_are_refused),
    };
    return cmocka_run_group_tests_name("udp_tunnel", tests, NULL, NULL);
}
