#include "cookie.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#include "bucket.h"
#include "engine.h"
#include "epoch.h"

struct dp_cookie_secret {
    uint64_t serial;
    uint8_t octets[DP_COOKIE_SECRET];
};

static void secret_free(struct dp *dp, void *thing) {
    (void)dp;
    if (thing != NULL)
        explicit_bzero(thing, sizeof(struct dp_cookie_secret));
    free(thing);
}

int dp_ike_cookie_secret(struct dp *dp, const uint8_t *secret, size_t octets) {
    if (octets != DP_COOKIE_SECRET || dp->config.cookie_seconds == 0)
        return -EINVAL;
    struct dp_cookie_secret *s = malloc(sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->serial = ++dp->cookie_serial;
    memcpy(s->octets, secret, sizeof s->octets);
    struct dp_cookie_secret *old = atomic_exchange_explicit(&dp->cookie_secret, s, memory_order_seq_cst);
    if (old != NULL)
        dp_epoch_retire(dp, secret_free, old);
    return 0;
}

void dp_cookie_secret_finish(struct dp *dp) {
    secret_free(dp, atomic_load_explicit(&dp->cookie_secret, memory_order_relaxed));
}

static EVP_MAC_CTX *hmac_new(void) {
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(hmac);
    EVP_MAC_free(hmac);
    if (ctx != NULL && EVP_MAC_CTX_set_params(ctx, params) == 1)
        return ctx;
    EVP_MAC_CTX_free(ctx);
    return NULL;
}

static bool hmac_final(EVP_MAC_CTX *ctx, uint8_t out[DP_IKE_COOKIE]) {
    size_t octets;
    return EVP_MAC_final(ctx, out, &octets, DP_IKE_COOKIE) == 1;
}

/* The key of a period is the secret's HMAC of its number. */
static bool set_key(EVP_MAC_CTX *ctx, const struct dp_cookie_secret *secret, uint64_t period) {
    uint8_t number[8], key[DP_IKE_COOKIE];
    for (unsigned i = 0; i < sizeof number; i++)
        number[i] = (uint8_t)(period >> (56 - 8 * i));
    bool done = EVP_MAC_init(ctx, secret->octets, sizeof secret->octets, NULL) == 1 &&
                EVP_MAC_update(ctx, number, sizeof number) == 1 && hmac_final(ctx, key) &&
                EVP_MAC_init(ctx, key, sizeof key, NULL) == 1;
    explicit_bzero(key, sizeof key);
    return done;
}

/* The MAC of a period: one of two, which take turns. */
static EVP_MAC_CTX *mac_of(const struct dp *dp, struct dp_cookies *c, uint64_t period) {
    const struct dp_cookie_secret *secret = atomic_load_explicit(&dp->cookie_secret, memory_order_acquire);
    if (secret == NULL)
        return NULL;
    if (secret->serial != c->serial) {
        c->serial = secret->serial;
        c->period[0] = c->period[1] = 0;
    }
    unsigned i = period % 2;
    if (c->mac[i] == NULL)
        c->mac[i] = hmac_new();
    if (c->mac[i] == NULL || c->period[i] == period + 1)
        return c->mac[i];
    c->period[i] = set_key(c->mac[i], secret, period) ? period + 1 : 0;
    return c->period[i] != 0 ? c->mac[i] : NULL;
}

static bool add(EVP_MAC_CTX *ctx, const uint8_t *part, size_t octets) {
    const uint8_t length[2] = {(uint8_t)(octets >> 8), (uint8_t)octets};
    return EVP_MAC_update(ctx, length, sizeof length) == 1 && EVP_MAC_update(ctx, part, octets) == 1;
}

static bool compute(EVP_MAC_CTX *ctx, const struct dp_ike_message *m, const struct dp_ike_begin *begin,
                    const struct dp_addr *remote, uint8_t cookie[DP_IKE_COOKIE]) {
    return ctx != NULL && EVP_MAC_init(ctx, NULL, 0, NULL) == 1 && add(ctx, begin->nonce, begin->nonce_octets) &&
           add(ctx, m->start, 8) && add(ctx, remote->ip, remote->family == 4 ? 4 : 16) && hmac_final(ctx, cookie);
}

static uint64_t period_at(const struct dp *dp, uint64_t now) {
    return now / (dp->config.cookie_seconds * DP_SECOND);
}

bool dp_cookie_make(const struct dp *dp, struct dp_cookies *c, const struct dp_ike_message *m, const struct dp_ike_begin *begin,
                    const struct dp_addr *remote, uint64_t now, uint8_t cookie[DP_IKE_COOKIE]) {
    return compute(mac_of(dp, c, period_at(dp, now)), m, begin, remote, cookie);
}

bool dp_cookie_good(const struct dp *dp, struct dp_cookies *c, const struct dp_ike_message *m, const struct dp_ike_begin *begin,
                    const struct dp_addr *remote, uint64_t now) {
    if (begin->cookie == NULL || begin->cookie_octets != DP_IKE_COOKIE)
        return false;
    uint64_t period = period_at(dp, now);
    bool good = false;
    for (uint64_t back = 0; back < 2 && back <= period; back++) {
        uint8_t made[DP_IKE_COOKIE];
        if (compute(mac_of(dp, c, period - back), m, begin, remote, made))
            good |= CRYPTO_memcmp(made, begin->cookie, sizeof made) == 0;
    }
    return good;
}

void dp_cookies_finish(struct dp_cookies *c) {
    for (unsigned i = 0; i < 2; i++)
        EVP_MAC_CTX_free(c->mac[i]);
}
