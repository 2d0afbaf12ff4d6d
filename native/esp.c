/* ESP of one packet.
 *
 *     SPI | sequence | IV | inner packet [TFC padding] 1 2 3 … pad length | next header | ICV
 *     authenticated besides: sequence_high under ESN, inside the AAD (RFC 4106 §5) or at the very end (RFC 4303 §2.8) */
#include "esp.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "octets.h"
#include "random.h"

/* RFC 4303 §2.4. Sealing copies from the front of it, opening compares with it. */
static const uint8_t padding[DP_ESP_PAD_MAX] = {
#define ROW(n) n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7, n + 8, n + 9, n + 10, n + 11, n + 12, n + 13, n + 14, n + 15
    ROW(0),   ROW(15),  ROW(30),  ROW(45),  ROW(60),  ROW(75),  ROW(90),  ROW(105), ROW(120),
    ROW(135), ROW(150), ROW(165), ROW(180), ROW(195), ROW(210), ROW(225), ROW(240),
#undef ROW
};

/* Nonce and ESN AAD, twelve octets in network order at the front of sixteen. One store writes them all: the ciphers load them
 * whole, and a processor that must gather a load from several stores waits for them (measured: 12 ns of a 48 ns open). */
typedef uint64_t octets_16 __attribute__((vector_size(16)));
static_assert(sizeof(octets_16) >= sizeof(struct dp_esp_nonce) && sizeof(octets_16) >= sizeof(struct dp_esp_aad_esn), "both fit");

static octets_16 twelve_octets(uint32_t first, uint64_t rest) {
    return (octets_16){htobe64((uint64_t)first << 32 | rest >> 32), htobe64(rest << 32)};
}

/* What is authenticated of the sequence number lies here for one packet, as the cipher wants it. */
struct authenticated {
    octets_16 aad;
    uint32_t sequence_high;
};

static size_t alignment(const struct dp_cipher *cipher) {
    return cipher->block_octets > DP_ESP_ALIGN ? cipher->block_octets : DP_ESP_ALIGN;
}

/* Inner packet with TFC padding. */
static size_t padded_inner(const struct dp_esp *esp, size_t inner_octets) {
    return inner_octets < esp->tfc_octets ? esp->tfc_octets : inner_octets;
}

static size_t ciphertext_octets(const struct dp_esp *esp, size_t inner_octets) {
    size_t align = alignment(esp->cipher);
    return (padded_inner(esp, inner_octets) + DP_ESP_TRAILER + align - 1) & ~(align - 1);
}

size_t dp_esp_sealed_octets(const struct dp_esp *esp, size_t inner_octets) {
    const struct dp_cipher *cipher = esp->cipher;
    return DP_ESP_HEADER + cipher->iv_octets + ciphertext_octets(esp, inner_octets) + cipher->icv_octets;
}

static uint64_t header_octets(const struct dp_esp *esp, uint64_t sequence) {
    return htobe64((uint64_t)esp->spi << 32 | (uint32_t)sequence);
}

/* Points `c` at what is authenticated beside the ciphertext. `packet` begins with the ESP header. */
static void authenticate(struct dp_crypt *c, struct authenticated *a, const struct dp_esp *esp, uint64_t sequence,
                         const uint8_t *packet) {
    if (esp->cipher->salt_octets == 0) {
        c->aad = packet;
        c->aad_octets = DP_ESP_HEADER + esp->cipher->iv_octets;
        a->sequence_high = htobe32((uint32_t)(sequence >> 32));
        c->tail = (const uint8_t *)&a->sequence_high;
        c->tail_octets = esp->esn ? sizeof(a->sequence_high) : 0;
        return;
    }
    a->aad = esp->esn ? twelve_octets(esp->spi, sequence) : (octets_16){header_octets(esp, sequence), 0};
    c->aad = (const uint8_t *)&a->aad;
    c->aad_octets = esp->esn ? sizeof(struct dp_esp_aad_esn) : sizeof(struct dp_esp_aad);
}

/* An unpredictable IV (RFC 3602 §3), from a pool of the system's random octets: one call for many packets. 256 octets are what
 * getrandom(2) gives whole, signals or not. */
static bool random_iv(uint8_t *iv, size_t octets) {
    static _Thread_local uint8_t pool[256];
    static _Thread_local size_t left;
    if (left < octets) {
        if (getrandom(pool, sizeof(pool), 0) != (ssize_t)sizeof(pool))
            return false;
        left = sizeof(pool);
    }
    left -= octets;
    memcpy(iv, pool + left, octets);
    return true;
}

/* The same of a plane that has a seed. */
static void seeded_iv(struct dp_esp *esp, uint8_t *iv, size_t octets) {
    for (size_t at = 0; at < octets; at += sizeof(uint64_t)) {
        uint64_t number = htobe64(dp_random_follow(&esp->iv));
        memcpy(iv + at, &number, sizeof number);
    }
}

