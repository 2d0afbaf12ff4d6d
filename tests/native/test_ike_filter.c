/* What the kernel drops of a flood at port 500, and when the thread of that port pauses. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "ike_filter.h"
#include "ike_pause.h"
#include "plane.h"
#include "seen.h"

enum {
    MESSAGE = 80,
};

struct port {
    struct dp_seen *seen;
    struct dp_ike_filter filter;
    int fd;
    bool works;
};

/* A socket behind a filter, with the family's loopback address; `works` where the kernel takes a program. */
static struct port opened(int family) {
    struct port p = {.seen = dp_seen_new(1, 8), .fd = socket(family, SOCK_DGRAM, 0)};
    int error = dp_ike_filter_open(&p.filter, p.seen);
    p.works = error == 0;
    assert_true(p.works || error == -EPERM || error == -ENOSYS);
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } here = {0};
    here.any.sa_family = (sa_family_t)family;
    if (family == AF_INET)
        here.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        here.v6.sin6_addr = in6addr_loopback;
    assert_int_equal(bind(p.fd, &here.any, family == AF_INET ? sizeof here.v4 : sizeof here.v6), 0);
    dp_ike_filter_attach(&p.filter, p.fd);
    return p;
}

static void closed(struct port *p) {
    close(p->fd);
    free(p->seen);
    dp_ike_filter_close(&p->filter);
}

/* The same, or the test ends here: nothing is to be seen where nothing is dropped. */
static struct port opened_or_skip(int family) {
    struct port p = opened(family);
    if (!p.works) {
        closed(&p);
        skip();
    }
    return p;
}

/* The header of a request for a new IKE SA, and what it says is its first payload. */
static void request(uint8_t message[MESSAGE], uint8_t first) {
    memset(message, 0, MESSAGE);
    memcpy(message, "initiatr", 8);
    message[16] = first;
    message[17] = 0x20;
    message[18] = DP_IKE_SA_INIT;
    message[19] = DP_IKE_INITIATOR;
    message[27] = MESSAGE;
}

/* Whether a datagram from 127.0.0.`host`, or from ::1 where that is 0, arrives. */
static bool arrives(const struct port *p, uint8_t host, const uint8_t *message, size_t octets) {
    struct sockaddr_storage to;
    socklen_t length = sizeof to;
    assert_int_equal(getsockname(p->fd, (struct sockaddr *)&to, &length), 0);
    int fd = socket(to.ss_family, SOCK_DGRAM, 0);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000u | host)};
    if (host != 0)
        assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(sendto(fd, message, octets, 0, (struct sockaddr *)&to, length), octets);
    close(fd);
    uint8_t got[256];
    ssize_t received = recv(p->fd, got, sizeof got, MSG_DONTWAIT); /* the loopback delivers before sendto returns */
    assert_true(received < 0 || ((size_t)received == octets && memcmp(got, message, octets) == 0));
    return received >= 0;
}

static void test_without_a_flood_all_pass(void **state) {
    (void)state;
    struct port p = opened(AF_INET);
    uint8_t message[MESSAGE];
    request(message, 33);
    for (uint8_t host = 1; host < 100; host++)
        assert_true(arrives(&p, host, message, sizeof message));
    assert_int_equal(dp_ike_filter_dropped(&p.filter), 0);
    closed(&p);
}

/* The rule of the gate itself: who asks again is heard, whatever floods. */
static void test_in_a_flood_who_asks_for_the_first_time_is_noted_and_dropped(void **state) {
    (void)state;
    for (unsigned v6 = 0; v6 < 2; v6++) {
        struct port p = opened_or_skip(v6 ? AF_INET6 : AF_INET);
        uint8_t message[MESSAGE];
        request(message, 33);
        uint8_t host = v6 ? 0 : 9;
        struct dp_addr asked = {.family = v6 ? 6 : 4, .ip = {127, 0, 0, 9}}, other = {.family = 4, .ip = {127, 0, 0, 10}};
        if (v6)
            memset(asked.ip, 0, sizeof asked.ip);
        assert_false(dp_seen_before(p.seen, &other, START)); /* its time begins */
        dp_ike_filter_after(&p.filter, 0);
        assert_false(arrives(&p, host, message, sizeof message));
        assert_true(arrives(&p, host, message, sizeof message));
        assert_true(dp_seen_before(p.seen, &asked, START)); /* the gate and the kernel note it in one table */
        assert_int_equal(dp_ike_filter_dropped(&p.filter), 1);
        assert_int_equal(dp_ike_filter_dropped(&p.filter), 0);
        closed(&p);
    }
}

static void test_so_many_that_ask_for_the_first_time_pass_as_may_have_an_answer(void **state) {
    (void)state;
    struct port p = opened_or_skip(AF_INET);
    uint8_t message[MESSAGE];
    request(message, 33);
    unsigned passed = 0;
    dp_ike_filter_after(&p.filter, 3);
    for (uint8_t host = 1; host <= 10; host++)
        passed += arrives(&p, host, message, sizeof message);
    assert_int_equal(passed, 3);
    assert_int_equal(dp_ike_filter_dropped(&p.filter), 7);
    dp_ike_filter_end(&p.filter);
    assert_true(arrives(&p, 11, message, sizeof message));
    dp_ike_filter_after(&p.filter, 0);
    dp_ike_filter_detach(&p.filter, p.fd);
    assert_true(arrives(&p, 12, message, sizeof message));
    closed(&p);
}

