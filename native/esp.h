/* ESP of one packet (RFC 4303 tunnel mode): seal and open. No I/O, no tables, no clock. */
#ifndef DP_ESP_H
#define DP_ESP_H

#include <stdbool.h>

#include "aead.h"
#include "esp_wire.h"

/* The cryptographic half of an SA. */
struct dp_esp {
    const struct dp_cipher *cipher;
    void *context; /* in the key arena */
    uint32_t spi;  /* host order */
    bool esn;
    uint8_t salt[DP_AEAD_SALT];
    bool seeded;         /* CBC: IVs follow from `iv` (random.h), in rigs alone */
    uint64_t iv;         /* AEAD, outbound: the next IV; one writer */
    uint32_t tfc_octets; /* outbound: pad inner packets to this size at least */
};

struct dp_esp_opened {
    uint32_t octets; /* of plaintext without padding and trailer; TFC padding still in it */
    uint8_t next_header;
};

/* Octets of the ESP packet that sealing `inner_octets` makes: header, IV, ciphertext with padding and trailer, ICV. */
size_t dp_esp_sealed_octets(const struct dp_esp *esp, size_t inner_octets);

/* Seals `inner` into `out` (dp_esp_sealed_octets long). Behind the inner packet, lengthened to tfc_octets, DP_ESP_TAILROOM more
 * octets are overwritten with padding and trailer. `out` may be the same buffer only where the ciphertext falls exactly on the
 * inner packet. `sequence` was never used before under this key. DP_OK, DP_DROP_crypto_fault. */
enum dp_drop dp_esp_seal(struct dp_esp *esp, uint64_t sequence, uint8_t *inner, size_t inner_octets, uint8_t next_header,
                         uint8_t *out);

/* Seals `plain`, which ends in padding and trailer already, whatever they say: dp_esp_sealed_octets of what is before them, a
 * multiple of dp_esp_alignment. Else as dp_esp_seal. */
enum dp_drop dp_esp_seal_whole(struct dp_esp *esp, uint64_t sequence, const uint8_t *plain, size_t octets, uint8_t *out);
/* What the length of plaintext with its trailer is a multiple of (RFC 4303 §2.4). */
size_t dp_esp_alignment(const struct dp_esp *esp);

/* Opens an ESP packet of `octets` (≥ DP_ESP_HEADER; its SPI is this SA's, its sequence number is `sequence`) into `plain`, which
 * has room for `octets`, or is where its ciphertext lies. Checks length, ICV, padding and pad length; not the replay window and not
 * the inner packet. DP_OK or DP_DROP_esp_length, _icv, _pad, _crypto_fault. */
enum dp_drop dp_esp_open(struct dp_esp *esp, uint64_t sequence, const uint8_t *packet, size_t octets, uint8_t *plain,
                         struct dp_esp_opened *opened);

#endif
