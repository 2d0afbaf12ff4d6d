/* Whole TCP and UDP packets for the tests of segmentation and coalescing, checksums computed octet by octet. */
#ifndef PACKETS_H
#define PACKETS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "offload.h"

struct shape {
    uint8_t version;  /* 4 or 6 */
    uint8_t protocol; /* DP_PROTOCOL_TCP or DP_PROTOCOL_UDP */
    uint8_t tos, ttl, flags;
    uint8_t options; /* octets of TCP options, a multiple of four */
    uint8_t host;    /* last octet of the source address */
    bool no_df;      /* IPv4 */
    uint16_t id, window, source_port;
    uint32_t sequence, acknowledgment, flow_label;
    uint16_t payload; /* octets */
    uint32_t content; /* where in the stream of octets the payload begins */
};

static inline struct shape shape_new(uint8_t version, uint8_t protocol, uint16_t payload) {
    return (struct shape){
        .version = version,
        .protocol = protocol,
        .ttl = 64,
        .flags = DP_TCP_ACK,
        .options = 12,
        .host = 1,
        .id = 0x1233,
        .window = 500,
        .source_port = 40000,
        .sequence = 0xfffff000,
        .acknowledgment = 77,
        .payload = payload,
    };
}

/* Both protocols over both IP versions: 0..3. */
static inline struct shape shape_of_kind(unsigned kind, uint16_t payload) {
    return shape_new(kind % 2 != 0 ? 6 : 4, kind / 2 != 0 ? DP_PROTOCOL_UDP : DP_PROTOCOL_TCP, payload);
}

static inline void packet_put(uint8_t *at, uint64_t value, int octets) {
    while (octets-- > 0) {
        at[octets] = (uint8_t)value;
        value >>= 8;
    }
}

