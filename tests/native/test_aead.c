/* The providers: known answers, what the known-answer tests catch, and one provider against the other. */
#include <errno.h>
#include <string.h>

#include "aead_answers.h"
#include "aead_provider.h"
#include "esp_sa.h"
#include "unit.h"

struct gcm_vector {
    const char *key, *iv, *aad, *plain, *sealed, *icv;
};

static const struct gcm_vector gcm_vectors[] = {
#define GCM(...) {__VA_ARGS__},
#include "../vectors/gcm.txt"
#undef GCM
};

static int load_ciphers(void **state) {
    (void)state;
    return dp_cipher_load();
}

static const struct dp_cipher *fast_gcm(void) {
    return dp_cipher_find(DP_PROVIDER_IPSEC_MB, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16);
}

static void test_every_suite_has_a_provider_and_passes(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        const struct dp_cipher *cipher = dp_cipher_find(DP_PROVIDER_AUTO, suites[i].encr, suites[i].integ, suites[i].key_octets);
        assert_non_null(cipher);
        assert_int_equal(dp_cipher_known_answers(cipher), 0);
    }
}

static void test_auto_prefers_ipsec_mb_where_it_is(void **state) {
    (void)state;
    bool present = dp_cipher_reason()[0] == '\0';
    assert_int_equal(present, fast_gcm() != NULL);
    const struct dp_cipher *any = dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16);
    assert_string_equal(any->provider, present ? "intel-ipsec-mb" : "openssl");
    const struct dp_cipher *forced = dp_cipher_find(DP_PROVIDER_OPENSSL, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16);
    assert_string_equal(forced->provider, "openssl");
}

static void test_unknown_suites_are_nobodys(void **state) {
    (void)state;
    assert_null(dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 20));
    assert_null(dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_HMAC_SHA1_96, 16));
    assert_null(dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_CBC, DP_INTEG_NONE, 16));
    assert_null(dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_CHACHA20_POLY1305, DP_INTEG_NONE, 16));
    assert_null(dp_cipher_find(7, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16));
}

/* ---- what the known-answer tests catch: each cipher below is a working one, broken in one way ---- */

static const struct dp_cipher *working;

static int seal_wrong_ciphertext(void *context, const struct dp_crypt *c) {
    int error = working->seal(context, c);
    c->dst[c->octets - 1] ^= 1;
    return error;
}

static int seal_wrong_icv(void *context, const struct dp_crypt *c) {
    int error = working->seal(context, c);
    c->icv[working->icv_octets - 1] ^= 0x80;
    return error;
}

static int seal_wrong_when_long(void *context, const struct dp_crypt *c) {
    int error = working->seal(context, c);
    if (c->octets > 1400)
        c->icv[0] ^= 1;
    return error;
}

static int seal_fails(void *context, const struct dp_crypt *c) {
    (void)context;
    (void)c;
    return -EIO;
}

static int open_takes_anything(void *context, const struct dp_crypt *c) {
    int error = working->open(context, c);
    return error == -EBADMSG ? 0 : error;
}

static int open_compares_all_but_the_last_octet(void *context, const struct dp_crypt *c) {
    struct dp_crypt sealed = *c;
    uint8_t icv[DP_ICV_MAX];
    memcpy(icv, c->icv, working->icv_octets);
    sealed.icv = icv;
    for (unsigned last = 0; last < 256; last++) {
        uint8_t source[2048];
        memcpy(source, c->src, c->octets);
        sealed.src = source;
        icv[working->icv_octets - 1] = (uint8_t)last;
        if (working->open(context, &sealed) == 0)
            return 0;
    }
    return -EBADMSG;
}

static int open_leaves_plaintext(void *context, const struct dp_crypt *c) {
    uint8_t source[2048], icv[DP_ICV_MAX], plain[2048];
    memcpy(source, c->src, c->octets);
    int error = working->open(context, c);
    if (error != -EBADMSG)
        return error;
    /* GCM is its own inverse but for the ICV: sealing the ciphertext gives the plaintext. */
    struct dp_crypt again = *c;
    again.src = source;
    again.dst = plain;
    again.icv = icv;
    working->seal(context, &again);
    memcpy(c->dst, plain, c->octets);
    return error;
}

static int init_fails(const struct dp_cipher *cipher, void *context, const uint8_t *key, const uint8_t *integ_key) {
    (void)cipher;
    (void)context;
    (void)key;
    (void)integ_key;
    return -ENOMEM;
}

