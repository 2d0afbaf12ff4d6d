/* The TOS between inner and outer headers (RFC 2983, RFC 6040), and the Internet checksum. */
#include <string.h>

#include "inner.h"
#include "unit.h"

static void the_outer_tos_copies_ecn_and_by_policy_dscp(void **state) {
    (void)state;
    const struct dp_path copy = {.dscp = DP_DSCP_COPY}, zero = {.dscp = DP_DSCP_ZERO},
                         value = {.dscp = DP_DSCP_VALUE, .dscp_value = 46};
    for (unsigned tos = 0; tos < 256; tos++) {
        assert_int_equal(dp_outer_tos((uint8_t)tos, &copy), tos);
        assert_int_equal(dp_outer_tos((uint8_t)tos, &zero), tos & 3);
        assert_int_equal(dp_outer_tos((uint8_t)tos, &value), 46 << 2 | (tos & 3));
    }
}

/* RFC 6040 §4.1, figure 3: in compatibility mode nothing that goes out may be marked. */
static void the_outer_packet_is_not_ecn_capable_in_compatibility_mode(void **state) {
    (void)state;
    const struct dp_path copy = {.dscp = DP_DSCP_COPY, .outer = DP_OUTER_NO_ECN};
    for (unsigned tos = 0; tos < 256; tos++)
        assert_int_equal(dp_outer_tos((uint8_t)tos, &copy), tos & 0xfc);
}

enum {
    NOT_ECT = 0,
    ECT_1 = 1,
    ECT_0 = 2,
    CE = 3,
    DROP = -1
};

/* RFC 6040 §4.2, figure 4, row by row as printed: outer Not-ECT, ECT(0), ECT(1), CE. */
static const int outer_order[4] = {NOT_ECT, ECT_0, ECT_1, CE};
static const struct {
    int inner, merged[4];
} figure_4[] = {
    {NOT_ECT, {NOT_ECT, NOT_ECT, NOT_ECT, DROP}},
    {ECT_0, {ECT_0, ECT_0, ECT_1, CE}},
    {ECT_1, {ECT_1, ECT_1, ECT_1, CE}},
    {CE, {CE, CE, CE, CE}},
};

static uint16_t header_checksum(const uint8_t *header) {
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)(header[i] << 8 | header[i + 1]);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

enum {
    V4_OCTETS = 20,
    V6_OCTETS = 40
};

/* Header alone, from 10.1.0.1 to 10.2.0.2, with a right checksum. */
static void v4_with_tos(uint8_t p[V4_OCTETS], unsigned tos, unsigned identification) {
    static const uint8_t header[V4_OCTETS] = {0x45, 0, 0, V4_OCTETS, 0, 0, 0x40, 0, 64, 59, 0, 0, 10, 1, 0, 1, 10, 2, 0, 2};
    memcpy(p, header, V4_OCTETS);
    p[1] = (uint8_t)tos;
    p[4] = (uint8_t)(identification >> 8);
    p[5] = (uint8_t)identification;
    uint16_t checksum = (uint16_t)~header_checksum(p);
    p[10] = (uint8_t)(checksum >> 8);
    p[11] = (uint8_t)checksum;
}

static void v4_ecn_is_merged_and_the_checksum_stays_right(void **state) {
    (void)state;
    for (unsigned identification = 0; identification < 65536; identification += 7)
        for (int row = 0; row < 4; row++)
            for (int column = 0; column < 4; column++) {
                uint8_t p[V4_OCTETS];
                struct dp_inner inner;
                v4_with_tos(p, (unsigned)(0xb8 | figure_4[row].inner), identification);
                assert_int_equal(dp_inner_read(p, sizeof p, DP_FLOW_INBOUND, &inner), DP_OK);
                enum dp_drop drop = dp_ecn_decapsulate(p, &inner, (uint8_t)(0x04 | outer_order[column]));
                int merged = figure_4[row].merged[column];
                assert_int_equal(drop, merged == DROP ? DP_DROP_ecn : DP_OK);
                assert_int_equal(p[1], 0xb8 | (merged == DROP ? figure_4[row].inner : merged));
                assert_int_equal(header_checksum(p), 0xffff);
            }
}

