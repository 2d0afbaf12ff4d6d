#include "child.h"

#include <errno.h>
#include <stdlib.h>

#include "engine.h"
#include "epoch.h"
#include "events.h"
#include "flow.h"
#include "sa.h"

enum {
    DP_CHILDREN_MAX = 4096
};

static void free_list(struct dp *dp, void *thing) {
    (void)dp;
    free(thing);
}

static void free_child(struct dp *dp, void *thing) {
    (void)dp;
    struct dp_child *c = thing;
    free(c->selectors);
    free(c);
}

static struct dp_children *list_of(const struct dp *dp, uint32_t tunnel) {
    return atomic_load_explicit(&dp->tunnel[tunnel].children, memory_order_relaxed);
}

static struct dp_children *list_new(uint32_t count) {
    struct dp_children *list = malloc(sizeof *list + count * sizeof list->child[0]);
    if (list != NULL) {
        list->count = 0;
        list->spreads = false;
    }
    return list;
}

static void list_add(struct dp_children *list, struct dp_child *c) {
    list->spreads = list->spreads || c->first != c->number;
    list->child[list->count++] = c;
}

/* The first of a list whose selectors are the same. */
static uint32_t first_like(const struct dp_children *list, const struct dp_child *c) {
    for (uint32_t i = 0; list != NULL && i < list->count; i++)
        if (dp_selectors_same(list->child[i]->selectors, c->selectors))
            return list->child[i]->first;
    return c->number;
}

static void publish(struct dp *dp, uint32_t tunnel, struct dp_children *list) {
    dp_epoch_retire(dp, free_list, atomic_exchange_explicit(&dp->tunnel[tunnel].children, list, memory_order_seq_cst));
}

int dp_child_add(struct dp *dp, uint32_t tunnel, const struct dp_selector *selectors, size_t selector_count, uint32_t *child) {
    if (tunnel >= dp->config.tunnels)
        return -EINVAL;
    const struct dp_children *old = list_of(dp, tunnel);
    uint32_t count = old != NULL ? old->count : 0;
    if (count >= DP_CHILDREN_MAX)
        return -ENOSPC;
    struct dp_child *c = calloc(1, sizeof *c);
    struct dp_children *list = list_new(count + 1);
    if (c == NULL || list == NULL) {
        free(c);
        free(list);
        return -ENOMEM;
    }
    c->selectors = dp_selectors_new(selectors, selector_count);
    if (c->selectors == NULL) {
        int error = -errno;
        free(c);
        free(list);
        return error;
    }
    c->number = ++dp->next_child;
    c->first = first_like(old, c);
    c->likes = dp_selectors_hash(c->selectors, tunnel);
    for (uint32_t i = 0; i < count; i++)
        list_add(list, old->child[i]);
    list_add(list, c);
    publish(dp, tunnel, list);
    *child = c->number;
    return 0;
}

static struct dp_child *child_of(const struct dp *dp, uint32_t tunnel, uint32_t number) {
    const struct dp_children *list = tunnel < dp->config.tunnels ? list_of(dp, tunnel) : NULL;
    for (uint32_t i = 0; list != NULL && i < list->count; i++)
        if (list->child[i]->number == number)
            return list->child[i];
    return NULL;
}