/* TFC padding, ESP padding and trailer behind the inner packet, up to `octets` in all. */
static void pad(const struct dp_esp *esp, uint8_t *inner, size_t inner_octets, size_t octets, uint8_t next_header) {
    size_t padded = padded_inner(esp, inner_octets);
    if (padded > inner_octets)
        memset(inner + inner_octets, 0, padded - inner_octets);
    memcpy(inner + padded, padding, DP_CBC_BLOCK); /* a constant length is one store; DP_ESP_TAILROOM allows for it */
    inner[octets - 2] = (uint8_t)(octets - DP_ESP_TRAILER - padded);
    inner[octets - 1] = next_header;
}

/* Seals plaintext of `octets`, trailer included. */
static inline enum dp_drop seal_plain(struct dp_esp *esp, uint64_t sequence, const uint8_t *plain, size_t octets, uint8_t *out) {
    const struct dp_cipher *cipher = esp->cipher;
    const uint64_t header = header_octets(esp, sequence);
    memcpy(out, &header, DP_ESP_HEADER);
    uint8_t *iv = out + DP_ESP_HEADER;
    uint8_t *ciphertext = iv + cipher->iv_octets;
    struct dp_crypt c = {.iv = iv, .src = plain, .dst = ciphertext, .octets = (uint32_t)octets, .icv = ciphertext + octets};
    octets_16 nonce;
    if (cipher->random_iv && esp->seeded) {
        seeded_iv(esp, iv, cipher->iv_octets);
    } else if (cipher->random_iv) {
        if (!random_iv(iv, cipher->iv_octets))
            return DP_DROP_crypto_fault;
    } else {
        const uint64_t counter = esp->iv++; /* spent even if the cipher fails */
        const uint64_t counter_octets = htobe64(counter);
        memcpy(iv, &counter_octets, sizeof(counter_octets));
        nonce = twelve_octets(dp_read_32(esp->salt), counter);
        c.iv = (const uint8_t *)&nonce;
    }
    struct authenticated a;
    authenticate(&c, &a, esp, sequence, out);
    return cipher->seal(esp->context, &c) == 0 ? DP_OK : DP_DROP_crypto_fault;
}

enum dp_drop dp_esp_seal(struct dp_esp *esp, uint64_t sequence, uint8_t *inner, size_t inner_octets, uint8_t next_header,
                         uint8_t *out) {
    size_t octets = ciphertext_octets(esp, inner_octets);
    pad(esp, inner, inner_octets, octets, next_header);
    return seal_plain(esp, sequence, inner, octets, out);
}

enum dp_drop dp_esp_seal_whole(struct dp_esp *esp, uint64_t sequence, const uint8_t *plain, size_t octets, uint8_t *out) {
    return seal_plain(esp, sequence, plain, octets, out);
}

size_t dp_esp_alignment(const struct dp_esp *esp) {
    return alignment(esp->cipher);
}

/* RFC 4303 §2.4, §3.4.4.1: the padding is 1, 2, 3, … and lies within the packet. */
static bool padding_holds(const uint8_t *plain, size_t octets, size_t pad_octets) {
    return pad_octets <= octets - DP_ESP_TRAILER && memcmp(plain + octets - DP_ESP_TRAILER - pad_octets, padding, pad_octets) == 0;
}

enum dp_drop dp_esp_open(struct dp_esp *esp, uint64_t sequence, const uint8_t *packet, size_t octets, uint8_t *plain,
                         struct dp_esp_opened *opened) {
    const struct dp_cipher *cipher = esp->cipher;
    size_t align = alignment(cipher);
    size_t overhead = (size_t)DP_ESP_HEADER + cipher->iv_octets + cipher->icv_octets;
    if (octets < overhead + align || (octets - overhead) % align != 0)
        return DP_DROP_esp_length;
    octets -= overhead;

    const uint8_t *iv = packet + DP_ESP_HEADER;
    const uint8_t *ciphertext = iv + cipher->iv_octets;
    struct dp_crypt c = {.iv = iv, .src = ciphertext, .dst = plain, .octets = (uint32_t)octets};
    c.icv = (uint8_t *)(ciphertext + octets); /* only read */
    octets_16 nonce;
    if (cipher->salt_octets != 0) {
        nonce = twelve_octets(dp_read_32(esp->salt), (uint64_t)dp_read_32(iv) << 32 | dp_read_32(iv + 4));
        c.iv = (const uint8_t *)&nonce;
    }
    struct authenticated a;
    authenticate(&c, &a, esp, sequence, packet);
    int error = cipher->open(esp->context, &c);
    if (error != 0)
        return error == -EBADMSG ? DP_DROP_icv : DP_DROP_crypto_fault;

    size_t pad_octets = plain[octets - 2];
    if (!padding_holds(plain, octets, pad_octets)) {
        explicit_bzero(plain, octets);
        return DP_DROP_pad;
    }
    opened->octets = (uint32_t)(octets - DP_ESP_TRAILER - pad_octets);
    opened->next_header = plain[octets - 1];
    return DP_OK;
}
