/* ESP of one packet: published and computed packets, every length, and everything that must not open. */
#include "esp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "esp_sa.h"
#include "unit.h"

enum {
    ROOM = 2048,
    CANARY = 0xc5
};

struct vector {
    const char *source;
    struct suite suite;
    bool esn;
    uint32_t spi;
    uint64_t sequence;
    uint8_t next_header;
    const char *keymat, *iv, *inner, *packet;
};

static const struct vector vectors[] = {
#define ESP(source, encr, integ, key_octets, ...) {source, {encr, integ, key_octets}, __VA_ARGS__},
#include "../vectors/esp.txt"
#undef ESP
};

static const unsigned providers[] = {DP_PROVIDER_IPSEC_MB, DP_PROVIDER_OPENSSL};

static int load_ciphers(void **state) {
    (void)state;
    return dp_cipher_load();
}

static uint64_t read_counter(const uint8_t *octets) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | octets[i];
    return value;
}

static void check_vector(const struct vector *v, unsigned provider) {
    static uint8_t keymat[DP_KEYMAT_MAX + DP_AEAD_SALT], iv[DP_IV_MAX], inner[ROOM], packet[ROOM], sealed[ROOM], plain[ROOM];
    struct sa sa;
    unit_unhex(keymat, v->keymat);
    if (!sa_start(&sa, provider, &v->suite, v->esn, keymat))
        return;
    unit_unhex(iv, v->iv);
    size_t inner_octets = unit_unhex(inner, v->inner), octets = unit_unhex(packet, v->packet);
    sa.esp.spi = v->spi;
    sa.esp.iv = read_counter(iv);

    struct dp_esp_opened opened;
    assert_int_equal(dp_esp_open(&sa.esp, v->sequence, packet, octets, plain, &opened), DP_OK);
    assert_int_equal(opened.octets, inner_octets);
    assert_int_equal(opened.next_header, v->next_header);
    assert_memory_equal(plain, inner, inner_octets);

    assert_int_equal(dp_esp_sealed_octets(&sa.esp, inner_octets), octets);
    assert_int_equal(dp_esp_seal(&sa.esp, v->sequence, inner, inner_octets, v->next_header, sealed), DP_OK);
    if (sa.esp.cipher->random_iv)
        assert_memory_equal(sealed, packet, DP_ESP_HEADER);
    else
        assert_memory_equal(sealed, packet, octets);
    assert_int_equal(dp_esp_open(&sa.esp, v->sequence, sealed, octets, plain, &opened), DP_OK);
    assert_memory_equal(plain, inner, inner_octets);
    sa_end(&sa);
}

static void test_vectors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++)
        for (size_t p = 0; p < 2; p++)
            check_vector(&vectors[i], providers[p]);
}

/* Seals and opens one inner packet of `octets`; checks the layout and that nothing beside it is written. */
static void round_trip(struct sa *sa, uint64_t sequence, size_t octets) {
    static uint8_t inner[ROOM], wanted[ROOM], sealed[ROOM], plain[ROOM];
    const struct dp_cipher *cipher = sa->esp.cipher;
    size_t align = cipher->block_octets > 4 ? cipher->block_octets : 4;
    memset(inner, CANARY, sizeof(inner));
    memset(sealed, CANARY, sizeof(sealed));
    memset(plain, CANARY, sizeof(plain));
    for (size_t i = 0; i < octets; i++)
        inner[i] = wanted[i] = (uint8_t)(i * 7 + octets);

    size_t total = dp_esp_sealed_octets(&sa->esp, octets);
    size_t ciphertext = total - DP_ESP_HEADER - cipher->iv_octets - cipher->icv_octets;
    assert_true(ciphertext % align == 0 && ciphertext >= octets + 2 && ciphertext < octets + 2 + align);
    assert_true(total <= octets + DP_ESP_GROWTH);

    assert_int_equal(dp_esp_seal(&sa->esp, sequence, inner, octets, DP_NH_IPV6, sealed), DP_OK);
    assert_memory_equal(inner, wanted, octets);
    assert_int_equal(inner[octets + DP_ESP_TAILROOM], CANARY);
    assert_int_equal(sealed[total], CANARY);

    struct dp_esp_opened opened = {0};
    assert_int_equal(dp_esp_open(&sa->esp, sequence, sealed, total, plain, &opened), DP_OK);
    assert_int_equal(opened.octets, octets);
    assert_int_equal(opened.next_header, DP_NH_IPV6);
    assert_memory_equal(plain, wanted, octets);
    assert_int_equal(plain[total], CANARY);
}

