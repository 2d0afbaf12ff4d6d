#include "too_big.h"

#include <endian.h>
#include <string.h>

#include "checksum.h"
#include "offload.h"

enum {
    ICMP = 1,
    ICMPV6 = 58,
    ICMP_HEADER = 8,
    ICMP_CHECKSUM = 2,
    ICMP_UNREACHABLE = 3,
    ICMP_FRAGMENTATION_NEEDED = 4,
    ICMPV6_TOO_BIG = 2,
    ICMPV6_INFORMATIONAL = 128, /* types below are errors (RFC 4443 §2.1) */
    HOPS = 64,
    IPV4_QUOTE_MAX = 576, /* octets of the whole message (RFC 1812 §4.3.2.3) */
    IPV4_SOURCE = 12,
    IPV6_SOURCE = 8,
    OFFSET_MASK = 0x1fff,
};

/* ICMP types that are errors (RFC 1122 §3.2.2): unreachable, source quench, redirect, time exceeded, parameter problem. */
static bool is_error(const struct dp_inner *inner) {
    uint32_t port = inner->flow.port[DP_LOCAL];
    uint32_t type = port >> 8;
    if (inner->version == 6)
        return inner->flow.protocol == ICMPV6 && (port == DP_PORT_OPAQUE || type < ICMPV6_INFORMATIONAL);
    return inner->flow.protocol == ICMP && (port == DP_PORT_OPAQUE || (type >= 3 && type <= 5) || type == 11 || type == 12);
}

static bool may_answer(const uint8_t *packet, const struct dp_inner *inner) {
    if (is_error(inner) || dp_flow_multicast(&inner->flow, DP_LOCAL))
        return false;
    if (inner->version == 6) /* "too big" alone is sent about multicast too, but not from such an address */
        return inner->flow.address.v6[DP_LOCAL] != 0 && !dp_flow_multicast(&inner->flow, DP_REMOTE);
    bool later_fragment = (dp_read_16(packet + 6) & OFFSET_MASK) != 0;
    uint32_t source = inner->flow.address.v4[DP_LOCAL], to = inner->flow.address.v4[DP_REMOTE];
    return !later_fragment && source >> 24 != 0 && source >> 28 < 0xe && to >> 28 < 0xe;
}

static size_t make_v4(uint8_t *out, const uint8_t *packet, const struct dp_inner *inner, uint32_t mtu) {
    size_t room = IPV4_QUOTE_MAX - DP_IPV4_HEADER_MIN - ICMP_HEADER, quoted = inner->octets < room ? inner->octets : room;
    uint16_t octets = (uint16_t)(DP_IPV4_HEADER_MIN + ICMP_HEADER + quoted);
    uint8_t *icmp = out + DP_IPV4_HEADER_MIN;
    const uint8_t header[IPV4_SOURCE] = {0x45, 0xc0, (uint8_t)(octets >> 8), (uint8_t)octets, 0, 0, 0, 0, HOPS, ICMP};
    memcpy(out, header, sizeof header);
    memcpy(out + IPV4_SOURCE, packet + IPV4_SOURCE + 4, 4);
    memcpy(out + IPV4_SOURCE + 4, packet + IPV4_SOURCE, 4);
    dp_store_word_16(out + DP_IPV4_CHECKSUM, (uint16_t)~dp_checksum(out, DP_IPV4_HEADER_MIN, 0));
    const uint8_t fields[ICMP_HEADER] = {ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, 0, 0, 0, 0, (uint8_t)(mtu >> 8),
                                         (uint8_t)mtu};
    memcpy(icmp, fields, sizeof fields);
    memcpy(icmp + ICMP_HEADER, packet, quoted);
    dp_store_word_16(icmp + ICMP_CHECKSUM, (uint16_t)~dp_checksum(icmp, ICMP_HEADER + quoted, 0));
    return octets;
}

static size_t make_v6(uint8_t *out, const uint8_t *packet, const struct dp_inner *inner, uint32_t mtu) {
    size_t room = DP_TOO_BIG_MAX - DP_IPV6_HEADER - ICMP_HEADER, quoted = inner->octets < room ? inner->octets : room;
    uint16_t payload = (uint16_t)(ICMP_HEADER + quoted);
    uint8_t *icmp = out + DP_IPV6_HEADER;
    const uint8_t header[IPV6_SOURCE] = {0x60, 0, 0, 0, (uint8_t)(payload >> 8), (uint8_t)payload, ICMPV6, HOPS};
    memcpy(out, header, sizeof header);
    memcpy(out + IPV6_SOURCE, packet + IPV6_SOURCE + 16, 16);
    memcpy(out + IPV6_SOURCE + 16, packet + IPV6_SOURCE, 16);
    const uint8_t fields[ICMP_HEADER] = {ICMPV6_TOO_BIG,      0,           0, 0, (uint8_t)(mtu >> 24), (uint8_t)(mtu >> 16),
                                         (uint8_t)(mtu >> 8), (uint8_t)mtu};
    memcpy(icmp, fields, sizeof fields);
    memcpy(icmp + ICMP_HEADER, packet, quoted);
    uint32_t pseudo = dp_checksum(out + IPV6_SOURCE, 32, (uint32_t)htobe16(payload) + htobe16(ICMPV6));
    dp_store_word_16(icmp + ICMP_CHECKSUM, (uint16_t)~dp_checksum(icmp, payload, pseudo));
    return DP_IPV6_HEADER + (size_t)payload;
}

size_t dp_too_big_make(uint8_t *out, const uint8_t *packet, const struct dp_inner *inner, uint32_t mtu) {
    if (!may_answer(packet, inner))
        return 0;
    return inner->version == 4 ? make_v4(out, packet, inner, mtu) : make_v6(out, packet, inner, mtu);
}