int dp_child_switch(struct dp *dp, uint32_t tunnel, uint32_t child, dp_sa_id outbound) {
    struct dp_child *c = child_of(dp, tunnel, child);
    if (c == NULL)
        return -ENOENT;
    struct dp_sa *sa = NULL;
    if (outbound != 0) {
        sa = dp_sa_by_id(dp, outbound);
        if (sa == NULL || sa->direction != DP_OUTBOUND || sa->tunnel != tunnel)
            return -EINVAL;
    }
    if (sa != NULL) {
        sa->opaque = c->selectors->opaque;
        atomic_store_explicit(&sa->first, c->first, memory_order_relaxed);
        atomic_store_explicit(&sa->likes, c->likes, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&dp->switches, 1, memory_order_relaxed);
    atomic_store_explicit(&c->outbound, sa, memory_order_seq_cst);
    atomic_fetch_add_explicit(&dp->switches, 1, memory_order_release);
    if (sa != NULL) { /* packets may wait for it; those outside its selectors need another ACQUIRE */
        atomic_store_explicit(&dp->tunnel[tunnel].acquire, false, memory_order_relaxed);
        for (uint32_t w = 0; w < dp->config.workers; w++) /* packets wait on the worker that read them */
            dp_loop_wake(&dp->worker[w].outbound);
    }
    return 0;
}

int dp_child_remove(struct dp *dp, uint32_t tunnel, uint32_t child) {
    struct dp_child *c = child_of(dp, tunnel, child);
    if (c == NULL)
        return -ENOENT;
    const struct dp_children *old = list_of(dp, tunnel);
    struct dp_children *list = NULL;
    if (old->count > 1) {
        list = list_new(old->count - 1);
        if (list == NULL)
            return -ENOMEM;
        for (uint32_t i = 0; i < old->count; i++)
            if (old->child[i] != c)
                list_add(list, old->child[i]);
    }
    publish(dp, tunnel, list);
    dp_epoch_retire(dp, free_child, c);
    return 0;
}

void dp_children_finish(struct dp *dp) {
    for (uint32_t t = 0; dp->tunnel != NULL && t < dp->config.tunnels; t++) {
        struct dp_children *list = list_of(dp, t);
        for (uint32_t i = 0; list != NULL && i < list->count; i++)
            free_child(dp, list->child[i]);
        free(list);
    }
}

static inline struct dp_sa *first_of(const struct dp_children *list, const struct dp_flow *flow, bool opaque) {
    for (uint32_t i = 0; list != NULL && i < list->count; i++) {
        struct dp_sa *sa = atomic_load_explicit(&list->child[i]->outbound, memory_order_acquire);
        const struct dp_selectors *selectors = list->child[i]->selectors;
        if (sa != NULL && (!opaque || selectors->opaque) && dp_selectors_hold(selectors, flow))
            return sa;
    }
    return NULL;
}

struct dp_sa *dp_tunnel_outbound(const struct dp_tunnel *tunnel, const struct dp_flow *flow) {
    const struct dp_children *list = atomic_load_explicit(&tunnel->children, memory_order_acquire);
    struct dp_sa *sa = flow->portless ? first_of(list, flow, true) : NULL;
    return sa != NULL ? sa : first_of(list, flow, false);
}

struct dp_sa *dp_tunnel_mate(const struct dp_tunnel *tunnel, const struct dp_sa *sa, uint32_t worker) {
    const struct dp_children *list = atomic_load_explicit(&tunnel->children, memory_order_acquire);
    uint32_t first = atomic_load_explicit(&sa->first, memory_order_relaxed);
    for (uint32_t i = 0; list != NULL && list->spreads && i < list->count; i++) {
        struct dp_sa *one = atomic_load_explicit(&list->child[i]->outbound, memory_order_acquire);
        if (one != NULL && one->worker == worker && list->child[i]->first == first)
            return one;
    }
    return NULL;
}

bool dp_sa_mates(const struct dp_sa *one, const struct dp_sa *other) {
    if (one == other || one == NULL || other == NULL)
        return one == other;
    return atomic_load_explicit(&one->first, memory_order_relaxed) == atomic_load_explicit(&other->first, memory_order_relaxed);
}

int dp_tunnel_set(struct dp *dp, uint32_t tunnel, const struct dp_tunnel_settings *settings) {
    if (tunnel >= dp->config.tunnels)
        return -EINVAL;
    uint64_t word;
    memcpy(&word, settings, sizeof word);
    atomic_store_explicit(&dp->tunnel[tunnel].settings, word, memory_order_relaxed);
    return 0;
}

int dp_tunnel_take_acquire(struct dp *dp, uint32_t tunnel) {
    return tunnel < dp->config.tunnels ? atomic_exchange_explicit(&dp->tunnel[tunnel].acquire, false, memory_order_relaxed)
                                       : -EINVAL;
}
