/* The checksum of the inner IPv4 header is not verified here: outbound the kernel has just made it, inbound the kernel verifies it
 * behind the TUN device, and dp_ecn_decapsulate mends it so that a wrong one stays wrong. Who merges packets verifies it first. */
#include "inner.h"

#include <string.h>

enum {
    IPV4_OFFSET_MASK = 0x1fff, /* RFC 791 §3.1 */
    IPV4_DONT_FRAGMENT = 0x4000,
    IPV4_MORE_FRAGMENTS = 0x2000,
    IPV6_OFFSET_MASK = 0xfff8, /* RFC 8200 §4.5 */
    IPV6_MORE_FRAGMENTS = 1,
    IPV6_EXTENSIONS_MAX = 8,
    IPV4_CHECKSUM = 10,

    ICMP_HEADER = 8, /* RFC 792, RFC 4443 §2.1; the quoted packet follows it */
    QUOTE_MAX = 128, /* octets of it that are looked at */

    ECN_MASK = 3,
    ECN_CE = 3,
    ECN_DROP = 4, /* no code point: the packet is dropped */
};

/* IANA protocol numbers. */
enum {
    HOP_BY_HOP = 0,
    ICMP = 1,
    TCP = 6,
    UDP = 17,
    DCCP = 33,
    ROUTING = 43,
    FRAGMENT = 44,
    AH = 51,
    ICMPV6 = 58,
    DESTINATION = 60,
    SCTP = 132,
    UDP_LITE = 136,
};

static bool is_extension(uint8_t next_header) {
    return next_header == HOP_BY_HOP || next_header == ROUTING || next_header == FRAGMENT || next_header == AH ||
           next_header == DESTINATION;
}

/* The selectors' ports (RFC 4301 §4.4.1.1) from `octets` of upper layer; the caller has set both to OPAQUE. */
static void read_ports(struct dp_flow *flow, const uint8_t *upper, size_t octets, int source) {
    switch (flow->protocol) {
    case TCP:
    case UDP:
    case DCCP:
    case SCTP:
    case UDP_LITE:
        if (octets >= 4) {
            flow->port[source] = dp_read_16(upper);
            flow->port[!source] = dp_read_16(upper + 2);
        }
        break;
    case ICMP:
    case ICMPV6:
        if (octets >= 2)
            flow->port[DP_LOCAL] = flow->port[DP_REMOTE] = dp_read_16(upper);
        break;
    default:
        flow->portless = true;
    }
}

static enum dp_drop read_v4(const uint8_t *packet, size_t octets, int source, struct dp_inner *inner) {
    if (octets < DP_IPV4_HEADER_MIN)
        return DP_DROP_inner_length;
    inner->header = (uint16_t)((packet[0] & 15) * 4);
    inner->octets = dp_read_16(packet + 2);
    if (inner->header < DP_IPV4_HEADER_MIN || inner->octets < inner->header || inner->octets > octets)
        return DP_DROP_inner_length;
    uint16_t fragment = dp_read_16(packet + 6);
    inner->tos = packet[1];
    inner->dont_fragment = fragment & IPV4_DONT_FRAGMENT;
    inner->fragment = fragment & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK);
    inner->later_fragment = fragment & IPV4_OFFSET_MASK;
    inner->flow.protocol = packet[9];
    inner->flow.address.v4[source] = dp_read_32(packet + 12);
    inner->flow.address.v4[!source] = dp_read_32(packet + 16);
    if (inner->later_fragment)
        inner->flow.portless = true;
    else
        read_ports(&inner->flow, packet + inner->header, inner->octets - inner->header, source);
    return DP_OK;
}

/* Octets of the extension header at `header`, of which the first two are there (RFC 8200 §4, RFC 4302 §2.2). */
static size_t extension_octets(uint8_t kind, const uint8_t *header) {
    switch (kind) {
    case FRAGMENT:
        return 8;
    case AH:
        return (header[1] + 2u) * 4;
    default:
        return (header[1] + 1u) * 8;
    }
}

/* Follows the extension headers to the upper layer. A later fragment shows its protocol only when no further extension header
 * precedes it. */
