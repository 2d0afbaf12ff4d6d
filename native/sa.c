#include "sa.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aead.h"
#include "child.h"
#include "early.h"
#include "engine.h"
#include "epoch.h"
#include "events.h"
#include "flow.h"
#include "keyed.h"
#include "keys.h"
#include "own_outer.h"
#include "replay.h"
#include "sa_peer.h"
#include "sa_state.h"
#include "traffic.h"

enum {
    DP_SLOTS_MIN = 256,
    DP_SLOTS_MAX = 1 << 20,
    DP_OUTBOUND_MAX = 1 << 20,
};
/* An SA's name: serial number, direction, index. The serial number makes a name that was used up stay used up. */
#define ID_OUTBOUND (UINT64_C(1) << 31)
#define ID_INDEX (ID_OUTBOUND - 1)

static dp_sa_id make_id(struct dp_sa_table *t, unsigned direction, uint32_t index) {
    if (++t->serial == 0)
        t->serial = 1;
    return (uint64_t)t->serial << 32 | (direction == DP_OUTBOUND ? ID_OUTBOUND : 0) | index;
}

int dp_sa_table_init(struct dp *dp) {
    struct dp_sa_table *t = &dp->sas;
    uint32_t slots = dp->config.sa_slots;
    if (slots < DP_SLOTS_MIN || slots > DP_SLOTS_MAX || (slots & (slots - 1)) != 0)
        return -EINVAL;
    t->slot_mask = slots - 1;
    t->inbound = calloc(slots, sizeof *t->inbound);
    t->reserved = calloc(slots / 64, sizeof *t->reserved);
    return t->inbound != NULL && t->reserved != NULL ? 0 : -ENOMEM;
}

static bool path_valid(const struct dp_path *p) {
    return (p->remote.family == 4 || p->remote.family == 6) && p->encapsulation <= DP_ENCAPSULATION_UDP && p->df <= DP_DF_CLEAR &&
           p->dscp <= DP_DSCP_VALUE && p->dscp_value < 64 &&
           p->outer <= (DP_OUTER_HOP_LIMIT_COPY | DP_OUTER_FLOW_LABEL | DP_OUTER_NO_ECN);
}

static bool params_valid(const struct dp *dp, unsigned direction, const struct dp_sa_params *p) {
    if (direction > DP_OUTBOUND || p->spi < DP_SPI_MIN || p->tunnel >= dp->config.tunnels || p->worker >= dp->config.workers)
        return false;
    if (direction == DP_OUTBOUND)
        return path_valid(&p->path) && p->tfc_octets <= DP_TFC_MAX && (p->esn || p->sequence <= UINT32_MAX);
    return p->interface < dp->config.interfaces && dp_replay_octets(p->replay_window) != 0;
}

static uint64_t limit(uint64_t n) {
    return n != 0 ? n : UINT64_MAX;
}

/* Frees everything an SA owns; its key is wiped by the arena. */
static void sa_free(struct dp *dp, void *thing) {
    struct dp_sa *sa = thing;
    dp_keyed_free(dp->arena, sa->esp.cipher, sa->esp.context);
    if (sa->keymat != NULL)
        dp_arena_free(dp->arena, sa->keymat, sa->keymat_octets);
    free((void *)(uintptr_t)sa->selectors);
    free(atomic_load_explicit(&sa->path, memory_order_relaxed));
    free(sa->ring);
    explicit_bzero(sa, sizeof *sa); /* the salt is half of the nonce */
    free(sa);
}

static int sa_set_direction(struct dp_sa *sa, const struct dp_sa_params *p, const struct dp_selector *selectors, size_t count) {
    if (sa->direction == DP_OUTBOUND) {
        struct dp_path *path = malloc(sizeof *path);
        if (path == NULL)
            return -ENOMEM;
        *path = p->path;
        atomic_store_explicit(&sa->path, path, memory_order_relaxed);
        sa->sequence = sa->period_sequence = p->sequence;
        atomic_store_explicit(&sa->recent, p->sequence, memory_order_relaxed);
        atomic_store_explicit(&sa->sequence_shown, p->sequence, memory_order_relaxed);
        atomic_store_explicit(&sa->sequence_last, sa->sequence_end, memory_order_relaxed);
        sa->sequence_soft = sa->sequence_end / 4 * 3;
        return 0;
    }
    sa->selectors = dp_selectors_new(selectors, count);
    if (sa->selectors == NULL)
        return -errno;
    sa->opaque = sa->selectors->opaque;
    sa->ring_octets = dp_replay_octets(p->replay_window);
    sa->ring = calloc(1, sa->ring_octets);
    if (sa->ring == NULL)
        return -ENOMEM;
    dp_replay_init(&sa->replay, p->replay_window, sa->ring);
    dp_sa_set_peer(sa, &p->path.remote);
    return 0;
}

