/* Any burst from a TUN device: whatever its offload header says, segmentation stays within the burst, its packets have the lengths
 * that it announced, and each of them parses to the same flow, in a UDP tunnel too. */
#include <stdlib.h>
#include <string.h>

#include "offload.h"
#include "segment.h"

/* The offload header comes first, as in the kernel's struct virtio_net_hdr; in place of hdr_len, which nobody reads, is where the
 * packet in a tunnel begins. */
struct header {
    uint8_t flags, gso_type;
    uint16_t network, gso_size, checksum_start, checksum_offset;
};

static void require(bool holds) {
    if (!holds)
        abort();
}

/* The packet at `data` is one of the super-packet that began as `whole`. */
static void require_like(const uint8_t *data, uint32_t octets, const struct dp_inner *whole, bool super) {
    struct dp_inner one;
    require(dp_inner_read(data, octets, DP_FLOW_OUTBOUND, &one) == DP_OK);
    require(one.octets == octets && one.header == whole->header && one.flow.protocol == whole->flow.protocol);
    require(!super || (one.flow.port[0] == whole->flow.port[0] && one.flow.port[1] == whole->flow.port[1]));
}

static void cut(struct dp_segments *s, const struct dp_inner *whole, const struct dp_inner *tunnelled, uint32_t network) {
    bool super = s->gso_size != 0;
    uint32_t octets, octets_all = 0, count = 0;
    for (uint8_t *packet; (packet = dp_segments_next(s, &octets)) != NULL; count++) {
        require(octets <= s->octets_most);
        require_like(packet, octets, whole, super);
        if (tunnelled != NULL)
            require_like(packet + network, octets - network, tunnelled, true);
        memset(packet + octets, 0xa5, DP_ESP_TAILROOM);
        octets_all += octets;
    }
    require(count == s->count && octets_all == s->octets_all);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t octets) {
    struct header h;
    if (octets < sizeof h || octets - sizeof h > DP_IP_MAX)
        return 0;
    memcpy(&h, input, sizeof h);
    octets -= sizeof h;
    uint8_t *packet = malloc(octets + DP_ESP_TAILROOM);
    require(packet != NULL);
    memcpy(packet, input + sizeof h, octets);
    struct dp_burst b = {
        .data = packet,
        .octets = (uint32_t)octets,
        .gso_type = h.gso_type,
        .gso_size = h.gso_size,
        .network = h.network,
        .tunnel_checksum = h.flags & VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM,
        .needs_checksum = h.flags & 1,
        .checksum_start = h.checksum_start,
        .checksum_offset = h.checksum_offset,
    };
    struct dp_inner inner, tunnelled;
    struct dp_segments segments;
    if (dp_inner_read(packet, octets, DP_FLOW_OUTBOUND, &inner) == DP_OK && dp_segments_begin(&segments, &b, &inner) == DP_OK) {
        bool tunnel = segments.gso_size != 0 && (b.gso_type & DP_GSO_UDP_TUNNEL) != 0;
        require(!tunnel || dp_inner_read(packet + b.network, octets - b.network, DP_FLOW_OUTBOUND, &tunnelled) == DP_OK);
        cut(&segments, &inner, tunnel ? &tunnelled : NULL, b.network);
    }
    free(packet);
    return 0;
}
