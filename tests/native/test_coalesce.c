/* Which packet joins the one before it, and which does not; and that cutting gives back what came in. */
#include "coalesced.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_continues_the_run_joins_it),
        cmocka_unit_test(a_wrong_packet_begins_no_run),
        cmocka_unit_test(checksums_that_are_not_as_computed_pass_unjoined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