static void test_known_answers_catch_a_broken_cipher(void **state) {
    (void)state;
    working = dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16);
    int (*const seals[])(void *, const struct dp_crypt *) = {seal_wrong_ciphertext, seal_wrong_icv, seal_wrong_when_long,
                                                             seal_fails};
    int (*const opens[])(void *, const struct dp_crypt *) = {open_takes_anything, open_compares_all_but_the_last_octet,
                                                             open_leaves_plaintext};
    for (size_t i = 0; i < sizeof(seals) / sizeof(*seals); i++) {
        struct dp_cipher broken = *working;
        broken.seal = seals[i];
        assert_int_equal(dp_cipher_known_answers(&broken), -EBADMSG);
    }
    for (size_t i = 0; i < sizeof(opens) / sizeof(*opens); i++) {
        struct dp_cipher broken = *working;
        broken.open = opens[i];
        assert_int_equal(dp_cipher_known_answers(&broken), -EBADMSG);
    }
    struct dp_cipher broken = *working;
    broken.init = init_fails;
    assert_int_equal(dp_cipher_known_answers(&broken), -ENOMEM);
}

static void test_a_suite_without_vectors_is_not_trusted(void **state) {
    (void)state;
    struct dp_cipher unknown = *dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16);
    unknown.encr = 18;
    assert_int_equal(dp_cipher_known_answers(&unknown), -EBADMSG);
}

/* One broken cipher among working ones, and nobody gets any. */
static void test_a_broken_provider_fails_the_load(void **state) {
    (void)state;
    working = dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16);
    struct dp_cipher broken = *working;
    broken.seal = seal_wrong_icv;
    const struct dp_provider_entry candidates[] = {
        {DP_PROVIDER_IPSEC_MB, {working, 1}},
        {DP_PROVIDER_OPENSSL, {&broken, 1}},
    };
    const char *reason;
    const struct dp_provider_entry real[] = {
        {DP_PROVIDER_IPSEC_MB, dp_ipsec_mb_load(&reason)},
        {DP_PROVIDER_OPENSSL, dp_openssl_aead},
        {DP_PROVIDER_OPENSSL, dp_openssl_cbc_hmac},
    };
    int error = dp_providers_admit(candidates, 2);
    const struct dp_cipher *found = dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16);
    assert_int_equal(dp_providers_admit(real, 3), 0);
    assert_int_equal(error, -EBADMSG);
    assert_null(found);
    assert_ptr_equal(dp_cipher_find(DP_PROVIDER_AUTO, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16), working);
}

static void test_cpus_without_the_instructions_are_refused_with_the_reason(void **state) {
    (void)state;
    assert_string_not_equal(dp_ipsec_mb_missing(0), "");
    if (fast_gcm()) {
        assert_string_equal(dp_ipsec_mb_missing(0), "the CPU has no AES-NI");
        assert_string_equal(dp_ipsec_mb_missing(UINT64_MAX), "");
    }
}

/* ---- published vectors and random input ---- */

static void check_gcm_vector(const struct gcm_vector *v, unsigned provider) {
    uint8_t key[32], iv[12], aad[90], plain[64], sealed[64], icv[16], result[64], result_icv[16];
    size_t key_octets = unit_unhex(key, v->key);
    const struct dp_cipher *cipher = dp_cipher_find(provider, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, (unsigned)key_octets);
    if (!cipher)
        return;
    unit_unhex(iv, v->iv);
    unit_unhex(sealed, v->sealed);
    unit_unhex(icv, v->icv);
    struct dp_crypt c = {.iv = iv, .aad = aad, .src = plain, .dst = result, .icv = result_icv};
    c.aad_octets = (uint32_t)unit_unhex(aad, v->aad);
    c.octets = (uint32_t)unit_unhex(plain, v->plain);
    struct dp_arena *arena = dp_arena_create();
    void *context = dp_arena_alloc(arena, cipher->context_octets);
    assert_int_equal(cipher->init(cipher, context, key, NULL), 0);
    assert_int_equal(cipher->seal(context, &c), 0);
    assert_memory_equal(result, sealed, c.octets);
    assert_memory_equal(result_icv, icv, sizeof(icv));
    c.src = sealed;
    c.icv = icv;
    assert_int_equal(cipher->open(context, &c), 0);
    assert_memory_equal(result, plain, c.octets);
    cipher->finish(context);
    dp_arena_destroy(arena);
}

static void test_gcm_vectors_of_nist(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(gcm_vectors) / sizeof(*gcm_vectors); i++) {
        check_gcm_vector(&gcm_vectors[i], DP_PROVIDER_IPSEC_MB);
        check_gcm_vector(&gcm_vectors[i], DP_PROVIDER_OPENSSL);
    }
}

struct pair {
    const struct dp_cipher *cipher;
    void *context;
};

/* One packet through both ciphers: same ciphertext and ICV, and each opens what the other sealed. */
static void assert_agree(const struct pair pairs[2], const struct dp_crypt *c) {
    static uint8_t sealed[2][2048], icv[2][DP_ICV_MAX], opened[2048];
    for (int i = 0; i < 2; i++) {
        struct dp_crypt seal = *c;
        seal.dst = sealed[i];
        seal.icv = icv[i];
        assert_int_equal(pairs[i].cipher->seal(pairs[i].context, &seal), 0);
    }
    assert_memory_equal(sealed[0], sealed[1], c->octets);
    assert_memory_equal(icv[0], icv[1], pairs[0].cipher->icv_octets);
    for (int i = 0; i < 2; i++) {
        struct dp_crypt open = *c;
        open.src = sealed[0];
        open.dst = opened;
        open.icv = icv[1];
        assert_int_equal(pairs[i].cipher->open(pairs[i].context, &open), 0);
        assert_memory_equal(opened, c->src, c->octets);
    }
}

