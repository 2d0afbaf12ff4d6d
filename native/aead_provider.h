/* What aead.c knows of each provider: a table of ciphers. */
#ifndef DP_AEAD_PROVIDER_H
#define DP_AEAD_PROVIDER_H

#include <stdbool.h>
#include <string.h>

#include "aead.h"
#include "esp_wire.h"

struct dp_provider_table {
    const struct dp_cipher *ciphers;
    size_t count;
};

struct dp_provider_entry {
    unsigned provider; /* enum dp_provider */
    struct dp_provider_table table;
};

/* intel-ipsec-mb's ciphers, any number of times. None, and the reason through `reason` ("" otherwise), when build, library or CPU
 * lack it. */
struct dp_provider_table dp_ipsec_mb_load(const char **reason);
/* Why a CPU with these features (IMB_FEATURE_*) is refused; "" when it is not. */
const char *dp_ipsec_mb_missing(uint64_t features);

extern const struct dp_provider_table dp_openssl_aead;     /* AES-GCM, ChaCha20-Poly1305 */
extern const struct dp_provider_table dp_openssl_cbc_hmac; /* AES-CBC with HMAC */

/* Whether two AEAD ICVs are equal, in a time that does not depend on where they differ. */
static inline bool dp_aead_icv_equal(const uint8_t a[DP_AEAD_ICV], const uint8_t b[DP_AEAD_ICV]) {
    uint64_t x[2], y[2];
    static_assert(sizeof(x) == DP_AEAD_ICV, "two words");
    memcpy(x, a, sizeof(x));
    memcpy(y, b, sizeof(y));
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

#endif
