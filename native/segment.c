#include "segment.h"

#include <endian.h>
#include <string.h>

#include "checksum.h"
#include "offload.h"

enum {
    IPV6_ADDRESSES = 8, /* RFC 8200 §3 */
};

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* One packet, whose upper checksum the kernel may have left to us: the field holds the sum of the pseudo-header. */
static enum dp_drop begin_single(struct dp_segments *s, const struct dp_burst *b, const struct dp_inner *inner) {
    s->count = 1;
    s->octets_all = s->octets_most = s->payload = inner->octets;
    s->checksum_start = s->checksum_field = 0;
    if (!b->needs_checksum)
        return DP_OK;
    uint32_t start = b->checksum_start, field = start + b->checksum_offset;
    /* Not the ports: policy decides by them. */
    if (inner->fragment || start < inner->header || field < inner->header + 4u || field + 2 > inner->octets)
        return DP_DROP_offload_fields;
    s->checksum_start = (uint16_t)start;
    s->checksum_field = (uint16_t)field;
    /* Of a UDP tunnel it is that of the packet in it, which is UDP by where it lies. */
    s->udp = inner->flow.protocol == DP_PROTOCOL_UDP && b->checksum_offset == DP_UDP_CHECKSUM;
    return DP_OK;
}

/* RFC 768: zero says that there is no checksum. */
static uint16_t written(const struct dp_segments *s, uint16_t checksum) {
    return checksum == 0 && s->udp ? 0xffff : checksum;
}

static uint8_t *single(struct dp_segments *s, uint32_t *octets) {
    *octets = s->payload;
    if (s->checksum_field != 0) {
        uint16_t sum = (uint16_t)~dp_checksum(s->packet + s->checksum_start, s->payload - s->checksum_start, 0);
        dp_store_word_16(s->packet + s->checksum_field, written(s, sum));
    }
    s->next++;
    return s->packet;
}

static bool kind_fits(unsigned kind, const struct dp_inner *inner) {
    switch (kind) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return inner->version == 4 && inner->flow.protocol == DP_PROTOCOL_TCP;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return inner->version == 6 && inner->flow.protocol == DP_PROTOCOL_TCP;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
        return inner->flow.protocol == DP_PROTOCOL_UDP;
    default:
        return false;
    }
}

/* Octets of the TCP or UDP header, 0: it is not whole. */
static uint32_t upper_header_octets(const struct dp_segments *s, const uint8_t *packet, uint32_t octets) {
    uint32_t least_header = s->udp ? DP_UDP_HEADER : DP_TCP_HEADER_MIN;
    if (octets - s->upper < least_header)
        return 0;
    if (s->udp)
        return DP_UDP_HEADER;
    uint32_t header = (packet[s->upper + DP_TCP_OFFSET] >> 4) * 4u;
    return header < least_header || header > octets - s->upper ? 0 : header;
}

/* What the packets' IP headers have in common, every field zero in which they differ. */
static void take_ip(struct dp_segments *s, struct dp_segment_ip *ip, uint32_t at, uint32_t header, uint8_t version) {
    uint8_t *t = s->header + at;
    *ip = (struct dp_segment_ip){.version = version, .at = (uint16_t)at};
    if (version == 6) {
        memset(t + DP_IPV6_LENGTH, 0, 2);
        return;
    }
    ip->id = dp_read_16(t + DP_IPV4_ID);
    memset(t + DP_IPV4_LENGTH, 0, 4); /* and the ID */
    memset(t + DP_IPV4_CHECKSUM, 0, 2);
    ip->sum = dp_checksum(t, header, 0);
}

/* The pseudo-header as the kernel summed it, but for its length (RFC 9293 §3.1, RFC 8200 §8.1): a routing header's final
 * destination is in it already. */
static uint32_t pseudo_of(const uint8_t *checksum, uint32_t octets) {
    return dp_word_16(checksum) + (uint32_t)(uint16_t)~htobe16((uint16_t)octets);
}