static void test_every_length_goes_there_and_back(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES * 4; i++) {
        struct sa sa;
        if (!sa_start(&sa, providers[i % 2], &suites[i / 4], i / 2 % 2, NULL))
            continue;
        for (size_t octets = 0; octets < 100; octets++)
            round_trip(&sa, UINT64_C(0x1fffffff0) + octets, octets);
        for (size_t octets = 1410; octets < 1440; octets++)
            round_trip(&sa, octets, octets);
        sa_end(&sa);
    }
}

static void test_tfc_padding_is_zeros_behind_the_inner_packet(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        static uint8_t inner[ROOM], sealed[ROOM], plain[ROOM];
        struct sa sa;
        assert_true(sa_start(&sa, DP_PROVIDER_AUTO, &suites[i], false, NULL));
        sa.esp.tfc_octets = 600;
        struct dp_esp_opened opened;
        for (size_t octets = 40; octets <= 640; octets += 50) {
            memset(inner, 0xa5, sizeof(inner));
            size_t wanted = octets < 600 ? 600 : octets;
            size_t total = dp_esp_sealed_octets(&sa.esp, octets);
            assert_int_equal(dp_esp_seal(&sa.esp, 1, inner, octets, DP_NH_IPV4, sealed), DP_OK);
            assert_int_equal(dp_esp_open(&sa.esp, 1, sealed, total, plain, &opened), DP_OK);
            assert_int_equal(opened.octets, wanted);
            for (size_t octet = 0; octet < wanted; octet++)
                assert_int_equal(plain[octet], octet < octets ? 0xa5 : 0);
        }
        sa_end(&sa);
    }
}

/* The ciphertext falls on the inner packet; the plaintext on the ciphertext. */
static void test_sealing_and_opening_in_place(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        static uint8_t buffer[ROOM];
        struct sa sa;
        assert_true(sa_start(&sa, DP_PROVIDER_AUTO, &suites[i], true, NULL));
        uint8_t *inner = buffer + DP_ESP_HEADER + sa.esp.cipher->iv_octets;
        for (size_t octet = 0; octet < 500; octet++)
            inner[octet] = (uint8_t)octet;
        assert_int_equal(dp_esp_seal(&sa.esp, 9, inner, 500, DP_NH_IPV4, buffer), DP_OK);
        struct dp_esp_opened opened;
        assert_int_equal(dp_esp_open(&sa.esp, 9, buffer, dp_esp_sealed_octets(&sa.esp, 500), inner, &opened), DP_OK);
        assert_int_equal(opened.octets, 500);
        for (size_t octet = 0; octet < 500; octet++)
            assert_int_equal(inner[octet], (uint8_t)octet);
        sa_end(&sa);
    }
}

