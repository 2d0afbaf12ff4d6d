#include "flow.h"

#include <errno.h>
#include <stdlib.h>

#include "mix.h"

enum {
    SELECTORS_MAX = 256
}; /* dp.h, dp_sa_install */

static bool ports_valid(uint32_t low, uint32_t high) {
    return low <= high && high <= DP_PORT_OPAQUE;
}

bool dp_box_from_selector(struct dp_box *box, const struct dp_selector *s) {
    if (s->protocol_low > s->protocol_high || s->protocol_high > DP_PROTOCOL_OPAQUE)
        return false;
    if (!ports_valid(s->local_port_low, s->local_port_high) || !ports_valid(s->remote_port_low, s->remote_port_high))
        return false;
    *box = (struct dp_box){
        .family = s->family,
        .protocol_low = s->protocol_low,
        .protocol_high = s->protocol_high,
        .port_low = {s->local_port_low, s->remote_port_low},
        .port_high = {s->local_port_high, s->remote_port_high},
    };
    switch (s->family) {
    case 4:
        box->low.v4[DP_LOCAL] = dp_read_32(s->local_low);
        box->high.v4[DP_LOCAL] = dp_read_32(s->local_high);
        box->low.v4[DP_REMOTE] = dp_read_32(s->remote_low);
        box->high.v4[DP_REMOTE] = dp_read_32(s->remote_high);
        return box->low.v4[DP_LOCAL] <= box->high.v4[DP_LOCAL] && box->low.v4[DP_REMOTE] <= box->high.v4[DP_REMOTE];
    case 6:
        box->low.v6[DP_LOCAL] = dp_read_128(s->local_low);
        box->high.v6[DP_LOCAL] = dp_read_128(s->local_high);
        box->low.v6[DP_REMOTE] = dp_read_128(s->remote_low);
        box->high.v6[DP_REMOTE] = dp_read_128(s->remote_high);
        return box->low.v6[DP_LOCAL] <= box->high.v6[DP_LOCAL] && box->low.v6[DP_REMOTE] <= box->high.v6[DP_REMOTE];
    default:
        return false;
    }
}

bool dp_flow_from_key(struct dp_flow *flow, const struct dp_flow_key *key) {
    if (key->protocol > DP_PROTOCOL_OPAQUE || key->local_port > DP_PORT_OPAQUE || key->remote_port > DP_PORT_OPAQUE)
        return false;
    flow->family = key->family;
    flow->portless = key->local_port == DP_PORT_OPAQUE || key->remote_port == DP_PORT_OPAQUE;
    flow->protocol = key->protocol;
    flow->port[DP_LOCAL] = key->local_port;
    flow->port[DP_REMOTE] = key->remote_port;
    switch (key->family) {
    case 4:
        flow->address.v4[DP_LOCAL] = dp_read_32(key->local);
        flow->address.v4[DP_REMOTE] = dp_read_32(key->remote);
        return true;
    case 6:
        flow->address.v6[DP_LOCAL] = dp_read_128(key->local);
        flow->address.v6[DP_REMOTE] = dp_read_128(key->remote);
        return true;
    default:
        return false;
    }
}

static bool addresses_held(const struct dp_box *box, const struct dp_flow *flow, int end) {
    if (flow->family == 4)
        return flow->address.v4[end] >= box->low.v4[end] && flow->address.v4[end] <= box->high.v4[end];
    return flow->address.v6[end] >= box->low.v6[end] && flow->address.v6[end] <= box->high.v6[end];
}

bool dp_box_bounds(const struct dp_box *box, const struct dp_flow *flow) {
    if (flow->family != box->family || flow->protocol < box->protocol_low || flow->protocol > box->protocol_high)
        return false;
    for (int end = DP_LOCAL; end <= DP_REMOTE; end++)
        if (flow->port[end] < box->port_low[end] || flow->port[end] > box->port_high[end] || !addresses_held(box, flow, end))
            return false;
    return true;
}

bool dp_box_holds(const struct dp_box *box, const struct dp_flow *flow) {
    return (flow->portless || !dp_box_opaque(box)) && dp_box_bounds(box, flow);
}

struct dp_selectors *dp_selectors_new(const struct dp_selector *selectors, size_t count) {
    if (count == 0 || count > SELECTORS_MAX) {
        errno = EINVAL;
        return NULL;
    }
    struct dp_selectors *s = malloc(sizeof *s + count * sizeof s->box[0]);
    if (s == NULL)
        return NULL;
    s->count = (uint32_t)count;
    s->opaque = true;
    for (size_t i = 0; i < count; i++) {
        if (!dp_box_from_selector(&s->box[i], &selectors[i])) {
            free(s);
            errno = EINVAL;
            return NULL;
        }
        s->opaque = s->opaque && dp_box_opaque(&s->box[i]);
    }
    return s;
}

static bool box_same(const struct dp_box *a, const struct dp_box *b) {
    if (a->family != b->family || a->protocol_low != b->protocol_low || a->protocol_high != b->protocol_high)
        return false;
    for (int end = DP_LOCAL; end <= DP_REMOTE; end++) {
        if (a->port_low[end] != b->port_low[end] || a->port_high[end] != b->port_high[end])
            return false;
        if (a->family == 6 ? a->low.v6[end] != b->low.v6[end] || a->high.v6[end] != b->high.v6[end]
                           : a->low.v4[end] != b->low.v4[end] || a->high.v4[end] != b->high.v4[end])
            return false;
    }
    return true;
}

bool dp_selectors_same(const struct dp_selectors *a, const struct dp_selectors *b) {
    for (uint32_t i = 0; a->count == b->count && i < a->count; i++)
        if (!box_same(&a->box[i], &b->box[i]))
            return false;
    return a->count == b->count;
}

uint64_t dp_selectors_hash(const struct dp_selectors *selectors, uint64_t seed) {
    uint64_t h = dp_mix(seed + 1);
    for (uint32_t i = 0; i < selectors->count; i++) {
        const struct dp_box *box = &selectors->box[i];
        h = dp_mix(h ^ box->family ^ (uint64_t)box->protocol_low << 16 ^ (uint64_t)box->protocol_high << 32);
        for (int end = DP_LOCAL; end <= DP_REMOTE; end++) {
            bool v6 = box->family == 6;
            dp_u128 low = v6 ? box->low.v6[end] : box->low.v4[end], high = v6 ? box->high.v6[end] : box->high.v4[end];
            h = dp_mix(h ^ box->port_low[end] ^ (uint64_t)box->port_high[end] << 32);
            h = dp_mix(dp_mix(h ^ (uint64_t)low) ^ (uint64_t)(low >> 64));
            h = dp_mix(dp_mix(h ^ (uint64_t)high) ^ (uint64_t)(high >> 64));
        }
    }
    return h;
}

bool dp_selectors_hold(const struct dp_selectors *selectors, const struct dp_flow *flow) {
    for (uint32_t i = 0; i < selectors->count; i++)
        if (dp_box_holds(&selectors->box[i], flow))
            return true;
    return false;
}

bool dp_selectors_hold_but_for_ports(const struct dp_selectors *selectors, const struct dp_flow *flow) {
    struct dp_flow any = *flow;
    for (uint32_t i = 0; i < selectors->count; i++) {
        any.port[DP_LOCAL] = selectors->box[i].port_low[DP_LOCAL];
        any.port[DP_REMOTE] = selectors->box[i].port_low[DP_REMOTE];
        if (dp_box_holds(&selectors->box[i], &any))
            return true;
    }
    return false;
}
