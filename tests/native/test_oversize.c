/* What becomes of a packet that is too long: fragments, an ICMP message, a smaller MSS. Blocks are exactly as long as they may be,
 * so that AddressSanitizer sees what goes beyond. */
#include "fragment.h"
#include "mss.h"
#include "packets.h"
#include "too_big.h"
#include "unit.h"

enum {
    OPTION_OCTETS = 8,
    CONTENT = 3000,
    IP_OCTETS = 20 + OPTION_OCTETS,
};

/* An IPv4 packet with one option that is copied into fragments and one that is not; a wrong content would show. */
static uint8_t *optioned(size_t *octets, unsigned field) {
    *octets = IP_OCTETS + CONTENT;
    uint8_t *p = malloc(*octets + DP_ESP_TAILROOM);
    assert_non_null(p);
    const uint8_t header[IP_OCTETS] = {0x47, 0xb8, (uint8_t)(*octets >> 8), (uint8_t)*octets, 0x12, 0x34, (uint8_t)(field >> 8),
                                       (uint8_t)field, 64, 253, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1,
                                       /* record route, not copied; stream ID, copied (RFC 791 §3.1) */
                                       7, 3, 4, 136, 4, 0xab, 0xcd, 0};
    memcpy(p, header, sizeof header);
    for (size_t i = 0; i < CONTENT; i++)
        p[IP_OCTETS + i] = (uint8_t)(i * 131 >> 3);
    return p;
}

