/* libFuzzer: what dp_inner_read and the ECN merge make of any octets that claim to be an inner packet.
 *
 *   octet 0      direction in the low bit, outer ECN field in the next two
 *   then         the packet, and whatever TFC padding follows it
 *
 * The packet ends where the allocation ends, so that AddressSanitizer sees any octet read beyond it. */
#include <stdlib.h>
#include <string.h>

#include "inner.h"

/* Like assert, but also where assertions are compiled out. */
static void require(bool condition) {
    if (!condition)
        abort();
}

static uint32_t ones_complement_sum(const uint8_t *packet, size_t octets) {
    return dp_checksum(packet, octets, 0) % 0xffff; /* 0 and 0xffff are the same number */
}

static void check_flow(const struct dp_inner *inner, const struct dp_flow *flow) {
    require(flow->family == inner->version);
    require(flow->protocol <= DP_PROTOCOL_OPAQUE);
    require(flow->port[DP_LOCAL] <= DP_PORT_OPAQUE && flow->port[DP_REMOTE] <= DP_PORT_OPAQUE);
    require((flow->port[DP_LOCAL] == DP_PORT_OPAQUE) == (flow->port[DP_REMOTE] == DP_PORT_OPAQUE));
}

static void check_lengths(const uint8_t *packet, const struct dp_inner *inner, size_t octets) {
    require(inner->version == packet[0] >> 4 && (inner->version == 4 || inner->version == 6));
    require(inner->octets <= octets && inner->header <= inner->octets);
    require(inner->header >= (inner->version == 4 ? DP_IPV4_HEADER_MIN : DP_IPV6_HEADER));
}

/* The same packet seen from the other end has the same flow, the other way round. */
static void check_reverse(const uint8_t *packet, size_t octets, enum dp_direction_of_flow direction, const struct dp_inner *inner) {
    struct dp_inner back;
    bool v4 = inner->version == 4;
    require(dp_inner_read(packet, octets, direction == DP_FLOW_INBOUND ? DP_FLOW_OUTBOUND : DP_FLOW_INBOUND, &back) == DP_OK);
    for (int end = DP_LOCAL; end <= DP_REMOTE; end++) {
        require(back.flow.port[end] == inner->flow.port[!end]);
        require(v4 ? back.flow.address.v4[end] == inner->flow.address.v4[!end]
                   : back.flow.address.v6[end] == inner->flow.address.v6[!end]);
        require(!inner->quotes || back.quoted.port[end] == inner->quoted.port[!end]);
    }
    require(back.quotes == inner->quotes);
}

/* The merge changes the ECN field alone, and the header checksum is exactly as right or wrong as before. */
static void check_ecn(uint8_t *packet, const struct dp_inner *inner, uint8_t outer_tos) {
    uint32_t before = ones_complement_sum(packet, DP_IPV4_HEADER_MIN);
    enum dp_drop drop = dp_ecn_decapsulate(packet, inner, outer_tos);
    struct dp_inner after;
    require(drop == DP_OK || (drop == DP_DROP_ecn && (outer_tos & 3) == 3 && (inner->tos & 3) == 0));
    require(dp_inner_read(packet, inner->octets, DP_FLOW_OUTBOUND, &after) == DP_OK);
    require(after.tos >> 2 == inner->tos >> 2 && after.header == inner->header);
    if (inner->version == 4)
        require(ones_complement_sum(packet, DP_IPV4_HEADER_MIN) == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    enum dp_direction_of_flow direction = data[0] & 1 ? DP_FLOW_INBOUND : DP_FLOW_OUTBOUND;
    uint8_t outer_tos = data[0] >> 1 & 3;
    size_t octets = size - 1;
    uint8_t *packet = malloc(octets);
    struct dp_inner inner;
    if (packet == NULL && octets > 0)
        return 0;
    if (octets > 0)
        memcpy(packet, data + 1, octets);
    enum dp_drop drop = dp_inner_read(packet, octets, direction, &inner);
    require(drop == DP_OK || drop == DP_DROP_inner_version || drop == DP_DROP_inner_length || drop == DP_DROP_inner_header);
    if (drop == DP_OK) {
        check_lengths(packet, &inner, octets);
        check_flow(&inner, &inner.flow);
        if (inner.quotes)
            check_flow(&inner, &inner.quoted);
        check_reverse(packet, octets, direction, &inner);
        check_ecn(packet, &inner, outer_tos);
    }
    free(packet);
    return 0;
}