static enum dp_drop read_v6_chain(const uint8_t *packet, int source, struct dp_inner *inner) {
    uint8_t next = packet[6];
    size_t at = DP_IPV6_HEADER;

    for (int extensions = 0; is_extension(next) && !inner->later_fragment; extensions++) {
        if (extensions == IPV6_EXTENSIONS_MAX || inner->octets - at < 8)
            return DP_DROP_inner_header;
        if (next == HOP_BY_HOP && at != DP_IPV6_HEADER) /* RFC 8200 §4.1 */
            return DP_DROP_inner_header;
        const uint8_t *header = packet + at;
        size_t octets = extension_octets(next, header);
        if (octets > inner->octets - at)
            return DP_DROP_inner_header;
        if (next == FRAGMENT) {
            uint16_t field = dp_read_16(header + 2);
            inner->later_fragment = field & IPV6_OFFSET_MASK;
            inner->fragment |= inner->later_fragment || (field & IPV6_MORE_FRAGMENTS);
        }
        next = header[0];
        at += octets;
    }
    inner->header = (uint16_t)at;
    inner->flow.protocol = is_extension(next) ? DP_PROTOCOL_OPAQUE : next;
    if (inner->later_fragment)
        inner->flow.portless = true;
    else
        read_ports(&inner->flow, packet + at, inner->octets - at, source);
    return DP_OK;
}

static enum dp_drop read_v6(const uint8_t *packet, size_t octets, int source, struct dp_inner *inner) {
    if (octets < DP_IPV6_HEADER)
        return DP_DROP_inner_length;
    inner->octets = DP_IPV6_HEADER + (uint32_t)dp_read_16(packet + 4); /* no jumbograms (RFC 2675) */
    if (inner->octets > octets)
        return DP_DROP_inner_length;
    inner->tos = (uint8_t)(dp_read_16(packet) >> 4);
    inner->dont_fragment = true;
    inner->flow.address.v6[source] = dp_read_128(packet + 8);
    inner->flow.address.v6[!source] = dp_read_128(packet + 24);
    return read_v6_chain(packet, source, inner);
}

/* Destination unreachable, time exceeded, parameter problem, and packet too big of IPv6: what tells a sender of its own packet.
 * Redirects and source quenches (RFC 6633) are none: they change where or how fast a host sends. */
static bool is_icmp_error(uint16_t protocol, uint8_t type) {
    return protocol == ICMP ? type == 3 || type == 11 || type == 12 : protocol == ICMPV6 && type >= 1 && type <= 4;
}

static enum dp_drop read_header(const uint8_t *packet, size_t octets, int source, struct dp_inner *inner) {
    if (octets == 0)
        return DP_DROP_inner_length;
    inner->version = packet[0] >> 4;
    inner->fragment = inner->later_fragment = false;
    inner->flow.family = inner->version;
    inner->flow.port[DP_LOCAL] = inner->flow.port[DP_REMOTE] = DP_PORT_OPAQUE;
    inner->flow.portless = false;
    switch (inner->version) {
    case 4:
        return read_v4(packet, octets, source, inner);
    case 6:
        return read_v6(packet, octets, source, inner);
    default:
        return DP_DROP_inner_version;
    }
}

/* The header of a packet of which only the beginning is there: read as if it were all. */
static enum dp_drop read_beginning(const uint8_t *packet, size_t octets, int source, struct dp_inner *inner) {
    uint8_t whole[QUOTE_MAX];
    size_t have = octets < sizeof whole ? octets : sizeof whole;
    if (have < DP_IPV4_HEADER_MIN || (packet[0] >> 4 != 4 && have < DP_IPV6_HEADER))
        return DP_DROP_inner_length;
    memcpy(whole, packet, have);
    if (packet[0] >> 4 == 4) {
        whole[2] = (uint8_t)(have >> 8);
        whole[3] = (uint8_t)have;
    } else {
        whole[4] = (uint8_t)((have - DP_IPV6_HEADER) >> 8);
        whole[5] = (uint8_t)(have - DP_IPV6_HEADER);
    }
    return read_header(whole, have, source, inner);
}

/* RFC 4301 §6: an ICMP error belongs to the traffic of the packet it quotes. That went the other way, and the error goes to its
 * source; one that goes elsewhere quotes nothing. */
