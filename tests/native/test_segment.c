/* A super-packet becomes the packets that the sender would have made without it. */
#include <linux/virtio_net.h>

#include "packets.h"
#include "segment.h"
#include "unit.h"

enum {
    ROOM = 65536,
    CANARY = 0xa7
};

/* A block of exactly the super-packet and the tailroom behind it, so that AddressSanitizer sees what goes beyond. */
struct super {
    uint8_t *data;
    struct dp_burst burst;
    struct dp_inner inner;
};

static uint8_t kind_of(const struct shape *s) {
    if (s->protocol == DP_PROTOCOL_UDP)
        return VIRTIO_NET_HDR_GSO_UDP_L4;
    return s->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
}

/* The super-packet of `all` (its payload is the whole), as the kernel hands it over: the upper checksum holds the pseudo-header. */
static struct super super_new(const struct shape *all, uint16_t gso_size) {
    struct super s = {.data = malloc(packet_header_octets(all) + all->payload + DP_ESP_TAILROOM)};
    assert_non_null(s.data);
    size_t octets = packet_build(s.data, all), ip = packet_ip_octets(all);
    s.burst = (struct dp_burst){
        .data = s.data,
        .octets = (uint32_t)octets,
        .gso_size = gso_size,
        .gso_type = kind_of(all),
        .needs_checksum = true,
        .checksum_start = (uint16_t)ip,
        .checksum_offset = all->protocol == DP_PROTOCOL_UDP ? 6 : 16,
    };
    packet_put(s.data + ip + s.burst.checksum_offset, packet_pseudo(s.data, all, (uint32_t)(octets - ip)), 2);
    assert_int_equal(dp_inner_read(s.data, octets, DP_FLOW_OUTBOUND, &s.inner), DP_OK);
    return s;
}

static enum dp_drop begin(struct super *s, struct dp_segments *segments) {
    return dp_segments_begin(segments, &s->burst, &s->inner);
}

/* Cuts the super-packet, overwriting what sealing would overwrite, and compares each packet with the one built by itself. */
static void check_cut(const struct shape *all, uint16_t gso_size, uint8_t only_last, uint8_t only_first) {
    static uint8_t wanted[ROOM];
    struct super s = super_new(all, gso_size);
    struct dp_segments segments;
    assert_int_equal(begin(&s, &segments), DP_OK);
    unsigned count = all->payload == 0 ? 1 : (all->payload + gso_size - 1u) / gso_size;
    assert_int_equal(segments.count, count);

    struct shape one = *all;
    uint32_t octets, octets_all = 0, octets_most = 0;
    uint16_t left = all->payload;
    one.payload = 0;
    for (unsigned i = 0; i < count; i++) {
        one = i == 0 ? one : shape_next(one, 0);
        one.payload = left < gso_size ? left : gso_size;
        one.flags = all->flags;
        if (i + 1 != count)
            one.flags &= (uint8_t)~only_last;
        if (i != 0)
            one.flags &= (uint8_t)~only_first;
        uint8_t *packet = dp_segments_next(&segments, &octets);
        assert_non_null(packet);
        assert_int_equal(octets, packet_build(wanted, &one));
        assert_memory_equal(packet, wanted, octets);
        memset(packet, CANARY, octets + DP_ESP_TAILROOM);
        left = (uint16_t)(left - one.payload);
        octets_all += octets;
        octets_most = octets > octets_most ? octets : octets_most;
    }
    assert_null(dp_segments_next(&segments, &octets));
    assert_int_equal(segments.octets_all, octets_all);
    assert_int_equal(segments.octets_most, octets_most);
    free(s.data);
}

static void every_packet_is_the_one_the_sender_would_have_made(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct shape all = shape_of_kind(i, 60000);
        check_cut(&all, 1386, 0, 0);
        all.payload = 3 * 1000;
        check_cut(&all, 1000, 0, 0);
        all.payload = 1; /* less than gso_size: one packet */
        check_cut(&all, 1000, 0, 0);
    }
}

static void odd_and_tiny_segments(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        for (uint16_t gso_size = 1; gso_size < 90; gso_size++) { /* shorter than the trailer, than the headers */
            struct shape all = shape_of_kind(i, (uint16_t)(gso_size * 5 + gso_size / 2));
            all.content = gso_size;
            check_cut(&all, gso_size, 0, 0);
        }
}

static void id_and_sequence_number_wrap(void **state) {
    (void)state;
    struct shape all = shape_new(4, DP_PROTOCOL_TCP, 5000);
    all.id = 0xfffe;
    all.sequence = 0xfffffff0;
    check_cut(&all, 1000, 0, 0);
}

