/* What wakes a worker's threads: one epoll set for each loop, in which its devices are. While one thread runs both loops, the links
 * are in the outbound loop's set, so that it sleeps in one place. */
#ifndef DP_EVENTS_H
#define DP_EVENTS_H

#include "engine.h"

int dp_loop_open_events(struct dp_loop *loop);
void dp_loop_close_events(struct dp_loop *loop);
/* After dp_loop_open_events of both loops. 0 or -errno. */
int dp_worker_open_events(struct dp_worker *w);
/* With the worker's lock held: a device comes into the set of whoever runs its loop, or goes. */
int dp_loop_watch(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io);
void dp_loop_unwatch(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io);
/* With the worker's lock held: all links into the inbound loop's own set, or back. 0 or -errno, then the call with the opposite
 * puts right what was moved. */
int dp_worker_move_links(struct dp_worker *w, bool apart);
void dp_loop_wake(struct dp_loop *loop);
/* Waits up to `timeout` ms (-1: for ever) for what is in the loop's set, and marks devices as ready and loops as due. */
void dp_loop_wait(struct dp_loop *owner, int timeout);

#endif
