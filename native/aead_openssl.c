/* Provider OpenSSL: AES-GCM and ChaCha20-Poly1305. The key is set once, the IV for each packet.
 *
 * The library keeps the key schedule in its own heap and wipes it when the context is freed (`finish`); the arena holds the
 * pointer. */
#include "aead_provider.h"

#include <errno.h>
#include <openssl/evp.h>

struct evp {
    EVP_CIPHER_CTX *ctx;
};

static const EVP_CIPHER *evp_cipher(const struct dp_cipher *cipher) {
    if (cipher->encr == DP_ENCR_CHACHA20_POLY1305)
        return EVP_chacha20_poly1305();
    switch (cipher->key_octets) {
    case 16:
        return EVP_aes_128_gcm();
    case 24:
        return EVP_aes_192_gcm();
    default:
        return EVP_aes_256_gcm();
    }
}

static int evp_init(const struct dp_cipher *cipher, void *context, const uint8_t *key, const uint8_t *integ_key) {
    (void)integ_key;
    struct evp *evp = context;
    evp->ctx = EVP_CIPHER_CTX_new();
    if (!evp->ctx)
        return -ENOMEM;
    /* The IV length of both is 12 octets by default (RFC 4106 §4, RFC 7634 §2). */
    if (EVP_CipherInit_ex(evp->ctx, evp_cipher(cipher), NULL, key, NULL, 1) == 1)
        return 0;
    EVP_CIPHER_CTX_free(evp->ctx);
    evp->ctx = NULL;
    return -EIO;
}

static void evp_finish(void *context) {
    struct evp *evp = context;
    EVP_CIPHER_CTX_free(evp->ctx);
    evp->ctx = NULL;
}

static int evp_seal(void *context, const struct dp_crypt *c) {
    EVP_CIPHER_CTX *ctx = ((struct evp *)context)->ctx;
    int done;
    if (EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, c->iv) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &done, c->aad, (int)c->aad_octets) != 1 ||
        EVP_EncryptUpdate(ctx, c->dst, &done, c->src, (int)c->octets) != 1 ||
        EVP_EncryptFinal_ex(ctx, c->dst + c->octets, &done) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, DP_AEAD_ICV, c->icv) != 1)
        return -EIO;
    return 0;
}

/* EVP_DecryptFinal_ex compares the ICV in constant time, after the plaintext was written. */
static int evp_open(void *context, const struct dp_crypt *c) {
    EVP_CIPHER_CTX *ctx = ((struct evp *)context)->ctx;
    int done, error = -EIO;
    if (EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, c->iv) == 1 &&
        EVP_DecryptUpdate(ctx, NULL, &done, c->aad, (int)c->aad_octets) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, DP_AEAD_ICV, c->icv) == 1 &&
        EVP_DecryptUpdate(ctx, c->dst, &done, c->src, (int)c->octets) == 1) {
        if (EVP_DecryptFinal_ex(ctx, c->dst + c->octets, &done) == 1)
            return 0;
        error = -EBADMSG;
    }
    explicit_bzero(c->dst, c->octets);
    return error;
}

#define AEAD(number, key_octets_)                                                                                                  \
    {                                                                                                                              \
        .encr = number, .integ = DP_INTEG_NONE, .key_octets = key_octets_, .salt_octets = DP_AEAD_SALT, .iv_octets = DP_AEAD_IV,   \
        .block_octets = 1, .icv_octets = DP_AEAD_ICV, .provider = "openssl", .context_octets = sizeof(struct evp),                 \
        .init = evp_init, .finish = evp_finish, .seal = evp_seal, .open = evp_open                                                 \
    }

static const struct dp_cipher ciphers[] = {
    AEAD(DP_ENCR_AES_GCM_16, 16),
    AEAD(DP_ENCR_AES_GCM_16, 24),
    AEAD(DP_ENCR_AES_GCM_16, 32),
    AEAD(DP_ENCR_CHACHA20_POLY1305, 32),
};

const struct dp_provider_table dp_openssl_aead = {ciphers, sizeof(ciphers) / sizeof(*ciphers)};
