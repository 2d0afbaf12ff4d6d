/* Provider intel-ipsec-mb: AES-GCM and ChaCha20-Poly1305 by its direct calls, which need no job bookkeeping.
 *
 * A direct call works in a context of its own that afterwards holds key stream and authenticator state. It lies in the arena beside
 * the key: locked and undumped like it, so that it need not be wiped for each packet. */
#include "aead_provider.h"

#if DP_HAVE_IPSEC_MB

#include <errno.h>
#include <intel-ipsec-mb.h>

static IMB_MGR *manager;

/* The library reads and writes full vectors, but never beyond these structures. */
struct gcm {
    struct gcm_key_data key;
    struct gcm_context_data work;
    aes_gcm_enc_dec_t encrypt, decrypt;
};

static int gcm_init(const struct dp_cipher *cipher, void *context, const uint8_t *key, const uint8_t *integ_key) {
    (void)integ_key;
    struct gcm *gcm = context;
    switch (cipher->key_octets) {
    case 16:
        IMB_AES128_GCM_PRE(manager, key, &gcm->key);
        gcm->encrypt = manager->gcm128_enc;
        gcm->decrypt = manager->gcm128_dec;
        return 0;
    case 24:
        IMB_AES192_GCM_PRE(manager, key, &gcm->key);
        gcm->encrypt = manager->gcm192_enc;
        gcm->decrypt = manager->gcm192_dec;
        return 0;
    case 32:
        IMB_AES256_GCM_PRE(manager, key, &gcm->key);
        gcm->encrypt = manager->gcm256_enc;
        gcm->decrypt = manager->gcm256_dec;
        return 0;
    default:
        return -EINVAL;
    }
}

static int gcm_seal(void *context, const struct dp_crypt *c) {
    struct gcm *gcm = context;
    gcm->encrypt(&gcm->key, &gcm->work, c->dst, c->src, c->octets, c->iv, c->aad, c->aad_octets, c->icv, DP_AEAD_ICV);
    return 0;
}

/* The library computes the ICV of what it decrypts and leaves the comparison to its caller. */
static int compare(const struct dp_crypt *c, const uint8_t computed[DP_AEAD_ICV]) {
    if (dp_aead_icv_equal(computed, c->icv))
        return 0;
    explicit_bzero(c->dst, c->octets);
    return -EBADMSG;
}

static int gcm_open(void *context, const struct dp_crypt *c) {
    struct gcm *gcm = context;
    uint8_t computed[DP_AEAD_ICV];
    gcm->decrypt(&gcm->key, &gcm->work, c->dst, c->src, c->octets, c->iv, c->aad, c->aad_octets, computed, DP_AEAD_ICV);
    return compare(c, computed);
}

struct chacha {
    struct chacha20_poly1305_context_data work;
    uint8_t key[32];
};

static int chacha_init(const struct dp_cipher *cipher, void *context, const uint8_t *key, const uint8_t *integ_key) {
    (void)cipher;
    (void)integ_key;
    struct chacha *chacha = context;
    memcpy(chacha->key, key, sizeof(chacha->key));
    return 0;
}

static int chacha_seal(void *context, const struct dp_crypt *c) {
    struct chacha *chacha = context;
    IMB_CHACHA20_POLY1305_INIT(manager, chacha->key, &chacha->work, c->iv, c->aad, c->aad_octets);
    IMB_CHACHA20_POLY1305_ENC_UPDATE(manager, chacha->key, &chacha->work, c->dst, c->src, c->octets);
    IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager, &chacha->work, c->icv, DP_AEAD_ICV);
    return 0;
}

static int chacha_open(void *context, const struct dp_crypt *c) {
    struct chacha *chacha = context;
    uint8_t computed[DP_AEAD_ICV];
    IMB_CHACHA20_POLY1305_INIT(manager, chacha->key, &chacha->work, c->iv, c->aad, c->aad_octets);
    IMB_CHACHA20_POLY1305_DEC_UPDATE(manager, chacha->key, &chacha->work, c->dst, c->src, c->octets);
    IMB_CHACHA20_POLY1305_DEC_FINALIZE(manager, &chacha->work, computed, DP_AEAD_ICV);
    return compare(c, computed);
}

static void finish(void *context) {
    (void)context;
}

#define AEAD(number, key_octets_, context, init_, seal_, open_)                                                                    \
    {                                                                                                                              \
        .encr = number, .integ = DP_INTEG_NONE, .key_octets = key_octets_, .salt_octets = DP_AEAD_SALT, .iv_octets = DP_AEAD_IV,   \
        .block_octets = 1, .icv_octets = DP_AEAD_ICV, .provider = "intel-ipsec-mb", .context_octets = sizeof(struct context),      \
        .init = init_, .finish = finish, .seal = seal_, .open = open_                                                              \
    }

static const struct dp_cipher ciphers[] = {
    AEAD(DP_ENCR_AES_GCM_16, 16, gcm, gcm_init, gcm_seal, gcm_open),
    AEAD(DP_ENCR_AES_GCM_16, 24, gcm, gcm_init, gcm_seal, gcm_open),
    AEAD(DP_ENCR_AES_GCM_16, 32, gcm, gcm_init, gcm_seal, gcm_open),
    AEAD(DP_ENCR_CHACHA20_POLY1305, 32, chacha, chacha_init, chacha_seal, chacha_open),
};

/* Without AES-NI and carry-less multiplication the library emulates them, slower than OpenSSL; without AVX nobody tests it here. */
const char *dp_ipsec_mb_missing(uint64_t features) {
    static const struct {
        uint64_t feature;
        const char *reason;
    } needed[] = {
        {IMB_FEATURE_AESNI, "the CPU has no AES-NI"},
        {IMB_FEATURE_PCLMULQDQ, "the CPU has no PCLMULQDQ"},
        {IMB_FEATURE_AVX, "the CPU has no AVX"},
    };
    for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++)
        if (!(features & needed[i].feature))
            return needed[i].reason;
    return "";
}

static IMB_MGR *ready_manager(const char **reason) {
    IMB_MGR *candidate = alloc_mb_mgr(0);
    if (!candidate) {
        *reason = "intel-ipsec-mb could not allocate its manager";
        return NULL;
    }
    *reason = dp_ipsec_mb_missing(candidate->features);
    if (**reason == '\0') {
        init_mb_mgr_auto(candidate, NULL);
        if (imb_get_errno(candidate) == 0)
            return candidate;
        *reason = "intel-ipsec-mb failed its self-test";
    }
    free_mb_mgr(candidate);
    return NULL;
}

struct dp_provider_table dp_ipsec_mb_load(const char **reason) {
    *reason = "";
    if (!manager)
        manager = ready_manager(reason);
    return (struct dp_provider_table){ciphers, manager ? sizeof(ciphers) / sizeof(*ciphers) : 0};
}

#else

const char *dp_ipsec_mb_missing(uint64_t features) {
    (void)features;
    return "built without intel-ipsec-mb";
}

struct dp_provider_table dp_ipsec_mb_load(const char **reason) {
    *reason = dp_ipsec_mb_missing(0);
    return (struct dp_provider_table){NULL, 0};
}

#endif