static struct dp_sa *sa_new(struct dp *dp, unsigned direction, const struct dp_sa_params *p) {
    struct dp_sa *sa = aligned_alloc(64, (sizeof *sa + 63) & ~(size_t)63);
    if (sa == NULL)
        return NULL;
    memset(sa, 0, sizeof *sa);
    sa->direction = (uint8_t)direction;
    sa->esp.spi = p->spi;
    sa->esp.esn = p->esn != 0;
    sa->fragments_also = p->fragments_also != 0;
    sa->esp.iv = p->iv;
    sa->esp.tfc_octets = p->tfc_octets;
    sa->soft_octets = limit(p->soft_octets);
    sa->hard_octets = limit(p->hard_octets);
    sa->soft_packets = limit(p->soft_packets);
    sa->hard_packets = limit(p->hard_packets);
    sa->sequence_end = p->esn ? UINT64_MAX : UINT32_MAX;
    atomic_store_explicit(&sa->generation, atomic_load_explicit(&dp->generation, memory_order_relaxed), memory_order_relaxed);
    sa->interface = p->interface;
    sa->tunnel = p->tunnel;
    sa->worker = p->worker;
    return sa;
}

/* In a rig with a seed. */
static int seed_ivs(struct dp *dp, struct dp_sa *sa) {
    sa->esp.seeded = dp->random.seeded && sa->esp.cipher->random_iv;
    if (!sa->esp.seeded)
        return 0;
    return dp_random_next(&dp->random, &sa->esp.iv) ? 0 : -EIO;
}