/* RFC 4106 §3.1: the IV never repeats under a key. */
static void test_aead_ivs_count_up_from_where_they_start(void **state) {
    (void)state;
    for (size_t p = 0; p < 2; p++) {
        uint8_t inner[64 + DP_ESP_TAILROOM] = {0}, sealed[ROOM];
        struct sa sa;
        if (!sa_start(&sa, providers[p], &suites[0], false, NULL))
            continue;
        sa.esp.iv = UINT64_MAX - 1;
        static const uint64_t wanted[] = {UINT64_MAX - 1, UINT64_MAX, 0, 1};
        for (uint64_t n = 0; n < 4; n++) {
            assert_int_equal(dp_esp_seal(&sa.esp, n + 1, inner, 64, DP_NH_IPV4, sealed), DP_OK);
            assert_int_equal(read_counter(sealed + DP_ESP_HEADER), wanted[n]);
        }
        sa_end(&sa);
    }
}

/* RFC 3602 §3: CBC IVs are random. 256 of them hold no two alike, and each bit is set in some and clear in others. */
static void test_cbc_ivs_are_random(void **state) {
    (void)state;
    static uint8_t ivs[256][DP_CBC_BLOCK];
    uint8_t inner[64 + DP_ESP_TAILROOM] = {0}, sealed[ROOM], any[DP_CBC_BLOCK] = {0}, all[DP_CBC_BLOCK];
    memset(all, 0xff, sizeof(all));
    struct sa sa;
    assert_true(sa_start(&sa, DP_PROVIDER_AUTO, &suites[4], false, NULL));
    for (size_t n = 0; n < 256; n++) {
        assert_int_equal(dp_esp_seal(&sa.esp, n + 1, inner, 64, DP_NH_IPV4, sealed), DP_OK);
        memcpy(ivs[n], sealed + DP_ESP_HEADER, DP_CBC_BLOCK);
        for (size_t m = 0; m < n; m++)
            assert_memory_not_equal(ivs[n], ivs[m], DP_CBC_BLOCK);
        for (size_t octet = 0; octet < DP_CBC_BLOCK; octet++) {
            any[octet] |= ivs[n][octet];
            all[octet] &= ivs[n][octet];
        }
    }
    for (size_t octet = 0; octet < DP_CBC_BLOCK; octet++)
        assert_true(any[octet] == 0xff && all[octet] == 0);
    sa_end(&sa);
}

static void assert_holds_nothing_of(const uint8_t *plain, const uint8_t *inner, size_t octets) {
    for (size_t i = 0; i + 8 <= octets; i += 8)
        assert_memory_not_equal(plain + i, inner + i, 8);
}

/* The SPI chose the SA and the sequence number is the caller's, so the packet is flipped behind the header. */
static void test_no_flipped_bit_opens_and_no_plaintext_stays(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES * 2; i++) {
        uint8_t inner[72 + DP_ESP_TAILROOM], sealed[ROOM], plain[ROOM];
        struct sa sa;
        if (!sa_start(&sa, providers[i % 2], &suites[i / 2], true, NULL))
            continue;
        memset(inner, 0x5a, sizeof(inner));
        assert_int_equal(dp_esp_seal(&sa.esp, 7, inner, 72, DP_NH_IPV4, sealed), DP_OK);
        size_t total = dp_esp_sealed_octets(&sa.esp, 72);
        struct dp_esp_opened opened;
        for (size_t bit = DP_ESP_HEADER * 8; bit < total * 8; bit++) {
            memset(plain, 0, sizeof(plain));
            sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(dp_esp_open(&sa.esp, 7, sealed, total, plain, &opened), DP_DROP_icv);
            sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_holds_nothing_of(plain, inner, 72);
        }
        assert_int_equal(dp_esp_open(&sa.esp, 7, sealed, total, plain, &opened), DP_OK);
        sa_end(&sa);
    }
}

