#include "coalesce.h"

#include <endian.h>
#include <string.h>

#include "checksum.h"
#include "offload.h"

/* Addresses and ports lie together at the end of a plain header: of IPv4 from octet 12 on, of IPv6 from octet 8. */
enum {
    IPV4_ADDRESSES = 12,
    IPV6_ADDRESSES = 8,
    IPV4_FRAGMENT = 6, /* flags and fragment offset, the same in all packets of a super-packet */
    IPV4_TTL = 8,
    IPV6_HOP_LIMIT = 7,

    VXLAN_HEADER = 8,    /* RFC 7348 §5 */
    VXLAN_VNI = 0x08,    /* the only flag that is not reserved */
    GENEVE_HEADER = 8,   /* RFC 8926 §3.4, without options */
    GENEVE_OPTIONS = 63, /* the mask of their length in words, below the version, which is zero */
    GENEVE_RESERVED = 0x3f,
    GENEVE_ETHERNET = 0x6558,
    ETHERNET_HEADER = 14,
    ETHERNET_TYPE = 12,
    ETHERNET_IPV4 = 0x0800,
    ETHERNET_IPV6 = 0x86dd,
};

static const uint8_t *addresses_of(const uint8_t *packet, unsigned version) {
    return packet + (version == 4 ? IPV4_ADDRESSES : IPV6_ADDRESSES);
}

static size_t addresses_octets(unsigned version) {
    return version == 4 ? 8 : 32;
}

static uint8_t *first_of(const struct dp_super *s) {
    return s->piece[0].iov_base;
}

static bool ports_shown(const struct dp_inner *inner) {
    return (inner->flow.protocol == DP_PROTOCOL_TCP || inner->flow.protocol == DP_PROTOCOL_UDP) && !inner->fragment &&
           inner->flow.port[0] != DP_PORT_OPAQUE;
}

