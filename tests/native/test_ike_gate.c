/* The gate that IKE messages pass: what is read of a message, the table of IKE SAs, and what one reader sees while it changes. */
#include <pthread.h>

#include "ike_gate.h"
#include "ike_peers.h"
#include "ike_quiet.h"
#include "ike_sas.h"
#include "plane.h"
#include "seen.h"

static const uint8_t OWN[9] = "respondr", PEER[9] = "initiatr";

static struct dp *plane(void) {
    struct dp_config config = {
        .sa_slots = 256,
        .tunnels = 1,
        .interfaces = 1,
        .workers = 1,
        .stranger_rate = 1,
        .stranger_burst = 2,
        .begin_rate = 1,
        .other_rate = 3,
        .ikev1_rate = 1,
        .ikev1_burst = 2,
        .ikev1_rate_in_all = 3,
        .isakmp_rate = 3,
        .proven_rate = 1,
        .proven_burst = 2,
        .repeat_rate = 1,
        .repeat_burst = 2,
        .cookie_rate = 100,
        .cookie_nat_rate = 100,
        .cookie_first_rate = 10,
        .cookie_seen_seconds = 8,
        .cookie_seconds = 60,
    };
    struct dp *dp;
    uint8_t secret[32] = {7};
    assert_int_equal(dp_create(&config, &dp), 0);
    assert_int_equal(dp_ike_cookie_secret(dp, secret, sizeof secret), 0);
    return dp;
}

static int known(struct dp *dp, bool authenticated) {
    struct dp_ike_sa_params p = {.nat_port = 1, .encr = DP_ENCR_AES_GCM_16, .key_octets = 16};
    uint8_t keymat[KEYMAT] = {1, 2, 3};
    memcpy(p.own_spi, OWN, 8);
    memcpy(p.peer_spi, PEER, 8);
    return dp_ike_sa_set(dp, &p, keymat, authenticated ? sizeof keymat : 0);
}

/* A message with one payload of `type` around `octets` zero octets. */
static uint32_t message(uint8_t *out, const uint8_t *spis, uint8_t exchange, uint8_t type, uint32_t octets) {
    uint32_t length = DP_IKE_HEADER + DP_IKE_PAYLOAD_HEADER + octets;
    memset(out, 0, length);
    memcpy(out, spis, 16);
    out[16] = type;
    out[17] = 0x20;
    out[18] = exchange;
    out[19] = DP_IKE_INITIATOR;
    out[26] = (uint8_t)(length >> 8);
    out[27] = (uint8_t)length;
    out[30] = (uint8_t)((octets + DP_IKE_PAYLOAD_HEADER) >> 8);
    out[31] = (uint8_t)(octets + DP_IKE_PAYLOAD_HEADER);
    return length;
}

static enum dp_ike_verdict judge(struct dp *dp, const uint8_t *octets, size_t length) {
    struct dp_addr from = {.family = 4, .port = 4500, .ip = {198, 51, 100, 1}};
    return dp_ike_judge(&dp->worker[0].inbound.gate, &from, octets, length, START);
}

/* At the end of its own allocation, so that a sanitizer sees whoever reads on. */
static enum dp_ike_verdict judge_alone(struct dp *dp, const uint8_t *octets, size_t length) {
    uint8_t *alone = malloc(length != 0 ? length : 1);
    memcpy(alone, octets, length);
    enum dp_ike_verdict verdict = judge(dp, alone, length);
    free(alone);
    return verdict;
}

static void test_any_length_is_read_within_its_bounds(void **state) {
    (void)state;
    struct dp *dp = plane();
    assert_int_equal(known(dp, true), 0);
    uint8_t octets[200], spis[16];
    memcpy(spis, PEER, 8);
    memcpy(spis + 8, OWN, 8);
    for (uint32_t body = 0; body < 100; body++)
        for (unsigned type = 46; type <= 53; type += 7) {
            uint32_t length = message(octets, spis, 37, (uint8_t)type, body);
            bool has_fragment_fields = type == 46 || body >= DP_IKE_FRAGMENT_FIELDS;
            enum dp_ike_verdict verdict = judge_alone(dp, octets, length);
            if (has_fragment_fields)
                assert_int_equal(verdict, DP_IKE_FORGED);
            for (uint32_t cut = 0; cut < length; cut++)
                (void)judge_alone(dp, octets, cut);
        }
    dp_destroy(dp);
}

