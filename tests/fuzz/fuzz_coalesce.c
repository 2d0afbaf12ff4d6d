/* Any packets in any order: what is joined comes back octet by octet when it is cut again, and nothing is lost or twice. */
#include <stdlib.h>
#include <string.h>

#include "coalesce.h"
#include "segment.h"

enum {
    PACKETS = DP_BURSTS,
    EVERYTHING = DP_OFFLOAD_TUN_TSO4 | DP_OFFLOAD_TUN_TSO6 | DP_OFFLOAD_TUN_USO4 | DP_OFFLOAD_TUN_USO6 | DP_OFFLOAD_TUN_UDP_TUNNEL,
    VXLAN_UP_TO_IP = 8 + 8 + 14, /* its UDP header, its own, Ethernet's */
    GENEVE_OPTION = 4,
};

struct packet {
    uint8_t *data; /* a block of exactly `octets` */
    const uint8_t *original;
    uint32_t octets;
    bool back;
};

static void require(bool holds) {
    if (!holds)
        abort();
}

static struct packet packets[PACKETS];
static unsigned count;
static struct dp_coalescer coalescer;

/* Mends the checksums of the packet in `original`, or hardly anything would ever join. */
static void mend(uint8_t *packet, const struct dp_inner *inner) {
    bool v4 = inner->version == 4;
    size_t field = inner->flow.protocol == 6 ? 16 : 6;
    if (inner->fragment || (inner->flow.protocol != 6 && inner->flow.protocol != 17) || inner->octets < inner->header + field + 2)
        return;
    if (v4) {
        memset(packet + 10, 0, 2);
        dp_store_word_16(packet + 10, (uint16_t)~dp_checksum(packet, inner->header, 0));
    }
    uint32_t upper = inner->octets - inner->header;
    uint32_t sum = (uint32_t)__builtin_bswap16((uint16_t)upper) + __builtin_bswap16(inner->flow.protocol);
    sum = dp_checksum(packet + (v4 ? 12 : 8), v4 ? 8 : 32, sum);
    memset(packet + inner->header + field, 0, 2);
    uint16_t check = (uint16_t)~dp_checksum(packet + inner->header, upper, sum);
    dp_store_word_16(packet + inner->header + field, check == 0 && field == 6 ? 0xffff : check);
}

/* The packet in a tunnel first, whose outer checksum may be zero. */
static void mend_tunnelled(uint8_t *packet, const struct dp_inner *outer) {
    struct dp_inner inner;
    if (outer->flow.protocol != 17 || outer->fragment || outer->octets < outer->header + (uint32_t)VXLAN_UP_TO_IP)
        return;
    uint8_t options = packet[outer->header + 8];
    uint32_t at = outer->header + (uint32_t)VXLAN_UP_TO_IP + (options < 8 ? options * (uint32_t)GENEVE_OPTION : 0);
    if (at < outer->octets && dp_inner_read(packet + at, outer->octets - at, DP_FLOW_INBOUND, &inner) == DP_OK)
        mend(packet + at, &inner);
}

static void add(uint8_t *original, uint32_t octets, bool mended) {
    struct dp_inner inner;
    if (dp_inner_read(original, octets, DP_FLOW_INBOUND, &inner) != DP_OK)
        return;
    if (mended) {
        bool none = inner.flow.protocol == 17 && inner.octets >= inner.header + 8u && dp_word_16(original + inner.header + 6) == 0;
        mend_tunnelled(original, &inner);
        mend(original, &inner);
        if (none)
            memset(original + inner.header + 6, 0, 2);
    }
    struct packet *p = &packets[count++];
    *p = (struct packet){.data = malloc(inner.octets), .original = original, .octets = inner.octets};
    require(p->data != NULL);
    memcpy(p->data, original, inner.octets);
    dp_coalesce_add(&coalescer, p->data, &inner, EVERYTHING);
}

static void take(const uint8_t *packet, uint32_t octets) {
    for (unsigned i = 0; i < count; i++)
        if (!packets[i].back && packets[i].octets == octets && memcmp(packets[i].original, packet, octets) == 0) {
            packets[i].back = true;
            return;
        }
    abort();
}

static void check(unsigned super) {
    static uint8_t whole[DP_IP_MAX + DP_ESP_TAILROOM];
    struct dp_burst b;
    struct dp_inner inner;
    struct dp_segments segments;
    uint32_t at = 0, octets;
    dp_coalesce_finish(&coalescer, super, &b);
    require(b.octets <= DP_IP_MAX);
    for (unsigned i = 0; i < b.packets; at += (uint32_t)b.piece[i++].iov_len)
        memcpy(whole + at, b.piece[i].iov_base, b.piece[i].iov_len);
    require(at == b.octets);
    b.data = whole;
    require(dp_inner_read(whole, at, DP_FLOW_INBOUND, &inner) == DP_OK && dp_segments_begin(&segments, &b, &inner) == DP_OK);
    require(segments.count == b.packets);
    for (const uint8_t *packet; (packet = dp_segments_next(&segments, &octets)) != NULL;)
        take(packet, octets);
}

/* The input: packets, each after its length (two octets, the uppermost bit: mend its checksums). */
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t octets) {
    uint8_t *copy = malloc(octets + 1);
    require(copy != NULL);
    memcpy(copy, input, octets);
    coalescer.count = count = 0;
    for (size_t at = 0; at + 2 <= octets && count < PACKETS;) {
        uint32_t length = (uint32_t)(copy[at] & 0x7f) << 8 | copy[at + 1];
        bool mended = copy[at] & 0x80;
        at += 2;
        length = length < octets - at ? length : (uint32_t)(octets - at);
        add(copy + at, length, mended);
        at += length;
    }
    for (unsigned i = 0; i < coalescer.count; i++)
        check(i);
    for (unsigned i = 0; i < count; i++) {
        require(packets[i].back);
        free(packets[i].data);
    }
    free(copy);
    return 0;
}
