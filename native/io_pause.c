/* The devices of a data plane are left unread for a while, and stay open: another process is about to read them. */
#include <errno.h>

#include "engine.h"
#include "events.h"
#include "handover.h"
#include "io_set.h"

/* By number, with holes. */
static uint32_t count_of(const struct dp *dp, uint32_t worker, bool is_link) {
    const struct dp_worker *w = &dp->worker[worker];
    const struct dp_io_set *set = atomic_load_explicit(is_link ? &w->links : &w->tuns, memory_order_relaxed);
    return set != NULL ? set->count : 0;
}

static int pause_one(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    if (atomic_fetch_or_explicit(&io->unread, DP_UNREAD_PAUSED, memory_order_relaxed) == 0)
        dp_loop_unwatch(dp, worker, is_link, io);
    return 0;
}

static int resume_one(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    if (atomic_fetch_and_explicit(&io->unread, (uint8_t)~DP_UNREAD_PAUSED, memory_order_release) != DP_UNREAD_PAUSED)
        return 0;
    atomic_store_explicit(&io->ready, true, memory_order_release); /* what came meanwhile */
    int error = dp_loop_watch(dp, worker, is_link, io);
    return error == -EEXIST ? 0 : error;
}

/* Each device of each worker; the first error. */
static int for_each(struct dp *dp, int (*act)(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io)) {
    int first = 0;
    for (uint32_t worker = 0; worker < dp->config.workers; worker++) {
        struct dp_worker *w = &dp->worker[worker];
        pthread_mutex_lock(&w->lock);
        for (int is_link = 0; is_link < 2; is_link++)
            for (uint32_t i = 0; i < count_of(dp, worker, is_link != 0); i++) {
                struct dp_io *io = dp_io_get(dp, worker, is_link != 0, i);
                int error = io != NULL ? act(dp, worker, is_link != 0, io) : 0;
                first = first != 0 ? first : error;
            }
        pthread_mutex_unlock(&w->lock);
    }
    return first;
}

void dp_receive_pause(struct dp *dp) {
    dp->paused = true;
    (void)for_each(dp, pause_one);
    dp->paused_at = dp_epoch_mark(dp);
}

int dp_receive_idle(const struct dp *dp) {
    return dp->paused && dp_epoch_passed(dp, dp->paused_at) && dp_handover_empty(dp);
}

int dp_receive_resume(struct dp *dp) {
    dp->paused = false;
    int error = for_each(dp, resume_one);
    for (uint32_t worker = 0; worker < dp->config.workers; worker++) {
        dp_loop_wake(&dp->worker[worker].outbound);
        dp_loop_wake(&dp->worker[worker].inbound);
    }
    return error;
}