static void test_a_request_is_read_only_whole(void **state) {
    (void)state;
    uint8_t octets[200], spis[16] = "initiatr";
    struct dp_ike_message m;
    struct dp_ike_begin begin;
    memset(spis + 8, 0, 8);
    uint32_t length = message(octets, spis, DP_IKE_SA_INIT, 40, 32);
    assert_true(dp_ike_read(octets, length, &m) && dp_ike_begins(&m, &begin));
    assert_int_equal(begin.nonce_octets, 32);
    assert_ptr_equal(begin.nonce, octets + 32);
    assert_null(begin.cookie);
    static const struct {
        uint32_t at;
        uint8_t value;
    } changes[] = {{8, 1}, {18, 35}, {19, 0x28}, {19, 0}, {23, 1}, {28, 40}, {30, 1}, {31, 3}, {31, 37}, {16, 41}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        uint8_t before = octets[changes[i].at];
        octets[changes[i].at] = changes[i].value;
        assert_false(dp_ike_read(octets, length, &m) && dp_ike_begins(&m, &begin));
        octets[changes[i].at] = before;
    }
    assert_false(dp_ike_read(octets, length - 1, &m));
    octets[17] = 0x10;
    assert_false(dp_ike_read(octets, length, &m));
}

static void test_payloads_without_end_are_not_followed(void **state) {
    (void)state;
    enum {
        PAYLOADS = DP_IKE_PAYLOADS_MAX + 2
    };
    uint8_t octets[DP_IKE_HEADER + PAYLOADS * 4 + 36], spis[16] = "initiatr";
    memset(spis + 8, 0, 8);
    struct dp_ike_message m;
    struct dp_ike_begin begin;
    for (unsigned count = DP_IKE_PAYLOADS_MAX - 2; count < PAYLOADS; count++) {
        uint32_t nonce = DP_IKE_HEADER + count * 4, length = nonce + 36;
        memset(octets, 0, sizeof octets);
        (void)message(octets, spis, DP_IKE_SA_INIT, 43, 0);
        octets[26] = (uint8_t)(length >> 8);
        octets[27] = (uint8_t)length;
        for (unsigned i = 0; i < count; i++) {
            octets[DP_IKE_HEADER + 4 * i] = i + 1 < count ? 43 : 40;
            octets[DP_IKE_HEADER + 4 * i + 3] = 4;
        }
        octets[nonce + 3] = 36;
        assert_true(dp_ike_read(octets, length, &m));
        assert_int_equal(dp_ike_begins(&m, &begin), count + 1 <= DP_IKE_PAYLOADS_MAX);
    }
}

static void test_a_chain_keeps_the_others_when_one_goes(void **state) {
    (void)state;
    enum {
        COUNT = 40000
    };
    struct dp *dp = plane();
    struct dp_ike_sa_params p = {.initiator = 1};
    for (uint32_t i = 0; i < COUNT; i++) {
        memcpy(p.own_spi, &i, sizeof i);
        assert_int_equal(dp_ike_sa_set(dp, &p, NULL, 0), 0);
    }
    for (uint32_t i = 0; i < COUNT; i += 2) {
        memcpy(p.own_spi, &i, sizeof i);
        assert_int_equal(dp_ike_sa_remove(dp, p.own_spi), 0);
        assert_int_equal(dp_ike_sa_remove(dp, p.own_spi), -2);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t octets[64], spis[16] = {0};
        memcpy(spis, &i, sizeof i);
        struct dp_ike_message m;
        uint32_t length = message(octets, spis, 37, 46, 20);
        octets[19] = 0;
        assert_true(dp_ike_read(octets, length, &m));
        assert_int_equal(dp_ike_sa_of(dp, &m) != NULL, i % 2);
    }
    dp_destroy(dp);
}