static inline uint32_t packet_sum(const uint8_t *data, size_t octets, uint32_t sum) {
    for (size_t i = 0; i < octets; i++)
        sum += i % 2 != 0 ? data[i] : (uint32_t)data[i] << 8;
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline size_t packet_ip_octets(const struct shape *s) {
    return s->version == 4 ? 20 : 40;
}

static inline size_t packet_header_octets(const struct shape *s) {
    return packet_ip_octets(s) + (s->protocol == DP_PROTOCOL_UDP ? 8u : 20u + s->options);
}

/* Sum of the pseudo-header for `octets` of upper layer. */
static inline uint32_t packet_pseudo(const uint8_t *packet, const struct shape *s, uint32_t octets) {
    uint32_t sum = s->version == 4 ? packet_sum(packet + 12, 8, 0) : packet_sum(packet + 8, 32, 0);
    sum += s->protocol + octets;
    return (sum & 0xffff) + (sum >> 16);
}

static inline void packet_checksums(uint8_t *packet, const struct shape *s, size_t octets) {
    size_t ip = packet_ip_octets(s), check = ip + (s->protocol == DP_PROTOCOL_UDP ? 6 : 16);
    if (s->version == 4) {
        packet_put(packet + 10, 0, 2);
        packet_put(packet + 10, (uint16_t)~packet_sum(packet, 20, 0), 2);
    }
    packet_put(packet + check, 0, 2);
    uint16_t sum = (uint16_t)~packet_sum(packet + ip, octets - ip, packet_pseudo(packet, s, (uint32_t)(octets - ip)));
    packet_put(packet + check, sum == 0 && s->protocol == DP_PROTOCOL_UDP ? 0xffff : sum, 2);
}

/* Writes the packet; its octets. */
static inline size_t packet_build(uint8_t *out, const struct shape *s) {
    size_t ip = packet_ip_octets(s), headers = packet_header_octets(s), octets = headers + s->payload;
    memset(out, 0, headers);
    if (s->version == 4) {
        out[0] = 0x45;
        out[1] = s->tos;
        packet_put(out + 2, octets, 2);
        packet_put(out + 4, s->id, 2);
        out[6] = s->no_df ? 0 : 0x40;
        out[8] = s->ttl;
        out[9] = s->protocol;
        memcpy(out + 12, (const uint8_t[]){10, 1, 0, s->host, 10, 2, 0, 2}, 8);
    } else {
        packet_put(out, 6u << 28 | (uint32_t)s->tos << 20 | s->flow_label, 4);
        packet_put(out + 4, octets - 40, 2);
        out[6] = s->protocol;
        out[7] = s->ttl;
        out[8] = out[24] = 0xfd;
        out[23] = s->host;
        out[39] = 2;
    }
    uint8_t *upper = out + ip;
    packet_put(upper, s->source_port, 2);
    packet_put(upper + 2, 5201, 2);
    if (s->protocol == DP_PROTOCOL_UDP) {
        packet_put(upper + 4, 8u + s->payload, 2);
    } else {
        packet_put(upper + 4, s->sequence, 4);
        packet_put(upper + 8, s->acknowledgment, 4);
        upper[12] = (uint8_t)((20 + s->options) / 4 << 4);
        upper[13] = s->flags;
        packet_put(upper + 14, s->window, 2);
        memset(upper + 20, 1, s->options); /* NOP */
    }
    for (size_t i = 0; i < s->payload; i++)
        out[headers + i] = (uint8_t)((s->content + i) * 131 >> 3);
    packet_checksums(out, s, octets);
    return octets;
}

/* The packet that follows `s` in a run, with `payload` octets. */
static inline struct shape shape_next(struct shape s, uint16_t payload) {
    s.sequence += s.payload;
    s.content += s.payload;
    s.id++;
    s.payload = payload;
    return s;
}

/* A UDP tunnel around packets: VXLAN (RFC 7348), or Geneve (RFC 8926) with options, and an Ethernet header. */
struct envelope {
    struct shape udp; /* of the outer packet; its payload counts for nothing */
    bool geneve, checksum;
    uint8_t options; /* octets, a multiple of four */
};

static inline struct envelope envelope_new(uint8_t version) {
    struct envelope e = {.udp = shape_new(version, DP_PROTOCOL_UDP, 0)};
    e.udp.no_df = true;
    e.udp.id = 0x7fff;
    return e;
}

static inline size_t packet_tunnel_octets(const struct envelope *e) {
    return packet_header_octets(&e->udp) + 8u + (e->geneve ? e->options : 0u) + 14u;
}

/* Writes the packet `s` in the tunnel; the octets of the whole. */
static inline size_t packet_wrap(uint8_t *out, const struct envelope *e, const struct shape *s) {
    size_t before = packet_tunnel_octets(e), udp = packet_header_octets(&e->udp);
    size_t octets = before + packet_build(out + before, s);
    uint8_t first = out[before];
    struct shape outer = e->udp;
    outer.payload = 0;
    (void)packet_build(out, &outer);
    out[before] = first;
    memset(out + udp, 0, before - udp);
    if (e->geneve) {
        out[udp] = e->options / 4;
        packet_put(out + udp + 2, 0x6558, 2);
        memset(out + udp + 8, 0x5a, e->options);
    } else {
        out[udp] = 8;
    }
    packet_put(out + udp + 4, 42, 3);
    packet_put(out + before - 14, 0x020000000001, 6);
    packet_put(out + before - 8, 0x020000000002, 6);
    packet_put(out + before - 2, s->version == 4 ? 0x0800 : 0x86dd, 2);
    if (e->udp.version == 4)
        packet_put(out + 2, octets, 2);
    else
        packet_put(out + 4, octets - 40, 2);
    packet_put(out + packet_ip_octets(&e->udp) + 4, octets - packet_ip_octets(&e->udp), 2);
    packet_checksums(out, &e->udp, octets);
    if (!e->checksum)
        packet_put(out + packet_ip_octets(&e->udp) + 6, 0, 2);
    return octets;
}

static inline struct envelope envelope_next(struct envelope e) {
    e.udp.id++;
    return e;
}

/* Every tunnel there is: outer IPv4 or IPv6, VXLAN or Geneve with options, its checksum zero or not. */
static inline struct envelope envelope_of(unsigned i) {
    struct envelope e = envelope_new(i % 2 != 0 ? 6 : 4);
    e.checksum = i & 2;
    e.geneve = i & 4;
    e.options = i & 4 ? 12 : 0;
    return e;
}

enum {
    ENVELOPES = 8
};

static inline uint8_t packet_tunnel_type(const struct envelope *e, const struct shape *s) {
    unsigned inner = s->protocol == DP_PROTOCOL_UDP ? VIRTIO_NET_HDR_GSO_UDP_L4
                     : s->version == 4              ? VIRTIO_NET_HDR_GSO_TCPV4
                                                    : VIRTIO_NET_HDR_GSO_TCPV6;
    return (uint8_t)(inner | (e->udp.version == 4 ? VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 : VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6));
}

#endif
