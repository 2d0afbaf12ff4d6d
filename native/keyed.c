#include "keyed.h"

#include <errno.h>
#include <string.h>

#include "keys.h"

size_t dp_keyed_keymat_octets(const struct dp_cipher *c) {
    return (size_t)c->key_octets + c->salt_octets + c->integ_key_octets;
}

int dp_keyed_set(const struct dp_cipher *c, void *context, const uint8_t *keymat, size_t octets, uint8_t *salt) {
    if (octets != dp_keyed_keymat_octets(c))
        return -EINVAL;
    const uint8_t *rest = keymat + c->key_octets;
    int error = c->init(c, context, keymat, c->integ_key_octets != 0 ? rest + c->salt_octets : NULL);
    if (error == 0)
        memcpy(salt, rest, c->salt_octets);
    return error;
}

int dp_keyed_new(struct dp_arena *arena, unsigned provider, unsigned encr, unsigned integ, unsigned key_octets,
                 const uint8_t *keymat, size_t octets, const struct dp_cipher **cipher, void **context, uint8_t *salt) {
    const struct dp_cipher *c = dp_cipher_find(provider, encr, integ, key_octets);
    if (c == NULL)
        return -ENOTSUP;
    if (octets != dp_keyed_keymat_octets(c))
        return -EINVAL;
    void *keyed = dp_arena_alloc(arena, c->context_octets);
    if (keyed == NULL)
        return -ENOMEM;
    int error = dp_keyed_set(c, keyed, keymat, octets, salt);
    if (error != 0) {
        dp_arena_free(arena, keyed, c->context_octets);
        return error;
    }
    *cipher = c;
    *context = keyed;
    return 0;
}

void dp_keyed_free(struct dp_arena *arena, const struct dp_cipher *cipher, void *context) {
    if (context == NULL)
        return;
    cipher->finish(context);
    dp_arena_free(arena, context, cipher->context_octets);
}