static void fin_and_psh_are_the_last_ones_and_cwr_the_first_ones(void **state) {
    (void)state;
    struct shape all = shape_new(4, DP_PROTOCOL_TCP, 3500);
    all.flags = DP_TCP_ACK | DP_TCP_PSH | DP_TCP_FIN | DP_TCP_CWR | DP_TCP_ECE;
    check_cut(&all, 1000, DP_TCP_PSH | DP_TCP_FIN, DP_TCP_CWR);
    all.payload = 900;
    check_cut(&all, 1000, DP_TCP_PSH | DP_TCP_FIN, DP_TCP_CWR);
}

static void without_payload_there_is_one_packet(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct shape all = shape_of_kind(i, 0);
        check_cut(&all, 1000, 0, 0);
    }
}

static void any_sum_of_a_udp_payload(void **state) {
    (void)state;
    for (unsigned i = 0; i < 70000; i += 7) { /* passes the sum that must be written 0xffff */
        struct shape all = shape_new(4, DP_PROTOCOL_UDP, 6);
        all.content = i;
        all.source_port = (uint16_t)i;
        check_cut(&all, 4, 0, 0);
    }
}

/* ---- one packet with its checksum left to us ----------------------------------------------------------------------------------
 */

static void a_single_packets_checksum_is_completed(void **state) {
    (void)state;
    static uint8_t wanted[ROOM];
    for (unsigned i = 0; i < 4; i++) {
        struct shape one = shape_of_kind(i, (uint16_t)(999 + i));
        struct super s = super_new(&one, 0);
        s.burst.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        struct dp_segments segments;
        uint32_t octets;
        assert_int_equal(begin(&s, &segments), DP_OK);
        assert_ptr_equal(dp_segments_next(&segments, &octets), s.data);
        assert_int_equal(octets, packet_build(wanted, &one));
        assert_memory_equal(s.data, wanted, octets);
        assert_null(dp_segments_next(&segments, &octets));
        free(s.data);
    }
}

static void a_packet_without_offloads_is_left_alone(void **state) {
    (void)state;
    static uint8_t wanted[ROOM];
    struct shape one = shape_new(4, DP_PROTOCOL_TCP, 100);
    struct super s = super_new(&one, 0);
    memset(s.data + 36, 0xee, 2); /* a wrong checksum stays wrong */
    memcpy(wanted, s.data, s.burst.octets);
    s.burst = (struct dp_burst){.data = s.data, .octets = s.burst.octets, .checksum_start = 9999};
    struct dp_segments segments;
    uint32_t octets;
    assert_int_equal(begin(&s, &segments), DP_OK);
    assert_ptr_equal(dp_segments_next(&segments, &octets), s.data);
    assert_memory_equal(s.data, wanted, octets);
    free(s.data);
}

/* ---- what the offload header may not say --------------------------------------------------------------------------------------
 */

enum field {
    GSO_TYPE,
    GSO_SIZE,
    NEEDS_CHECKSUM,
    CHECKSUM_START,
    CHECKSUM_OFFSET,
    DATA_OFFSET,
    FRAGMENT
};

static const struct {
    const char *what;
    unsigned kind; /* of shape_of_kind */
    enum field field;
    uint16_t value;
    enum dp_drop drop;
} lies[] = {
    {"TCPv6 over IPv4", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV6, DP_DROP_offload_kind},
    {"TCPv4 over IPv6", 1, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV4, DP_DROP_offload_kind},
    {"UDP over TCP", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_UDP_L4, DP_DROP_offload_kind},
    {"TCP over UDP", 2, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV4, DP_DROP_offload_kind},
    {"UDP fragmentation", 2, GSO_TYPE, VIRTIO_NET_HDR_GSO_UDP, DP_DROP_offload_kind},
    {"unknown", 0, GSO_TYPE, 0x7f, DP_DROP_offload_kind},
    {"the ECN bit is no kind", 0, GSO_TYPE, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, DP_OK},
    {"no size", 0, GSO_SIZE, 0, DP_DROP_offload_fields},
    {"size beyond IP", 0, GSO_SIZE, 65535, DP_DROP_offload_fields},
    {"no checksum wanted", 0, NEEDS_CHECKSUM, 0, DP_DROP_offload_fields},
    {"checksum from the IP header", 0, CHECKSUM_START, 0, DP_DROP_offload_fields},
    {"checksum from beyond the packet", 0, CHECKSUM_START, 65535, DP_DROP_offload_fields},
    {"TCP checksum where UDP's is", 0, CHECKSUM_OFFSET, 6, DP_DROP_offload_fields},
    {"UDP checksum where TCP's is", 2, CHECKSUM_OFFSET, 16, DP_DROP_offload_fields},
    {"TCP header too short", 0, DATA_OFFSET, 4, DP_DROP_offload_fields},
    {"TCP header of nothing", 1, DATA_OFFSET, 0, DP_DROP_offload_fields},
    {"TCP header beyond the packet", 0, DATA_OFFSET, 15, DP_DROP_offload_fields},
    {"a fragment", 0, FRAGMENT, 1, DP_DROP_offload_fields},
    {"a UDP fragment", 2, FRAGMENT, 1, DP_DROP_offload_fields},
};

