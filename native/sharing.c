#include "sharing.h"

#include <sched.h>

#include "clock.h"
#include "events.h"
#include "handover.h"

#define DP_SPIN_MAX UINT64_C(50000)        /* ns; falling asleep and being woken costs about as much */
#define DP_SPIN_MIN UINT64_C(1000)         /* ns; less is not worth a look */
#define DP_PART_WINDOW UINT64_C(10000000)  /* ns that one thread must have been busy */
#define DP_JOIN_WINDOW UINT64_C(100000000) /* ns that two threads must have had little to do */

enum {
    FEW_CPUS = 2,         /* with so few, a second thread takes a processor away from the applications */
    PART_BUSY = 900,      /* per mille of the window */
    PART_SHARE_FEW = 300, /* per mille of it that the lesser direction took, where processors are few */
    PART_SHARE = 125,     /* elsewhere */
    JOIN_BUSY = 700,      /* per mille of one thread, for both directions together */
    JOIN_SHARE = 60,      /* or for the lesser one */
};

static uint32_t part_share(void) {
    cpu_set_t ours;
    bool few = sched_getaffinity(0, sizeof ours, &ours) == 0 && CPU_COUNT(&ours) <= FEW_CPUS;
    return few ? PART_SHARE_FEW : PART_SHARE;
}

int dp_sharing_open(struct dp_worker *w) {
    w->sharing = (struct dp_sharing){
        .part_window = DP_PART_WINDOW, .part_busy = PART_BUSY, .part_share = part_share(), .join_window = DP_JOIN_WINDOW};
    int error = pthread_mutex_init(&w->lock, NULL);
    return -(error != 0 ? error : pthread_cond_init(&w->parted, NULL));
}

void dp_sharing_close(struct dp_worker *w) {
    pthread_cond_destroy(&w->parted);
    pthread_mutex_destroy(&w->lock);
}

void dp_sharing_reset(struct dp_worker *w) {
    if (dp_sharing_apart(w)) {
        atomic_store_explicit(&w->apart, false, memory_order_relaxed);
        (void)dp_worker_move_links(w, false);
    }
    w->outbound.busy = w->inbound.busy = 0;
}

/* ---- sleeping */

static bool has_something(struct dp_loop *loop, struct dp_loop *other) {
    if (dp_handover_waiting(loop))
        loop->due = true;
    if (other != NULL && dp_handover_waiting(other))
        other->due = true;
    dp_loop_wait(loop, 0);
    return loop->due || (other != NULL && other->due);
}

static void sleep_now(struct dp_loop *loop, struct dp_loop *other, int timeout) {
    if (!dp_handover_sleep(loop)) {
        loop->due = true;
        return;
    }
    if (other == NULL || dp_handover_sleep(other)) {
        dp_loop_wait(loop, timeout);
        if (other != NULL)
            dp_handover_awake(other);
    } else {
        other->due = true;
    }
    dp_handover_awake(loop);
}

/* Under load the next packet is a few microseconds away, and sleeping and being woken costs more than looking again. Meanwhile the
 * processor is yielded to any other thread, mostly the one that sends or receives next, so that its packets are taken together. How
 * long to look (`spin`) follows from the last sleeps: a short one sets it to the most, each long one halves it, down to not at all.
 * What is there at the first look says nothing of the next wait, and leaves it as it is. */
void dp_sharing_wait(struct dp_loop *loop, struct dp_loop *other, int timeout) {
    uint64_t begun = dp_boottime(), now = begun;
    for (unsigned looks = 0; now - begun < loop->spin; looks++) {
        sched_yield();
        if (has_something(loop, other)) {
            loop->spin = looks != 0 ? DP_SPIN_MAX : loop->spin;
            return;
        }
        now = dp_boottime();
    }
    if (has_something(loop, other))
        return;
    sleep_now(loop, other, timeout);
    uint64_t slept = dp_boottime() - begun;
    loop->spin = slept < DP_SPIN_MAX ? DP_SPIN_MAX : loop->spin / 2 > DP_SPIN_MIN ? loop->spin / 2 : 0;
}

/* ---- giving the inbound loop away, and back */

static uint64_t lesser(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Per mille of the time since the last look, which begins anew. */
static uint64_t take_share(struct dp_loop *loop, uint64_t elapsed) {
    uint64_t share = loop->busy * 1000 / (elapsed != 0 ? elapsed : 1);
    loop->busy = 0;
    return share;
}

/* The links go first: whoever runs the loop next finds them. Where that fails for want of memory, all stays as it was. */
static void give(struct dp_worker *w, bool apart) {
    if (dp_worker_move_links(w, apart) == 0)
        atomic_store_explicit(&w->apart, apart, memory_order_release);
    else
        (void)dp_worker_move_links(w, !apart);
}

void dp_sharing_part(struct dp_worker *w, uint64_t now) {
    struct dp_sharing *s = &w->sharing;
    uint64_t elapsed = now - s->part_looked;
    if (elapsed < s->part_window)
        return;
    s->part_looked = now;
    uint64_t out = take_share(&w->outbound, elapsed);
    atomic_store_explicit(&s->outbound_share, (uint32_t)lesser(out, 1000), memory_order_relaxed);
    if (dp_sharing_apart(w))
        return;
    uint64_t in = take_share(&w->inbound, elapsed);
    if (out + in < s->part_busy || lesser(out, in) < s->part_share)
        return;
    pthread_mutex_lock(&w->lock);
    s->join_looked = now;
    give(w, true);
    pthread_cond_signal(&w->parted);
    pthread_mutex_unlock(&w->lock);
}

void dp_sharing_join(struct dp_worker *w, uint64_t now) {
    struct dp_sharing *s = &w->sharing;
    uint64_t elapsed = now - s->join_looked;
    if (elapsed < s->join_window)
        return;
    s->join_looked = now;
    uint64_t in = take_share(&w->inbound, elapsed), out = atomic_load_explicit(&s->outbound_share, memory_order_relaxed);
    if (out + in >= JOIN_BUSY && lesser(out, in) >= JOIN_SHARE)
        return;
    pthread_mutex_lock(&w->lock);
    w->inbound.due = true; /* a device that was not read to its end raises no event */
    give(w, false);
    pthread_mutex_unlock(&w->lock);
    dp_loop_wake(&w->outbound);
}

bool dp_sharing_take(struct dp_worker *w) {
    pthread_mutex_lock(&w->lock);
    bool stop;
    while (!(stop = atomic_load_explicit(&w->inbound.stop, memory_order_acquire)) && !dp_sharing_apart(w))
        pthread_cond_wait(&w->parted, &w->lock);
    pthread_mutex_unlock(&w->lock);
    return !stop;
}

void dp_sharing_wake(struct dp_worker *w) {
    pthread_mutex_lock(&w->lock);
    pthread_cond_broadcast(&w->parted);
    pthread_mutex_unlock(&w->lock);
}
