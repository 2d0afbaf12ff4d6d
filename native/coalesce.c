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
    return s->version == inner->version && s->protocol == inner->flow.protocol &&
           memcmp(addresses_of(first, s->version), addresses_of(packet, s->version), addresses_octets(s->version)) == 0 &&
           memcmp(first + s->upper, packet + inner->header, 4) == 0;
}

/* The kind of super-packet this packet could be part of, with the octets of its headers; 0: of none. */
static unsigned kind_of(const uint8_t *packet, const struct dp_inner *inner, uint32_t kinds, uint32_t *headers) {
    if (inner->header != (inner->version == 4 ? (uint32_t)DP_IPV4_HEADER_MIN : (uint32_t)DP_IPV6_HEADER))
        return VIRTIO_NET_HDR_GSO_NONE; /* IP options, extension headers */
    const uint8_t *upper = packet + inner->header;
    uint32_t octets = inner->octets - inner->header;
    if (inner->flow.protocol == DP_PROTOCOL_UDP) {
        if ((kinds & (inner->version == 4 ? DP_OFFLOAD_TUN_USO4 : DP_OFFLOAD_TUN_USO6)) == 0 || octets <= DP_UDP_HEADER ||
            dp_read_16(upper + DP_UDP_LENGTH) != octets || dp_word_16(upper + DP_UDP_CHECKSUM) == 0)
            return VIRTIO_NET_HDR_GSO_NONE;
        *headers = inner->header + (uint32_t)DP_UDP_HEADER;
        return VIRTIO_NET_HDR_GSO_UDP_L4;
    }
    if ((kinds & (inner->version == 4 ? DP_OFFLOAD_TUN_TSO4 : DP_OFFLOAD_TUN_TSO6)) == 0 || octets <= DP_TCP_HEADER_MIN)
        return VIRTIO_NET_HDR_GSO_NONE;
    uint32_t header = (upper[DP_TCP_OFFSET] >> 4) * 4u;
    uint8_t flags = upper[DP_TCP_FLAGS];
    /* The reserved bits of the offset's octet are zero; 0xffff is not how a TCP checksum of zero is written. */
    if ((upper[DP_TCP_OFFSET] & 0x0f) != 0 || header < DP_TCP_HEADER_MIN || header >= octets || (flags & DP_TCP_ACK) == 0 ||
        (flags & ~(DP_TCP_ACK | DP_TCP_PSH | DP_TCP_ECE)) != 0 || dp_word_16(upper + DP_TCP_CHECKSUM) == 0xffff)
        return VIRTIO_NET_HDR_GSO_NONE;
    *headers = inner->header + header;
    return inner->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
}

/* The sum of the pseudo-header (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1) for `octets` of upper layer. */
static uint32_t pseudo_sum(const struct dp_super *s, uint32_t octets) {
    return s->ends_sum + htobe16((uint16_t)octets);
}

/* Whether the checksums of a packet with the headers of `s` hold. The IPv4 one must read as it is computed. */
static bool checksums_hold(const struct dp_super *s, const uint8_t *packet, uint32_t octets) {
    if (s->version == 4 &&
        (dp_checksum(packet, DP_IPV4_HEADER_MIN, 0) != 0xffff || dp_word_16(packet + DP_IPV4_CHECKSUM) == 0xffff))
        return false;
    uint32_t upper = octets - s->upper;
    return dp_checksum(packet + s->upper, upper, pseudo_sum(s, upper)) == 0xffff;
}

/* The first packet's checksums are of no interest before a second one comes. */
static bool verify_first(struct dp_super *s) {
    const uint8_t *first = first_of(s);
    s->ends_sum = dp_checksum(addresses_of(first, s->version), addresses_octets(s->version), htobe16(s->protocol));
    s->verified = s->open = checksums_hold(s, first, s->octets);
    return s->verified;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t at, size_t octets) {
    return memcmp(a + at, b + at, octets) == 0;
}

/* Whether cutting the super-packet would give this packet's IP header. */
static bool ip_follows(const struct dp_super *s, const uint8_t *packet) {
    const uint8_t *first = first_of(s);
    if (s->version == 6) /* version, traffic class, flow label */
        return same(first, packet, 0, 4) && packet[IPV6_HOP_LIMIT] == first[IPV6_HOP_LIMIT];
    return same(first, packet, 0, 2) && same(first, packet, IPV4_FRAGMENT, 2) && packet[IPV4_TTL] == first[IPV4_TTL] &&
           dp_read_16(packet + DP_IPV4_ID) == s->next_id;
}

static bool tcp_follows(const struct dp_super *s, const uint8_t *packet) {
    const uint8_t *first = first_of(s) + s->upper, *upper = packet + s->upper;
    return dp_read_32(upper + DP_TCP_SEQUENCE) == s->next_sequence && same(first, upper, DP_TCP_ACKNOWLEDGMENT, 4) &&
           ((first[DP_TCP_FLAGS] ^ upper[DP_TCP_FLAGS]) & ~DP_TCP_PSH) == 0 && same(first, upper, DP_TCP_WINDOW, 2) &&
           same(first, upper, DP_TCP_URGENT, (size_t)(s->headers - s->upper) - DP_TCP_URGENT);
}

