/* The I/O ceiling of `make bench-tunnel`: AES-128-GCM that copies and does nothing else. It protects NOTHING.
 *
 * Linked with the whole C core and --wrap=dp_cipher_find, so that it differs from the core by this one cipher. It lies outside of
 * native/, whose sources all go into the real extension. `dp_ceiling` marks what was built with it. */
#include <string.h>

#include "aead.h"
#include "esp_wire.h"

__attribute__((visibility("default"))) extern const char dp_ceiling[];
const char dp_ceiling[] = "copies instead of encrypting";

const struct dp_cipher *__real_dp_cipher_find(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets);
const struct dp_cipher *__wrap_dp_cipher_find(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets);

static void copy(const struct dp_crypt *c) {
    if (c->dst != c->src)
        memcpy(c->dst, c->src, c->octets);
}

static int seal(void *context, const struct dp_crypt *c) {
    (void)context;
    copy(c);
    memset(c->icv, 0x5a, DP_AEAD_ICV);
    return 0;
}

static int open(void *context, const struct dp_crypt *c) {
    (void)context;
    copy(c);
    return 0;
}

const struct dp_cipher *__wrap_dp_cipher_find(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets) {
    static struct dp_cipher copying;
    const struct dp_cipher *real = __real_dp_cipher_find(provider, encr, integ, key_octets);
    if (real == NULL || encr != DP_ENCR_AES_GCM_16 || key_octets != 16)
        return real;
    copying = *real;
    copying.provider = "ceiling";
    copying.seal = seal;
    copying.open = open;
    return &copying;
}
