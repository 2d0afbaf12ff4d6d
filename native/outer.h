/* The outer header of what leaves: DF, DSCP and ECN, hop limit, flow label (RFC 4301 §5.1.2, RFC 2983, RFC 6040, RFC 6438). */
#ifndef DP_OUTER_H
#define DP_OUTER_H

#include "engine.h"
#include "inner.h"

/* The outer headers' fields that differ from packet to packet. */
struct dp_outer_fields {
    uint8_t tos, df, hop_limit; /* as in struct dp_burst */
    uint32_t flow_label;
};
struct dp_outer_fields dp_outer_fields(const struct dp *dp, const struct dp_path *path, const uint8_t *packet,
                                       const struct dp_inner *inner);

#endif
