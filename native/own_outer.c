#include "own_outer.h"

#include <errno.h>
#include <stdlib.h>

#include "engine.h"
#include "inner.h"
#include "mix.h"
#include "offload.h"
#include "tap.h"

enum {
    SLOTS_MIN = 64,
    FREE = 0,
    REMOVED = 1, /* somebody was there: look on */
    KEY_MIN = 2,
    IPV4_OFFSET_MASK = 0x1fff, /* RFC 791 §3.1 */
    IPV6_OFFSET_MASK = 0xfff8, /* RFC 8200 §4.5 */
    IPV6_FRAGMENT_HEADER = 8,
};
#define FRAGMENT_LIFE UINT64_C(1000000000) /* ns; they come one right after the other */

/* Open addressing with linear probing, at most half full. The control thread writes, loops read meanwhile. */
struct dp_own_spis {
    uint32_t mask;
    uint32_t live, used; /* used: and those removed; the control thread's */
    _Atomic uint64_t slot[];
};

/* ---- what a packet is known by */

static uint64_t mix_address(uint64_t h, dp_u128 address) {
    return dp_mix(dp_mix(h ^ (uint64_t)address) ^ (uint64_t)(address >> 64));
}

static uint64_t key_of(const struct dp *dp, dp_u128 local, dp_u128 remote, uint64_t one, uint64_t other) {
    uint64_t h = mix_address(mix_address(dp->flow_seed, local), remote);
    h = dp_mix(dp_mix(h ^ one) ^ other);
    return h < KEY_MIN ? KEY_MIN : h;
}

static dp_u128 address_of(const struct dp_addr *a) {
    return a->family == 4 ? dp_read_32(a->ip) : dp_read_128(a->ip);
}

static uint64_t key_of_path(const struct dp *dp, uint32_t spi, const struct dp_path *path) {
    return key_of(dp, address_of(&path->local), address_of(&path->remote), spi, 0);
}

static uint64_t key_of_flow(const struct dp *dp, const struct dp_flow *flow, uint64_t one, uint64_t other) {
    if (flow->family == 4)
        return key_of(dp, flow->address.v4[DP_LOCAL], flow->address.v4[DP_REMOTE], one, other);
    return key_of(dp, flow->address.v6[DP_LOCAL], flow->address.v6[DP_REMOTE], one, other);
}

static uint64_t read_64(const uint8_t *octets) {
    return (uint64_t)dp_read_32(octets) << 32 | dp_read_32(octets + 4);
}

/* ---- SPIs of outbound SAs */

static struct dp_own_spis *spis_new(uint32_t slots) {
    struct dp_own_spis *s = calloc(1, sizeof *s + slots * sizeof s->slot[0]);
    if (s != NULL)
        s->mask = slots - 1;
    return s;
}

static void spis_free(struct dp *dp, void *thing) {
    (void)dp;
    free(thing);
}

static uint64_t slot_of(const struct dp_own_spis *s, uint32_t at) {
    return atomic_load_explicit(&s->slot[at & s->mask], memory_order_relaxed);
}

static void put(struct dp_own_spis *s, uint64_t key) {
    uint32_t at = (uint32_t)key;
    while (slot_of(s, at) >= KEY_MIN)
        at++;
    s->used += slot_of(s, at) == FREE;
    s->live++;
    atomic_store_explicit(&s->slot[at & s->mask], key, memory_order_relaxed);
}

static int grow(struct dp *dp, struct dp_own_spis *old) {
    uint32_t slots = SLOTS_MIN;
    while (slots < 4 * (old->live + 1))
        slots *= 2;
    struct dp_own_spis *s = spis_new(slots);
    if (s == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i <= old->mask; i++)
        if (slot_of(old, i) >= KEY_MIN)
            put(s, slot_of(old, i));
    atomic_store_explicit(&dp->own_outer.spis, s, memory_order_seq_cst);
    dp_epoch_retire(dp, spis_free, old);
    return 0;
}

int dp_own_outer_add(struct dp *dp, uint32_t spi, const struct dp_path *path) {
    struct dp_own_spis *s = atomic_load_explicit(&dp->own_outer.spis, memory_order_relaxed);
    int error = 2 * (s->used + 1) > s->mask ? grow(dp, s) : 0;
    if (error == 0)
        put(atomic_load_explicit(&dp->own_outer.spis, memory_order_relaxed), key_of_path(dp, spi, path));
    return error;
}

void dp_own_outer_remove(struct dp *dp, uint32_t spi, const struct dp_path *path) {
    struct dp_own_spis *s = atomic_load_explicit(&dp->own_outer.spis, memory_order_relaxed);
    uint64_t key = key_of_path(dp, spi, path);
    for (uint32_t at = (uint32_t)key; slot_of(s, at) != FREE; at++) {
        if (slot_of(s, at) != key)
            continue;
        s->live--;
        atomic_store_explicit(&s->slot[at & s->mask], REMOVED, memory_order_relaxed);
        return;
    }
}