static void v4_a_wrong_checksum_stays_wrong(void **state) {
    (void)state;
    uint8_t p[V4_OCTETS];
    struct dp_inner inner;
    v4_with_tos(p, ECT_0, 1);
    p[11] ^= 1;
    assert_int_equal(dp_inner_read(p, sizeof p, DP_FLOW_INBOUND, &inner), DP_OK);
    assert_int_equal(dp_ecn_decapsulate(p, &inner, CE), DP_OK);
    assert_int_not_equal(header_checksum(p), 0xffff);
}

static void v6_ecn_is_merged_into_the_traffic_class(void **state) {
    (void)state;
    for (int row = 0; row < 4; row++)
        for (int column = 0; column < 4; column++) {
            /* Traffic class and flow label are all ones but for the ECN field. */
            uint8_t p[V6_OCTETS] = {0x6f, (uint8_t)(0xcf | figure_4[row].inner << 4), 0xff, 0xff, 0, 0, 59, 64, 0x20, [24] = 0x20};
            uint8_t before[V6_OCTETS];
            struct dp_inner inner;
            memcpy(before, p, sizeof p);
            assert_int_equal(dp_inner_read(p, sizeof p, DP_FLOW_INBOUND, &inner), DP_OK);
            int merged = figure_4[row].merged[column];
            assert_int_equal(dp_ecn_decapsulate(p, &inner, (uint8_t)outer_order[column]), merged == DROP ? DP_DROP_ecn : DP_OK);
            if (merged != DROP)
                before[1] = (uint8_t)(0xcf | merged << 4);
            assert_memory_equal(p, before, sizeof p);
        }
}

/* RFC 2983 §3.1: the DSCP comes from outside, the ECN field stays what the merge made of it. */
static void the_outer_dscp_replaces_the_inner_one(void **state) {
    (void)state;
    for (unsigned tos = 0; tos < 256; tos++) {
        uint8_t v4[V4_OCTETS], v6[V6_OCTETS] = {0x6f, 0xef, 0xff, 0xff, 0, 0, 59, 64, 0x20, [24] = 0x20};
        v4_with_tos(v4, 0x2a, tos);
        dp_dscp_decapsulate(v4, (uint8_t)tos);
        assert_int_equal(v4[1], (tos & 0xfc) | 2);
        assert_int_equal(header_checksum(v4), 0xffff);
        dp_dscp_decapsulate(v6, (uint8_t)tos);
        assert_int_equal(v6[0], 0x60 | tos >> 4);
        assert_int_equal(v6[1], ((tos & 0xc) << 4) | 0x20 | 0xf);
        assert_int_equal(v6[2], 0xff);
    }
}

/* RFC 1071 §4.1 as written there, over octets in memory order. */
static uint32_t checksum_by_words(const uint8_t *data, size_t octets, uint32_t sum) {
    for (size_t i = 0; i < octets; i += 2) {
        uint8_t pair[2] = {data[i], i + 1 < octets ? data[i + 1] : 0};
        uint16_t word;
        memcpy(&word, pair, 2);
        sum += word;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

static void the_checksum_equals_a_sum_word_by_word(void **state) {
    (void)state;
    static const uint8_t rfc_1071_3[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    uint8_t folded[2], data[300];
    uint16_t value = (uint16_t)dp_checksum(rfc_1071_3, 8, 0);
    memcpy(folded, &value, 2);
    assert_memory_equal(folded, ((uint8_t[]){0xdd, 0xf2}), 2);

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i < 150 ? 0xff : i * 37);
    for (size_t from = 0; from < 9; from++)
        for (size_t octets = 0; octets + from <= sizeof data; octets++)
            assert_int_equal(dp_checksum(data + from, octets, 0xfffe), checksum_by_words(data + from, octets, 0xfffe));
    assert_int_equal(dp_checksum(data, 0, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_outer_tos_copies_ecn_and_by_policy_dscp),
        cmocka_unit_test(the_outer_packet_is_not_ecn_capable_in_compatibility_mode),
        cmocka_unit_test(v4_ecn_is_merged_and_the_checksum_stays_right),
        cmocka_unit_test(v4_a_wrong_checksum_stays_wrong),
        cmocka_unit_test(v6_ecn_is_merged_into_the_traffic_class),
        cmocka_unit_test(the_outer_dscp_replaces_the_inner_one),
        cmocka_unit_test(the_checksum_equals_a_sum_word_by_word),
    };
    return cmocka_run_group_tests_name("inner_tos", tests, NULL, NULL);
}
