/* SAs by themselves: what surrounds the sealing, at the borders of the rows and of an SA's life. Which packets open, the Python
 * tests show (tests/unit/test_security_association.py). */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "esp_sa.h"
#include "unit.h"

enum {
    OCTETS = 110, /* with the trailer whole blocks: the least that is written behind the padding */
    BEYOND = 64,
};

static const uint8_t keymat[DP_KEYMAT_MAX + DP_AEAD_SALT] = {1, 2, 3, 5, 8, 13, 21};

static struct dp_lone_keys *keys_new(void) {
    struct dp_lone_keys *keys;
    assert_int_equal(dp_lone_keys_new(DP_PROVIDER_AUTO, &keys), 0);
    return keys;
}

static struct dp_lone *lone_new(struct dp_lone_keys *keys, const struct suite *suite) {
    const struct dp_cipher *c = dp_cipher_find(DP_PROVIDER_AUTO, suite->encr, suite->integ, suite->key_octets);
    struct dp_lone_params p = {
        .spi = 0x1234, .encr = suite->encr, .integ = suite->integ, .key_octets = suite->key_octets, .replay_window = 64};
    struct dp_lone *lone;
    assert_int_equal(dp_lone_new(keys, &p, keymat, (size_t)c->key_octets + c->salt_octets + c->integ_key_octets, &lone), 0);
    return lone;
}

/* Seals one IPv4 packet of OCTETS between rows whose ends are looked at. What the core says, and the reason. */
static int seal_one(struct dp_lone *lone, size_t in_stride, size_t out_stride, unsigned how, unsigned *reason) {
    uint8_t *in = malloc(in_stride + BEYOND), *out = malloc(out_stride + BEYOND), why = 0;
    assert_true(in != NULL && out != NULL && in_stride >= OCTETS);
    memset(in, 0x5a, in_stride + BEYOND);
    memset(out, 0x5a, out_stride + BEYOND);
    static const uint8_t header[] = {0x45, 0, 0, OCTETS};
    memcpy(in, header, sizeof header);
    uint32_t in_octets = OCTETS, out_octets = 0;
    uint64_t sequence = 0;
    int sealed = dp_lone_seal(lone, in, &in_octets, in_stride, out, &out_octets, out_stride, 1, &why, &sequence, -1, how);
    for (size_t i = (how & DP_LONE_KEEP) != 0 ? OCTETS : in_stride; i < in_stride + BEYOND; i++)
        assert_int_equal(in[i], 0x5a);
    for (size_t i = out_stride; i < out_stride + BEYOND; i++)
        assert_int_equal(out[i], 0x5a);
    *reason = why;
    free(in);
    free(out);
    return sealed;
}

static void test_no_octet_beyond_a_row_is_touched(void **state) {
    (void)state;
    struct dp_lone_keys *keys = keys_new();
    for (size_t s = 0; s < SUITES; s++) {
        struct dp_lone *lone = lone_new(keys, &suites[s]);
        unsigned reason;
        for (size_t in = OCTETS; in <= OCTETS + DP_ESP_TAILROOM; in++)
            for (size_t out = 1; out <= OCTETS + DP_ESP_GROWTH; out++)
                for (unsigned how = 0; how <= DP_LONE_KEEP; how += DP_LONE_KEEP) {
                    int sealed = seal_one(lone, in, out, how, &reason);
                    assert_true(sealed == 1 ? reason == DP_OK : reason == DP_DROP_too_big);
                    assert_true(sealed == 1 || out < OCTETS + DP_ESP_GROWTH);
                }
        dp_lone_free(lone);
    }
    dp_lone_keys_free(keys);
}

static void test_keys_outlive_whoever_made_them_until_the_last_sa_is_gone(void **state) {
    (void)state;
    struct dp_lone_keys *keys = keys_new();
    struct dp_lone *lone[2] = {lone_new(keys, &suites[0]), lone_new(keys, &suites[4])};
    dp_lone_keys_free(keys);
    unsigned reason;
    dp_lone_free(lone[0]);
    assert_int_equal(seal_one(lone[1], 200, 200, 0, &reason), 1);
    dp_lone_free(lone[1]);
}