/* Distinguishes most flows; 0 is left to packets that have no ports. */
static uint32_t tag_of(const uint8_t *packet, const struct dp_inner *inner) {
    const uint8_t *addresses = addresses_of(packet, inner->version);
    uint64_t mix = (uint64_t)inner->flow.protocol << 40 ^ dp_word_16(packet + inner->header) ^
                   (uint64_t)dp_word_16(packet + inner->header + 2) << 16;
    for (size_t i = 0; i < addresses_octets(inner->version); i += 8) {
        uint64_t word;
        memcpy(&word, addresses + i, sizeof word);
        mix = (mix ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return (uint32_t)(mix >> 32) | 1;
}

static bool same_flow(const struct dp_super *s, const uint8_t *packet, const struct dp_inner *inner) {
    const uint8_t *first = first_of(s);
    unsigned version = s->outer.version;
    return version == inner->version && s->outer.protocol == inner->flow.protocol &&
           memcmp(addresses_of(first, version), addresses_of(packet, version), addresses_octets(version)) == 0 &&
           memcmp(first + s->outer.upper, packet + inner->header, 4) == 0;
}

/* What a packet could be part of: a kind of super-packet, 0: of none; which headers it is cut by, and how long all are. */
struct shape {
    unsigned kind;
    struct dp_layer cut;
    uint32_t headers;
};

static const struct shape joins_nothing = {.kind = VIRTIO_NET_HDR_GSO_NONE};

static bool plain_header(const struct dp_inner *ip) { /* no IP options, no extension headers */
    return ip->header == (ip->version == 4 ? (uint32_t)DP_IPV4_HEADER_MIN : (uint32_t)DP_IPV6_HEADER);
}

static struct dp_layer layer_of(const uint8_t *packet, const struct dp_inner *ip, uint32_t at) {
    return (struct dp_layer){
        .version = ip->version,
        .protocol = (uint8_t)ip->flow.protocol,
        .ip = (uint16_t)at,
        .upper = (uint16_t)(at + ip->header),
        .next_id = (uint16_t)(dp_read_16(packet + at + DP_IPV4_ID) + 1),
    };
}

/* By the headers of `ip`, `at` octets behind the first. `packet` shows its ports. */
static struct shape shape_by(const uint8_t *packet, const struct dp_inner *ip, uint32_t at, uint32_t kinds) {
    struct shape shape = {.cut = layer_of(packet, ip, at)};
    const uint8_t *upper = packet + shape.cut.upper;
    uint32_t octets = ip->octets - ip->header;
    if (!plain_header(ip))
        return joins_nothing;
    if (ip->flow.protocol == DP_PROTOCOL_UDP) {
        if ((kinds & (ip->version == 4 ? DP_OFFLOAD_TUN_USO4 : DP_OFFLOAD_TUN_USO6)) == 0 || octets <= DP_UDP_HEADER ||
            dp_read_16(upper + DP_UDP_LENGTH) != octets || dp_word_16(upper + DP_UDP_CHECKSUM) == 0)
            return joins_nothing;
        shape.kind = VIRTIO_NET_HDR_GSO_UDP_L4;
        shape.headers = shape.cut.upper + (uint32_t)DP_UDP_HEADER;
        return shape;
    }
    if ((kinds & (ip->version == 4 ? DP_OFFLOAD_TUN_TSO4 : DP_OFFLOAD_TUN_TSO6)) == 0 || octets <= DP_TCP_HEADER_MIN)
        return joins_nothing;
    uint32_t header = (upper[DP_TCP_OFFSET] >> 4) * 4u;
    uint8_t flags = upper[DP_TCP_FLAGS];
    /* The reserved bits of the offset's octet are zero; 0xffff is not how a TCP checksum of zero is written. */
    if ((upper[DP_TCP_OFFSET] & 0x0f) != 0 || header < DP_TCP_HEADER_MIN || header >= octets || (flags & DP_TCP_ACK) == 0 ||
        (flags & ~(DP_TCP_ACK | DP_TCP_PSH | DP_TCP_ECE)) != 0 || dp_word_16(upper + DP_TCP_CHECKSUM) == 0xffff)
        return joins_nothing;
    shape.headers = shape.cut.upper + header;
    shape.kind = ip->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    return shape;
}

/* Octets of a VXLAN or Geneve header with Ethernet behind it; 0: it is neither. */
static uint32_t tunnel_header(const uint8_t *tunnel, uint32_t octets) {
    if (octets < VXLAN_HEADER)
        return 0;
    if (tunnel[0] == VXLAN_VNI && (tunnel[1] | tunnel[2] | tunnel[3] | tunnel[7]) == 0)
        return VXLAN_HEADER;
    if (tunnel[0] > GENEVE_OPTIONS || (tunnel[1] & GENEVE_RESERVED) != 0 || dp_read_16(tunnel + 2) != GENEVE_ETHERNET ||
        tunnel[7] != 0)
        return 0;
    return GENEVE_HEADER + tunnel[0] * 4u;
}

/* The same for a UDP packet, by the headers of the packet in it. */
static struct shape shape_in_tunnel(const uint8_t *packet, const struct dp_inner *outer, uint32_t kinds) {
    uint32_t udp = outer->header, octets = outer->octets - udp, at = udp + DP_UDP_HEADER;
    if (octets <= DP_UDP_HEADER || dp_read_16(packet + udp + DP_UDP_LENGTH) != octets)
        return joins_nothing;
    uint32_t header = tunnel_header(packet + at, octets - DP_UDP_HEADER);
    at += header + ETHERNET_HEADER;
    if (header == 0 || at >= outer->octets)
        return joins_nothing;
    struct dp_inner ip;
    if (dp_inner_read(packet + at, outer->octets - at, DP_FLOW_INBOUND, &ip) != DP_OK || ip.octets != outer->octets - at ||
        !ports_shown(&ip) ||
        dp_read_16(packet + at - ETHERNET_HEADER + ETHERNET_TYPE) != (ip.version == 4 ? ETHERNET_IPV4 : ETHERNET_IPV6))
        return joins_nothing;
    struct shape shape = shape_by(packet, &ip, at, kinds);
    if (shape.kind != VIRTIO_NET_HDR_GSO_NONE)
        shape.kind |= outer->version == 4 ? VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 : VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6;
    return shape;
}

static struct shape shape_of(const uint8_t *packet, const struct dp_inner *inner, uint32_t kinds) {
    if ((kinds & DP_OFFLOAD_TUN_UDP_TUNNEL) != 0 && inner->flow.protocol == DP_PROTOCOL_UDP && plain_header(inner)) {
        struct shape shape = shape_in_tunnel(packet, inner, kinds);
        if (shape.kind != VIRTIO_NET_HDR_GSO_NONE)
            return shape;
    }
    return shape_by(packet, inner, 0, kinds);
}

static bool in_tunnel(const struct dp_super *s) {
    return (s->gso_type & DP_GSO_UDP_TUNNEL) != 0;
}

static bool outer_checksum(const struct dp_super *s, const uint8_t *packet) {
    return dp_word_16(packet + s->outer.upper + DP_UDP_CHECKSUM) != 0;
}

/* The sum of the pseudo-header (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1) for `octets` of upper layer. */
static uint32_t pseudo_sum(const struct dp_layer *l, uint32_t octets) {
    return l->ends_sum + htobe16((uint16_t)octets);
}

/* Whether the IPv4 checksum holds, and reads as it is computed. */
static bool ip_holds(const struct dp_layer *l, const uint8_t *packet) {
    const uint8_t *ip = packet + l->ip;
    return l->version == 6 || (dp_checksum(ip, DP_IPV4_HEADER_MIN, 0) == 0xffff && dp_word_16(ip + DP_IPV4_CHECKSUM) != 0xffff);
}

/* Whether the checksums of a packet with the headers of `s` hold. */
static bool checksums_hold(const struct dp_super *s, const uint8_t *packet, uint32_t octets) {
    uint32_t upper = octets - s->cut.upper, pseudo = pseudo_sum(&s->cut, upper);
    if (!ip_holds(&s->cut, packet) || dp_checksum(packet + s->cut.upper, upper, pseudo) != 0xffff)
        return false;
    if (!in_tunnel(s))
        return true;
    if (!ip_holds(&s->outer, packet))
        return false;
    /* The upper layer, now that its own checksum holds, sums to what its pseudo-header lacks to zero. */
    uint32_t udp = s->outer.upper, sum = pseudo_sum(&s->outer, octets - udp) + (uint16_t)~dp_checksum_fold(pseudo);
    return !outer_checksum(s, packet) || dp_checksum(packet + udp, s->cut.upper - udp, sum) == 0xffff;
}

static void sum_ends(struct dp_layer *l, const uint8_t *packet) {
    l->ends_sum = dp_checksum(addresses_of(packet + l->ip, l->version), addresses_octets(l->version), htobe16(l->protocol));
}

/* The first packet's checksums are of no interest before a second one comes. */
static bool verify_first(struct dp_super *s) {
    const uint8_t *first = first_of(s);
    sum_ends(&s->cut, first);
    if (in_tunnel(s))
        sum_ends(&s->outer, first);
    s->verified = s->open = checksums_hold(s, first, s->octets);
    return s->verified;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t at, size_t octets) {
    return memcmp(a + at, b + at, octets) == 0;
}

/* Whether cutting the super-packet would give this packet's IP header. */
static bool ip_follows(const struct dp_super *s, const struct dp_layer *l, const uint8_t *packet) {
    const uint8_t *first = first_of(s) + l->ip, *ip = packet + l->ip;
    if (l->version == 6) /* version, traffic class, flow label */
        return same(first, ip, 0, 4) && ip[IPV6_HOP_LIMIT] == first[IPV6_HOP_LIMIT];
    return same(first, ip, 0, 2) && same(first, ip, IPV4_FRAGMENT, 2) && ip[IPV4_TTL] == first[IPV4_TTL] &&
           dp_read_16(ip + DP_IPV4_ID) == l->next_id;
}

/* The same for the tunnel's headers, and what makes a flow in it. */
static bool tunnel_follows(const struct dp_super *s, const uint8_t *packet) {
    const uint8_t *first = first_of(s);
    size_t tunnel = s->outer.upper + (size_t)DP_UDP_HEADER, addresses = (size_t)(addresses_of(first, s->cut.version) - first);
    return ip_follows(s, &s->outer, packet) && outer_checksum(s, first) == outer_checksum(s, packet) &&
           same(first, packet, tunnel, s->cut.ip - tunnel) &&
           same(first + s->cut.ip, packet + s->cut.ip, addresses, addresses_octets(s->cut.version)) &&
           same(first, packet, s->cut.upper, 4);
}

static bool tcp_follows(const struct dp_super *s, const uint8_t *packet) {
    const uint8_t *first = first_of(s) + s->cut.upper, *upper = packet + s->cut.upper;
    return dp_read_32(upper + DP_TCP_SEQUENCE) == s->next_sequence && same(first, upper, DP_TCP_ACKNOWLEDGMENT, 4) &&
           ((first[DP_TCP_FLAGS] ^ upper[DP_TCP_FLAGS]) & ~DP_TCP_PSH) == 0 && same(first, upper, DP_TCP_WINDOW, 2) &&
           same(first, upper, DP_TCP_URGENT, (size_t)(s->headers - s->cut.upper) - DP_TCP_URGENT);
}

/* Joins the packet to the super-packet if it is its continuation. */
static bool join(struct dp_super *s, uint8_t *packet, const struct dp_inner *inner, const struct shape *shape) {
    uint32_t payload = inner->octets - shape->headers;
    if (!s->open || shape->kind != s->gso_type || shape->headers != s->headers || shape->cut.upper != s->cut.upper ||
        payload > s->payload || s->pieces == DP_PIECES || s->octets + payload > DP_IP_MAX || !ip_follows(s, &s->cut, packet))
        return false;
    bool tcp = s->cut.protocol == DP_PROTOCOL_TCP;
    if ((tcp && !tcp_follows(s, packet)) || (in_tunnel(s) && !tunnel_follows(s, packet)))
        return false;
    if (!s->verified && !verify_first(s))
        return false;
    if (!checksums_hold(s, packet, inner->octets))
        return false;
    s->piece[s->pieces++] = (struct iovec){packet + s->headers, payload};
    s->octets += payload;
    s->next_sequence += payload;
    s->cut.next_id++;
    s->outer.next_id++;
    s->open = payload == s->payload;
    if (tcp && (packet[s->cut.upper + DP_TCP_FLAGS] & DP_TCP_PSH) != 0) {
        first_of(s)[s->cut.upper + DP_TCP_FLAGS] |= DP_TCP_PSH;
        s->open = false;
    }
    return true;
}

static void add(struct dp_coalescer *c, uint8_t *packet, const struct dp_inner *inner, uint32_t tag, const struct shape *shape) {
    struct dp_super *s = &c->super[c->count];
    c->tag[c->count++] = tag;
    s->piece[0] = (struct iovec){packet, inner->octets};
    s->pieces = 1;
    s->outer = layer_of(packet, inner, 0);
    s->gso_type = (uint8_t)shape->kind;
    s->octets = inner->octets;
    s->open = shape->kind != VIRTIO_NET_HDR_GSO_NONE;
    if (!s->open)
        return;
    s->cut = shape->cut;
    s->verified = false;
    s->headers = (uint16_t)shape->headers;
    s->payload = inner->octets - shape->headers;
    if (s->cut.protocol == DP_PROTOCOL_TCP) {
        s->next_sequence = dp_read_32(packet + s->cut.upper + DP_TCP_SEQUENCE) + s->payload;
        s->open = (packet[s->cut.upper + DP_TCP_FLAGS] & DP_TCP_PSH) == 0;
    }
}

/* A fragment does not show its flow: nothing between the same addresses may join what was there before it. */
static void end_runs_between(struct dp_coalescer *c, const uint8_t *packet, const struct dp_inner *inner) {
    for (unsigned i = 0; i < c->count; i++) {
        struct dp_super *s = &c->super[i];
        unsigned version = s->outer.version;
        if (s->open && version == inner->version &&
            memcmp(addresses_of(first_of(s), version), addresses_of(packet, version), addresses_octets(version)) == 0)
            s->open = false;
    }
}

void dp_coalesce_add(struct dp_coalescer *c, uint8_t *packet, const struct dp_inner *inner, uint32_t kinds) {
    if (inner->fragment)
        end_runs_between(c, packet, inner);
    if (!ports_shown(inner)) {
        add(c, packet, inner, 0, &joins_nothing);
        return;
    }
    uint32_t tag = tag_of(packet, inner);
    struct shape shape = shape_of(packet, inner, kinds);
    for (unsigned i = c->count; i-- > 0;) {
        struct dp_super *s = &c->super[i];
        if (c->tag[i] != tag || !same_flow(s, packet, inner))
            continue;
        if (shape.kind != VIRTIO_NET_HDR_GSO_NONE && join(s, packet, inner, &shape))
            return;
        break; /* only the latest of the flow: what came before it must stay before it */
    }
    add(c, packet, inner, tag, &shape);
}

/* Lengths of the whole, and the IPv4 checksum. */
static void write_lengths(const struct dp_super *s, const struct dp_layer *l, uint8_t *packet) {
    uint8_t *ip = packet + l->ip;
    uint16_t upper = htobe16((uint16_t)(s->octets - l->upper));
    if (l->version == 4) {
        dp_store_word_16(ip + DP_IPV4_LENGTH, htobe16((uint16_t)(s->octets - l->ip)));
        dp_store_word_16(ip + DP_IPV4_CHECKSUM, 0);
        dp_store_word_16(ip + DP_IPV4_CHECKSUM, (uint16_t)~dp_checksum(ip, DP_IPV4_HEADER_MIN, 0));
    } else {
        dp_store_word_16(ip + DP_IPV6_LENGTH, upper);
    }
    if (l->protocol == DP_PROTOCOL_UDP)
        dp_store_word_16(packet + l->upper + DP_UDP_LENGTH, upper);
}

static unsigned checksum_offset(const struct dp_layer *l) {
    return l->protocol == DP_PROTOCOL_UDP ? DP_UDP_CHECKSUM : DP_TCP_CHECKSUM;
}

/* An upper checksum is left to the kernel, the pseudo-header summed. */
static void leave_checksum(const struct dp_super *s, const struct dp_layer *l, uint8_t *packet) {
    dp_store_word_16(packet + l->upper + checksum_offset(l), dp_checksum_fold(pseudo_sum(l, s->octets - l->upper)));
}

void dp_coalesce_finish(struct dp_coalescer *c, unsigned i, struct dp_burst *b) {
    struct dp_super *s = &c->super[i];
    uint8_t *first = first_of(s);
    *b = (struct dp_burst){.data = first, .octets = s->octets, .piece = s->piece, .packets = s->pieces};
    if (s->pieces == 1)
        return;
    if (in_tunnel(s)) {
        write_lengths(s, &s->outer, first);
        b->network = s->cut.ip;
        b->tunnel_checksum = outer_checksum(s, first);
        if (b->tunnel_checksum)
            leave_checksum(s, &s->outer, first);
    }
    write_lengths(s, &s->cut, first);
    leave_checksum(s, &s->cut, first);
    b->gso_type = s->gso_type;
    b->gso_size = (uint16_t)s->payload;
    b->needs_checksum = true;
    b->checksum_start = s->cut.upper;
    b->checksum_offset = (uint16_t)checksum_offset(&s->cut);
    b->headers = s->headers;
}
