/* The ciphers of all providers, in order of preference, behind their known-answer tests. */
#include "aead.h"

#include <string.h>
#include <threads.h>

#include "aead_answers.h"
#include "aead_provider.h"

enum {
    PROVIDERS = 3
};

/* Empty until every cipher in it has passed. */
static struct dp_provider_entry admitted[PROVIDERS];

static once_flag loaded = ONCE_FLAG_INIT;
static int load_result;
static const char *ipsec_mb_reason = "not loaded";

int dp_providers_admit(const struct dp_provider_entry *candidates, size_t count) {
    memset(admitted, 0, sizeof(admitted));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < candidates[i].table.count; j++) {
            int error = dp_cipher_known_answers(&candidates[i].table.ciphers[j]);
            if (error != 0)
                return error;
        }
    }
    memcpy(admitted, candidates, count * sizeof(*candidates));
    return 0;
}

static void load(void) {
    const struct dp_provider_entry candidates[PROVIDERS] = {
        {DP_PROVIDER_IPSEC_MB, dp_ipsec_mb_load(&ipsec_mb_reason)},
        {DP_PROVIDER_OPENSSL, dp_openssl_aead},
        {DP_PROVIDER_OPENSSL, dp_openssl_cbc_hmac},
    };
    load_result = dp_providers_admit(candidates, PROVIDERS);
}

int dp_cipher_load(void) {
    call_once(&loaded, load);
    return load_result;
}

const struct dp_cipher *dp_cipher_find(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets) {
    for (size_t i = 0; i < PROVIDERS; i++) {
        if (provider != DP_PROVIDER_AUTO && provider != admitted[i].provider)
            continue;
        for (size_t j = 0; j < admitted[i].table.count; j++) {
            const struct dp_cipher *cipher = &admitted[i].table.ciphers[j];
            if (cipher->encr == encr && cipher->integ == integ && cipher->key_octets == key_octets)
                return cipher;
        }
    }
    return NULL;
}

const char *dp_cipher_reason(void) {
    return ipsec_mb_reason;
}
