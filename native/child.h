/* The CHILD_SAs of a tunnel, which say what outbound SA a packet takes: small immutable lists, replaced as a whole; the outbound SA
 * inside changes by one store. */
#ifndef DP_CHILD_H
#define DP_CHILD_H

#include <string.h>

#include "sa.h"

struct dp_child {
    uint32_t number;
    uint32_t first; /* of those with the same selectors, the one that was added first */
    uint64_t likes; /* a hash of the selectors and the tunnel */
    struct dp_selectors *selectors;
    _Atomic(struct dp_sa *) outbound;
};

struct dp_children {
    uint32_t count;
    bool spreads; /* several have the same selectors */
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
/* The SA of a worker, of the CHILDren with the same selectors as the one that sends by `sa`, or did when `sa` was found; NULL: it
 * has none, or no two CHILDren of the tunnel have the same (RFC 9611). */
struct dp_sa *dp_tunnel_mate(const struct dp_tunnel *tunnel, const struct dp_sa *sa, uint32_t worker);
/* Whether both send for CHILDren with the same selectors. NULL: none. */
bool dp_sa_mates(const struct dp_sa *one, const struct dp_sa *other);

#endif
