/* The wire formats and every limit of the data plane: RFC 4303 (ESP), RFC 3948 (UDP encapsulation), RFC 4106 (GCM), RFC 7634
 * (ChaCha20-Poly1305), RFC 3602 (CBC). No logic. All multi-octet fields are in network order on the wire. */
#ifndef DP_ESP_WIRE_H
#define DP_ESP_WIRE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 4303 §2: what precedes the IV. */
struct dp_esp_header {
    uint32_t spi;
    uint32_t sequence; /* the low 32 bits under ESN */
};
static_assert(sizeof(struct dp_esp_header) == 8, "RFC 4303 §2");

/* RFC 4106 §4, RFC 7634 §2: the nonce is the SA's salt and the packet's IV. */
struct dp_esp_nonce {
    uint8_t salt[4];
    uint8_t iv[8];
};
static_assert(sizeof(struct dp_esp_nonce) == 12, "RFC 4106 §4");

/* RFC 4106 §5: additional authenticated data without and with extended sequence numbers. */
struct dp_esp_aad {
    uint32_t spi;
    uint32_t sequence;
};
struct dp_esp_aad_esn {
    uint32_t spi;
    uint32_t sequence_high;
    uint32_t sequence_low;
};
static_assert(sizeof(struct dp_esp_aad) == 8 && sizeof(struct dp_esp_aad_esn) == 12, "RFC 4106 §5");

enum {
    DP_ESP_HEADER = sizeof(struct dp_esp_header),
    DP_ESP_TRAILER = 2, /* pad length, next header (RFC 4303 §2.4) */
    DP_ESP_ALIGN = 4,   /* ciphertext alignment where the cipher asks for less (RFC 4303 §2.4) */
    DP_ESP_PAD_MAX = 255,
    DP_AEAD_IV = 8,
    DP_AEAD_ICV = 16,
    DP_AEAD_SALT = 4,
    DP_CBC_BLOCK = 16,
    DP_ICV_MIN = 12, /* HMAC-SHA1-96 */
    DP_ICV_MAX = 32, /* HMAC-SHA2-512-256 */
    DP_IV_MAX = 16,
    DP_KEYMAT_MAX = 32 + 64, /* AES-256-CBC with HMAC-SHA2-512 */

    /* Octets a caller of dp_esp_seal leaves writable behind the inner packet: pad and trailer without TFC padding. */
    DP_ESP_TAILROOM = DP_CBC_BLOCK + DP_ESP_TRAILER,
    /* The most that sealing adds to an inner packet without TFC padding. */
    DP_ESP_GROWTH = DP_ESP_HEADER + DP_IV_MAX + DP_ESP_TAILROOM + DP_ICV_MAX,

    DP_IKE_PORT = 500,       /* RFC 7296 §2 */
    DP_NAT_PORT = 4500,      /* ESP in UDP, and IKE behind the marker (RFC 3948 §2.1, §2.2) */
    DP_IKE_SPIS = 16,        /* the two SPIs that an IKE header begins with (RFC 7296 §3.1) */
    DP_NON_ESP_MARKER = 4,   /* four zero octets before IKE on port 4500 (RFC 3948 §2.2) */
    DP_NAT_KEEPALIVE = 0xff, /* one octet (RFC 3948 §2.3) */
    DP_SPI_MIN = 256,        /* 0 is local, 1–255 are reserved (RFC 4303 §2.1) */
    DP_IPV4_HEADER_MIN = 20,
    DP_IPV6_HEADER = 40,
    DP_IP_MAX = 65535,

    DP_NH_IPV4 = 4,
    DP_NH_IPV6 = 41,
    DP_NH_DUMMY = 59,

    DP_PROTOCOL_ESP = 50,

    DP_PROTOCOL_OPAQUE = 256, /* a protocol or port that the packet does not show (RFC 4301 §4.4.1.1) */
    DP_PORT_OPAQUE = 65536,
};

#endif