static void test_what_is_closed_has_no_key_any_more(void **state) {
    (void)state;
    struct dp_lone_keys *keys = keys_new();
    struct dp_arena_info info;
    struct dp_lone *lone = lone_new(keys, &suites[0]);
    dp_lone_keys_read(keys, &info);
    assert_true(info.in_use > 0);
    unsigned reason;
    assert_int_equal(seal_one(lone, 200, 200, 0, &reason), 1);
    assert_int_equal(dp_lone_close(lone), 0);
    dp_lone_keys_read(keys, &info);
    assert_int_equal(info.in_use, 0);
    assert_int_equal(seal_one(lone, 200, 200, 0, &reason), -EBADF);
    assert_int_equal(dp_lone_close(lone), 0);
    dp_lone_free(lone);
    dp_lone_keys_free(keys);
}

static void test_a_refused_sa_leaves_no_key(void **state) {
    (void)state;
    struct dp_lone_keys *keys = keys_new();
    struct dp_lone_params p = {.spi = 1, .encr = DP_ENCR_AES_GCM_16, .key_octets = 16, .replay_window = 64};
    struct dp_lone *lone;
    assert_int_equal(dp_lone_new(keys, &p, keymat, 19, &lone), -EINVAL);
    p.replay_window = 65;
    assert_int_equal(dp_lone_new(keys, &p, keymat, 20, &lone), -EINVAL);
    p = (struct dp_lone_params){.spi = 1, .encr = 99, .key_octets = 16, .replay_window = 64};
    assert_int_equal(dp_lone_new(keys, &p, keymat, 20, &lone), -ENOTSUP);
    struct dp_arena_info info;
    dp_lone_keys_read(keys, &info);
    assert_int_equal(info.in_use, 0);
    dp_lone_keys_free(keys);
}

/* In a child the arena is zero, and a cipher without a key would send what anybody reads. */
static void test_a_forked_child_seals_by_no_sa_of_its_parent(void **state) {
    (void)state;
    struct dp_lone_keys *keys = keys_new();
    struct dp_lone *lone = lone_new(keys, &suites[0]);
    struct dp_arena_info info;
    dp_lone_keys_read(keys, &info);
    if (!info.wiped_on_fork)
        skip();
    unsigned reason;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool gone = seal_one(lone, 200, 200, 0, &reason) == -ENOKEY && dp_lone_close(lone) == 0;
        struct dp_lone *own = lone_new(keys, &suites[0]);
        _exit(gone && seal_one(own, 200, 200, 0, &reason) == 1 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(seal_one(lone, 200, 200, 0, &reason), 1);
    dp_lone_free(lone);
    dp_lone_keys_free(keys);
}

enum {
    TURNS = 2000,
    THREADS = 4,
};

struct shared {
    struct dp_lone *lone;
    uint64_t sealed, busy;
};

static void *seal_on(void *arg) {
    struct shared *mine = arg;
    for (int i = 0; i < TURNS; i++) {
        unsigned reason;
        int sealed = seal_one(mine->lone, 200, 200, 0, &reason);
        mine->sealed += sealed == 1;
        mine->busy += sealed == -EBUSY;
    }
    return NULL;
}

/* Two threads in one SA would use a nonce twice. */
static void test_threads_never_share_a_sequence_number(void **state) {
    (void)state;
    struct dp_lone_keys *keys = keys_new();
    struct dp_lone *lone = lone_new(keys, &suites[0]);
    pthread_t thread[THREADS];
    struct shared shared[THREADS];
    for (int i = 0; i < THREADS; i++) {
        shared[i] = (struct shared){.lone = lone};
        assert_int_equal(pthread_create(&thread[i], NULL, seal_on, &shared[i]), 0);
    }
    uint64_t sealed = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(shared[i].sealed + shared[i].busy, TURNS);
        sealed += shared[i].sealed;
    }
    struct dp_lone_state now;
    dp_lone_read(lone, &now);
    assert_int_equal(now.sequence, sealed);
    dp_lone_free(lone);
    dp_lone_keys_free(keys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_octet_beyond_a_row_is_touched),
        cmocka_unit_test(test_keys_outlive_whoever_made_them_until_the_last_sa_is_gone),
        cmocka_unit_test(test_what_is_closed_has_no_key_any_more),
        cmocka_unit_test(test_a_refused_sa_leaves_no_key),
        cmocka_unit_test(test_a_forked_child_seals_by_no_sa_of_its_parent),
        cmocka_unit_test(test_threads_never_share_a_sequence_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
