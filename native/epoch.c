#include "epoch.h"

#include <stdlib.h>

#include "engine.h"

#if defined(__SANITIZE_THREAD__) || defined(DP_FENCE_BY_VARIABLE)
_Atomic unsigned dp_epoch_fence_variable;
#endif

void dp_epoch_init(struct dp_epoch *e) {
    atomic_init(&e->now, 1);
    e->oldest = e->newest = NULL;
    e->waiting = 0;
    e->asked = 0;
}

/* The oldest epoch that a reader may still be in; UINT64_MAX when all are offline. */
static uint64_t oldest_reader(const struct dp *dp) {
    uint64_t oldest = UINT64_MAX, port = atomic_load_explicit(&dp->ike_port.epoch.seen, memory_order_seq_cst);
    if (port != 0)
        oldest = port;
    for (uint32_t w = 0; w < dp->config.workers; w++) {
        const struct dp_loop *loops[2] = {&dp->worker[w].inbound, &dp->worker[w].outbound};
        for (int i = 0; i < 2; i++) {
            uint64_t seen = atomic_load_explicit(&loops[i]->epoch.seen, memory_order_seq_cst);
            if (seen != 0 && seen < oldest)
                oldest = seen;
        }
    }
    return oldest;
}

uint64_t dp_epoch_mark(struct dp *dp) {
    dp_epoch_fence();
    return atomic_fetch_add_explicit(&dp->epoch.now, 1, memory_order_seq_cst) + 1;
}

bool dp_epoch_passed(const struct dp *dp, uint64_t mark) {
    return mark <= oldest_reader(dp);
}

void dp_epoch_retire(struct dp *dp, void (*free_thing)(struct dp *dp, void *thing), void *thing) {
    struct dp_epoch *e = &dp->epoch;
    if (thing == NULL)
        return;
    uint64_t epoch = dp_epoch_mark(dp);
    struct dp_retired_thing *r = malloc(sizeof *r);
    if (r == NULL) {
        if (oldest_reader(dp) == UINT64_MAX)
            free_thing(dp, thing);
        return;
    }
    *r = (struct dp_retired_thing){.epoch = epoch, .free = free_thing, .thing = thing};
    if (e->newest != NULL)
        e->newest->next = r;
    else
        e->oldest = r;
    e->newest = r;
    e->waiting++;
}

unsigned dp_epoch_reclaim(struct dp *dp) {
    struct dp_epoch *e = &dp->epoch;
    while (e->oldest != NULL && e->oldest->epoch <= oldest_reader(dp)) {
        struct dp_retired_thing *r = e->oldest;
        e->oldest = r->next;
        if (e->oldest == NULL)
            e->newest = NULL;
        e->waiting--;
        r->free(dp, r->thing);
        free(r);
    }
    return e->waiting;
}

int dp_loops_pass(struct dp *dp) {
    struct dp_epoch *e = &dp->epoch;
    if (oldest_reader(dp) < e->asked)
        return 0;
    e->asked = atomic_fetch_add_explicit(&e->now, 1, memory_order_seq_cst) + 1;
    return 1;
}
