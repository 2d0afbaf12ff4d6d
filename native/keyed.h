/* A cipher with a key: what an SA of ESP and an IKE SA have alike. */
#ifndef DP_KEYED_H
#define DP_KEYED_H

#include "aead.h"

/* The cipher of these algorithms (enum dp_provider, dp_encr, dp_integ) and its context in the arena, keyed with `octets` of
 * `keymat`: the encryption key, the salt, the integrity key (RFC 7296 §2.17, RFC 4106 §8.1). `salt` gets as much as the cipher has.
 * 0; -ENOTSUP: no provider has it; -EINVAL: not so many octets; -ENOMEM; what the provider says. Nothing is written then. */
int dp_keyed_new(struct dp_arena *arena, unsigned provider, unsigned encr, unsigned integ, unsigned key_octets,
                 const uint8_t *keymat, size_t octets, const struct dp_cipher **cipher, void **context, uint8_t *salt);
/* The same for a cipher with a context of zeros, which may have been written to where this fails. */
int dp_keyed_set(const struct dp_cipher *cipher, void *context, const uint8_t *keymat, size_t octets, uint8_t *salt);
/* Octets of keying material that a cipher takes. */
size_t dp_keyed_keymat_octets(const struct dp_cipher *cipher);
/* The arena wipes the key. A context of zeros will do too; NULL: there is none. */
void dp_keyed_free(struct dp_arena *arena, const struct dp_cipher *cipher, void *context);

#endif