static void test_both_providers_agree_on_random_input(void **state) {
    (void)state;
    uint64_t seed = 0x1f2e3d4c5b6a7988ULL;
    uint8_t key[32], iv[12], aad[12], plain[2048];
    for (size_t i = 0; i < SUITES; i++) {
        struct pair pairs[2] = {
            {dp_cipher_find(DP_PROVIDER_IPSEC_MB, suites[i].encr, suites[i].integ, suites[i].key_octets), NULL},
            {dp_cipher_find(DP_PROVIDER_OPENSSL, suites[i].encr, suites[i].integ, suites[i].key_octets), NULL},
        };
        if (!pairs[0].cipher)
            continue;
        struct dp_arena *arena = dp_arena_create();
        unit_fill(&seed, key, sizeof(key));
        for (int p = 0; p < 2; p++) {
            pairs[p].context = dp_arena_alloc(arena, pairs[p].cipher->context_octets);
            assert_int_equal(pairs[p].cipher->init(pairs[p].cipher, pairs[p].context, key, NULL), 0);
        }
        for (unsigned n = 0; n < 400; n++) {
            struct dp_crypt c = {.iv = iv, .aad = aad, .aad_octets = n % 2 ? 8 : 12, .src = plain};
            c.octets = 1 + (uint32_t)(unit_draw(&seed) % sizeof(plain));
            unit_fill(&seed, iv, sizeof(iv));
            unit_fill(&seed, aad, sizeof(aad));
            unit_fill(&seed, plain, c.octets);
            assert_agree(pairs, &c);
        }
        for (int p = 0; p < 2; p++)
            pairs[p].cipher->finish(pairs[p].context);
        dp_arena_destroy(arena);
    }
}

static void test_every_bit_of_the_icv_counts_and_plaintext_is_wiped(void **state) {
    (void)state;
    static const unsigned names[] = {DP_PROVIDER_IPSEC_MB, DP_PROVIDER_OPENSSL};
    uint64_t seed = 42;
    uint8_t key[32], integ_key[64], iv[16], aad[24], plain[96], sealed[96], opened[96], icv[DP_ICV_MAX];
    for (size_t i = 0; i < SUITES * 2; i++) {
        const struct dp_cipher *cipher =
            dp_cipher_find(names[i % 2], suites[i / 2].encr, suites[i / 2].integ, suites[i / 2].key_octets);
        if (!cipher)
            continue;
        struct dp_arena *arena = dp_arena_create();
        void *context = dp_arena_alloc(arena, cipher->context_octets);
        unit_fill(&seed, key, sizeof(key));
        unit_fill(&seed, integ_key, sizeof(integ_key));
        unit_fill(&seed, iv, sizeof(iv));
        unit_fill(&seed, aad, sizeof(aad));
        unit_fill(&seed, plain, sizeof(plain));
        assert_int_equal(cipher->init(cipher, context, key, integ_key), 0);
        struct dp_crypt seal = {.iv = iv, .aad = aad, .aad_octets = 12, .src = plain, .dst = sealed, .octets = 96, .icv = icv};
        assert_int_equal(cipher->seal(context, &seal), 0);
        struct dp_crypt open = seal;
        open.src = sealed;
        open.dst = opened;
        for (unsigned bit = 0; bit < cipher->icv_octets * 8u; bit++) {
            memset(opened, 0, sizeof(opened));
            icv[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(cipher->open(context, &open), -EBADMSG);
            icv[bit / 8] ^= (uint8_t)(1 << bit % 8);
            for (size_t octet = 0; octet < sizeof(opened); octet++)
                assert_int_equal(opened[octet], 0);
        }
        assert_int_equal(cipher->open(context, &open), 0);
        assert_memory_equal(opened, plain, sizeof(plain));
        cipher->finish(context);
        dp_arena_destroy(arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_suite_has_a_provider_and_passes),
        cmocka_unit_test(test_auto_prefers_ipsec_mb_where_it_is),
        cmocka_unit_test(test_unknown_suites_are_nobodys),
        cmocka_unit_test(test_known_answers_catch_a_broken_cipher),
        cmocka_unit_test(test_a_suite_without_vectors_is_not_trusted),
        cmocka_unit_test(test_a_broken_provider_fails_the_load),
        cmocka_unit_test(test_cpus_without_the_instructions_are_refused_with_the_reason),
        cmocka_unit_test(test_gcm_vectors_of_nist),
        cmocka_unit_test(test_both_providers_agree_on_random_input),
        cmocka_unit_test(test_every_bit_of_the_icv_counts_and_plaintext_is_wiped),
    };
    return cmocka_run_group_tests(tests, load_ciphers, NULL);
}