/* What the headers before those that are cut by have in common. The upper layer's checksum makes all it covers sum to what its own
 * pseudo-header lacks to zero, and an IPv4 header sums to zero: so the outer checksum asks for nothing of the payload. */
static void take_outer(struct dp_segments *s, const struct dp_inner *inner, uint32_t octets, uint32_t pseudo) {
    uint8_t *udp = s->header + inner->header;
    s->outer_upper = inner->header;
    take_ip(s, &s->outer, 0, inner->header, inner->version);
    memset(udp + DP_UDP_LENGTH, 0, 2);
    if (!s->outer_checksum)
        return;
    uint32_t outer_pseudo = pseudo_of(udp + DP_UDP_CHECKSUM, octets - inner->header);
    memset(udp + DP_UDP_CHECKSUM, 0, 2);
    uint32_t before = s->ip.version == 4 ? s->ip.at : s->upper;
    s->outer_sum = dp_checksum(udp, before - s->outer_upper, outer_pseudo + (uint16_t)~dp_checksum_fold(pseudo));
}

/* Keeps the headers, the last of which are those of `ip`, `at` octets behind the first, every field zero that differs between
 * packets, and their sums. The pseudo-header's is returned. */
static uint32_t take_template(struct dp_segments *s, const uint8_t *packet, const struct dp_inner *ip, uint32_t at,
                              uint32_t octets) {
    uint8_t *upper = s->header + s->upper;
    memcpy(s->header, packet, s->headers);
    unsigned checksum = s->udp ? DP_UDP_CHECKSUM : DP_TCP_CHECKSUM;
    uint32_t pseudo = pseudo_of(upper + checksum, octets - s->upper);
    memset(upper + checksum, 0, 2);
    if (s->udp) {
        memset(upper + DP_UDP_LENGTH, 0, 2);
    } else {
        s->tcp_sequence = dp_read_32(upper + DP_TCP_SEQUENCE);
        s->tcp_flags = upper[DP_TCP_FLAGS];
        memset(upper + DP_TCP_SEQUENCE, 0, 4);
        upper[DP_TCP_FLAGS] = 0;
    }
    s->upper_sum = dp_checksum(upper, s->headers - s->upper, pseudo);
    take_ip(s, &s->ip, at, ip->header, ip->version);
    return pseudo;
}

static void count_segments(struct dp_segments *s) {
    s->count = s->payload > s->gso_size ? (s->payload + s->gso_size - 1) / s->gso_size : 1;
    s->octets_all = s->payload + s->count * s->headers;
    s->octets_most = s->headers + least(s->payload, s->gso_size);
}

/* The packet in the UDP tunnel, which all of it is. An odd number of octets before it would swap those of its words in the outer
 * checksum; no tunnel has that. */
static bool read_tunnelled(const struct dp_burst *b, const struct dp_inner *outer, struct dp_inner *ip) {
    uint32_t udp = outer->header, at = b->network;
    return !outer->fragment && at >= udp + DP_UDP_HEADER && at % 2 == 0 && at < outer->octets &&
           dp_read_16(b->data + udp + DP_UDP_LENGTH) == outer->octets - udp &&
           dp_inner_read(b->data + at, outer->octets - at, DP_FLOW_OUTBOUND, ip) == DP_OK && ip->octets == outer->octets - at;
}

static bool tunnel_fits(unsigned tunnel, const struct dp_inner *outer) {
    return tunnel == (outer->version == 4 ? VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 : VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6) &&
           outer->flow.protocol == DP_PROTOCOL_UDP;
}

