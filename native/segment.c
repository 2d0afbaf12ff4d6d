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
    s->udp = inner->flow.protocol == DP_PROTOCOL_UDP && field == inner->header + (uint32_t)DP_UDP_CHECKSUM;
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

/* Keeps the headers with every field zero that differs between packets, and their sums. */
static void take_template(struct dp_segments *s, const uint8_t *packet, uint32_t octets) {
    uint8_t *ip = s->header, *upper = s->header + s->upper;
    memcpy(ip, packet, s->headers);
    unsigned checksum = s->udp ? DP_UDP_CHECKSUM : DP_TCP_CHECKSUM;
    /* The pseudo-header as the kernel summed it, but for its length (RFC 9293 §3.1, RFC 8200 §8.1): a routing header's final
     * destination is in it already. */
    uint32_t pseudo = dp_word_16(upper + checksum) + (uint32_t)(uint16_t)~htobe16((uint16_t)(octets - s->upper));
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
    if (s->version == 4) {
        s->ip_id = dp_read_16(ip + DP_IPV4_ID);
        memset(ip + DP_IPV4_LENGTH, 0, 4); /* and the ID */
        memset(ip + DP_IPV4_CHECKSUM, 0, 2);
        s->ip_sum = dp_checksum(ip, s->upper, 0);
    }
}

static void count_segments(struct dp_segments *s) {
    s->count = s->payload > s->gso_size ? (s->payload + s->gso_size - 1) / s->gso_size : 1;
    s->octets_all = s->payload + s->count * s->headers;
    s->octets_most = s->headers + least(s->payload, s->gso_size);
}

enum dp_drop dp_segments_begin(struct dp_segments *s, const struct dp_burst *b, const struct dp_inner *inner) {
    s->packet = b->data;
    s->next = 0;
    s->gso_size = 0;
    unsigned kind = b->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN;
    if (kind == VIRTIO_NET_HDR_GSO_NONE)
        return begin_single(s, b, inner);
    if (!kind_fits(kind, inner))
        return DP_DROP_offload_kind;
    s->udp = kind == VIRTIO_NET_HDR_GSO_UDP_L4;
    s->version = inner->version;
    s->upper = inner->header;
    uint32_t upper_header = upper_header_octets(s, b->data, inner->octets), headers = s->upper + upper_header;
    if (inner->fragment || upper_header == 0 || headers > DP_SEGMENT_HEADERS_MAX || b->gso_size == 0 || !b->needs_checksum ||
        b->checksum_start != s->upper || b->checksum_offset != (s->udp ? DP_UDP_CHECKSUM : DP_TCP_CHECKSUM) ||
        headers + b->gso_size > DP_IP_MAX)
        return DP_DROP_offload_fields;
    s->headers = (uint16_t)headers;
    s->gso_size = b->gso_size;
    s->payload = inner->octets - headers;
    count_segments(s);
    take_template(s, b->data, inner->octets);
    return DP_OK;
}

bool dp_segments_limit(struct dp_segments *s, uint32_t octets) {
    if (s->gso_size == 0 || s->udp || octets <= s->headers)
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
    s->version = inner->version;
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
    take_template(s, b->data, inner->octets);
    return true;
}

static void write_ip(const struct dp_segments *s, uint8_t *ip, uint32_t octets) {
    if (s->version == 6) {
        dp_store_word_16(ip + DP_IPV6_LENGTH, htobe16((uint16_t)(octets - DP_IPV6_HEADER)));
        return;
    }
    uint16_t length = htobe16((uint16_t)octets), id = htobe16((uint16_t)(s->ip_id + s->next));
    dp_store_word_16(ip + DP_IPV4_LENGTH, length);
    dp_store_word_16(ip + DP_IPV4_ID, id);
    dp_store_word_16(ip + DP_IPV4_CHECKSUM, (uint16_t)~dp_checksum_fold((uint64_t)s->ip_sum + length + id));
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
    write_ip(s, packet, *octets);
    write_upper(s, packet + s->upper, mine);
    memcpy(s->saved, payload + mine, sizeof s->saved);
    s->payload -= mine;
    s->packet += mine;
    s->next++;
    return packet;
}
