#include "vteps.h"

#include "bucket.h"
#include "mix.h"

/* Of the local end with this port; never 0. */
static uint64_t key_of(uint64_t secret, uint32_t interface, const struct dp_flow *flow, uint32_t port) {
    uint64_t end = dp_mix(secret ^ ((uint64_t)interface << 32 | port << 8 | flow->family));
    if (flow->family == 4)
        return dp_mix(end ^ flow->address.v4[DP_LOCAL]) | 1;
    end = dp_mix(end ^ (uint64_t)flow->address.v6[DP_LOCAL]);
    return dp_mix(end ^ (uint64_t)(flow->address.v6[DP_LOCAL] >> 64)) | 1;
}

static unsigned place_of(uint64_t key) {
    return (unsigned)(key >> 32) % DP_VTEPS;
}

void dp_vtep_remember(struct dp_vteps *vteps, uint64_t secret, uint32_t interface, const struct dp_flow *flow, uint64_t now) {
    uint64_t key = key_of(secret, interface, flow, flow->port[DP_REMOTE]);
    _Atomic uint64_t *known = &vteps->seen[place_of(key)].key, *at = &vteps->seen[place_of(key)].at;
    bool same = atomic_load_explicit(known, memory_order_relaxed) == key;
    if (same && now - atomic_load_explicit(at, memory_order_relaxed) < DP_SECOND)
        return; /* the line may stay with the inbound loop */
    atomic_store_explicit(at, now, memory_order_relaxed);
    if (!same)
        atomic_store_explicit(known, key, memory_order_relaxed);
}

bool dp_vtep_known(const struct dp_vteps *vteps, uint64_t secret, uint32_t interface, const struct dp_flow *flow, uint64_t now) {
    uint64_t key = key_of(secret, interface, flow, flow->port[DP_LOCAL]);
    unsigned place = place_of(key);
    return atomic_load_explicit(&vteps->seen[place].key, memory_order_relaxed) == key &&
           now < atomic_load_explicit(&vteps->seen[place].at, memory_order_relaxed) + DP_VTEP_NS;
}
