#include "fragment.h"

#include <string.h>

#include "checksum.h"
#include "offload.h"

enum {
    FRAGMENT = 6, /* octet of flags and fragment offset */
    DONT_FRAGMENT = 0x4000,
    MORE_FRAGMENTS = 0x2000,
    OFFSET_MASK = 0x1fff,
    UNIT = 8, /* octets: fragment offsets count these */

    OPTION_END = 0, /* RFC 791 §3.1 */
    OPTION_NOP = 1,
    OPTION_COPIED = 0x80,
};

/* Options with the copied flag go into every fragment, the others only into the first (RFC 791 §3.1). Malformed ones end them. */
static uint16_t later_header(uint8_t *later, const uint8_t *header, uint16_t octets) {
    uint16_t to = DP_IPV4_HEADER_MIN;
    memcpy(later, header, DP_IPV4_HEADER_MIN);
    for (uint16_t at = DP_IPV4_HEADER_MIN; at < octets && header[at] != OPTION_END;) {
        uint16_t left = octets - at, length = header[at] == OPTION_NOP ? 1 : left >= 2 ? header[at + 1] : 0;
        if (length == 0 || length > left || (length == 1 && header[at] != OPTION_NOP))
            break;
        if ((header[at] & OPTION_COPIED) != 0) {
            memcpy(later + to, header + at, length);
            to += length;
        }
        at += length;
    }
    while (to % 4 != 0)
        later[to++] = OPTION_END;
    later[0] = (uint8_t)(0x40 | to / 4);
    return to;
}

bool dp_fragments_begin(struct dp_fragments *f, uint8_t *packet, const struct dp_inner *inner, uint32_t mtu) {
    if (mtu < DP_IPV4_MTU_MIN)
        return false;
    uint16_t field = dp_read_16(packet + FRAGMENT);
    f->header_octets = inner->header;
    memcpy(f->header, packet, inner->header);
    f->later_octets = later_header(f->later, packet, inner->header);
    f->payload = packet + inner->header;
    f->left = inner->octets - inner->header;
    /* All fragments are cut alike, by the longer header. */
    f->room = (mtu - inner->header) / UNIT * UNIT;
    f->offset = field & OFFSET_MASK;
    f->more = (field & MORE_FRAGMENTS) != 0;
    f->first = true;
    return true;
}

static void write_header(const struct dp_fragments *f, uint8_t *packet, uint16_t header, uint32_t payload) {
    bool more = f->more || payload < f->left;
    uint16_t octets = (uint16_t)(header + payload), field = (uint16_t)(f->offset | (more ? MORE_FRAGMENTS : 0));
    memcpy(packet, f->first ? f->header : f->later, header);
    packet[DP_IPV4_LENGTH] = (uint8_t)(octets >> 8);
    packet[DP_IPV4_LENGTH + 1] = (uint8_t)octets;
    packet[FRAGMENT] = (uint8_t)(field >> 8);
    packet[FRAGMENT + 1] = (uint8_t)field;
    dp_store_word_16(packet + DP_IPV4_CHECKSUM, 0);
    dp_store_word_16(packet + DP_IPV4_CHECKSUM, (uint16_t)~dp_checksum(packet, header, 0));
}

uint8_t *dp_fragments_next(struct dp_fragments *f, uint32_t *octets) {
    if (f->left == 0)
        return NULL;
    uint16_t header = f->first ? f->header_octets : f->later_octets;
    if (!f->first)
        memcpy(f->payload, f->saved, sizeof f->saved);
    uint32_t mine = f->left < f->room ? f->left : f->room;
    uint8_t *packet = f->payload - header;
    write_header(f, packet, header, mine);
    *octets = header + mine;
    f->payload += mine;
    f->offset = (uint16_t)(f->offset + mine / UNIT);
    f->left -= mine;
    f->first = false;
    memcpy(f->saved, f->payload, sizeof f->saved);
    return packet;
}