struct reading {
    struct dp *dp;
    _Atomic bool over;
    _Atomic unsigned found;
};

static void *reader(void *argument) {
    struct reading *r = argument;
    struct dp_loop *loop = &r->dp->worker[0].inbound;
    uint8_t octets[100], spis[16];
    memcpy(spis, PEER, 8);
    memcpy(spis + 8, OWN, 8);
    uint32_t length = message(octets, spis, 37, 46, 60);
    while (!atomic_load(&r->over)) {
        dp_epoch_online(&loop->epoch, &r->dp->epoch);
        atomic_fetch_add(&r->found, judge(r->dp, octets, length) == DP_IKE_FORGED);
        dp_epoch_offline(&loop->epoch);
    }
    return NULL;
}

/* The control thread replaces and removes what a loop is just looking at, with its key, and the secret of cookies beside. */
static void test_a_loop_may_read_while_all_changes(void **state) {
    (void)state;
    struct reading r = {.dp = plane()};
    pthread_t thread;
    uint8_t secret[32] = {0};
    assert_int_equal(pthread_create(&thread, NULL, reader, &r), 0);
    for (unsigned i = 0; i < 3000 || atomic_load(&r.found) == 0; i++) {
        assert_int_equal(known(r.dp, i % 3 != 0), 0);
        assert_int_equal(dp_ike_cookie_secret(r.dp, secret, sizeof secret), 0);
        struct dp_range quiet = {.family = 4, .high = {(uint8_t)i}};
        assert_int_equal(dp_ike_quiet_set(r.dp, &quiet, i % 2), 0);
        struct dp_addr peer = {.family = 4, .ip = {198, 51, 100, 1}};
        assert_int_equal(dp_ike_peer_add(r.dp, &peer), 0);
        assert_int_equal(dp_ike_peer_remove(r.dp, &peer), 0);
        if (i % 5 == 0)
            assert_int_equal(dp_ike_sa_remove(r.dp, OWN), 0);
        (void)dp_reclaim(r.dp);
    }
    atomic_store(&r.over, true);
    pthread_join(thread, NULL);
    dp_destroy(r.dp);
}

static void test_quiet_addresses_are_found_in_order(void **state) {
    (void)state;
    struct dp *dp = plane();
    struct dp_range ranges[3] = {{.family = 4, .low = {10}, .high = {10, 255, 255, 255}},
                                 {.family = 4, .low = {192, 0, 2, 1}, .high = {192, 0, 2, 1}},
                                 {.family = 6, .low = {0xfd}, .high = {0xfd, 1}}};
    assert_int_equal(dp_ike_quiet_set(dp, ranges, 3), 0);
    static const struct {
        struct dp_addr address;
        bool quiet;
    } rows[] = {
        {{.family = 4, .ip = {9, 255, 255, 255}}, false},
        {{.family = 4, .ip = {10}}, true},
        {{.family = 4, .ip = {10, 255, 255, 255}}, true},
        {{.family = 4, .ip = {11}}, false},
        {{.family = 4, .ip = {192, 0, 2, 1}}, true},
        {{.family = 4, .ip = {192, 0, 2, 2}}, false},
        {{.family = 6, .ip = {10}}, false},
        {{.family = 6, .ip = {0xfd, 0, 9}}, true},
        {{.family = 6, .ip = {0xfd, 1, 1}}, false},
        {{.family = 4, .ip = {0xfd}}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(dp_ike_is_quiet(dp, &rows[i].address), rows[i].quiet);
    struct dp_range again = ranges[0];
    ranges[0] = ranges[1];
    ranges[1] = again;
    assert_int_equal(dp_ike_quiet_set(dp, ranges, 3), -22);
    assert_int_equal(dp_ike_quiet_set(dp, NULL, 0), 0);
    assert_false(dp_ike_is_quiet(dp, &rows[1].address));
    dp_destroy(dp);
}

static void test_peers_are_found_whatever_else_hangs_there(void **state) {
    (void)state;
    enum {
        MANY = 3 * DP_IKE_PEER_HEADS
    };
    struct dp *dp = plane();
    struct dp_addr address = {.family = 6, .ip = {0x20, 1}}, other = {.family = 4, .ip = {0x20, 1}};
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            memcpy(address.ip + 12, &i, sizeof i);
            assert_int_equal(dp_ike_peer_add(dp, &address), 0);
            assert_true(dp_ike_is_peer(dp, &address));
        }
        assert_false(dp_ike_is_peer(dp, &other));
        assert_int_equal(dp_ike_peer_remove(dp, &other), -2);
        for (uint32_t i = 0; i < MANY; i += 2 - round) {
            memcpy(address.ip + 12, &i, sizeof i);
            assert_int_equal(dp_ike_peer_remove(dp, &address), 0);
            assert_false(dp_ike_is_peer(dp, &address));
        }
    }
    assert_int_equal(dp_ike_peer_add(dp, &other), 0);
    address.port = other.port = 4500;
    assert_int_equal(dp_ike_peer_add(dp, &other), 0);
    assert_int_equal(dp_ike_peer_remove(dp, &other), 0);
    assert_int_equal(dp_ike_peer_add(dp, &address), 0);
    dp_destroy(dp);
}