static int publish_inbound(struct dp *dp, struct dp_sa *sa) {
    struct dp_sa_table *t = &dp->sas;
    uint32_t slot = sa->esp.spi & t->slot_mask;
    if (atomic_load_explicit(&t->inbound[slot], memory_order_relaxed) != NULL)
        return -EEXIST;
    sa->id = make_id(t, DP_INBOUND, slot);
    t->reserved[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    /* Whoever finds the SA also sees that packets wait for it. */
    bool early = dp_early_ready(dp, sa->esp.spi, sa->worker);
    atomic_store_explicit(&t->inbound[slot], sa, memory_order_release);
    if (early)
        dp_loop_wake(&dp->worker[sa->worker].inbound);
    return 0;
}

static int publish_outbound(struct dp *dp, struct dp_sa *sa) {
    struct dp_sa_table *t = &dp->sas;
    uint32_t index = t->outbound_hint;
    while (index < t->outbound_count && t->outbound[index] != NULL)
        index++;
    if (index == t->outbound_capacity) {
        uint32_t capacity = t->outbound_capacity != 0 ? 2 * t->outbound_capacity : 64;
        if (capacity > DP_OUTBOUND_MAX)
            return -ENOSPC;
        struct dp_sa **grown = realloc(t->outbound, capacity * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        t->outbound = grown;
        t->outbound_capacity = capacity;
    }
    int error = dp_own_outer_add(dp, sa->esp.spi, atomic_load_explicit(&sa->path, memory_order_relaxed));
    if (error != 0)
        return error;
    if (index == t->outbound_count)
        t->outbound_count++;
    sa->id = make_id(t, DP_OUTBOUND, index);
    t->outbound_hint = index + 1;
    t->outbound[index] = sa;
    return 0;
}

/* Room in the arena for its key, by its suite. */
static int key_room(struct dp *dp, struct dp_sa *sa) {
    const struct dp_cipher *c = sa->esp.cipher;
    sa->keymat_octets = dp_keyed_keymat_octets(c);
    sa->esp.context = dp_arena_alloc(dp->arena, c->context_octets);
    sa->keymat = dp_arena_alloc(dp->arena, sa->keymat_octets);
    return sa->esp.context != NULL && sa->keymat != NULL ? 0 : -ENOMEM;
}

int dp_sa_install(struct dp *dp, unsigned direction, const struct dp_sa_params *params, const uint8_t *keymat, size_t keymat_octets,
                  const struct dp_selector *selectors, size_t selector_count, dp_sa_id *id) {
    return dp_sa_import(dp, direction, params, keymat, keymat_octets, selectors, selector_count, NULL, id);
}

int dp_sa_set_key(struct dp *dp, struct dp_sa *sa, const uint8_t *keymat, size_t octets) {
    const struct dp_cipher *c = sa->esp.cipher;
    int error = dp_keyed_set(c, sa->esp.context, keymat, octets, sa->esp.salt);
    if (error == 0)
        error = seed_ivs(dp, sa);
    if (error == 0) {
        memcpy(sa->keymat, keymat, octets);
        return 0;
    }
    c->finish(sa->esp.context);
    explicit_bzero(sa->esp.context, c->context_octets);
    explicit_bzero(sa->esp.salt, sizeof sa->esp.salt);
    return error;
}

/* Without a key it waits for one: whoever looks at it, as at one that is retired, reads the sizes of its suite alone. */
static int set_suite(struct dp *dp, struct dp_sa *sa, const struct dp_sa_params *p, const uint8_t *keymat, size_t octets) {
    sa->esp.cipher = dp_cipher_find(dp->config.provider, p->encr, p->integ, p->key_octets);
    if (sa->esp.cipher == NULL)
        return -ENOTSUP;
    int error = key_room(dp, sa);
    if (error != 0 || keymat != NULL)
        return error != 0 ? error : dp_sa_set_key(dp, sa, keymat, octets);
    sa->waits = true;
    atomic_fetch_or_explicit(&sa->generation, DP_SA_RETIRED, memory_order_relaxed);
    return 0;
}

int dp_sa_install_waiting(struct dp *dp, unsigned direction, const struct dp_sa_params *params, const struct dp_selector *selectors,
                          size_t selector_count, dp_sa_id *id) {
    return dp_sa_import(dp, direction, params, NULL, 0, selectors, selector_count, NULL, id);
}

int dp_sa_import(struct dp *dp, unsigned direction, const struct dp_sa_params *params, const uint8_t *keymat, size_t keymat_octets,
                 const struct dp_selector *selectors, size_t selector_count, const struct dp_sa_state *state, dp_sa_id *id) {
    if (!params_valid(dp, direction, params) || (state != NULL && !dp_sa_state_valid(direction, params->esn != 0, state)))
        return -EINVAL;
    struct dp_sa *sa = sa_new(dp, direction, params);
    if (sa == NULL)
        return -ENOMEM;
    int error = set_suite(dp, sa, params, keymat, keymat_octets);
    if (error == 0)
        error = sa_set_direction(sa, params, selectors, selector_count);
    if (error == 0)
        dp_sa_state_load(sa, state);
    if (error == 0)
        error = direction == DP_INBOUND ? publish_inbound(dp, sa) : publish_outbound(dp, sa);
    if (error != 0) {
        sa_free(dp, sa);
        return error;
    }
    dp->tunnels_used = sa->tunnel < dp->tunnels_used ? dp->tunnels_used : sa->tunnel + 1;
    *id = sa->id;
    return 0;
}

/* No loop holds it any more. */
static void sa_let_go(struct dp *dp, void *thing) {
    dp_traffic_keep(dp, thing);
    sa_free(dp, thing);
}

/* No CHILD of the SA's tunnel points at it any more. */
static void forget_in_children(struct dp *dp, const struct dp_sa *sa) {
    const struct dp_children *list = atomic_load_explicit(&dp->tunnel[sa->tunnel].children, memory_order_relaxed);
    for (uint32_t i = 0; list != NULL && i < list->count; i++)
        if (atomic_load_explicit(&list->child[i]->outbound, memory_order_relaxed) == sa)
            atomic_store_explicit(&list->child[i]->outbound, NULL, memory_order_seq_cst);
}

struct dp_sa *dp_sa_by_id(const struct dp *dp, dp_sa_id id) {
    const struct dp_sa_table *t = &dp->sas;
    uint32_t index = id & ID_INDEX;
    struct dp_sa *sa = NULL;
    if ((id & ID_OUTBOUND) != 0)
        sa = index < t->outbound_count ? t->outbound[index] : NULL;
    else if (index <= t->slot_mask)
        sa = atomic_load_explicit(&t->inbound[index], memory_order_relaxed);
    return sa != NULL && sa->id == id ? sa : NULL;
}

int dp_sa_remove(struct dp *dp, dp_sa_id id) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    if (sa == NULL)
        return -ENOENT;
    uint32_t index = id & ID_INDEX;
    if (sa->direction == DP_OUTBOUND) {
        dp->sas.outbound[index] = NULL;
        dp->sas.outbound_hint = index < dp->sas.outbound_hint ? index : dp->sas.outbound_hint;
        forget_in_children(dp, sa);
        dp_own_outer_remove(dp, sa->esp.spi, atomic_load_explicit(&sa->path, memory_order_relaxed));
    } else {
        atomic_store_explicit(&dp->sas.inbound[index], NULL, memory_order_seq_cst);
        dp->sas.slot_hint = index < dp->sas.slot_hint ? index : dp->sas.slot_hint;
    }
    dp_traffic_keep(dp, sa);
    dp_traffic_keep_drops(dp, sa);
    dp_epoch_retire(dp, sa_let_go, sa);
    return 0;
}

static void path_free(struct dp *dp, void *thing) {
    (void)dp;
    free(thing);
}

int dp_sa_set_path(struct dp *dp, dp_sa_id id, const struct dp_path *path) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    if (sa == NULL || sa->direction != DP_OUTBOUND)
        return -ENOENT;
    if (!path_valid(path))
        return -EINVAL;
    struct dp_path *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return -ENOMEM;
    *copy = *path;
    int error = dp_own_outer_add(dp, sa->esp.spi, copy);
    if (error != 0) {
        free(copy);
        return error;
    }
    struct dp_path *old = atomic_exchange_explicit(&sa->path, copy, memory_order_seq_cst);
    dp_own_outer_remove(dp, sa->esp.spi, old);
    dp_epoch_retire(dp, path_free, old);
    return 0;
}

