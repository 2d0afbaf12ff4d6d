/* The CHILD_SAs of a tunnel, which say what outbound SA a packet takes: small immutable lists, replaced as a whole; the outbound SA
 * inside changes by one store. */
#ifndef DP_CHILD_H
#define DP_CHILD_H

#include <string.h>

#include "sa.h"

struct dp_child {
    uint32_t number;
    struct dp_selectors *selectors;
    _Atomic(struct dp_sa *) outbound;
};

struct dp_children {
    uint32_t count;
    struct dp_child *child[];
};

struct dp_tunnel {
    _Atomic(struct dp_children *) children;
    _Atomic bool acquire;      /* sticky: a packet found no SA */
    _Atomic uint64_t settings; /* struct dp_tunnel_settings, read and written as a whole */
};

static_assert(sizeof(struct dp_tunnel_settings) == sizeof(uint64_t), "settings change by one store");

static inline struct dp_tunnel_settings dp_tunnel_settings_of(const struct dp_tunnel *tunnel) {
    uint64_t word = atomic_load_explicit(&tunnel->settings, memory_order_relaxed);
    struct dp_tunnel_settings settings;
    memcpy(&settings, &word, sizeof settings);
    return settings;
}

/* Drops the CHILDren of every tunnel; for dp_destroy. */
void dp_children_finish(struct dp *dp);
/* The SA of the first CHILD whose selectors hold the flow and that has one; NULL. A later fragment goes by an OPAQUE one where
 * there is one. */
struct dp_sa *dp_tunnel_outbound(const struct dp_tunnel *tunnel, const struct dp_flow *flow);

#endif