static enum dp_drop begin_super(struct dp_segments *s, const struct dp_burst *b, const struct dp_inner *whole, unsigned kind) {
    unsigned tunnel = kind & DP_GSO_UDP_TUNNEL;
    struct dp_inner tunnelled;
    const struct dp_inner *ip = tunnel != 0 ? &tunnelled : whole;
    if (tunnel != 0 && !tunnel_fits(tunnel, whole))
        return DP_DROP_offload_kind;
    if (tunnel != 0 && !read_tunnelled(b, whole, &tunnelled))
        return DP_DROP_offload_fields;
    kind &= ~(unsigned)DP_GSO_UDP_TUNNEL;
    if (!kind_fits(kind, ip))
        return DP_DROP_offload_kind;
    uint32_t at = tunnel != 0 ? b->network : 0;
    s->udp = kind == VIRTIO_NET_HDR_GSO_UDP_L4;
    s->upper = (uint16_t)(at + ip->header);
    s->outer_upper = 0;
    s->outer_checksum = b->tunnel_checksum;
    uint32_t upper_header = upper_header_octets(s, b->data, whole->octets), headers = s->upper + upper_header;
    if (ip->fragment || upper_header == 0 || headers > DP_SEGMENT_HEADERS_MAX || b->gso_size == 0 || !b->needs_checksum ||
        b->checksum_start != s->upper || b->checksum_offset != (s->udp ? DP_UDP_CHECKSUM : DP_TCP_CHECKSUM) ||
        headers + b->gso_size > DP_IP_MAX)
        return DP_DROP_offload_fields;
    s->headers = (uint16_t)headers;
    s->gso_size = b->gso_size;
    s->payload = whole->octets - headers;
    count_segments(s);
    uint32_t pseudo = take_template(s, b->data, ip, at, whole->octets);
    if (tunnel != 0)
        take_outer(s, whole, whole->octets, pseudo);
    return DP_OK;
}

enum dp_drop dp_segments_begin(struct dp_segments *s, const struct dp_burst *b, const struct dp_inner *inner) {
    s->packet = b->data;
    s->next = 0;
    s->gso_size = 0;
    unsigned kind = b->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN;
    return kind == VIRTIO_NET_HDR_GSO_NONE ? begin_single(s, b, inner) : begin_super(s, b, inner, kind);
}

bool dp_segments_limit(struct dp_segments *s, uint32_t octets) {
    if (s->gso_size == 0 || s->udp || s->outer_upper != 0 || octets <= s->headers)
        return false;
    s->gso_size = octets - s->headers;
    count_segments(s);
    return true;
}

bool dp_segments_split(struct dp_segments *s, const struct dp_burst *b, const struct dp_inner *inner, uint32_t octets) {
    static const uint8_t data_flags = DP_TCP_FIN | DP_TCP_PSH | DP_TCP_ACK | DP_TCP_ECE | DP_TCP_CWR;
    if (s->gso_size != 0 || inner->version != 6 || inner->header != DP_IPV6_HEADER || inner->fragment ||
        inner->flow.protocol != DP_PROTOCOL_TCP)
        return false;
    s->udp = false;
    s->outer_upper = 0;
    s->upper = inner->header;
    uint8_t *tcp = b->data + s->upper;
    uint32_t tcp_octets = inner->octets - s->upper, headers = s->upper + upper_header_octets(s, b->data, inner->octets);
    if (headers == s->upper || headers > DP_SEGMENT_HEADERS_MAX || headers >= octets || (tcp[DP_TCP_FLAGS] & ~data_flags) != 0)
        return false;
    if (!b->needs_checksum) { /* as the kernel leaves it where it does */
        uint32_t pseudo =
            dp_checksum(b->data + IPV6_ADDRESSES, 32, (uint32_t)htobe16((uint16_t)tcp_octets) + htobe16(DP_PROTOCOL_TCP));
        if (dp_checksum(tcp, tcp_octets, pseudo) != 0xffff)
            return false;
        dp_store_word_16(tcp + DP_TCP_CHECKSUM, (uint16_t)pseudo);
    }
    s->headers = (uint16_t)headers;
    s->gso_size = octets - headers;
    s->payload = inner->octets - headers;
    count_segments(s);
    (void)take_template(s, b->data, inner, 0, inner->octets);
    return true;
}