int dp_sa_skip(struct dp *dp, dp_sa_id id, uint64_t packets) {
    if (!dp->random.seeded)
        return -EPERM;
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    if (sa == NULL || sa->direction != DP_OUTBOUND)
        return -ENOENT;
    if (packets > atomic_load_explicit(&sa->sequence_last, memory_order_relaxed) - sa->sequence)
        return -ERANGE;
    sa->sequence += packets;
    sa->packets_ahead -= packets;
    if (!sa->esp.cipher->random_iv)
        sa->esp.iv += packets;
    atomic_store_explicit(&sa->sequence_shown, sa->sequence, memory_order_relaxed);
    return 0;
}

int dp_sa_clear(struct dp *dp, dp_sa_id id, uint32_t flags) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    if (sa == NULL)
        return -ENOENT;
    atomic_fetch_and_explicit(&sa->flags, ~flags, memory_order_relaxed);
    return 0;
}

void dp_sa_expire_all(struct dp *dp) {
    atomic_fetch_add_explicit(&dp->generation, DP_GENERATION_STEP, memory_order_seq_cst);
}

int dp_reclaim(struct dp *dp) {
    return (int)dp_epoch_reclaim(dp);
}

void dp_sa_table_finish(struct dp *dp) {
    struct dp_sa_table *t = &dp->sas;
    for (uint32_t i = 0; t->inbound != NULL && i <= t->slot_mask; i++) {
        struct dp_sa *sa = atomic_load_explicit(&t->inbound[i], memory_order_relaxed);
        if (sa != NULL)
            sa_free(dp, sa);
    }
    for (uint32_t i = 0; i < t->outbound_count; i++)
        if (t->outbound[i] != NULL)
            sa_free(dp, t->outbound[i]);
    free(t->inbound);
    free(t->reserved);
    free(t->outbound);
}
