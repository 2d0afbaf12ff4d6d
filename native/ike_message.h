/* IKE messages as far as it takes to know whose they are (RFC 7296 §3). No state, no clock; lengths are checked once, here. */
#ifndef DP_IKE_MESSAGE_H
#define DP_IKE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DP_IKE_HEADER = 28,
    DP_IKE_PAYLOAD_HEADER = 4,
    DP_IKE_FRAGMENT_FIELDS = 4, /* fragment number, total fragments (RFC 7383 §2.5) */
    DP_IKE_SA_INIT = 34,
    DP_IKE_MAIN_MODE = 2,   /* of IKEv1 */
    DP_IKE_RESPONSE = 0x20, /* flags */
    DP_IKE_INITIATOR = 0x08,
    DP_IKE_VERSION = 0x20, /* 2.0 */
    DP_IKE_VERSION_1 = 0x10,
    DP_IKE_V1_FRAGMENT = 132, /* first payload of a part of a message, by no standard */
    DP_IKE_NONCE_MIN = 16,
    DP_IKE_NONCE_MAX = 256,
    DP_IKE_PAYLOADS_MAX = 64, /* of a message that is looked at */
    DP_IKE_NOTIFY_COOKIE = 16390,
};

struct dp_ike_message {
    const uint8_t *start;
    uint32_t octets;
    uint64_t spi_i, spi_r;
    uint32_t id;
    uint8_t first, exchange, flags;
};

/* Reads a header. false: not IKEv2, or its length is not the datagram's. */
bool dp_ike_read(const uint8_t *message, size_t octets, struct dp_ike_message *m);

/* The same of IKEv1, whose header has cookies in the places of the SPIs, and no flag that says who began (RFC 2408 §3.1). */
bool dp_ike_read_v1(const uint8_t *message, size_t octets, struct dp_ike_message *m);

/* Where the IV of a message begins that is one protected payload, SK or SKF, and nothing else (RFC 7296 §3.14, RFC 7383 §2.5);
 * 0: it is not. */
uint32_t dp_ike_protected(const struct dp_ike_message *m);

/* What a cookie is made for, and the one that came (RFC 7296 §2.6). */
struct dp_ike_begin {
    const uint8_t *nonce, *cookie; /* cookie NULL: none */
    uint32_t nonce_octets, cookie_octets;
};
/* Whether this is a request that begins an IKE SA, its payloads whole and a nonce among them. */
bool dp_ike_begins(const struct dp_ike_message *m, struct dp_ike_begin *begin);

enum {
    DP_IKE_COOKIE = 32, /* octets of ours */
    DP_IKE_COOKIE_ANSWER = DP_IKE_HEADER + DP_IKE_PAYLOAD_HEADER + 4 + DP_IKE_COOKIE,
};
/* The answer that asks whoever sent `m` to bring this cookie back. */
void dp_ike_write_cookie(const struct dp_ike_message *m, const uint8_t cookie[DP_IKE_COOKIE], uint8_t answer[DP_IKE_COOKIE_ANSWER]);

#endif