static void write_ip(const struct dp_segments *s, const struct dp_segment_ip *t, uint8_t *packet, uint32_t octets) {
    uint8_t *ip = packet + t->at;
    octets -= t->at;
    if (t->version == 6) {
        dp_store_word_16(ip + DP_IPV6_LENGTH, htobe16((uint16_t)(octets - DP_IPV6_HEADER)));
        return;
    }
    uint16_t length = htobe16((uint16_t)octets), id = htobe16((uint16_t)(t->id + s->next));
    dp_store_word_16(ip + DP_IPV4_LENGTH, length);
    dp_store_word_16(ip + DP_IPV4_ID, id);
    dp_store_word_16(ip + DP_IPV4_CHECKSUM, (uint16_t)~dp_checksum_fold((uint64_t)t->sum + length + id));
}

static void write_outer(const struct dp_segments *s, uint8_t *packet, uint32_t octets) {
    uint8_t *udp = packet + s->outer_upper;
    uint16_t length = htobe16((uint16_t)(octets - s->outer_upper)), inner = htobe16((uint16_t)(octets - s->upper));
    write_ip(s, &s->outer, packet, octets);
    dp_store_word_16(udp + DP_UDP_LENGTH, length);
    if (!s->outer_checksum)
        return;
    uint64_t sum = (uint64_t)s->outer_sum + length + length + (uint16_t)~inner;
    if (s->ip.version == 6)
        sum += dp_word_16(packet + s->ip.at + DP_IPV6_LENGTH);
    uint16_t checksum = (uint16_t)~dp_checksum_fold(sum);
    dp_store_word_16(udp + DP_UDP_CHECKSUM, checksum == 0 ? 0xffff : checksum);
}

/* What of the super-packet's flags this packet carries: an end is the end of the last, a congestion window reduced once. */
static uint8_t flags_of(const struct dp_segments *s) {
    uint8_t flags = s->tcp_flags;
    if (s->next + 1 != s->count)
        flags &= (uint8_t) ~(DP_TCP_FIN | DP_TCP_PSH);
    if (s->next != 0)
        flags &= (uint8_t)~DP_TCP_CWR;
    return flags;
}

/* The sums of what differs are added to that of the template, so that only the payload is read for the checksum. */
static void write_upper(const struct dp_segments *s, uint8_t *upper, uint32_t payload) {
    uint32_t header = s->headers - s->upper;
    uint16_t length = htobe16((uint16_t)(header + payload));
    uint64_t sum = (uint64_t)s->upper_sum + length + dp_checksum(upper + header, payload, 0);
    if (s->udp) {
        dp_store_word_16(upper + DP_UDP_LENGTH, length);
        dp_store_word_16(upper + DP_UDP_CHECKSUM, written(s, (uint16_t)~dp_checksum_fold(sum + length)));
        return;
    }
    uint32_t sequence = htobe32(s->tcp_sequence + s->next * s->gso_size);
    uint8_t flags = flags_of(s);
    memcpy(upper + DP_TCP_SEQUENCE, &sequence, sizeof sequence);
    upper[DP_TCP_FLAGS] = flags;
    dp_store_word_16(upper + DP_TCP_CHECKSUM, (uint16_t)~dp_checksum_fold(sum + sequence + htobe16(flags)));
}

uint8_t *dp_segments_next(struct dp_segments *s, uint32_t *octets) {
    if (s->next == s->count)
        return NULL;
    if (s->gso_size == 0)
        return single(s, octets);
    uint8_t *packet = s->packet;
    uint8_t *payload = packet + s->headers;
    if (s->next != 0)
        memcpy(payload, s->saved, sizeof s->saved);
    uint32_t mine = least(s->payload, s->gso_size);
    memcpy(packet, s->header, s->headers);
    *octets = s->headers + mine;
    write_ip(s, &s->ip, packet, *octets);
    write_upper(s, packet + s->upper, mine);
    if (s->outer_upper != 0)
        write_outer(s, packet, *octets);
    memcpy(s->saved, payload + mine, sizeof s->saved);
    s->payload -= mine;
    s->packet += mine;
    s->next++;
    return packet;
}
