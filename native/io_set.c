#include "io_set.h"

#include <errno.h>
#include <stdlib.h>

#include "engine.h"
#include "epoch.h"

static _Atomic(struct dp_io_set *) *set_of(const struct dp *dp, uint32_t worker, bool is_link) {
    return is_link ? &dp->worker[worker].links : &dp->worker[worker].tuns;
}

struct dp_io *dp_io_get(const struct dp *dp, uint32_t worker, bool is_link, uint32_t number) {
    if (worker >= dp->config.workers)
        return NULL;
    const struct dp_io_set *set = atomic_load_explicit(set_of(dp, worker, is_link), memory_order_acquire);
    return set != NULL && number < set->count ? set->io[number] : NULL;
}

static void free_set(struct dp *dp, void *thing) {
    (void)dp;
    free(thing);
}

/* A copy of the set with `io` (NULL: nothing) at `number`. */
static struct dp_io_set *copy_set(const struct dp_io_set *old, uint32_t number, struct dp_io *io) {
    uint32_t count = old != NULL && old->count > number ? old->count : number + 1;
    struct dp_io_set *set = calloc(1, sizeof *set + count * sizeof set->io[0]);
    if (set == NULL)
        return NULL;
    set->count = count;
    for (uint32_t i = 0; old != NULL && i < old->count; i++)
        set->io[i] = old->io[i];
    set->io[number] = io;
    return set;
}

int dp_io_set_put(struct dp *dp, uint32_t worker, bool is_link, uint32_t number, struct dp_io *io) {
    _Atomic(struct dp_io_set *) *at = set_of(dp, worker, is_link);
    struct dp_io_set *set = copy_set(atomic_load_explicit(at, memory_order_relaxed), number, io);
    if (set == NULL)
        return -ENOMEM;
    dp_epoch_retire(dp, free_set, atomic_exchange_explicit(at, set, memory_order_seq_cst));
    return 0;
}

void dp_io_finish(struct dp *dp) {
    for (uint32_t w = 0; w < dp->config.workers; w++) {
        for (int is_link = 0; is_link < 2; is_link++) {
            struct dp_io_set *set = atomic_load_explicit(set_of(dp, w, is_link), memory_order_relaxed);
            for (uint32_t i = 0; set != NULL && i < set->count; i++)
                if (set->io[i] != NULL)
                    dp_io_close(set->io[i]);
            free(set);
        }
    }
}
