#include "ike_message.h"

#include <string.h>

#include "octets.h"

enum { /* RFC 7296 §3.1: where the fields of a header lie */
    SPI_R = 8,
    FIRST = 16,
    VERSION = 17,
    EXCHANGE = 18,
    FLAGS = 19,
    MESSAGE_ID = 20,
    LENGTH = 24,
};
enum { /* §3.2 */
    PAYLOAD_NONE = 0,
    PAYLOAD_NONCE = 40,
    PAYLOAD_NOTIFY = 41,
    PAYLOAD_SK = 46,
    PAYLOAD_SKF = 53,
    NOTIFY_FIELDS = 4, /* §3.10: protocol, SPI's length, type */
};

static uint64_t read_64(const uint8_t *octets) {
    return (uint64_t)dp_read_32(octets) << 32 | dp_read_32(octets + 4);
}

static bool read_header(uint8_t version, const uint8_t *message, size_t octets, struct dp_ike_message *m) {
    if (octets < DP_IKE_HEADER || message[VERSION] >> 4 != version >> 4 || dp_read_32(message + LENGTH) != octets)
        return false;
    *m = (struct dp_ike_message){
        .start = message,
        .octets = (uint32_t)octets,
        .spi_i = read_64(message),
        .spi_r = read_64(message + SPI_R),
        .id = dp_read_32(message + MESSAGE_ID),
        .first = message[FIRST],
        .exchange = message[EXCHANGE],
        .flags = message[FLAGS],
    };
    return true;
}

bool dp_ike_read(const uint8_t *message, size_t octets, struct dp_ike_message *m) {
    return read_header(DP_IKE_VERSION, message, octets, m);
}

bool dp_ike_read_v1(const uint8_t *message, size_t octets, struct dp_ike_message *m) {
    return read_header(DP_IKE_VERSION_1, message, octets, m);
}

uint32_t dp_ike_protected(const struct dp_ike_message *m) {
    if (m->first != PAYLOAD_SK && m->first != PAYLOAD_SKF)
        return 0;
    uint32_t fields = m->first == PAYLOAD_SKF ? DP_IKE_FRAGMENT_FIELDS : 0, body = DP_IKE_HEADER + DP_IKE_PAYLOAD_HEADER + fields;
    if (m->octets < body || dp_read_16(m->start + DP_IKE_HEADER + 2) != m->octets - DP_IKE_HEADER)
        return 0;
    return body;
}

static void look_at(struct dp_ike_begin *begin, uint8_t type, const uint8_t *body, uint32_t octets) {
    if (type == PAYLOAD_NONCE && begin->nonce == NULL) {
        begin->nonce = body;
        begin->nonce_octets = octets;
    }
    if (type == PAYLOAD_NOTIFY && begin->cookie == NULL && octets >= NOTIFY_FIELDS && body[1] == 0 &&
        dp_read_16(body + 2) == DP_IKE_NOTIFY_COOKIE) {
        begin->cookie = body + NOTIFY_FIELDS;
        begin->cookie_octets = octets - NOTIFY_FIELDS;
    }
}

bool dp_ike_begins(const struct dp_ike_message *m, struct dp_ike_begin *begin) {
    *begin = (struct dp_ike_begin){0};
    if (m->exchange != DP_IKE_SA_INIT || (m->flags & (DP_IKE_INITIATOR | DP_IKE_RESPONSE)) != DP_IKE_INITIATOR || m->spi_i == 0 ||
        m->spi_r != 0 || m->id != 0)
        return false;
    uint32_t at = DP_IKE_HEADER;
    uint8_t type = m->first;
    for (unsigned payloads = 0; type != PAYLOAD_NONE; payloads++) {
        if (payloads == DP_IKE_PAYLOADS_MAX || m->octets - at < DP_IKE_PAYLOAD_HEADER)
            return false;
        uint32_t octets = dp_read_16(m->start + at + 2);
        if (octets < DP_IKE_PAYLOAD_HEADER || octets > m->octets - at)
            return false;
        look_at(begin, type, m->start + at + DP_IKE_PAYLOAD_HEADER, octets - DP_IKE_PAYLOAD_HEADER);
        type = m->start[at];
        at += octets;
    }
    return at == m->octets && begin->nonce != NULL && begin->nonce_octets >= DP_IKE_NONCE_MIN &&
           begin->nonce_octets <= DP_IKE_NONCE_MAX;
}

void dp_ike_write_cookie(const struct dp_ike_message *m, const uint8_t cookie[DP_IKE_COOKIE],
                         uint8_t answer[DP_IKE_COOKIE_ANSWER]) {
    enum {
        PAYLOAD = DP_IKE_COOKIE_ANSWER - DP_IKE_HEADER,
    };
    static const uint8_t notify[] = {PAYLOAD_NONE, 0, 0, PAYLOAD, 0, 0, DP_IKE_NOTIFY_COOKIE >> 8, DP_IKE_NOTIFY_COOKIE & 0xff};
    memset(answer, 0, DP_IKE_HEADER);
    memcpy(answer, m->start, SPI_R);
    answer[FIRST] = PAYLOAD_NOTIFY;
    answer[VERSION] = DP_IKE_VERSION;
    answer[EXCHANGE] = DP_IKE_SA_INIT;
    answer[FLAGS] = DP_IKE_RESPONSE;
    answer[LENGTH + 3] = DP_IKE_COOKIE_ANSWER;
    memcpy(answer + DP_IKE_HEADER, notify, sizeof notify);
    memcpy(answer + DP_IKE_HEADER + sizeof notify, cookie, DP_IKE_COOKIE);
}
