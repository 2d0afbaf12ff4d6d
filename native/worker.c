/* The threads: each repeats the step of a loop, or of both, and reads the clock for it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "clock.h"
#include "engine.h"
#include "events.h"
#include "sharing.h"

enum {
    DP_STEP_BUDGET = 256, /* packets a step; bounds how long a step holds its epoch */
    DP_STEPS = 16,        /* steps while devices have more, until the others are asked again */
};

/* One step, and when it ended. A device that has more is read on without asking epoll, which costs as much as a read; one that had
 * none left is not asked again before epoll says so. A step that moved nothing waits in any case: a device may fail each time it is
 * read. */
static uint64_t step(struct dp_loop *loop) {
    uint64_t begun = dp_boottime();
    int moved = loop->direction == DP_OUTBOUND ? dp_outbound_step(loop->dp, loop->worker, DP_STEP_BUDGET, begun)
                                               : dp_inbound_step(loop->dp, loop->worker, DP_STEP_BUDGET, begun);
    uint64_t ended = dp_boottime();
    loop->due = moved != 0 && loop->more;
    loop->busy += ended - begun;
    return ended;
}

static bool stopped(const struct dp_loop *loop) {
    return atomic_load_explicit(&loop->stop, memory_order_acquire);
}

/* What a thread does again and again for `loop`, and for `other` (NULL: it has none); when it was done. */
static uint64_t turn(struct dp_loop *loop, struct dp_loop *other, unsigned turns, int timeout) {
    uint64_t now = 0;
    if (!loop->due && (other == NULL || !other->due))
        dp_sharing_wait(loop, other, timeout);
    else if (turns % DP_STEPS == 0)
        dp_loop_wait(loop, 0);
    if (loop->due)
        now = step(loop);
    if (other != NULL && other->due)
        now = step(other);
    return now != 0 ? now : dp_boottime();
}

/* The outbound loop's thread, which runs the inbound loop as well until that has a thread of its own. */
static void *run_outbound(void *argument) {
    struct dp_loop *loop = argument;
    struct dp_worker *w = &loop->dp->worker[loop->worker];
    for (unsigned turns = 1; !stopped(loop); turns++)
        dp_sharing_part(w, turn(loop, dp_sharing_apart(w) ? NULL : &w->inbound, turns, -1));
    return NULL;
}

static void *run_inbound(void *argument) {
    struct dp_loop *loop = argument;
    struct dp_worker *w = &loop->dp->worker[loop->worker];
    while (dp_sharing_take(w))
        for (unsigned turns = 1; dp_sharing_apart(w) && !stopped(loop); turns++)
            dp_sharing_join(w, turn(loop, NULL, turns, DP_SHARING_LOOK_MS));
    return NULL;
}

static int bind_cpu(pthread_attr_t *attributes, int cpu) {
    if (cpu < 0)
        return 0;
    if (cpu >= CPU_SETSIZE)
        return EINVAL;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET((size_t)cpu, &only);
    return pthread_attr_setaffinity_np(attributes, sizeof only, &only);
}

static int create(struct dp_loop *loop) {
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return error;
    error = bind_cpu(&attributes, loop->cpu);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the control thread's */
    if (error == 0)
        error = pthread_create(&loop->thread, &attributes, loop->direction == DP_OUTBOUND ? run_outbound : run_inbound, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error != 0)
        return error;
    char name[16];
    const char *direction = loop->direction == DP_OUTBOUND ? "esp" : "esp-inbound";
    (void)snprintf(name, sizeof name, loop->from != NULL ? "%s-%u" : "%s", direction, loop->worker);
    (void)pthread_setname_np(loop->thread, name);
    return 0;
}

static void prepare(struct dp_loop *loop) {
    atomic_store_explicit(&loop->stop, false, memory_order_relaxed);
    loop->due = true; /* what came before is there */
    loop->running = true;
}

static void end(struct dp_worker *w, struct dp_loop *loop) {
    atomic_store_explicit(&loop->stop, true, memory_order_release);
    dp_loop_wake(loop);
    dp_sharing_wake(w);
    pthread_join(loop->thread, NULL);
}

int dp_worker_start(struct dp *dp, uint32_t worker) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    struct dp_worker *w = &dp->worker[worker];
    if (w->outbound.running)
        return -EALREADY;
    prepare(&w->outbound);
    prepare(&w->inbound);
    int error = create(&w->inbound);
    if (error == 0) {
        error = create(&w->outbound);
        if (error != 0)
            end(w, &w->inbound);
    }
    if (error != 0)
        w->outbound.running = w->inbound.running = false;
    return -error;
}

int dp_worker_stop(struct dp *dp, uint32_t worker) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    struct dp_worker *w = &dp->worker[worker];
    if (!w->outbound.running)
        return 0;
    end(w, &w->outbound);
    end(w, &w->inbound);
    w->outbound.running = w->inbound.running = false;
    dp_sharing_reset(w);
    return 0;
}

int dp_worker_pin(struct dp *dp, uint32_t worker, int outbound_cpu, int inbound_cpu) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    dp->worker[worker].outbound.cpu = outbound_cpu;
    dp->worker[worker].inbound.cpu = inbound_cpu;
    return 0;
}
