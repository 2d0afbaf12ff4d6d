/* What the kernel itself drops of a flood of requests for new IKE SAs, before one waits in a socket of port 500: extended BPF.
 *
 * In a flood the gate does two things with a request that brings no cookie and whose network did not ask before: it notes that it
 * has asked now, and has no answer for it (ike_gate.h). The same is done here for a tenth of what receiving it costs, in the same
 * table (seen.h): who asks again goes on to the gate. So does all else, always: messages of IKE SAs, requests whose first payload
 * is a notification, what is not IKE, and everything while there is no flood. Where the kernel takes no program, the gate does it
 * all. */
#ifndef DP_IKE_FILTER_H
#define DP_IKE_FILTER_H

#include <stdbool.h>
#include <stdint.h>

struct dp_ike_shared;
struct dp_seen;

struct dp_ike_filter {
    int map, program;             /* -1: there is none */
    struct dp_ike_shared *shared; /* with the program, and `seen` uses its table */
    uint64_t dropped;             /* of which dp_ike_filter_dropped has told */
};

/* -errno: there is none, and `seen` is as it was. Close in any case. */
int dp_ike_filter_open(struct dp_ike_filter *filter, struct dp_seen *seen);
/* After what uses `seen`. */
void dp_ike_filter_close(struct dp_ike_filter *filter);

/* Nothing is done where there is no filter. */
void dp_ike_filter_attach(const struct dp_ike_filter *filter, int fd);
void dp_ike_filter_detach(const struct dp_ike_filter *filter, int fd);

/* Begins to drop, or goes on, after so many that ask for the first time. */
void dp_ike_filter_after(struct dp_ike_filter *filter, uint32_t firsts);
/* Lets everything through. */
void dp_ike_filter_end(struct dp_ike_filter *filter);
/* Datagrams that were dropped since the last time. */
uint32_t dp_ike_filter_dropped(struct dp_ike_filter *filter);

#endif
