#include "aead_answers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aead_provider.h"
#include "keys.h"

struct answer {
    const char *source;
    uint16_t encr, integ, key_octets;
    const char *key, *integ_key, *iv, *aad, *tail, *plain, *sealed, *icv, *chain; /* hexadecimal */
};

static const struct answer answers[] = {
#define ANSWER(source, encr, integ, key_octets, ...) {source, encr, integ, key_octets, __VA_ARGS__},
#include "aead_vectors.h"
#undef ANSWER
};

enum {
    CHAIN_PACKETS = 40,
    CHAIN_STEP = 37, /* octets; odd, so that lengths meet every remainder of a vector */
    PACKET_MAX = CHAIN_PACKETS * CHAIN_STEP + DP_CBC_BLOCK,
};

struct trial {
    const struct dp_cipher *cipher;
    void *context;
    uint8_t key[DP_KEYMAT_MAX], integ_key[DP_KEYMAT_MAX], iv[DP_IV_MAX], aad[DP_ICV_MAX], tail[4], icv[DP_ICV_MAX];
    uint8_t plain[PACKET_MAX], sealed[PACKET_MAX], opened[PACKET_MAX];
};

static size_t unhex(uint8_t *out, const char *hex) {
    size_t octets = strlen(hex) / 2;
    for (size_t i = 0; i < octets; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return octets;
}

/* Opens what `c` sealed: apart, with a wrong ICV, and in place. `c->src` is the plaintext, `c->dst` the ciphertext. */
static int open_again(struct trial *t, const struct dp_crypt *c, unsigned flipped_bit) {
    const struct dp_cipher *cipher = t->cipher;
    struct dp_crypt apart = *c;
    apart.src = c->dst;
    apart.dst = t->opened;
    memset(t->opened, 0, c->octets);
    if (cipher->open(t->context, &apart) != 0 || memcmp(t->opened, c->src, c->octets) != 0)
        return -EBADMSG;

    memset(t->opened, 0, c->octets);
    flipped_bit %= cipher->icv_octets * 8u;
    c->icv[flipped_bit / 8] ^= (uint8_t)(1 << flipped_bit % 8);
    int taken = cipher->open(t->context, &apart);
    c->icv[flipped_bit / 8] ^= (uint8_t)(1 << flipped_bit % 8);
    if (taken != -EBADMSG || memcmp(t->opened, c->src, c->octets) == 0)
        return -EBADMSG;

    struct dp_crypt in_place = apart;
    in_place.src = in_place.dst = c->dst;
    if (cipher->open(t->context, &in_place) != 0 || memcmp(c->dst, c->src, c->octets) != 0)
        return -EBADMSG;
    return 0;
}

static int published(struct trial *t, const struct answer *answer) {
    uint8_t expected[PACKET_MAX], expected_icv[DP_ICV_MAX];
    unhex(t->key, answer->key);
    unhex(t->integ_key, answer->integ_key);
    unhex(t->iv, answer->iv);
    struct dp_crypt c = {.iv = t->iv, .aad = t->aad, .tail = t->tail, .src = t->plain, .dst = t->sealed, .icv = t->icv};
    c.aad_octets = (uint32_t)unhex(t->aad, answer->aad);
    c.tail_octets = (uint32_t)unhex(t->tail, answer->tail);
    c.octets = (uint32_t)unhex(t->plain, answer->plain);
    unhex(expected, answer->sealed);
    unhex(expected_icv, answer->icv);

    int error = t->cipher->init(t->cipher, t->context, t->key, t->integ_key);
    if (error != 0)
        return error;
    if (t->cipher->seal(t->context, &c) != 0 || memcmp(t->sealed, expected, c.octets) != 0 ||
        memcmp(t->icv, expected_icv, t->cipher->icv_octets) != 0)
        error = -EBADMSG;
    else
        error = open_again(t, &c, 0);
    t->cipher->finish(t->context);
    return error;
}

/* Packets of all lengths, each authenticating the ICV of the one before: tests/vectors/generate_answers.py says the pattern. */
static int chained(struct trial *t, const struct answer *answer) {
    uint8_t expected[DP_ICV_MAX];
    unhex(expected, answer->chain);
    for (unsigned i = 0; i < sizeof(t->key); i++) {
        t->key[i] = (uint8_t)(7 * i + 1);
        t->integ_key[i] = (uint8_t)(11 * i + 3);
    }
    int error = t->cipher->init(t->cipher, t->context, t->key, t->integ_key);
    if (error != 0)
        return error;
    size_t icv_octets = t->cipher->icv_octets, block = t->cipher->block_octets;
    memset(t->icv, 0, sizeof(t->icv));
    for (unsigned n = 1; n <= CHAIN_PACKETS && error == 0; n++) {
        struct dp_crypt c = {.iv = t->iv, .aad = t->aad, .aad_octets = (uint32_t)icv_octets, .src = t->plain, .dst = t->sealed};
        c.icv = t->icv;
        c.octets = (uint32_t)((n * CHAIN_STEP + block - 1) / block * block);
        for (unsigned i = 0; i < c.octets; i++)
            t->plain[i] = (uint8_t)(i + n);
        for (unsigned i = 0; i < sizeof(t->iv); i++)
            t->iv[i] = (uint8_t)(n + i);
        memcpy(t->aad, t->icv, icv_octets);
        error = t->cipher->seal(t->context, &c) != 0 ? -EBADMSG : open_again(t, &c, 7 * n);
    }
    if (error == 0 && memcmp(t->icv, expected, icv_octets) != 0)
        error = -EBADMSG;
    t->cipher->finish(t->context);
    return error;
}

int dp_cipher_known_answers(const struct dp_cipher *cipher) {
    struct dp_arena *arena = dp_arena_create();
    if (!arena)
        return -ENOMEM;
    struct trial trial = {.cipher = cipher, .context = dp_arena_alloc(arena, cipher->context_octets)};
    int error = -EBADMSG; /* a suite without vectors is not trusted */
    for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
        const struct answer *answer = &answers[i];
        if (answer->encr != cipher->encr || answer->integ != cipher->integ || answer->key_octets != cipher->key_octets)
            continue;
        error = published(&trial, answer);
        if (error == 0)
            error = chained(&trial, answer);
    }
    dp_arena_destroy(arena);
    return error;
}
