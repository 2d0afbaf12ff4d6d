/* The thread of port 500 while it is flooded and everything changes beside it. */
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plane.h"

enum {
    MESSAGE = 100,
    NONCE = 40,
    AT_ONCE = 100,
};

static struct dp *plane_for_ike(void) {
    struct dp_config config = {
        .sa_slots = 256,
        .tunnels = 4,
        .interfaces = 4,
        .workers = 1,
        .stranger_rate = 1,
        .stranger_burst = 4,
        .begin_rate = 2,
        .other_rate = 3,
        .proven_rate = 4,
        .proven_burst = 4,
        .proven_rate_in_all = 6,
        .repeat_rate = 2,
        .repeat_burst = 5,
        .cookie_rate = 1000,
        .cookie_first_rate = 10,
        .cookie_seen_seconds = 8,
        .cookie_seconds = 60,
    };
    struct dp *dp = NULL;
    uint8_t secret[32] = {7};
    assert_int_equal(dp_create(&config, &dp), 0);
    assert_int_equal(dp_ike_cookie_secret(dp, secret, sizeof secret), 0);
    return dp;
}

static int bound(struct sockaddr_in *here) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t length = sizeof *here;
    *here = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)here, sizeof *here), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)here, &length), 0);
    return fd;
}

static void request(uint8_t message[MESSAGE]) {
    memset(message, 0, MESSAGE);
    memcpy(message, "initiatr", 8);
    message[16] = NONCE;
    message[17] = DP_IKE_VERSION;
    message[18] = DP_IKE_SA_INIT;
    message[19] = DP_IKE_INITIATOR;
    message[27] = MESSAGE;
    message[DP_IKE_HEADER + 3] = MESSAGE - DP_IKE_HEADER;
}

static uint64_t noticed(const struct dp *dp) {
    struct dp_counters c;
    dp_counters_read(dp, &c);
    return c.drops[DP_DROP_ike_limited] + c.cookies_sent;
}

/* Sends requests from all over 127.0.0.0/8 until so many were kept back. */
static void flood(struct dp *dp, const struct sockaddr_in *to, uint64_t most) {
    uint8_t message[MESSAGE];
    request(message);
    for (uint32_t host = 1; noticed(dp) < most; host++) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000u | (host & 0xffff))};
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
        for (unsigned i = 0; i < AT_ONCE; i++) {
            message[0] = (uint8_t)i;
            (void)sendto(fd, message, sizeof message, MSG_DONTWAIT, (const struct sockaddr *)to, sizeof *to);
        }
        close(fd);
    }
}

static void test_sockets_come_and_go_in_a_flood(void **state) {
    (void)state;
    struct dp *dp = plane_for_ike();
    struct sockaddr_in here, other;
    int fd = bound(&here), second = bound(&other);
    struct dp_addr local = loopback(500);
    int number = dp_ike_port_add(dp, fd, &local);
    assert_int_equal(number, 0);
    assert_int_equal(dp_ike_port_start(dp), 0);
    for (unsigned round = 1; round <= 10; round++) {
        uint8_t secret[32] = {(uint8_t)round};
        int more = dp_ike_port_add(dp, second, &local);
        assert_int_equal(more, 1);
        flood(dp, &here, 1000 * round);
        assert_int_equal(dp_ike_cookie_secret(dp, secret, sizeof secret), 0);
        assert_int_equal(dp_ike_port_remove(dp, (uint32_t)more), 0);
        (void)dp_reclaim(dp);
    }
    dp_ike_port_stop(dp);
    assert_int_equal(dp_ike_port_remove(dp, (uint32_t)number), 0);
    close(fd);
    close(second);
    dp_destroy(dp);
}

/* Nothing of the flood is remembered against who comes after it. */
static void test_after_a_flood_a_stopped_port_lets_all_wait(void **state) {
    (void)state;
    struct dp *dp = plane_for_ike();
    struct sockaddr_in here;
    int fd = bound(&here), sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct dp_addr local = loopback(500);
    assert_int_equal(dp_ike_port_add(dp, fd, &local), 0);
    assert_int_equal(dp_ike_port_start(dp), 0);
    flood(dp, &here, 2000);
    dp_ike_port_stop(dp);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f090909u)};
    assert_int_equal(bind(sender, (struct sockaddr *)&from, sizeof from), 0);
    while (dp_ike_port_step(dp, START) > 0)
        ;
    uint8_t message[MESSAGE];
    request(message);
    assert_int_equal(sendto(sender, message, sizeof message, 0, (struct sockaddr *)&here, sizeof here), MESSAGE);
    assert_int_equal(dp_ike_port_step(dp, START), 1);
    close(fd);
    close(sender);
    dp_destroy(dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockets_come_and_go_in_a_flood),
        cmocka_unit_test(test_after_a_flood_a_stopped_port_lets_all_wait),
    };
    return cmocka_run_group_tests_name("ike_port", tests, NULL, NULL);
}
