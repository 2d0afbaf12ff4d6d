#include "outer.h"

#include "inner.h"

enum {
    IPV4_TTL = 8,
    IPV6_HOP_LIMIT = 7,
    FLOW_LABEL_MASK = 0xfffff,
};

/* IPv6 has no such bit: only what does not fit leaves by the socket that fragments (dp_oversize). */
static uint8_t outer_df(const struct dp_path *path, const struct dp_inner *inner) {
    if (path->remote.family == 6)
        return DP_DF_SET;
    if (path->df != DP_DF_COPY)
        return path->df;
    return inner->dont_fragment ? DP_DF_SET : DP_DF_CLEAR;
}

static uint64_t mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 32;
}

/* Never zero: that would say that there is none. */
static uint32_t flow_label(uint64_t seed, const struct dp_flow *flow) {
    uint64_t h = mix(seed, (uint64_t)flow->protocol << 40 ^ (uint64_t)flow->port[0] << 20 ^ flow->port[1]);
    if (flow->family == 4) {
        h = mix(h, (uint64_t)flow->address.v4[0] << 32 | flow->address.v4[1]);
    } else {
        for (int end = 0; end < 2; end++)
            h = mix(mix(h, (uint64_t)(flow->address.v6[end] >> 64)), (uint64_t)flow->address.v6[end]);
    }
    uint32_t label = (uint32_t)(h >> 20) & FLOW_LABEL_MASK;
    return label != 0 ? label : 1;
}

struct dp_outer_fields dp_outer_fields(const struct dp *dp, const struct dp_path *path, const uint8_t *packet,
                                       const struct dp_inner *inner) {
    struct dp_outer_fields fields = {
        .tos = dp_outer_tos(inner->tos, path),
        .df = outer_df(path, inner),
        .hop_limit = path->hop_limit,
    };
    if ((path->outer & DP_OUTER_HOP_LIMIT_COPY) != 0)
        fields.hop_limit = packet[inner->version == 4 ? IPV4_TTL : IPV6_HOP_LIMIT];
    if ((path->outer & DP_OUTER_FLOW_LABEL) != 0 && path->remote.family == 6)
        fields.flow_label = flow_label(dp->flow_seed, &inner->flow);
    return fields;
}
