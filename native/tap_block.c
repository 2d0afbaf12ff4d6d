#include "tap_block.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>

#include "checksum.h"
#include "esp_wire.h"
#include "io.h"

/* pcapng (draft-ietf-opsawg-pcapng §4.3): the enhanced packet block, with its options at the end. */
enum {
    BLOCK = 6,
    BLOCK_HEADER = 28,
    OPTION_COMMENT = 1,
    OPTION_FLAGS = 2, /* §4.3.1: bits 0-1 are the direction */
    COMMENT_MAX = 256,
    BLOCK_END = 8 + 4 + COMMENT_MAX + 4 + 4, /* flags, comment, end of options, length again */
    HEADER_MAX = 52,                         /* IPv6, UDP, the non-ESP marker */
    HOP_LIMIT = 64,                          /* shown where it is not known */
    UDP_HEADER = 8,
    IPV4_DF = 0x40,
};
static_assert(DP_TAP_RING_LEAST >= 2 * (BLOCK_HEADER + DP_PACKET_ROOM + BLOCK_END), "a ring takes any packet wherever it begins");

static const char *const drop_text[DP_DROP_COUNT] = {
#define DP_DROP_TEXT(name, sentence) [DP_DROP_##name] = #name ": " sentence,
    DP_DROPS(DP_DROP_TEXT)
#undef DP_DROP_TEXT
};
#define DP_DROP_FITS(name, sentence) static_assert(sizeof "dropped: " #name ": " sentence <= COMMENT_MAX, "it is a comment");
DP_DROPS(DP_DROP_FITS)
#undef DP_DROP_FITS

/* ---- a block */