static bool is_own_spi(const struct dp *dp, const struct dp_flow *flow, uint32_t spi) {
    const struct dp_own_spis *s = atomic_load_explicit(&dp->own_outer.spis, memory_order_acquire);
    uint64_t key = key_of_flow(dp, flow, spi, 0), found;
    for (uint32_t at = (uint32_t)key; (found = slot_of(s, at)) != FREE; at++)
        if (found == key)
            return true;
    return false;
}

/* ---- IKE messages */

void dp_ike_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote, const uint8_t *message, size_t octets) {
    dp_tap_ike_sent(dp, local, remote, message, octets);
    if (octets < DP_IKE_SPIS)
        return;
    uint64_t key = key_of(dp, address_of(local), address_of(remote), read_64(message), read_64(message + 8));
    atomic_store_explicit(&dp->own_outer.messages[key % DP_OWN_MESSAGES], key, memory_order_relaxed);
}

void dp_keepalive_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote) {
    dp_tap_keepalive(dp, local, remote);
}

static bool is_own_message(const struct dp *dp, const struct dp_flow *flow, const uint8_t *message, uint32_t octets) {
    if (octets < DP_IKE_SPIS)
        return false;
    uint64_t key = key_of_flow(dp, flow, read_64(message), read_64(message + 8));
    return atomic_load_explicit(&dp->own_outer.messages[key % DP_OWN_MESSAGES], memory_order_relaxed) == key;
}

/* ---- a packet */

static bool is_own(const struct dp *dp, const uint8_t *packet, const struct dp_inner *inner) {
    const uint8_t *at = packet + inner->header;
    uint32_t octets = inner->octets - inner->header;
    if (inner->flow.protocol == DP_PROTOCOL_UDP) {
        if (octets < DP_UDP_HEADER + DP_NON_ESP_MARKER)
            return false;
        at += DP_UDP_HEADER;
        octets -= DP_UDP_HEADER;
        if (inner->flow.port[DP_LOCAL] == DP_IKE_PORT)
            return is_own_message(dp, &inner->flow, at, octets);
        if (dp_read_32(at) == 0)
            return is_own_message(dp, &inner->flow, at + DP_NON_ESP_MARKER, octets - DP_NON_ESP_MARKER);
    }
    return octets >= DP_ESP_HEADER && is_own_spi(dp, &inner->flow, dp_read_32(at));
}

/* Whether a fragment is a later one, and what all fragments of its packet have in common. The kernel puts a fragment header right
 * before what it cut. */
static bool is_later(const struct dp *dp, const uint8_t *packet, const struct dp_inner *inner, uint64_t *key) {
    uint32_t id, offset;
    if (inner->version == 4) {
        id = dp_read_16(packet + 4);
        offset = dp_read_16(packet + 6) & IPV4_OFFSET_MASK;
    } else {
        const uint8_t *header = packet + inner->header - IPV6_FRAGMENT_HEADER;
        id = dp_read_32(header + 4);
        offset = dp_read_16(header + 2) & IPV6_OFFSET_MASK;
    }
    *key = key_of_flow(dp, &inner->flow, id, inner->flow.protocol);
    return offset != 0;
}

static bool remembered(const struct dp_own_fragments *f, uint64_t key, uint64_t now) {
    for (unsigned i = 0; i < DP_OWN_FRAGMENTS; i++)
        if (f->key[i] == key && now - f->at[i] < FRAGMENT_LIFE)
            return true;
    return false;
}

static void remember(struct dp_own_fragments *f, uint64_t key, uint64_t now) {
    f->key[f->next] = key;
    f->at[f->next] = now;
    f->next = (f->next + 1) % DP_OWN_FRAGMENTS;
}

bool dp_own_outer_came_back(struct dp_loop *loop, const uint8_t *packet, const struct dp_inner *inner, uint64_t now) {
    uint64_t key = 0;
    if (inner->fragment && is_later(loop->dp, packet, inner, &key))
        return remembered(&loop->came_back, key, now);
    if (!is_own(loop->dp, packet, inner))
        return false;
    if (inner->fragment)
        remember(&loop->came_back, key, now);
    return true;
}

/* ---- life */

int dp_own_outer_init(struct dp *dp) {
    atomic_store_explicit(&dp->own_outer.spis, spis_new(SLOTS_MIN), memory_order_relaxed);
    dp->own_outer.messages = calloc(DP_OWN_MESSAGES, sizeof *dp->own_outer.messages);
    bool made = atomic_load_explicit(&dp->own_outer.spis, memory_order_relaxed) != NULL && dp->own_outer.messages != NULL;
    return made ? 0 : -ENOMEM;
}

void dp_own_outer_finish(struct dp *dp) {
    free(atomic_load_explicit(&dp->own_outer.spis, memory_order_relaxed));
    free(dp->own_outer.messages);
}
