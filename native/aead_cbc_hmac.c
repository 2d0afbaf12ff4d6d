/* Provider OpenSSL: AES-CBC (RFC 3602) with HMAC-SHA1-96 (RFC 2404) or HMAC-SHA2 (RFC 4868), encrypt-then-MAC as ESP has it.
 *
 * What is authenticated is aad | ciphertext | tail: ESP header and IV, ciphertext, and under ESN the high half of the sequence
 * number (RFC 4303 §2.8). The library keeps the keys in its own heap and wipes them in `finish`; the arena holds the pointers. */
#include "aead_provider.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

struct cbc_hmac {
    EVP_CIPHER_CTX *encrypt, *decrypt; /* apart: the AES key schedules differ */
    EVP_MAC_CTX *mac;
    size_t icv_octets;
};

static void cbc_hmac_finish(void *context) {
    struct cbc_hmac *keys = context;
    EVP_CIPHER_CTX_free(keys->encrypt);
    EVP_CIPHER_CTX_free(keys->decrypt);
    EVP_MAC_CTX_free(keys->mac);
    memset(keys, 0, sizeof(*keys));
}

static EVP_CIPHER_CTX *cbc_new(const EVP_CIPHER *cipher, const uint8_t *key, int encrypt) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    /* ESP brings its own padding. */
    if (ctx && EVP_CipherInit_ex(ctx, cipher, NULL, key, NULL, encrypt) == 1 && EVP_CIPHER_CTX_set_padding(ctx, 0) == 1)
        return ctx;
    EVP_CIPHER_CTX_free(ctx);
    return NULL;
}

static EVP_MAC_CTX *hmac_new(const char *digest, const uint8_t *key, size_t key_octets) {
    char name[16];
    strncpy(name, digest, sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(hmac);
    EVP_MAC_free(hmac);
    if (ctx && EVP_MAC_init(ctx, key, key_octets, params) == 1)
        return ctx;
    EVP_MAC_CTX_free(ctx);
    return NULL;
}

static const EVP_CIPHER *cbc_cipher(const struct dp_cipher *cipher) {
    switch (cipher->key_octets) {
    case 16:
        return EVP_aes_128_cbc();
    case 24:
        return EVP_aes_192_cbc();
    default:
        return EVP_aes_256_cbc();
    }
}

static const char *digest_name(const struct dp_cipher *cipher) {
    switch (cipher->integ) {
    case DP_INTEG_HMAC_SHA2_256_128:
        return "SHA256";
    case DP_INTEG_HMAC_SHA2_384_192:
        return "SHA384";
    case DP_INTEG_HMAC_SHA2_512_256:
        return "SHA512";
    default:
        return "SHA1";
    }
}

static int cbc_hmac_init(const struct dp_cipher *cipher, void *context, const uint8_t *key, const uint8_t *integ_key) {
    struct cbc_hmac *keys = context;
    keys->icv_octets = cipher->icv_octets;
    keys->encrypt = cbc_new(cbc_cipher(cipher), key, 1);
    keys->decrypt = cbc_new(cbc_cipher(cipher), key, 0);
    keys->mac = hmac_new(digest_name(cipher), integ_key, cipher->integ_key_octets);
    if (keys->encrypt && keys->decrypt && keys->mac)
        return 0;
    cbc_hmac_finish(keys);
    return -ENOMEM;
}

static bool authenticate(struct cbc_hmac *keys, const struct dp_crypt *c, const uint8_t *ciphertext,
                         uint8_t digest[EVP_MAX_MD_SIZE]) {
    size_t octets;
    return EVP_MAC_init(keys->mac, NULL, 0, NULL) == 1 && EVP_MAC_update(keys->mac, c->aad, c->aad_octets) == 1 &&
           EVP_MAC_update(keys->mac, ciphertext, c->octets) == 1 &&
           (c->tail_octets == 0 || EVP_MAC_update(keys->mac, c->tail, c->tail_octets) == 1) &&
           EVP_MAC_final(keys->mac, digest, &octets, EVP_MAX_MD_SIZE) == 1;
}

static bool run_cbc(EVP_CIPHER_CTX *ctx, const struct dp_crypt *c) {
    int done;
    return EVP_CipherInit_ex(ctx, NULL, NULL, NULL, c->iv, -1) == 1 &&
           EVP_CipherUpdate(ctx, c->dst, &done, c->src, (int)c->octets) == 1 && done == (int)c->octets;
}

static int cbc_hmac_seal(void *context, const struct dp_crypt *c) {
    struct cbc_hmac *keys = context;
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (!run_cbc(keys->encrypt, c) || !authenticate(keys, c, c->dst, digest))
        return -EIO;
    memcpy(c->icv, digest, keys->icv_octets);
    return 0;
}

static int cbc_hmac_open(void *context, const struct dp_crypt *c) {
    struct cbc_hmac *keys = context;
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (!authenticate(keys, c, c->src, digest))
        return -EIO;
    if (CRYPTO_memcmp(digest, c->icv, keys->icv_octets) != 0)
        return -EBADMSG;
    if (run_cbc(keys->decrypt, c))
        return 0;
    explicit_bzero(c->dst, c->octets);
    return -EIO;
}

/* Octets of integrity key and ICV: RFC 2404 §2, RFC 4868 §2.6. */
#define CBC_HMAC(key, transform, integ_key, icv)                                                                                   \
    {                                                                                                                              \
        .encr = DP_ENCR_AES_CBC, .integ = transform, .key_octets = key, .integ_key_octets = integ_key, .iv_octets = DP_CBC_BLOCK,  \
        .block_octets = DP_CBC_BLOCK, .icv_octets = icv, .random_iv = 1, .provider = "openssl",                                    \
        .context_octets = sizeof(struct cbc_hmac), .init = cbc_hmac_init, .finish = cbc_hmac_finish, .seal = cbc_hmac_seal,        \
        .open = cbc_hmac_open                                                                                                      \
    }

static const struct dp_cipher ciphers[] = {
    CBC_HMAC(16, DP_INTEG_HMAC_SHA1_96, 20, 12),      CBC_HMAC(16, DP_INTEG_HMAC_SHA2_256_128, 32, 16),
    CBC_HMAC(16, DP_INTEG_HMAC_SHA2_384_192, 48, 24), CBC_HMAC(16, DP_INTEG_HMAC_SHA2_512_256, 64, 32),
    CBC_HMAC(24, DP_INTEG_HMAC_SHA1_96, 20, 12),      CBC_HMAC(24, DP_INTEG_HMAC_SHA2_256_128, 32, 16),
    CBC_HMAC(24, DP_INTEG_HMAC_SHA2_384_192, 48, 24), CBC_HMAC(24, DP_INTEG_HMAC_SHA2_512_256, 64, 32),
    CBC_HMAC(32, DP_INTEG_HMAC_SHA1_96, 20, 12),      CBC_HMAC(32, DP_INTEG_HMAC_SHA2_256_128, 32, 16),
    CBC_HMAC(32, DP_INTEG_HMAC_SHA2_384_192, 48, 24), CBC_HMAC(32, DP_INTEG_HMAC_SHA2_512_256, 64, 32),
};

const struct dp_provider_table dp_openssl_cbc_hmac = {ciphers, sizeof(ciphers) / sizeof(*ciphers)};