static uint8_t *put_32(uint8_t *at, uint32_t value) {
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static uint8_t *put_option(uint8_t *at, uint16_t code, const void *value, uint16_t octets) {
    memcpy(at, &code, sizeof code);
    memcpy(at + 2, &octets, sizeof octets);
    memset(at + 4, 0, (octets + 3u) & ~3u);
    memcpy(at + 4, value, octets);
    return at + 4 + ((octets + 3u) & ~3u);
}

void dp_tap_end(struct dp_tap_ring *ring, enum dp_drop reason) {
    if (ring->held == 0)
        return;
    uint8_t *block = ring->base + (ring->from & (ring->octets - 1)), *at = block + ring->held;
    if (reason != DP_OK) {
        char comment[COMMENT_MAX] = "dropped: ";
        size_t before = strlen(comment), octets = strlen(drop_text[reason]);
        memcpy(comment + before, drop_text[reason], octets);
        at = put_option(at, OPTION_COMMENT, comment, (uint16_t)(before + octets));
    }
    at = put_32(at, 0); /* the end of the options */
    uint32_t total = (uint32_t)(at + 4 - block);
    put_32(at, total);
    put_32(block + 4, total);
    ring->held = 0;
    dp_tap_ring_publish(ring, total);
}

void dp_tap_begin(struct dp_tap *tap, struct dp_tap_ring *ring, const struct dp_tap_packet *p) {
    size_t whole = 0;
    dp_tap_end(ring, DP_OK);
    for (unsigned i = 0; i < p->parts; i++)
        whole += p->part[i].iov_len;
    size_t kept = tap->config.snap != 0 && tap->config.snap < whole ? tap->config.snap : whole, padded = (kept + 3) & ~(size_t)3;
    uint8_t *block = dp_tap_ring_reserve(ring, BLOCK_HEADER + padded + BLOCK_END);
    if (block == NULL) {
        atomic_fetch_add_explicit(&tap->missed[p->key], 1, memory_order_relaxed);
        return;
    }
    uint64_t when = p->now + tap->config.wall_offset;
    uint8_t *at = put_32(put_32(put_32(block, BLOCK), 0), p->key);
    at = put_32(put_32(at, (uint32_t)(when >> 32)), (uint32_t)when);
    at = put_32(put_32(at, (uint32_t)kept), (uint32_t)whole);
    memset(at + kept, 0, padded - kept);
    for (unsigned i = 0; i < p->parts && kept != 0; i++) {
        size_t octets = p->part[i].iov_len < kept ? p->part[i].iov_len : kept;
        memcpy(at, p->part[i].iov_base, octets);
        at += octets;
        kept -= octets;
    }
    at = put_option(block + BLOCK_HEADER + padded, OPTION_FLAGS, &p->flag, sizeof p->flag);
    ring->held = (uint32_t)(at - block);
}

/* ---- an outer header */

static void put_16(uint8_t *at, size_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static size_t ipv4_header(uint8_t *h, const struct dp_tap_datagram *d, size_t payload) {
    h[0] = 0x45;
    h[1] = d->tos;
    put_16(h + 2, DP_IPV4_HEADER_MIN + payload);
    h[6] = d->df ? IPV4_DF : 0;
    h[8] = d->hop_limit != 0 ? d->hop_limit : HOP_LIMIT;
    h[9] = d->udp ? IPPROTO_UDP : IPPROTO_ESP;
    memcpy(h + 12, d->source->ip, 4);
    memcpy(h + 16, d->destination->ip, 4);
    dp_store_word_16(h + 10, (uint16_t)~dp_checksum(h, DP_IPV4_HEADER_MIN, 0));
    return DP_IPV4_HEADER_MIN;
}

static size_t ipv6_header(uint8_t *h, const struct dp_tap_datagram *d, size_t payload) {
    h[0] = (uint8_t)(0x60 | d->tos >> 4);
    h[1] = (uint8_t)(d->tos << 4 | (d->flow_label >> 16 & 15));
    put_16(h + 2, d->flow_label & 0xffff);
    put_16(h + 4, payload);
    h[6] = d->udp ? IPPROTO_UDP : IPPROTO_ESP;
    h[7] = d->hop_limit != 0 ? d->hop_limit : HOP_LIMIT;
    memcpy(h + 8, d->source->ip, 16);
    memcpy(h + 24, d->destination->ip, 16);
    return DP_IPV6_HEADER;
}

/* Over IPv4 it may be left out (RFC 768), over IPv6 not (RFC 8200 §8.1). */
static uint16_t udp_checksum(const uint8_t *ipv6, const uint8_t *udp, size_t length, const struct dp_tap_datagram *d) {
    uint8_t lengths[8] = {0, 0, (uint8_t)(length >> 8), (uint8_t)length, 0, 0, 0, IPPROTO_UDP};
    uint32_t sum = dp_checksum(lengths, sizeof lengths, dp_checksum(ipv6 + 8, 32, 0));
    uint16_t word = (uint16_t)~dp_checksum(d->data, d->octets, dp_checksum(udp, UDP_HEADER, sum));
    return word != 0 ? word : 0xffff;
}

void dp_tap_begin_outer(struct dp_tap *tap, struct dp_tap_ring *ring, const struct dp_tap_datagram *d, uint32_t flag,
                        uint64_t now) {
    uint8_t h[HEADER_MAX] = {0};
    size_t udp_octets = d->udp ? UDP_HEADER + (d->marker ? (size_t)DP_NON_ESP_MARKER : 0) : 0, payload = udp_octets + d->octets;
    bool v6 = d->source->family == 6 || d->destination->family == 6;
    size_t octets = v6 ? ipv6_header(h, d, payload) : ipv4_header(h, d, payload);
    if (d->udp) {
        uint8_t *udp = h + octets;
        put_16(udp, d->source->port);
        put_16(udp + 2, d->destination->port);
        put_16(udp + 4, payload);
        if (v6)
            dp_store_word_16(udp + 6, udp_checksum(h, udp, payload, d));
    }
    struct dp_tap_packet p = {
        .key = DP_TAP_KEY_OUTER,
        .flag = flag,
        .now = now,
        .part = (const struct iovec[]){{h, octets + udp_octets}, {(void *)(uintptr_t)d->data, d->octets}},
        .parts = 2,
    };
    dp_tap_begin(tap, ring, &p);
}