static void read_quoted(const uint8_t *packet, int source, struct dp_inner *inner) {
    inner->quotes = false;
    if (inner->fragment || (inner->flow.protocol != ICMP && inner->flow.protocol != ICMPV6) ||
        inner->octets < inner->header + (uint32_t)ICMP_HEADER || !is_icmp_error(inner->flow.protocol, packet[inner->header]))
        return;
    size_t at = (size_t)inner->header + ICMP_HEADER;
    struct dp_inner about = {.octets = 0};
    if (read_beginning(packet + at, inner->octets - at, !source, &about) != DP_OK || about.version != inner->version)
        return;
    inner->quoted = about.flow;
    if (about.later_fragment)
        inner->quoted.portless = false; /* the error itself is no fragment: no OPAQUE selector holds it */
    inner->quotes = inner->version == 4 ? about.flow.address.v4[!source] == inner->flow.address.v4[!source]
                                        : about.flow.address.v6[!source] == inner->flow.address.v6[!source];
}

enum dp_drop dp_inner_read(const uint8_t *packet, size_t octets, enum dp_direction_of_flow direction, struct dp_inner *inner) {
    int source = direction == DP_FLOW_OUTBOUND ? DP_LOCAL : DP_REMOTE;
    enum dp_drop reason = read_header(packet, octets, source, inner);
    if (reason == DP_OK)
        read_quoted(packet, source, inner);
    return reason;
}

uint8_t dp_outer_tos(uint8_t inner_tos, const struct dp_path *path) {
    uint8_t ecn = (path->outer & DP_OUTER_NO_ECN) != 0 ? 0 : inner_tos & ECN_MASK;
    switch (path->dscp) {
    case DP_DSCP_COPY:
        return (uint8_t)((inner_tos & ~ECN_MASK) | ecn);
    case DP_DSCP_VALUE:
        return (uint8_t)(path->dscp_value << 2 | ecn);
    default:
        return ecn;
    }
}

/* RFC 6040 §4.2, figure 4: [arriving inner][arriving outer], in the order of the code points Not-ECT, ECT(1), ECT(0), CE. */
static const uint8_t ecn_merged[4][4] = {
    {0, 0, 0, ECN_DROP},
    {1, 1, 1, ECN_CE},
    {2, 1, 2, ECN_CE},
    {ECN_CE, ECN_CE, ECN_CE, ECN_CE},
};

void dp_checksum_mend(uint8_t *checksum, uint16_t old_word, uint16_t new_word) {
    uint32_t sum = (uint16_t)~dp_read_16(checksum);
    sum += (uint16_t)~old_word;
    sum += new_word;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum;
    checksum[0] = (uint8_t)(sum >> 8);
    checksum[1] = (uint8_t)sum;
}

static uint8_t read_tos(const uint8_t *packet) {
    return packet[0] >> 4 == 4 ? packet[1] : (uint8_t)(dp_read_16(packet) >> 4);
}

static void write_tos(uint8_t *packet, uint8_t tos) {
    if (packet[0] >> 4 == 6) {
        packet[0] = (uint8_t)((packet[0] & 0xf0) | tos >> 4);
        packet[1] = (uint8_t)((packet[1] & 0x0f) | tos << 4);
        return;
    }
    uint16_t old_word = dp_read_16(packet);
    packet[1] = tos;
    dp_checksum_mend(packet + IPV4_CHECKSUM, old_word, dp_read_16(packet));
}

enum dp_drop dp_ecn_decapsulate(uint8_t *packet, const struct dp_inner *inner, uint8_t outer_tos) {
    uint8_t old = inner->tos & ECN_MASK;
    uint8_t merged = ecn_merged[old][outer_tos & ECN_MASK];

    if (merged == ECN_DROP)
        return DP_DROP_ecn;
    if (merged != old)
        write_tos(packet, (uint8_t)((inner->tos & ~ECN_MASK) | merged));
    return DP_OK;
}

void dp_dscp_decapsulate(uint8_t *packet, uint8_t outer_tos) {
    uint8_t old = read_tos(packet), tos = (uint8_t)((outer_tos & ~ECN_MASK) | (old & ECN_MASK));
    if (tos != old)
        write_tos(packet, tos);
}
