/* The ciphers of all providers, in order of preference, behind their known-answer tests. */
#include "aead.h"

#include <errno.h>
#include <threads.h>

#include "aead_provider.h"

/* Empty until every cipher in it has passed. */
static struct {
    unsigned provider;
    struct dp_provider_table table;
} providers[3];

static once_flag loaded = ONCE_FLAG_INIT;
static int load_result;
static const char *ipsec_mb_reason = "not loaded";

int dp_provider_known_answers(const struct dp_provider_table *table) {
    for (size_t i = 0; i < table->count; i++) {
        int error = dp_cipher_known_answers(&table->ciphers[i]);
        if (error != 0)
            return error;
    }
    return 0;
}

static void load(void) {
    const struct dp_provider_table tables[] = {dp_ipsec_mb_load(&ipsec_mb_reason), dp_openssl_aead, dp_openssl_cbc_hmac};
    static const unsigned names[] = {DP_PROVIDER_IPSEC_MB, DP_PROVIDER_OPENSSL, DP_PROVIDER_OPENSSL};
    for (size_t i = 0; i < 3; i++) {
        load_result = dp_provider_known_answers(&tables[i]);
        if (load_result != 0)
            return;
    }
    for (size_t i = 0; i < 3; i++) {
        providers[i].provider = names[i];
        providers[i].table = tables[i];
    }
}

int dp_cipher_load(void) {
    call_once(&loaded, load);
    return load_result;
}

const struct dp_cipher *dp_cipher_find(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets) {
    for (size_t i = 0; i < 3; i++) {
        if (provider != DP_PROVIDER_AUTO && provider != providers[i].provider)
            continue;
        for (size_t j = 0; j < providers[i].table.count; j++) {
            const struct dp_cipher *cipher = &providers[i].table.ciphers[j];
            if (cipher->encr == encr && cipher->integ == integ && cipher->key_octets == key_octets)
                return cipher;
        }
    }
    return NULL;
}

const char *dp_cipher_reason(void) {
    return ipsec_mb_reason;
}
