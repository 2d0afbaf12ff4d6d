/* The inner packet: what is refused and what flow is read. */
#include <stdlib.h>
#include <string.h>

#include "inner.h"
#include "unit.h"

enum {
    OPAQUE = DP_PORT_OPAQUE
};

/* The packet in a block of exactly its size, so that AddressSanitizer sees any octet read beyond it. */
static enum dp_drop read_exactly(const uint8_t *packet, size_t octets, enum dp_direction_of_flow direction,
                                 struct dp_inner *inner) {
    uint8_t *copy = malloc(octets ? octets : 1);
    assert_non_null(copy);
    memcpy(copy, packet, octets);
    enum dp_drop drop = dp_inner_read(octets ? copy : copy + 1, octets, direction, inner);
    free(copy);
    return drop;
}

/* ---- IPv4 ------------------------------------------------------------------------------------------------------------------- */

struct v4 {
    uint8_t octets[64];
    size_t length;
};

/* 10.1.0.1:1000 -> 10.2.0.2:53, UDP, 28 octets */
static struct v4 v4_udp(void) {
    return (struct v4){{0x45, 0xb8, 0, 28, 1, 2, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 2, 0x03, 0xe8, 0, 53, 0, 8, 0, 0},
                       28};
}

static void v4_header_and_flow_are_read(void **state) {
    (void)state;
    struct v4 p = v4_udp();
    struct dp_inner inner;
    assert_int_equal(read_exactly(p.octets, p.length, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_int_equal(inner.version, 4);
    assert_int_equal(inner.octets, 28);
    assert_int_equal(inner.header, 20);
    assert_int_equal(inner.tos, 0xb8);
    assert_true(inner.dont_fragment);
    assert_false(inner.fragment);
    assert_int_equal(inner.flow.family, 4);
    assert_int_equal(inner.flow.protocol, 17);
    assert_int_equal(inner.flow.address.v4[DP_LOCAL], 0x0a010001);
    assert_int_equal(inner.flow.address.v4[DP_REMOTE], 0x0a020002);
    assert_int_equal(inner.flow.port[DP_LOCAL], 1000);
    assert_int_equal(inner.flow.port[DP_REMOTE], 53);
}

static void inbound_the_destination_is_local(void **state) {
    (void)state;
    struct v4 p = v4_udp();
    struct dp_inner inner;
    assert_int_equal(read_exactly(p.octets, p.length, DP_FLOW_INBOUND, &inner), DP_OK);
    assert_int_equal(inner.flow.address.v4[DP_LOCAL], 0x0a020002);
    assert_int_equal(inner.flow.address.v4[DP_REMOTE], 0x0a010001);
    assert_int_equal(inner.flow.port[DP_LOCAL], 53);
    assert_int_equal(inner.flow.port[DP_REMOTE], 1000);
}

static void padding_behind_the_total_length_is_not_the_packets(void **state) {
    (void)state;
    struct v4 p = v4_udp();
    struct dp_inner inner;
    assert_int_equal(read_exactly(p.octets, 60, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_int_equal(inner.octets, 28);
    p.octets[3] = 22; /* the header ends behind the source port: what follows is padding, not a destination port */
    assert_int_equal(read_exactly(p.octets, 60, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_int_equal(inner.flow.port[DP_LOCAL], OPAQUE);
    assert_int_equal(inner.flow.port[DP_REMOTE], OPAQUE);
}

/* One octet of v4_udp is changed and the packet is cut to `length`. */
static const struct {
    const char *what;
    size_t at;
    uint8_t value;
    size_t length;
    enum dp_drop drop;
} v4_cases[] = {
    {"nothing", 0, 0x45, 0, DP_DROP_inner_length},
    {"one octet", 0, 0x45, 1, DP_DROP_inner_length},
    {"header cut", 0, 0x45, 19, DP_DROP_inner_length},
    {"packet cut", 0, 0x45, 27, DP_DROP_inner_length},
    {"whole", 0, 0x45, 28, DP_OK},
    {"version 0", 0, 0x05, 28, DP_DROP_inner_version},
    {"version 5", 0, 0x55, 28, DP_DROP_inner_version},
    {"version 15", 0, 0xf5, 1, DP_DROP_inner_version},
    {"IHL 0", 0, 0x40, 28, DP_DROP_inner_length},
    {"IHL 4", 0, 0x44, 28, DP_DROP_inner_length},
    {"IHL beyond the total length", 0, 0x48, 28, DP_DROP_inner_length},
    {"IHL beyond the packet", 0, 0x4f, 28, DP_DROP_inner_length},
    {"total length below the header", 3, 19, 28, DP_DROP_inner_length},
    {"header alone", 3, 20, 28, DP_OK},
    {"total length beyond the packet", 3, 29, 28, DP_DROP_inner_length},
    {"total length far beyond", 2, 0xff, 28, DP_DROP_inner_length},
};

static void v4_lengths_are_checked(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof v4_cases / sizeof v4_cases[0]; i++) {
        struct v4 p = v4_udp();
        struct dp_inner inner;
        p.octets[v4_cases[i].at] = v4_cases[i].value;
        enum dp_drop drop = read_exactly(p.octets, v4_cases[i].length, DP_FLOW_OUTBOUND, &inner);
        if (drop != v4_cases[i].drop)
            fail_msg("%s: drop reason %d", v4_cases[i].what, drop);
    }
}

static void v4_options_precede_the_ports(void **state) {
    (void)state;
    struct v4 p = v4_udp();
    struct dp_inner inner;
    memmove(p.octets + 28, p.octets + 20, 8);
    memset(p.octets + 20, 1, 8); /* no operation */
    p.octets[0] = 0x47;
    p.octets[3] = 36;
    assert_int_equal(read_exactly(p.octets, 36, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_int_equal(inner.header, 28);
    assert_int_equal(inner.flow.port[DP_LOCAL], 1000);
    assert_int_equal(inner.flow.port[DP_REMOTE], 53);
}

static const struct {
    const char *what;
    uint16_t field;
    bool fragment, ports;
} fragment_cases[] = {
    {"whole", 0x0000, false, true},
    {"whole, DF", 0x4000, false, true},
    {"first", 0x2000, true, true},
    {"later", 0x2001, true, false},
    {"last", 0x0001, true, false},
    {"last, largest offset", 0x1fff, true, false},
    {"reserved bit alone", 0x8000, false, true},
};

static void v4_later_fragments_show_no_ports(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof fragment_cases / sizeof fragment_cases[0]; i++) {
        struct v4 p = v4_udp();
        struct dp_inner inner;
        p.octets[6] = (uint8_t)(fragment_cases[i].field >> 8);
        p.octets[7] = (uint8_t)fragment_cases[i].field;
        assert_int_equal(read_exactly(p.octets, p.length, DP_FLOW_OUTBOUND, &inner), DP_OK);
        assert_int_equal(inner.fragment, fragment_cases[i].fragment);
        assert_int_equal(inner.flow.protocol, 17);
        assert_int_equal(inner.flow.port[DP_LOCAL], fragment_cases[i].ports ? 1000 : OPAQUE);
        assert_int_equal(inner.flow.port[DP_REMOTE], fragment_cases[i].ports ? 53 : OPAQUE);
        assert_int_equal(inner.dont_fragment, (fragment_cases[i].field & 0x4000) != 0);
    }
}

/* `octets` of upper layer, beginning 0x03 0xe8 0x00 0x35. */
static const struct {
    const char *what;
    uint8_t protocol, octets;
    uint32_t local, remote;
} upper_cases[] = {
    {"TCP", 6, 8, 1000, 53},
    {"UDP", 17, 8, 1000, 53},
    {"DCCP", 33, 8, 1000, 53},
    {"SCTP", 132, 8, 1000, 53},
    {"UDP-Lite", 136, 8, 1000, 53},
    {"TCP, ports just there", 6, 4, 1000, 53},
    {"TCP, ports cut", 6, 3, OPAQUE, OPAQUE},
    {"UDP, nothing", 17, 0, OPAQUE, OPAQUE},
    {"ICMP type 3 code 232", 1, 8, 0x3e8, 0x3e8},
    {"ICMP, type and code just there", 1, 2, 0x3e8, 0x3e8},
    {"ICMP cut", 1, 1, OPAQUE, OPAQUE},
    {"ICMPv6", 58, 2, 0x3e8, 0x3e8},
    {"GRE", 47, 8, OPAQUE, OPAQUE},
    {"ESP", 50, 8, OPAQUE, OPAQUE},
    {"0", 0, 8, OPAQUE, OPAQUE},
    {"255", 255, 8, OPAQUE, OPAQUE},
};

static void upper_layers_show_their_ports(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof upper_cases / sizeof upper_cases[0]; i++) {
        struct v4 p = v4_udp();
        struct dp_inner inner;
        p.octets[9] = upper_cases[i].protocol;
        p.octets[3] = (uint8_t)(20 + upper_cases[i].octets);
        assert_int_equal(read_exactly(p.octets, p.octets[3], DP_FLOW_OUTBOUND, &inner), DP_OK);
        assert_int_equal(inner.flow.protocol, upper_cases[i].protocol);
        if (inner.flow.port[DP_LOCAL] != upper_cases[i].local || inner.flow.port[DP_REMOTE] != upper_cases[i].remote)
            fail_msg("%s: %u, %u", upper_cases[i].what, inner.flow.port[DP_LOCAL], inner.flow.port[DP_REMOTE]);
    }
}

/* ---- IPv6 ------------------------------------------------------------------------------------------------------------------- */

/* 2001:db8::1 -> 2001:db8::2, traffic class 0xa5, flow label 0x12345, `first` and then `rest` behind the header */
static size_t v6(uint8_t out[512], uint8_t first, const uint8_t *rest, size_t octets) {
    static const uint8_t header[40] = {0x6a,        0x51,        0x23,        0x45,    0,        0,           0, 64, /* */
                                       0x20,        0x01,        0x0d,        0xb8,    [23] = 1, [24] = 0x20,        /* */
                                       [25] = 0x01, [26] = 0x0d, [27] = 0xb8, [39] = 2};
    memcpy(out, header, sizeof header);
    out[4] = (uint8_t)(octets >> 8);
    out[5] = (uint8_t)octets;
    out[6] = first;
    memcpy(out + 40, rest, octets);
    return 40 + octets;
}

#define UDP_PORTS 0x03, 0xe8, 0, 53, 0, 8, 0, 0

static void v6_header_and_flow_are_read(void **state) {
    (void)state;
    static const uint8_t udp[] = {UDP_PORTS};
    uint8_t p[512];
    struct dp_inner inner;
    size_t octets = v6(p, 17, udp, sizeof udp);
    assert_int_equal(read_exactly(p, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_int_equal(inner.version, 6);
    assert_int_equal(inner.octets, 48);
    assert_int_equal(inner.header, 40);
    assert_int_equal(inner.tos, 0xa5);
    assert_true(inner.dont_fragment);
    assert_false(inner.fragment);
    assert_int_equal(inner.flow.family, 6);
    assert_int_equal(inner.flow.protocol, 17);
    dp_u128 prefix = (dp_u128)0x20010db800000000 << 64;
    assert_true(inner.flow.address.v6[DP_LOCAL] == (prefix | 1));
    assert_true(inner.flow.address.v6[DP_REMOTE] == (prefix | 2));
    assert_int_equal(inner.flow.port[DP_LOCAL], 1000);
    assert_int_equal(inner.flow.port[DP_REMOTE], 53);
    for (size_t cut = 0; cut < octets; cut++)
        assert_int_equal(read_exactly(p, cut, DP_FLOW_OUTBOUND, &inner), DP_DROP_inner_length);
    assert_int_equal(read_exactly(p, octets + 20, DP_FLOW_OUTBOUND, &inner), DP_OK); /* TFC padding */
    assert_int_equal(inner.octets, 48);
}

#define OPTIONS 1, 4, 0, 0, 0, 0 /* PadN */

struct chain_case {
    const char *what;
    uint8_t first;
    uint8_t rest[96];
    uint16_t octets;
    enum dp_drop drop;
    uint16_t protocol, header;
    uint32_t local;
    bool fragment;
};

static const struct chain_case chain_cases[] = {
    {"hop-by-hop", 0, {17, 0, OPTIONS, UDP_PORTS}, 16, DP_OK, 17, 48, 1000, false},
    {"destination, 16 octets", 60, {17, 1, OPTIONS, 1, 6, 0, 0, 0, 0, 0, 0, UDP_PORTS}, 24, DP_OK, 17, 56, 1000, false},
    {"routing", 43, {17, 0, 4, 0, 0, 0, 0, 0, UDP_PORTS}, 16, DP_OK, 17, 48, 1000, false},
    {"AH counts 4-octet words", 51, {17, 2, [16] = UDP_PORTS}, 24, DP_OK, 17, 56, 1000, false},
    {"hop-by-hop, destination, fragment of all",
     0,
     {60, 0, OPTIONS, 44, 0, OPTIONS, 17, 0, 0, 0, 0, 0, 0, 7, UDP_PORTS},
     32,
     DP_OK,
     17,
     64,
     1000,
     false},
    {"first fragment", 44, {17, 0, 0, 1, 0, 0, 0, 7, UDP_PORTS}, 16, DP_OK, 17, 48, 1000, true},
    {"later fragment", 44, {17, 0, 0, 9, 0, 0, 0, 7, UDP_PORTS}, 16, DP_OK, 17, 48, OPAQUE, true},
    {"last fragment", 44, {17, 0, 0, 8, 0, 0, 0, 7, UDP_PORTS}, 16, DP_OK, 17, 48, OPAQUE, true},
    {"later fragment of an extension header", 44, {60, 0, 0, 9, 0, 0, 0, 7, UDP_PORTS}, 16, DP_OK, 256, 48, OPAQUE, true},
    {"length of a fragment header is reserved", 44, {17, 9, 0, 0, 0, 0, 0, 7, UDP_PORTS}, 16, DP_OK, 17, 48, 1000, false},
    {"no next header", 59, {UDP_PORTS}, 8, DP_OK, 59, 40, OPAQUE, false},
    {"ICMPv6", 58, {0x80, 0, 0, 0}, 4, DP_OK, 58, 40, 0x8000, false},
    {"upper layer cut", 60, {17, 0, OPTIONS, 3, 0xe8}, 10, DP_OK, 17, 48, OPAQUE, false},
    {"upper layer missing", 60, {17, 0, OPTIONS}, 8, DP_OK, 17, 48, OPAQUE, false},
    {"extension header missing", 60, {0}, 0, DP_DROP_inner_header, 0, 0, 0, false},
    {"extension header cut", 60, {17, 0, OPTIONS}, 7, DP_DROP_inner_header, 0, 0, 0, false},
    {"extension header too long", 60, {17, 1, OPTIONS, 0, 0, 0, 0, 0, 0, 0}, 15, DP_DROP_inner_header, 0, 0, 0, false},
    {"AH too long", 51, {17, 3, [8] = UDP_PORTS}, 16, DP_DROP_inner_header, 0, 0, 0, false},
    {"hop-by-hop not first", 60, {0, 0, OPTIONS, 17, 0, OPTIONS, UDP_PORTS}, 24, DP_DROP_inner_header, 0, 0, 0, false},
};

static void v6_extension_headers_are_followed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof chain_cases / sizeof chain_cases[0]; i++) {
        const struct chain_case *c = &chain_cases[i];
        uint8_t p[512];
        struct dp_inner inner;
        enum dp_drop drop = read_exactly(p, v6(p, c->first, c->rest, c->octets), DP_FLOW_OUTBOUND, &inner);
        if (drop != c->drop)
            fail_msg("%s: drop reason %d", c->what, drop);
        if (drop == DP_OK && (inner.flow.protocol != c->protocol || inner.header != c->header || inner.fragment != c->fragment ||
                              inner.flow.port[DP_LOCAL] != c->local))
            fail_msg("%s: protocol %u, header %u, fragment %d, port %u", c->what, inner.flow.protocol, inner.header, inner.fragment,
                     inner.flow.port[DP_LOCAL]);
    }
}

static void v6_eight_extension_headers_are_followed_and_no_ninth(void **state) {
    (void)state;
    for (size_t count = 1; count <= 10; count++) {
        uint8_t rest[128] = {0}, p[512];
        struct dp_inner inner;
        for (size_t i = 0; i < count; i++)
            rest[8 * i] = i + 1 < count ? 60 : 17;
        memcpy(rest + 8 * count, (uint8_t[]){UDP_PORTS}, 8);
        enum dp_drop drop = read_exactly(p, v6(p, 60, rest, 8 * count + 8), DP_FLOW_OUTBOUND, &inner);
        assert_int_equal(drop, count <= 8 ? DP_OK : DP_DROP_inner_header);
        if (drop == DP_OK)
            assert_int_equal(inner.flow.port[DP_REMOTE], 53);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v4_header_and_flow_are_read),
        cmocka_unit_test(inbound_the_destination_is_local),
        cmocka_unit_test(padding_behind_the_total_length_is_not_the_packets),
        cmocka_unit_test(v4_lengths_are_checked),
        cmocka_unit_test(v4_options_precede_the_ports),
        cmocka_unit_test(v4_later_fragments_show_no_ports),
        cmocka_unit_test(upper_layers_show_their_ports),
        cmocka_unit_test(v6_header_and_flow_are_read),
        cmocka_unit_test(v6_extension_headers_are_followed),
        cmocka_unit_test(v6_eight_extension_headers_are_followed_and_no_ninth),
    };
    return cmocka_run_group_tests_name("inner", tests, NULL, NULL);
}
