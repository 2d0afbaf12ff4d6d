/* The limiter of what strangers can cause, and the channels to the control plane. */
#include <sys/socket.h>

#include "plane.h"
#include "punt.h"

enum {
    RATE = 10,
    BURST = 4
};

static int setup(void **state) {
    *state = dp_punt_limiter_new(RATE, BURST, 42);
    return *state != NULL ? 0 : -1;
}

static int teardown(void **state) {
    free(*state);
    return 0;
}

static struct dp_addr source(uint8_t family, uint8_t first, uint8_t eighth, uint8_t last) {
    struct dp_addr a = {.family = family};
    a.ip[0] = first;
    a.ip[family == 6 ? 7 : 2] = eighth;
    a.ip[family == 6 ? 15 : 3] = last;
    return a;
}

/* How many of `tries` punts at one moment are allowed. */
static unsigned allowed(struct dp_punt_limiter *l, const struct dp_addr *from, uint64_t now, unsigned tries) {
    unsigned count = 0;
    while (tries-- != 0)
        count += dp_punt_allowed(l, from, now);
    return count;
}

static void test_a_burst_and_then_the_rate(void **state) {
    struct dp_addr a = source(4, 198, 0, 1);
    assert_int_equal(allowed(*state, &a, START, 10), BURST);
    static const struct {
        uint64_t ms;
        unsigned allowed;
    } steps[] = {{0, 0}, {99, 0}, {100, 1}, {199, 0}, {350, 2}, {400, 1}, {10000, BURST}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        assert_int_equal(allowed(*state, &a, START + steps[i].ms * 1000000, 10), steps[i].allowed);
}

static void test_over_a_long_time_no_more_than_the_rate(void **state) {
    struct dp_addr a = source(4, 198, 0, 1);
    unsigned count = 0;
    for (uint64_t ms = 0; ms < 10000; ms += 7)
        count += allowed(*state, &a, START + ms * 1000000, 3);
    assert_in_range(count, 10 * RATE, 10 * RATE + BURST);
}

static void test_buckets_are_full_when_the_clock_begins(void **state) {
    struct dp_addr a = source(4, 198, 0, 1);
    assert_int_equal(allowed(*state, &a, 0, 10), BURST);
    assert_int_equal(allowed(*state, &a, SECOND / RATE, 10), 1);
}

static void test_sources_are_apart_and_ports_are_not(void **state) {
    struct dp_addr a = source(4, 198, 0, 1), b = source(4, 198, 0, 2);
    assert_int_equal(allowed(*state, &a, START, 10), BURST);
    a.port = 7;
    assert_int_equal(allowed(*state, &a, START, 10), 0);
    assert_int_equal(allowed(*state, &b, START, 10), BURST);
}

static void test_ipv6_sources_count_by_64_bits(void **state) {
    struct dp_addr a = source(6, 0x20, 1, 1), same = source(6, 0x20, 1, 99), other = source(6, 0x20, 2, 1);
    assert_int_equal(allowed(*state, &a, START, 10), BURST);
    assert_int_equal(allowed(*state, &same, START, 10), 0);
    assert_int_equal(allowed(*state, &other, START, 10), BURST);
}

/* A stranger who could choose whose bucket he empties could silence that peer. */
static void test_another_seed_lets_other_sources_share(void **state) {
    (void)state;
    unsigned differ = 0;
    struct dp_punt_limiter *one = dp_punt_limiter_new(RATE, 1, 1), *two = dp_punt_limiter_new(RATE, 1, 2);
    for (unsigned i = 0; i < 60000; i++) {
        struct dp_addr a = source(4, 10, (uint8_t)(i >> 8), (uint8_t)i);
        differ += dp_punt_allowed(one, &a, START) != dp_punt_allowed(two, &a, START);
    }
    free(one);
    free(two);
    assert_true(differ > 100);
}

static void test_memory_is_bounded_whoever_comes(void **state) {
    unsigned count = 0;
    for (unsigned i = 0; i < 1 << 20; i++) {
        struct dp_addr a = source(4, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i);
        count += dp_punt_allowed(*state, &a, START);
    }
    assert_in_range(count, 1000 * BURST, 1024 * BURST); /* all buckets were empty in the end */
}

static void test_a_record_is_header_and_payload(void **state) {
    (void)state;
    struct dp *dp = plane_new(1);
    struct dp_punt sent = {.kind = DP_PUNT_ACQUIRE, .tunnel = 3, .now = START};
    assert_true(dp_punt_send(&dp->worker[0].outbound, DP_CHANNEL_TRUSTED, &sent, (const uint8_t *)"inner", 5));
    uint8_t record[200];
    int fd = dp_punt_fd(dp, DP_CHANNEL_TRUSTED);
    assert_int_equal(recv(fd, record, sizeof record, 0), sizeof sent + 5);
    assert_memory_equal(record, &sent, sizeof sent);
    assert_memory_equal(record + sizeof sent, "inner", 5);
    assert_int_equal(recv(fd, record, sizeof record, 0), -1);
    assert_int_equal(dp_punt_fd(dp, 2), -22);
    dp_destroy(dp);
}

static void test_a_full_channel_loses_and_counts_and_never_waits(void **state) {
    (void)state;
    struct dp *dp = plane_new(1);
    struct dp_punt punt = {.kind = DP_PUNT_SA};
    unsigned sent = 0;
    while (dp_punt_send(&dp->worker[0].inbound, DP_CHANNEL_TRUSTED, &punt, NULL, 0))
        assert_true(++sent < 1000000);
    struct dp_counters counters;
    dp_counters_read(dp, &counters);
    assert_int_equal(counters.punts_lost, 1);
    assert_true(dp_punt_send(&dp->worker[0].inbound, DP_CHANNEL_STRANGER, &punt, NULL, 0));
    uint8_t record[200];
    assert_int_equal(recv(dp_punt_fd(dp, DP_CHANNEL_TRUSTED), record, sizeof record, 0), sizeof punt);
    assert_true(dp_punt_send(&dp->worker[0].inbound, DP_CHANNEL_TRUSTED, &punt, NULL, 0));
    dp_destroy(dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_burst_and_then_the_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_over_a_long_time_no_more_than_the_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_buckets_are_full_when_the_clock_begins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sources_are_apart_and_ports_are_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipv6_sources_count_by_64_bits, setup, teardown),
        cmocka_unit_test(test_another_seed_lets_other_sources_share),
        cmocka_unit_test_setup_teardown(test_memory_is_bounded_whoever_comes, setup, teardown),
        cmocka_unit_test(test_a_record_is_header_and_payload),
        cmocka_unit_test(test_a_full_channel_loses_and_counts_and_never_waits),
    };
    return cmocka_run_group_tests_name("punt", tests, NULL, NULL);
}
