/* What the control thread reads of SAs while the loops use them. */
#include <errno.h>
#include <string.h>

#include "engine.h"
#include "sa.h"
#include "sa_peer.h"
#include "traffic.h"

static uint64_t get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

int dp_sa_read(const struct dp *dp, dp_sa_id id, struct dp_sa_info *info) {
    const struct dp_sa *sa = dp_sa_by_id(dp, id);
    if (sa == NULL)
        return -ENOENT;
    memset(info, 0, sizeof *info);
    info->id = id;
    info->spi = sa->esp.spi;
    info->tunnel = sa->tunnel;
    info->direction = sa->direction;
    info->esn = sa->esp.esn;
    info->flags = atomic_load_explicit(&sa->flags, memory_order_relaxed);
    info->packets = get(&sa->packets);
    info->octets = get(&sa->octets);
    info->sequence = get(&sa->sequence_shown);
    info->first_use = get(&sa->first_use);
    info->last_use = get(&sa->last_use);
    info->recent = get(&sa->recent);
    info->last_drop = (uint16_t)atomic_load_explicit(&sa->last_drop, memory_order_relaxed);
    dp_sa_get_peer(sa, &info->peer);
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        info->drops[r] = get(&sa->drops[r]);
    return 0;
}

static bool condition(const struct dp_sa *sa, struct dp_sa_condition *out) {
    uint32_t flags = sa != NULL ? atomic_load_explicit(&sa->flags, memory_order_relaxed) : 0;
    if (flags == 0)
        return false;
    *out = (struct dp_sa_condition){.id = sa->id, .tunnel = sa->tunnel, .spi = sa->esp.spi, .flags = flags};
    return true;
}

int dp_sa_scan(const struct dp *dp, struct dp_sa_condition *out, size_t n, uint64_t *cursor) {
    const struct dp_sa_table *t = &dp->sas;
    uint64_t slots = (uint64_t)t->slot_mask + 1, end = slots + t->outbound_count;
    size_t found = 0;
    uint64_t at = *cursor;
    for (; at < end && found < n; at++) {
        const struct dp_sa *sa = at < slots ? atomic_load_explicit(&t->inbound[at], memory_order_relaxed) : t->outbound[at - slots];
        found += condition(sa, &out[found]);
    }
    *cursor = at < end ? at : 0;
    return (int)found;
}

int dp_tunnel_read(const struct dp *dp, uint32_t tunnel, const dp_sa_id *ids, size_t n, struct dp_tunnel_traffic *traffic,
                   uint64_t *drops) {
    if (tunnel >= dp->config.tunnels)
        return -EINVAL;
    const struct dp_traffic *t = &dp->traffic[tunnel];
    *traffic = t->gone;
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        drops[r] = t->drops != NULL ? t->drops[r] : 0;
    for (size_t i = 0; i < n; i++) {
        const struct dp_sa *sa = dp_sa_by_id(dp, ids[i]);
        if (sa == NULL || sa->tunnel != tunnel)
            continue;
        dp_traffic_add(traffic, sa);
        for (unsigned r = 0; r < DP_DROP_COUNT; r++)
            drops[r] += get(&sa->drops[r]);
    }
    return 0;
}
