/* One thread or two for the two loops of a worker.
 *
 * As long as one thread is enough it runs both: a packet and its answer then wake the same thread, which the scheduler mostly
 * leaves where it is, and nothing travels between processors. When it does not get to sleep any more and both directions have a
 * good share of that, the inbound loop goes to the thread that was kept for it; when one would do again, it comes back. A loop
 * changes hands between two steps only, under a lock, so there is one writer of everything at any time. */
#ifndef DP_SHARING_H
#define DP_SHARING_H

#include "engine.h"

enum {
    DP_SHARING_LOOK_MS = 100, /* how long the second thread sleeps before it asks whether it is needed */
};

/* Whether the inbound loop is its own thread's. Only the thread that runs that loop changes it. */
static inline bool dp_sharing_apart(const struct dp_worker *w) {
    return atomic_load_explicit(&w->apart, memory_order_acquire);
}

int dp_sharing_open(struct dp_worker *w);
void dp_sharing_close(struct dp_worker *w);
/* After both threads ended: one would run both. */
void dp_sharing_reset(struct dp_worker *w);

/* Sleeps until `loop` or `other` (NULL: there is none) has something to do, `timeout` ms at the most (-1: for ever). */
void dp_sharing_wait(struct dp_loop *loop, struct dp_loop *other, int timeout);

/* By the outbound thread, between two steps: looks at the time gone since it last did, and gives the inbound loop away if that is
 * worth it. */
void dp_sharing_part(struct dp_worker *w, uint64_t now);
/* By the inbound thread, between two steps: gives the loop back if that is enough. */
void dp_sharing_join(struct dp_worker *w, uint64_t now);
/* By the inbound thread: waits until the loop is its own. false: it is to end. */
bool dp_sharing_take(struct dp_worker *w);
/* Makes it look whether it is to end. */
void dp_sharing_wake(struct dp_worker *w);

#endif
