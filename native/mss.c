#include "mss.h"

#include "inner.h"
#include "offload.h"

enum {
    TCP_SYN = 0x02,
    OPTION_END = 0, /* RFC 9293 §3.1 */
    OPTION_NOP = 1,
    OPTION_MSS = 2,
    OPTION_MSS_OCTETS = 4,
};

/* Writes 16 bits of the TCP segment, which at an odd `at` lie in two words of its checksum. */
static void write_word(uint8_t *tcp, uint32_t at, uint16_t value, bool partial) {
    uint32_t even = at & ~1u, words = at == even ? 1 : 2;
    uint16_t before[2] = {dp_read_16(tcp + even), words == 2 ? dp_read_16(tcp + even + 2) : 0};
    tcp[at] = (uint8_t)(value >> 8);
    tcp[at + 1] = (uint8_t)value;
    for (uint32_t i = 0; i < words && !partial; i++)
        dp_checksum_mend(tcp + DP_TCP_CHECKSUM, before[i], dp_read_16(tcp + even + 2 * i));
}

bool dp_mss_clamp(uint8_t *packet, const struct dp_inner *inner, uint16_t mss, bool partial) {
    uint8_t *tcp = packet + inner->header;
    uint32_t octets = inner->octets - inner->header;
    if (inner->flow.protocol != DP_PROTOCOL_TCP || inner->flow.port[DP_LOCAL] == DP_PORT_OPAQUE || inner->later_fragment ||
        octets < DP_TCP_HEADER_MIN || (tcp[DP_TCP_FLAGS] & TCP_SYN) == 0)
        return false;
    uint32_t header = (tcp[DP_TCP_OFFSET] >> 4) * 4u;
    if (header > octets)
        return false;
    for (uint32_t at = DP_TCP_HEADER_MIN; at < header && tcp[at] != OPTION_END;) {
        uint32_t length = tcp[at] == OPTION_NOP ? 1 : at + 1 < header ? tcp[at + 1] : 0;
        if (length == 0 || length > header - at || (length == 1 && tcp[at] != OPTION_NOP))
            return false;
        if (tcp[at] == OPTION_MSS && length == OPTION_MSS_OCTETS) {
            if (dp_read_16(tcp + at + 2) <= mss)
                return false;
            write_word(tcp, at + 2, mss, partial);
            return true;
        }
        at += length;
    }
    return false;
}