static void test_who_was_here_is_known_for_a_while(void **state) {
    (void)state;
    struct dp_seen *seen = dp_seen_new(1, 8);
    struct dp_addr a = {.family = 4, .ip = {198, 51, 100, 1}}, six = {.family = 6, .ip = {0x20, 1}}, same = six;
    same.ip[15] = 9;
    assert_false(dp_seen_before(seen, &a, START));
    assert_false(dp_seen_before(seen, &six, START));
    assert_true(dp_seen_before(seen, &same, START));
    assert_true(dp_seen_before(seen, &a, START + 8 * SECOND - 1));
    assert_true(dp_seen_before(seen, &a, START + 9 * SECOND));
    assert_true(dp_seen_before(seen, &a, START + 17 * SECOND));
    assert_false(dp_seen_before(seen, &six, START + 18 * SECOND));
    assert_false(dp_seen_before(seen, &a, START + 40 * SECOND));
    unsigned wrong = 0;
    for (uint32_t i = 0; i < 160000; i++) {
        struct dp_addr other = {.family = 4};
        memcpy(other.ip, &i, sizeof i);
        wrong += dp_seen_before(seen, &other, START + 41 * SECOND);
    }
    assert_in_range(wrong, 1, 160000 / 20);
    free(seen);
}

static void test_without_a_secret_there_is_no_answer(void **state) {
    (void)state;
    struct dp *dp = plane_new(1);
    uint8_t octets[200], spis[16] = "initiatr", secret[32] = {0};
    memset(spis + 8, 0, 8);
    uint32_t length = message(octets, spis, DP_IKE_SA_INIT, 40, 100);
    for (unsigned i = 0; i < 200; i++)
        assert_int_not_equal(judge(dp, octets, length), DP_IKE_ANSWER);
    assert_int_equal(dp_ike_cookie_secret(dp, secret, sizeof secret), -22);
    dp_destroy(dp);
    dp = plane();
    assert_int_equal(dp_ike_cookie_secret(dp, secret, 31), -22);
    assert_int_equal(judge(dp, octets, length), DP_IKE_PASS);
    assert_int_equal(judge(dp, octets, length), DP_IKE_ANSWER);
    dp_destroy(dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_length_is_read_within_its_bounds),
        cmocka_unit_test(test_a_request_is_read_only_whole),
        cmocka_unit_test(test_payloads_without_end_are_not_followed),
        cmocka_unit_test(test_a_chain_keeps_the_others_when_one_goes),
        cmocka_unit_test(test_a_loop_may_read_while_all_changes),
        cmocka_unit_test(test_quiet_addresses_are_found_in_order),
        cmocka_unit_test(test_peers_are_found_whatever_else_hangs_there),
        cmocka_unit_test(test_who_was_here_is_known_for_a_while),
        cmocka_unit_test(test_without_a_secret_there_is_no_answer),
    };
    return cmocka_run_group_tests_name("ike_gate", tests, NULL, NULL);
}