/* Joins the packet to the super-packet if it is its continuation. */
static bool join(struct dp_super *s, uint8_t *packet, const struct dp_inner *inner, unsigned kind, uint32_t headers) {
    uint32_t payload = inner->octets - headers;
    if (!s->open || kind != s->gso_type || headers != s->headers || payload > s->payload || s->pieces == DP_PIECES ||
        s->octets + payload > DP_IP_MAX || !ip_follows(s, packet))
        return false;
    bool tcp = s->protocol == DP_PROTOCOL_TCP;
    if (tcp && !tcp_follows(s, packet))
        return false;
    if (!s->verified && !verify_first(s))
        return false;
    if (!checksums_hold(s, packet, inner->octets))
        return false;
    s->piece[s->pieces++] = (struct iovec){packet + headers, payload};
    s->octets += payload;
    s->next_sequence += payload;
    s->next_id++;
    s->open = payload == s->payload;
    if (tcp && (packet[s->upper + DP_TCP_FLAGS] & DP_TCP_PSH) != 0) {
        first_of(s)[s->upper + DP_TCP_FLAGS] |= DP_TCP_PSH;
        s->open = false;
    }
    return true;
}

static void add(struct dp_coalescer *c, uint8_t *packet, const struct dp_inner *inner, uint32_t tag, unsigned kind,
                uint32_t headers) {
    struct dp_super *s = &c->super[c->count];
    c->tag[c->count++] = tag;
    s->piece[0] = (struct iovec){packet, inner->octets};
    s->pieces = 1;
    s->version = inner->version;
    s->protocol = (uint8_t)inner->flow.protocol;
    s->gso_type = (uint8_t)kind;
    s->upper = inner->header;
    s->octets = inner->octets;
    s->open = kind != VIRTIO_NET_HDR_GSO_NONE;
    if (!s->open)
        return;
    s->verified = false;
    s->headers = (uint16_t)headers;
    s->payload = inner->octets - headers;
    s->next_id = (uint16_t)(dp_read_16(packet + DP_IPV4_ID) + 1);
    if (inner->flow.protocol == DP_PROTOCOL_TCP) {
        s->next_sequence = dp_read_32(packet + s->upper + DP_TCP_SEQUENCE) + s->payload;
        s->open = (packet[s->upper + DP_TCP_FLAGS] & DP_TCP_PSH) == 0;
    }
}

/* A fragment does not show its flow: nothing between the same addresses may join what was there before it. */
static void end_runs_between(struct dp_coalescer *c, const uint8_t *packet, const struct dp_inner *inner) {
    for (unsigned i = 0; i < c->count; i++) {
        struct dp_super *s = &c->super[i];
        if (s->open && s->version == inner->version &&
            memcmp(addresses_of(first_of(s), s->version), addresses_of(packet, s->version), addresses_octets(s->version)) == 0)
            s->open = false;
    }
}

void dp_coalesce_add(struct dp_coalescer *c, uint8_t *packet, const struct dp_inner *inner, uint32_t kinds) {
    if (inner->fragment)
        end_runs_between(c, packet, inner);
    if (!ports_shown(inner)) {
        add(c, packet, inner, 0, VIRTIO_NET_HDR_GSO_NONE, 0);
        return;
    }
    uint32_t tag = tag_of(packet, inner), headers = 0;
    unsigned kind = kind_of(packet, inner, kinds, &headers);
    for (unsigned i = c->count; i-- > 0;) {
        struct dp_super *s = &c->super[i];
        if (c->tag[i] != tag || !same_flow(s, packet, inner))
            continue;
        if (kind != VIRTIO_NET_HDR_GSO_NONE && join(s, packet, inner, kind, headers))
            return;
        break; /* only the latest of the flow: what came before it must stay before it */
    }
    add(c, packet, inner, tag, kind, headers);
}

/* Lengths and checksums of the whole; the upper checksum is left to the kernel, the pseudo-header summed. */
static void write_headers(const struct dp_super *s, uint8_t *packet) {
    uint8_t *upper = packet + s->upper;
    uint32_t octets = s->octets - s->upper;
    if (s->version == 4) {
        dp_store_word_16(packet + DP_IPV4_LENGTH, htobe16((uint16_t)s->octets));
        dp_store_word_16(packet + DP_IPV4_CHECKSUM, 0);
        dp_store_word_16(packet + DP_IPV4_CHECKSUM, (uint16_t)~dp_checksum(packet, DP_IPV4_HEADER_MIN, 0));
    } else {
        dp_store_word_16(packet + DP_IPV6_LENGTH, htobe16((uint16_t)octets));
    }
    bool udp = s->protocol == DP_PROTOCOL_UDP;
    if (udp)
        dp_store_word_16(upper + DP_UDP_LENGTH, htobe16((uint16_t)octets));
    dp_store_word_16(upper + (udp ? DP_UDP_CHECKSUM : DP_TCP_CHECKSUM), dp_checksum_fold(pseudo_sum(s, octets)));
}

void dp_coalesce_finish(struct dp_coalescer *c, unsigned i, struct dp_burst *b) {
    struct dp_super *s = &c->super[i];
    *b = (struct dp_burst){.data = first_of(s), .octets = s->octets, .piece = s->piece, .packets = s->pieces};
    if (s->pieces == 1)
        return;
    write_headers(s, first_of(s));
    b->gso_type = s->gso_type;
    b->gso_size = (uint16_t)s->payload;
    b->needs_checksum = true;
    b->checksum_start = s->upper;
    b->checksum_offset = s->protocol == DP_PROTOCOL_UDP ? DP_UDP_CHECKSUM : DP_TCP_CHECKSUM;
    b->headers = s->headers;
}