/* RFC 4303 §2.2.1: the high half is never sent, but authenticated; without ESN there is none. */
static void test_every_bit_of_the_sequence_number_is_authenticated(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES * 2; i++) {
        uint8_t inner[40 + DP_ESP_TAILROOM] = {0}, sealed[ROOM], plain[ROOM];
        const uint64_t sequence = UINT64_C(0x0000000500000007);
        struct dp_esp_opened opened;
        for (int esn = 0; esn < 2; esn++) {
            struct sa sa;
            if (!sa_start(&sa, providers[i % 2], &suites[i / 2], esn, NULL))
                continue;
            assert_int_equal(dp_esp_seal(&sa.esp, sequence, inner, 40, DP_NH_IPV4, sealed), DP_OK);
            size_t total = dp_esp_sealed_octets(&sa.esp, 40);
            for (unsigned bit = 0; bit < 64; bit++) {
                uint64_t other = sequence ^ UINT64_C(1) << bit;
                uint32_t low = __builtin_bswap32((uint32_t)other);
                memcpy(sealed + 4, &low, 4);
                enum dp_drop wanted = bit < 32 || esn ? DP_DROP_icv : DP_OK;
                assert_int_equal(dp_esp_open(&sa.esp, other, sealed, total, plain, &opened), wanted);
            }
            sa_end(&sa);
        }
    }
}

static void test_lengths_that_no_cipher_makes(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        static uint8_t inner[ROOM], sealed[ROOM], plain[ROOM];
        struct sa sa;
        assert_true(sa_start(&sa, DP_PROVIDER_AUTO, &suites[i], false, NULL));
        const struct dp_cipher *cipher = sa.esp.cipher;
        size_t align = cipher->block_octets > 4 ? cipher->block_octets : 4;
        size_t overhead = (size_t)DP_ESP_HEADER + cipher->iv_octets + cipher->icv_octets;
        assert_int_equal(dp_esp_seal(&sa.esp, 1, inner, 200, DP_NH_IPV4, sealed), DP_OK);
        size_t total = dp_esp_sealed_octets(&sa.esp, 200);
        struct dp_esp_opened opened;
        for (size_t octets = DP_ESP_HEADER; octets < total; octets++) {
            bool possible = octets >= overhead + align && (octets - overhead) % align == 0;
            enum dp_drop verdict = dp_esp_open(&sa.esp, 1, sealed, octets, plain, &opened);
            assert_int_equal(verdict, possible ? DP_DROP_icv : DP_DROP_esp_length);
        }
        sa_end(&sa);
    }
}

/* Plaintext with right ICV: `pad_octets` claimed, padding 1, 2, 3, … that far, the octet `wrong` before the trailer (1..) spoiled.
 */
static enum dp_drop open_padded(struct sa *sa, size_t octets, unsigned pad_octets, unsigned wrong, uint8_t *plain,
                                struct dp_esp_opened *opened) {
    static uint8_t crafted[ROOM], sealed[ROOM];
    memset(crafted, 0xa5, octets);
    crafted[octets - 1] = DP_NH_IPV4;
    crafted[octets - 2] = (uint8_t)pad_octets;
    for (unsigned i = 0; i < pad_octets && i < octets - 2; i++)
        crafted[octets - 3 - i] = (uint8_t)(pad_octets - i);
    if (wrong != 0)
        crafted[octets - 2 - wrong] ^= 0x40;
    size_t total = sa_seal_raw(sa, 3, crafted, octets, sealed);
    memset(plain, 0, ROOM);
    enum dp_drop verdict = dp_esp_open(&sa->esp, 3, sealed, total, plain, opened);
    if (verdict != DP_OK)
        assert_holds_nothing_of(plain, crafted, octets);
    return verdict;
}

/* RFC 4303 §2.4: up to 255 octets, 1, 2, 3, …, never more than there is. */
static void test_padding_is_checked_once_the_icv_held(void **state) {
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        static uint8_t plain[ROOM];
        struct sa sa;
        struct dp_esp_opened opened;
        assert_true(sa_start(&sa, DP_PROVIDER_AUTO, &suites[i], true, NULL));
        for (unsigned pad = 0; pad <= 255; pad++) {
            assert_int_equal(open_padded(&sa, 288, pad, 0, plain, &opened), DP_OK);
            assert_int_equal(opened.octets, 286 - pad);
            if (pad != 0) {
                assert_int_equal(open_padded(&sa, 288, pad, 1, plain, &opened), DP_DROP_pad);
                assert_int_equal(open_padded(&sa, 288, pad, pad, plain, &opened), DP_DROP_pad);
            }
            assert_int_equal(open_padded(&sa, 16, pad, 0, plain, &opened), pad <= 14 ? DP_OK : DP_DROP_pad);
        }
        sa_end(&sa);
    }
}