/* Nothing but a bare request is dropped, whoever sends it and however often. */
static void test_in_a_flood_all_else_passes(void **state) {
    (void)state;
    struct port p = opened_or_skip(AF_INET);
    uint8_t message[MESSAGE];
    dp_ike_filter_after(&p.filter, 0);
    request(message, 41); /* a cookie */
    assert_true(arrives(&p, 1, message, sizeof message));
    static const struct {
        unsigned at;
        uint8_t octet;
    } rows[] = {{8, 1}, {15, 1}, {17, 0x10}, {17, 0x30}, {18, 35}, {18, 37}, {19, 0x28}, {19, 0x20}, {19, 0}, {20, 1}, {23, 1}};
    for (uint8_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        request(message, 33);
        message[rows[i].at] = rows[i].octet;
        assert_true(arrives(&p, 1, message, sizeof message));
    }
    request(message, 33);
    for (size_t octets = 0; octets < DP_IKE_HEADER; octets++)
        assert_true(arrives(&p, 1, message, octets));
    assert_false(arrives(&p, 1, message, DP_IKE_HEADER)); /* the control */
    closed(&p);
}

static void test_who_asked_is_known_in_both_periods_and_then_forgotten(void **state) {
    (void)state;
    struct port p = opened_or_skip(AF_INET);
    uint8_t message[MESSAGE];
    request(message, 33);
    struct dp_addr other = {.family = 4, .ip = {198, 51, 100, 1}};
    (void)dp_seen_before(p.seen, &other, START);
    dp_ike_filter_after(&p.filter, 0);
    for (unsigned turn = 0; turn < 4; turn++) {
        uint8_t host = (uint8_t)(20 + turn);
        assert_false(arrives(&p, host, message, sizeof message));
        (void)dp_seen_before(p.seen, &other, START + (turn + 1) * 9 * SECOND);
        if (turn > 0)
            assert_false(arrives(&p, (uint8_t)(host - 1), message, sizeof message));
        assert_true(arrives(&p, host, message, sizeof message));
    }
    closed(&p);
}

/* ---- pauses */

static void test_few_datagrams_never_cause_a_pause(void **state) {
    (void)state;
    struct dp_ike_pause pause = {0};
    uint64_t now = START;
    for (unsigned i = 0; i < 10 * DP_IKE_FEW; i++)
        assert_int_equal(dp_ike_pause(&pause, 1, 0, now += SECOND / DP_IKE_FEW), 0);
    assert_int_equal(dp_ike_pause(&pause, DP_IKE_FEW_AT_ONCE - 1, 0, now += SECOND), 0);
    assert_int_equal(dp_ike_pause(&pause, 0, DP_IKE_FULL, now), 0);
}

static void test_a_pause_grows_in_a_flood_and_ends_with_it(void **state) {
    (void)state;
    struct dp_ike_pause pause = {0};
    uint64_t now = START, last = 0;
    for (unsigned i = 0; i < 10; i++) {
        uint64_t next = dp_ike_pause(&pause, 1000, 1, now += SECOND / 50);
        assert_true(next > last || next == DP_IKE_PAUSE_MOST);
        assert_in_range(next, DP_IKE_PAUSE_FIRST, DP_IKE_PAUSE_MOST);
        last = next;
    }
    assert_int_equal(last, DP_IKE_PAUSE_MOST);
    assert_int_equal(dp_ike_pause(&pause, 0, 0, now += SECOND), 0);
    assert_int_equal(dp_ike_pause(&pause, 1000, 0, now), DP_IKE_PAUSE_FIRST);
}

/* Whatever the rate is and however it changes up to eightfold, no buffer is full before it is read. */
static void test_a_pause_is_short_enough_for_the_buffer(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (unsigned run = 0; run < 200; run++) {
        struct dp_ike_pause pause = {0};
        uint64_t now = START, rate = 1 + unit_draw(&seed) % (DP_IKE_FILLED * UINT64_C(1000)); /* 1/1024 of the buffer a second */
        (void)dp_ike_pause(&pause, 1000, 0, now);
        for (unsigned i = 0; i < 50; i++) {
            now += pause.ns;
            uint64_t filled = rate * pause.ns / SECOND;
            assert_in_range(filled, 0, DP_IKE_FILLED + 1);
            assert_true(filled * 8 <= DP_IKE_FULL + 8);
            (void)dp_ike_pause(&pause, 1000, (uint32_t)filled, now);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_flood_all_pass),
        cmocka_unit_test(test_in_a_flood_who_asks_for_the_first_time_is_noted_and_dropped),
        cmocka_unit_test(test_so_many_that_ask_for_the_first_time_pass_as_may_have_an_answer),
        cmocka_unit_test(test_in_a_flood_all_else_passes),
        cmocka_unit_test(test_who_asked_is_known_in_both_periods_and_then_forgotten),
        cmocka_unit_test(test_few_datagrams_never_cause_a_pause),
        cmocka_unit_test(test_a_pause_grows_in_a_flood_and_ends_with_it),
        cmocka_unit_test(test_a_pause_is_short_enough_for_the_buffer),
    };
    return cmocka_run_group_tests_name("ike_filter", tests, NULL, NULL);
}