static void check_fragments(uint32_t mtu, unsigned field) {
    size_t octets;
    uint8_t *p = optioned(&octets, field), content[CONTENT];
    struct dp_inner inner;
    struct dp_fragments f;
    assert_int_equal(dp_inner_read(p, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_true(dp_fragments_begin(&f, p, &inner, mtu));
    size_t at = 0, count = 0;
    uint32_t mine;
    for (uint8_t *one; (one = dp_fragments_next(&f, &mine)) != NULL; count++) {
        size_t header = (one[0] & 15u) * 4;
        unsigned now = (unsigned)(one[6] << 8 | one[7]);
        assert_true(mine <= mtu);
        assert_int_equal(one[2] << 8 | one[3], mine);
        assert_int_equal(header, count == 0 ? IP_OCTETS : 24);
        assert_int_equal(packet_sum(one, header, 0), 0xffff);
        assert_int_equal(one[4] << 8 | one[5], 0x1234);
        assert_int_equal(one[1], 0xb8);
        assert_int_equal(now & 0x1fff, (field & 0x1fff) + at / 8);
        if (count > 0)
            assert_memory_equal(one + 20, ((uint8_t[]){136, 4, 0xab, 0xcd}), 4);
        memcpy(content + at, one + header, mine - header);
        at += mine - header;
        bool last = at == CONTENT;
        assert_int_equal((now & 0x2000) != 0, !last || (field & 0x2000) != 0);
        assert_true(last || at % 8 == 0);
        memset(one + mine, 0xa5, DP_ESP_TAILROOM); /* sealing does */
    }
    assert_int_equal(at, CONTENT);
    for (size_t i = 0; i < CONTENT; i++)
        assert_int_equal(content[i], (uint8_t)(i * 131 >> 3));
    free(p);
}

static void fragments_together_are_the_packet(void **state) {
    (void)state;
    static const uint32_t mtus[] = {68, 69, 576, 1218, 1400, 1437, 3027};
    for (size_t i = 0; i < sizeof mtus / sizeof *mtus; i++) {
        check_fragments(mtus[i], 0);
        check_fragments(mtus[i], 0x2000 | 185); /* itself a fragment, not the last */
        check_fragments(mtus[i], 370);          /* the last one */
    }
}

static void nothing_is_cut_below_what_every_host_forwards(void **state) {
    (void)state;
    size_t octets;
    uint8_t *p = optioned(&octets, 0);
    struct dp_inner inner;
    struct dp_fragments f;
    assert_int_equal(dp_inner_read(p, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_false(dp_fragments_begin(&f, p, &inner, 67));
    free(p);
}

static size_t too_big(const struct shape *shape, uint8_t *message, uint8_t *packet, size_t *octets, uint32_t mtu) {
    struct dp_inner inner;
    *octets = packet_build(packet, shape);
    assert_int_equal(dp_inner_read(packet, *octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    return dp_too_big_make(message, packet, &inner, mtu);
}

static void the_sender_learns_the_mtu_and_which_packet(void **state) {
    (void)state;
    uint8_t message[DP_TOO_BIG_MAX], packet[2000];
    size_t octets;
    struct shape v4 = shape_new(4, DP_PROTOCOL_UDP, 1450), v6 = shape_new(6, DP_PROTOCOL_TCP, 1450);

    assert_int_equal(too_big(&v4, message, packet, &octets, 1438), 576);
    assert_int_equal(packet_sum(message, 20, 0), 0xffff);
    assert_int_equal(packet_sum(message + 20, 556, 0), 0xffff);
    assert_memory_equal(message + 12, packet + 16, 4);
    assert_memory_equal(message + 16, packet + 12, 4);
    assert_memory_equal(message + 20, ((uint8_t[]){3, 4}), 2);
    assert_memory_equal(message + 24, ((uint8_t[]){0, 0, 1438 >> 8, 1438 & 255}), 4);
    assert_memory_equal(message + 28, packet, 576 - 28);

    assert_int_equal(too_big(&v6, message, packet, &octets, 1404), 1280);
    uint32_t pseudo = packet_sum(message + 8, 32, 58 + 1240);
    assert_int_equal(packet_sum(message + 40, 1240, pseudo), 0xffff);
    assert_memory_equal(message + 8, packet + 24, 16);
    assert_memory_equal(message + 24, packet + 8, 16);
    assert_memory_equal(message + 40, ((uint8_t[]){2, 0}), 2);
    assert_memory_equal(message + 44, ((uint8_t[]){0, 0, 1404 >> 8, 1404 & 255}), 4);
    assert_memory_equal(message + 48, packet, 1280 - 48);
}

static void no_message_is_sent_about_what_must_not_cause_any(void **state) {
    (void)state;
    uint8_t message[DP_TOO_BIG_MAX];
    struct dp_inner inner;
    static const struct {
        const char *what;
        uint8_t at, value, at2, value2;
    } cases[] = {
        {"an ICMP error", 9, 1, 20, 3},   {"a later fragment", 7, 9, 9, 17},         {"to a group", 16, 224, 9, 17},
        {"from a group", 12, 239, 9, 17}, {"from an unspecified one", 12, 0, 9, 17}, {"a cut ICMP message", 9, 1, 3, 21},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t p[40] = {0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1};
        p[cases[i].at] = cases[i].value;
        p[cases[i].at2] = cases[i].value2;
        assert_int_equal(dp_inner_read(p, sizeof p, DP_FLOW_OUTBOUND, &inner), DP_OK);
        if (dp_too_big_make(message, p, &inner, 1400) != 0)
            fail_msg("answered %s", cases[i].what);
    }
    uint8_t echo[40] = {0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1, 8};
    assert_int_equal(dp_inner_read(echo, sizeof echo, DP_FLOW_OUTBOUND, &inner), DP_OK);
    assert_int_not_equal(dp_too_big_make(message, echo, &inner, 1400), 0);
}

/* A SYN whose options begin with `before` NOPs, then MSS 1460. */
static size_t syn(uint8_t *packet, uint8_t version, uint8_t before) {
    struct shape s = shape_new(version, DP_PROTOCOL_TCP, 0);
    s.flags = 0x02;
    size_t octets = packet_build(packet, &s);
    memcpy(packet + packet_ip_octets(&s) + 20 + before, ((uint8_t[]){2, 4, 1460 >> 8, 1460 & 255}), 4);
    packet_checksums(packet, &s, octets);
    return octets;
}

static void a_larger_mss_is_lowered_and_the_checksum_stays_right(void **state) {
    (void)state;
    for (uint8_t version = 4; version <= 6; version += 2)
        for (uint8_t before = 0; before <= 8; before++) {
            uint8_t built[100], again[100];
            size_t octets = syn(built, version, before), ip = version == 4 ? 20 : 40;
            uint8_t *p = malloc(octets);
            struct dp_inner inner;
            memcpy(p, built, octets);
            assert_int_equal(dp_inner_read(p, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
            assert_false(dp_mss_clamp(p, &inner, 1460, false));
            assert_memory_equal(p, built, octets);
            assert_true(dp_mss_clamp(p, &inner, 1398, false));
            assert_int_equal(p[ip + 22 + before] << 8 | p[ip + 23 + before], 1398);
            struct shape s = shape_new(version, DP_PROTOCOL_TCP, 0);
            memcpy(again, p, octets);
            packet_checksums(again, &s, octets);
            assert_memory_equal(p, again, octets);
            memcpy(p, built, octets); /* a checksum that is yet to be summed does not cover the option */
            assert_true(dp_mss_clamp(p, &inner, 1398, true));
            assert_memory_equal(p + ip + 16, built + ip + 16, 2);
            free(p);
        }
}

static void what_is_no_syn_or_has_no_whole_option_is_left_alone(void **state) {
    (void)state;
    uint8_t p[100], before[100];
    struct dp_inner inner;
    static const struct { uint8_t at, value; } changes[] = {{33, 0x10}, {41, 5}, {41, 0}, {41, 1}, {40, 0}, {32, 0x50}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        size_t octets = syn(p, 4, 0);
        p[changes[i].at] = changes[i].value;
        memcpy(before, p, octets);
        assert_int_equal(dp_inner_read(p, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
        assert_false(dp_mss_clamp(p, &inner, 500, false));
        assert_memory_equal(p, before, octets);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fragments_together_are_the_packet),
        cmocka_unit_test(nothing_is_cut_below_what_every_host_forwards),
        cmocka_unit_test(the_sender_learns_the_mtu_and_which_packet),
        cmocka_unit_test(no_message_is_sent_about_what_must_not_cause_any),
        cmocka_unit_test(a_larger_mss_is_lowered_and_the_checksum_stays_right),
        cmocka_unit_test(what_is_no_syn_or_has_no_whole_option_is_left_alone),
    };
    return cmocka_run_group_tests_name("oversize", tests, NULL, NULL);
}