/* The octets in front of the plaintext continue the padding backwards: only the comparison of lengths keeps them out. */
static void test_padding_is_not_looked_for_before_the_plaintext(void **state) {
    (void)state;
    static uint8_t buffer[ROOM], sealed[ROOM];
    uint8_t crafted[16], *plain = buffer + 256;
    struct sa sa;
    struct dp_esp_opened opened;
    assert_true(sa_start(&sa, DP_PROVIDER_AUTO, &suites[0], false, NULL));
    for (unsigned pad = 15; pad <= 255; pad++) {
        for (unsigned i = 0; i < pad; i++)
            plain[14 + (int)i - (int)pad] = (uint8_t)(i + 1);
        memcpy(crafted, plain, 14);
        crafted[14] = (uint8_t)pad;
        crafted[15] = DP_NH_IPV4;
        size_t total = sa_seal_raw(&sa, 3, crafted, sizeof(crafted), sealed);
        assert_int_equal(dp_esp_open(&sa.esp, 3, sealed, total, plain, &opened), DP_DROP_pad);
    }
    sa_end(&sa);
}

static int fail_with_eio(void *context, const struct dp_crypt *c) {
    (void)context;
    (void)c;
    return -EIO;
}

static void test_a_failing_library_is_a_fault_and_spends_the_iv(void **state) {
    (void)state;
    uint8_t inner[64 + DP_ESP_TAILROOM] = {0}, sealed[ROOM], plain[ROOM];
    struct sa sa;
    assert_true(sa_start(&sa, DP_PROVIDER_AUTO, &suites[0], false, NULL));
    const struct dp_cipher *working = sa.esp.cipher;
    struct dp_cipher failing = *working;
    failing.seal = failing.open = fail_with_eio;
    assert_int_equal(dp_esp_seal(&sa.esp, 1, inner, 64, DP_NH_IPV4, sealed), DP_OK);
    sa.esp.cipher = &failing;
    struct dp_esp_opened opened;
    assert_int_equal(dp_esp_open(&sa.esp, 1, sealed, dp_esp_sealed_octets(&sa.esp, 64), plain, &opened), DP_DROP_crypto_fault);
    assert_int_equal(dp_esp_seal(&sa.esp, 2, inner, 64, DP_NH_IPV4, sealed), DP_DROP_crypto_fault);
    assert_int_equal(sa.esp.iv, 2);
    sa.esp.cipher = working;
    sa_end(&sa);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_every_length_goes_there_and_back),
        cmocka_unit_test(test_tfc_padding_is_zeros_behind_the_inner_packet),
        cmocka_unit_test(test_sealing_and_opening_in_place),
        cmocka_unit_test(test_aead_ivs_count_up_from_where_they_start),
        cmocka_unit_test(test_cbc_ivs_are_random),
        cmocka_unit_test(test_no_flipped_bit_opens_and_no_plaintext_stays),
        cmocka_unit_test(test_every_bit_of_the_sequence_number_is_authenticated),
        cmocka_unit_test(test_lengths_that_no_cipher_makes),
        cmocka_unit_test(test_padding_is_checked_once_the_icv_held),
        cmocka_unit_test(test_padding_is_not_looked_for_before_the_plaintext),
        cmocka_unit_test(test_a_failing_library_is_a_fault_and_spends_the_iv),
    };
    return cmocka_run_group_tests(tests, load_ciphers, NULL);
}
