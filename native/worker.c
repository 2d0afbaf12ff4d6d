/* The threads: each only repeats its step, sleeps in epoll when there is nothing to do, and reads the clock for it. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

enum {
    DP_STEP_BUDGET = 256, /* packets a step; bounds how long a step holds its epoch */
    DP_STEPS = 16,        /* steps while devices have more, until the others are asked again */
    DP_EVENTS = 64,
};
#define DP_SPIN_MAX UINT64_C(50000) /* ns; falling asleep and being woken costs about as much */
/* Events carry a device's number, never its address: the device may be gone by the time the event is read. */
#define DP_WAKE UINT64_MAX

static uint64_t monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

int dp_loop_open_events(struct dp_loop *loop) {
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->wake_fd < 0 || loop->epoll_fd < 0)
        return -errno;
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = DP_WAKE};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &e) == 0 ? 0 : -errno;
}

void dp_loop_close_events(struct dp_loop *loop) {
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
}

static struct dp_loop *receiver_of(struct dp *dp, uint32_t worker, bool is_link) {
    return is_link ? &dp->worker[worker].inbound : &dp->worker[worker].outbound;
}

int dp_loop_watch(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    if (io->poll_fd < 0)
        return 0;
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = io->number};
    return epoll_ctl(receiver_of(dp, worker, is_link)->epoll_fd, EPOLL_CTL_ADD, io->poll_fd, &e) == 0 ? 0 : -errno;
}

void dp_loop_unwatch(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    if (io->poll_fd >= 0)
        (void)epoll_ctl(receiver_of(dp, worker, is_link)->epoll_fd, EPOLL_CTL_DEL, io->poll_fd, NULL);
}

void dp_loop_wake(struct dp_loop *loop) {
    uint64_t one = 1;
    /* A full counter means that a wake-up is already on its way. */
    if (write(loop->wake_fd, &one, sizeof one) < 0)
        return;
}

int dp_loop_visit(struct dp_loop *loop, const struct dp_io_set *set, uint32_t budget, uint64_t now,
                  int (*visit)(struct dp_loop *loop, struct dp_io *io, uint32_t budget, uint64_t now)) {
    uint32_t count = set != NULL ? set->count : 0, moved = 0;
    loop->more = false;
    for (uint32_t i = 0; i < count && moved < budget; i++) {
        struct dp_io *io = set->io[(loop->turn + i) % count];
        if (io == NULL || atomic_load_explicit(&io->failed, memory_order_relaxed) ||
            atomic_load_explicit(&io->send_only, memory_order_relaxed))
            continue;
        /* Only a thread has epoll to tell it who is ready; a rig's step looks at everything. */
        if (loop->running && !atomic_load_explicit(&io->ready, memory_order_acquire))
            continue;
        moved += (uint32_t)visit(loop, io, budget - moved, now);
        loop->more |= atomic_load_explicit(&io->ready, memory_order_relaxed);
    }
    loop->more |= moved >= budget; /* then some were not asked */
    loop->more |= dp_handover_waiting(loop);
    loop->turn++;
    return (int)moved;
}

/* Waits up to `timeout` ms (-1: for ever) and marks the devices that have something. Whether anything happened. */
static bool wait_ready(struct dp_loop *loop, int timeout) {
    struct epoll_event event[DP_EVENTS];
    int n = epoll_wait(loop->epoll_fd, event, DP_EVENTS, timeout);
    if (n <= 0)
        return false;
    dp_epoch_online(&loop->epoch, &loop->dp->epoch);
    for (int i = 0; i < n; i++) {
        if (event[i].data.u64 == DP_WAKE) {
            uint64_t count;
            while (read(loop->wake_fd, &count, sizeof count) > 0)
                continue;
            continue;
        }
        struct dp_io *io = dp_io_get(loop->dp, loop->worker, loop->direction == DP_INBOUND, (uint32_t)event[i].data.u64);
        if (io == NULL)
            continue;
        if (atomic_load_explicit(&io->failed, memory_order_relaxed)) /* else its error would wake us for ever */
            (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->poll_fd, NULL);
        else
            atomic_store_explicit(&io->ready, true, memory_order_relaxed);
    }
    dp_epoch_offline(&loop->epoch);
    return true;
}

/* Waits for what comes next. Under load that is a few microseconds away, and going to sleep for it would cost this thread and the
 * one that wakes it more than to look again; the processor goes to whoever else wants it meanwhile. How long it is worth looking
 * follows from how long the last waits took. */
static void wait_next(struct dp_loop *loop) {
    uint64_t begun = monotonic(), now = begun;
    while (now - begun < loop->spin) {
        sched_yield();
        if (dp_handover_waiting(loop) || wait_ready(loop, 0)) {
            loop->spin = DP_SPIN_MAX;
            return;
        }
        now = monotonic();
    }
    if (dp_handover_sleep(loop)) {
        (void)wait_ready(loop, -1);
        dp_handover_awake(loop);
    }
    loop->spin = monotonic() - begun < DP_SPIN_MAX ? DP_SPIN_MAX : loop->spin / 2;
}

static int step(struct dp_loop *loop) {
    return loop->direction == DP_OUTBOUND ? dp_outbound_step(loop->dp, loop->worker, DP_STEP_BUDGET, monotonic())
                                          : dp_inbound_step(loop->dp, loop->worker, DP_STEP_BUDGET, monotonic());
}

/* A device that has more is read on without asking epoll, which costs as much as a read; one that had none left is not asked again
 * before epoll says so. A step that moved nothing waits in any case: a device may fail each time it is read. */
static void *run(void *argument) {
    struct dp_loop *loop = argument;
    bool more = false;
    for (unsigned steps = 1; !atomic_load_explicit(&loop->stop, memory_order_acquire); steps++) {
        if (!more)
            wait_next(loop);
        else if (steps % DP_STEPS == 0)
            (void)wait_ready(loop, 0);
        more = step(loop) != 0 && loop->more;
    }
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
        error = pthread_create(&loop->thread, &attributes, run, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

static int start(struct dp_loop *loop) {
    if (loop->running)
        return -EALREADY;
    atomic_store_explicit(&loop->stop, false, memory_order_relaxed);
    loop->running = true;
    int error = create(loop);
    if (error != 0) {
        loop->running = false;
        return -error;
    }
    char name[16];
    const char *direction = loop->direction == DP_OUTBOUND ? "esp-outbound" : "esp-inbound";
    (void)snprintf(name, sizeof name, loop->from != NULL ? "%s-%u" : "%s", direction, loop->worker);
    (void)pthread_setname_np(loop->thread, name);
    return 0;
}

static void stop(struct dp_loop *loop) {
    if (!loop->running)
        return;
    atomic_store_explicit(&loop->stop, true, memory_order_release);
    dp_loop_wake(loop);
    pthread_join(loop->thread, NULL);
    loop->running = false;
}

int dp_worker_start(struct dp *dp, uint32_t worker) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    struct dp_worker *w = &dp->worker[worker];
    int error = start(&w->outbound);
    if (error != 0)
        return error;
    error = start(&w->inbound);
    if (error != 0)
        stop(&w->outbound);
    return error;
}

int dp_worker_stop(struct dp *dp, uint32_t worker) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    stop(&dp->worker[worker].outbound);
    stop(&dp->worker[worker].inbound);
    return 0;
}

int dp_worker_pin(struct dp *dp, uint32_t worker, int outbound_cpu, int inbound_cpu) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    dp->worker[worker].outbound.cpu = outbound_cpu;
    dp->worker[worker].inbound.cpu = inbound_cpu;
    return 0;
}