static void lying_offload_headers_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct shape all = shape_of_kind(lies[i].kind, 20);
        struct super s = super_new(&all, 10);
        switch (lies[i].field) {
        case GSO_TYPE:
            s.burst.gso_type = (uint8_t)lies[i].value;
            break;
        case GSO_SIZE:
            s.burst.gso_size = lies[i].value;
            break;
        case NEEDS_CHECKSUM:
            s.burst.needs_checksum = false;
            break;
        case CHECKSUM_START:
            s.burst.checksum_start = lies[i].value;
            break;
        case CHECKSUM_OFFSET:
            s.burst.checksum_offset = lies[i].value;
            break;
        case DATA_OFFSET:
            s.data[s.inner.header + 12] = (uint8_t)(lies[i].value << 4);
            break;
        case FRAGMENT:
            s.inner.fragment = true;
            break;
        }
        struct dp_segments segments;
        enum dp_drop drop = begin(&s, &segments);
        if (drop != lies[i].drop)
            fail_msg("%s: drop reason %d", lies[i].what, drop);
        free(s.data);
    }
}

/* Where the checksum of a single packet may not lie: before the upper layer, in its ports, beyond the end. */
static const struct {
    uint16_t start, offset;
    enum dp_drop drop;
} places[] = {
    {20, 16, DP_OK},
    {20, 4, DP_OK},
    {24, 0, DP_OK},
    {20, 40, DP_OK},
    {20, 41, DP_DROP_offload_fields},
    {20, 65535, DP_DROP_offload_fields},
    {65535, 65535, DP_DROP_offload_fields},
    {20, 0, DP_DROP_offload_fields},
    {20, 3, DP_DROP_offload_fields},
    {19, 17, DP_DROP_offload_fields},
    {0, 40, DP_DROP_offload_fields},
    {62, 0, DP_DROP_offload_fields},
};

static void a_checksum_lies_in_the_upper_layer(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct shape one = shape_new(4, DP_PROTOCOL_TCP, 10);
        struct super s = super_new(&one, 0);
        s.burst.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        s.burst.checksum_start = places[i].start;
        s.burst.checksum_offset = places[i].offset;
        struct dp_segments segments;
        enum dp_drop drop = begin(&s, &segments);
        if (drop != places[i].drop)
            fail_msg("start %d, offset %d: drop reason %d", places[i].start, places[i].offset, drop);
        free(s.data);
    }
}

/* ---- sums ---------------------------------------------------------------------------------------------------------------------
 */

static void the_vectorised_sum_is_the_plain_one(void **state) {
    (void)state;
    static uint8_t data[4096];
    uint64_t seed = 42;
    unit_fill(&seed, data, sizeof data);
    memset(data + 1000, 0xff, 1000);
    for (size_t octets = 0; octets < 3000; octets += 1 + octets / 70)
        for (size_t at = 0; at < 9; at++) {
            uint32_t sum = dp_checksum(data + at, octets, 0);
            assert_int_equal(be16toh((uint16_t)sum), packet_sum(data + at, octets, 0));
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_packet_is_the_one_the_sender_would_have_made),
        cmocka_unit_test(odd_and_tiny_segments),
        cmocka_unit_test(id_and_sequence_number_wrap),
        cmocka_unit_test(fin_and_psh_are_the_last_ones_and_cwr_the_first_ones),
        cmocka_unit_test(without_payload_there_is_one_packet),
        cmocka_unit_test(any_sum_of_a_udp_payload),
        cmocka_unit_test(a_single_packets_checksum_is_completed),
        cmocka_unit_test(a_packet_without_offloads_is_left_alone),
        cmocka_unit_test(lying_offload_headers_are_refused),
        cmocka_unit_test(a_checksum_lies_in_the_upper_layer),
        cmocka_unit_test(the_vectorised_sum_is_the_plain_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
