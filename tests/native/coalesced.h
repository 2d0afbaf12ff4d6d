/* What the tests of joining share: packets that come in, each in the place where it stays; what becomes of them when they are cut
 * again; and what may differ between a packet and the next one of its flow. */
#ifndef DP_TEST_COALESCED_H
#define DP_TEST_COALESCED_H

#include "coalesce.h"
#include "packets.h"
#include "segment.h"
#include "unit.h"

enum {
    PACKETS = 64,
    ROOM = 2048,
    EVERYTHING = DP_OFFLOAD_TUN_TSO4 | DP_OFFLOAD_TUN_TSO6 | DP_OFFLOAD_TUN_USO4 | DP_OFFLOAD_TUN_USO6,
};

static struct dp_coalescer coalescer;
static uint8_t packets[PACKETS][ROOM], wanted[PACKETS][ROOM];
static size_t sizes[PACKETS];
static unsigned received;

static inline void begin(void) {
    coalescer.count = 0;
    received = 0;
}

/* A packet as it lies in `packets` already, or built from a shape. */
static inline void add_raw(size_t octets, uint32_t kinds) {
    struct dp_inner inner;
    sizes[received] = octets;
    memcpy(wanted[received], packets[received], octets);
    assert_int_equal(dp_inner_read(packets[received], octets, DP_FLOW_INBOUND, &inner), DP_OK);
    dp_coalesce_add(&coalescer, packets[received++], &inner, kinds);
}

static inline void add(const struct shape *s) {
    add_raw(packet_build(packets[received], s), EVERYTHING);
}

/* The super-packet in one piece, as the kernel gets it. */
static inline size_t gather(const struct dp_burst *b, uint8_t *out) {
    size_t octets = 0;
    for (unsigned i = 0; i < b->packets; i++) {
        memcpy(out + octets, b->piece[i].iov_base, b->piece[i].iov_len);
        octets += b->piece[i].iov_len;
    }
    assert_int_equal(octets, b->octets);
    return octets;
}

static bool taken[PACKETS];

/* The earliest packet not yet taken with these octets; every earlier packet of its flow was taken before it. */
static inline void take(const uint8_t *packet, size_t octets) {
    for (unsigned i = 0; i < received; i++) {
        if (taken[i])
            continue;
        if (sizes[i] == octets && memcmp(wanted[i], packet, octets) == 0) {
            taken[i] = true;
            return;
        }
        size_t ports = packet[0] >> 4 == 4 ? 20 : 40, addresses = ports == 20 ? 12 : 8, protocol = ports == 20 ? 9 : 6;
        assert_false(wanted[i][protocol] == packet[protocol] &&
                     memcmp(wanted[i] + addresses, packet + addresses, ports - addresses + 4) == 0);
    }
    fail_msg("a packet of %zu octets that did not come in", octets);
}

/* Cuts every super-packet again: what comes out is what went in, in the order of each flow. */
static inline void check_everything_comes_back(void) {
    static uint8_t whole[DP_IP_MAX + DP_ESP_TAILROOM];
    memset(taken, 0, sizeof taken);
    unsigned back = 0;
    for (unsigned i = 0; i < coalescer.count; i++) {
        struct dp_burst b;
        struct dp_inner inner;
        struct dp_segments segments;
        dp_coalesce_finish(&coalescer, i, &b);
        size_t octets = gather(&b, whole);
        b.data = whole;
        assert_int_equal(dp_inner_read(whole, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
        assert_int_equal(dp_segments_begin(&segments, &b, &inner), DP_OK);
        assert_int_equal(segments.count, b.packets);
        uint32_t one;
        for (const uint8_t *packet; (packet = dp_segments_next(&segments, &one)) != NULL; back++)
            take(packet, one);
    }
    assert_int_equal(back, received);
}

enum change {
    NOTHING,
    SEQUENCE,
    ACKNOWLEDGMENT,
    WINDOW,
    TOS,
    TTL,
    DF,
    ID,
    FLOW_LABEL,
    PORT,
    HOST,
    OPTIONS,
    PAYLOAD,
    FLAGS,
    OCTET, /* `value` is the place; the octet there is inverted, which breaks a checksum */
};

static inline void change(struct shape *s, enum change what, uint32_t value) {
    switch (what) {
    case SEQUENCE:
        s->sequence += value;
        break;
    case ACKNOWLEDGMENT:
        s->acknowledgment += value;
        break;
    case WINDOW:
        s->window = (uint16_t)(s->window + value);
        break;
    case TOS:
        s->tos = (uint8_t)value;
        break;
    case TTL:
        s->ttl = (uint8_t)value;
        break;
    case DF:
        s->no_df = true;
        break;
    case ID:
        s->id = (uint16_t)(s->id + value);
        break;
    case FLOW_LABEL:
        s->flow_label = value;
        break;
    case PORT:
        s->source_port = (uint16_t)value;
        break;
    case HOST:
        s->host = (uint8_t)value;
        break;
    case OPTIONS:
        s->options = (uint8_t)value;
        break;
    case PAYLOAD:
        s->payload = (uint16_t)value;
        break;
    case FLAGS:
        s->flags = (uint8_t)value;
        break;
    default:
        break;
    }
}

#endif
