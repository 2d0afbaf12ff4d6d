/* The interface to the cryptographic libraries: one cipher is one suite on one provider. */
#ifndef DP_AEAD_H
#define DP_AEAD_H

#include "dp.h"
#include "keys.h"

/* One packet's protected part. Nothing is allocated, kept or freed by a cipher call. */
struct dp_crypt {
    const uint8_t *iv;  /* AEAD: the 12-octet nonce, salt and IV; CBC: the 16-octet IV */
    const uint8_t *aad; /* authenticated, not encrypted. AEAD: RFC 4106 §5; CBC with HMAC: ESP header and IV */
    uint32_t aad_octets;
    uint32_t tail_octets; /* CBC with HMAC under ESN: the 4 octets of sequence_high, authenticated last (RFC 4303 §2.2.1); else 0 */
    const uint8_t *tail;
    const uint8_t *src;
    uint8_t *dst; /* may equal src; must not overlap it otherwise */
    uint32_t octets;
    uint8_t *icv; /* seal: written; open: compared in constant time, never written */
};

struct dp_cipher {
    uint16_t encr, integ, key_octets; /* as in struct dp_sa_params */
    uint8_t salt_octets, integ_key_octets;
    uint8_t iv_octets, block_octets, icv_octets;
    uint8_t random_iv; /* the IV must be unpredictable (CBC, RFC 3602 §3), not a counter */
    const char *provider;
    size_t context_octets; /* of the key context in the arena */

    /* `cipher` is this one; `key` the encryption key without salt, `integ_key` the integrity key (NULL for an AEAD). 0 or -errno,
     * and then there is nothing to finish. */
    int (*init)(const struct dp_cipher *cipher, void *context, const uint8_t *key, const uint8_t *integ_key);
    /* Frees what the library itself holds; the arena wipes the context. */
    void (*finish)(void *context);
    /* 0, or -EIO when the library failed. */
    int (*seal)(void *context, const struct dp_crypt *c);
    /* 0; -EBADMSG: the ICV is wrong; -EIO. What `dst` then holds is wiped or never was plaintext. */
    int (*open)(void *context, const struct dp_crypt *c);
};

/* Loads the providers and runs their known-answer tests, once per process; later calls return the first result. -EBADMSG: a
 * provider computes wrongly. A provider that the CPU or the build lacks is left out, and dp_cipher_reason says why. */
int dp_cipher_load(void);
/* The cipher for a suite: `provider` as in enum dp_provider, AUTO prefers intel-ipsec-mb and takes OpenSSL for what it lacks. NULL:
 * nobody has it. */
const struct dp_cipher *dp_cipher_find(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets);
const char *dp_cipher_reason(void);

struct dp_provider_entry; /* aead_provider.h */
/* Runs the known-answer tests of every cipher of the providers, three at the most, and makes them those that dp_cipher_find gives,
 * the first preferred. The first error of a test, and then dp_cipher_find gives none at all. */
int dp_providers_admit(const struct dp_provider_entry *candidates, size_t count);

#endif
