/* The cryptographic half of an SA by itself, as unit tests and fuzzers need it, and the list of all suites. */
#ifndef ESP_SA_H
#define ESP_SA_H

#include <stdlib.h>
#include <string.h>

#include "esp.h"

struct suite {
    uint16_t encr, integ, key_octets;
};

static const struct suite suites[] = {
    {DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16},           {DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 24},
    {DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 32},           {DP_ENCR_CHACHA20_POLY1305, DP_INTEG_NONE, 32},
    {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA1_96, 16},      {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA1_96, 24},
    {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA1_96, 32},      {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_256_128, 16},
    {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_256_128, 24}, {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_256_128, 32},
    {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_384_192, 16}, {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_384_192, 24},
    {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_384_192, 32}, {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_512_256, 16},
    {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_512_256, 24}, {DP_ENCR_AES_CBC, DP_INTEG_HMAC_SHA2_512_256, 32},
};
enum {
    SUITES = sizeof(suites) / sizeof(*suites)
};

struct sa {
    struct dp_arena *arena;
    struct dp_esp esp;
};

/* `keymat` as in dp_sa_install; NULL: a pattern. False where the provider lacks the suite; a failure of memory ends the program. */
static inline bool sa_start(struct sa *sa, unsigned provider, const struct suite *suite, bool esn, const uint8_t *keymat) {
    static const uint8_t pattern[DP_KEYMAT_MAX + DP_AEAD_SALT] = {1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233};
    const struct dp_cipher *cipher = dp_cipher_find(provider, suite->encr, suite->integ, suite->key_octets);
    if (!cipher)
        return false;
    if (!keymat)
        keymat = pattern;
    sa->arena = dp_arena_create();
    void *context = sa->arena ? dp_arena_alloc(sa->arena, cipher->context_octets) : NULL;
    const uint8_t *salt = keymat + cipher->key_octets;
    const uint8_t *integ_key = cipher->integ_key_octets ? salt + cipher->salt_octets : NULL;
    if (!context || cipher->init(cipher, context, keymat, integ_key) != 0)
        abort();
    sa->esp = (struct dp_esp){.cipher = cipher, .context = context, .spi = 0x1234, .esn = esn};
    memcpy(sa->esp.salt, salt, cipher->salt_octets);
    return true;
}

static inline void sa_end(struct sa *sa) {
    sa->esp.cipher->finish(sa->esp.context);
    dp_arena_destroy(sa->arena);
}

/* Writes an ESP packet around `plain`, padding and trailer included as they come: ICV right, content up to the caller. Its octets;
 * `octets` is a multiple of the cipher's block. */
static inline size_t sa_seal_raw(struct sa *sa, uint64_t sequence, const uint8_t *plain, size_t octets, uint8_t *out) {
    const struct dp_cipher *cipher = sa->esp.cipher;
    uint32_t words[3] = {__builtin_bswap32(sa->esp.spi), __builtin_bswap32((uint32_t)sequence)};
    uint32_t high = __builtin_bswap32((uint32_t)(sequence >> 32));
    uint8_t *iv = out + DP_ESP_HEADER, *ciphertext = iv + cipher->iv_octets, nonce[12];
    memcpy(out, words, DP_ESP_HEADER);
    memset(iv, 0x42, cipher->iv_octets);
    struct dp_crypt c = {.iv = iv, .aad = out, .aad_octets = DP_ESP_HEADER + cipher->iv_octets, .src = plain, .dst = ciphertext};
    c.octets = (uint32_t)octets;
    c.icv = ciphertext + octets;
    c.tail = (const uint8_t *)&high;
    c.tail_octets = sa->esp.esn ? 4 : 0;
    if (cipher->salt_octets != 0) {
        memcpy(nonce, sa->esp.salt, 4);
        memcpy(nonce + 4, iv, 8);
        words[2] = words[1];
        words[1] = high;
        c.iv = nonce;
        c.aad = sa->esp.esn ? (const uint8_t *)words : out;
        c.aad_octets = sa->esp.esn ? 12 : 8;
        c.tail_octets = 0;
    }
    if (cipher->seal(sa->esp.context, &c) != 0)
        abort();
    return DP_ESP_HEADER + cipher->iv_octets + octets + cipher->icv_octets;
}

#endif
