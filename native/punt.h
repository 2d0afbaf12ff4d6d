/* Records to the control plane, through two channels; what strangers can cause is limited for each source (dp.h, enum dp_channel).
 */
#ifndef DP_PUNT_H
#define DP_PUNT_H

#include <stdbool.h>

#include "dp.h"

struct dp;
struct dp_loop;
struct dp_punt_limiter;

int dp_punt_open(struct dp *dp);
void dp_punt_close(struct dp *dp);

/* Token buckets for sources, of a fixed number; `seed` keeps a stranger from choosing whom to collide with. NULL: no memory. */
struct dp_punt_limiter *dp_punt_limiter_new(uint32_t rate, uint32_t burst, uint64_t seed);
/* Whether this source may cause another punt now. IPv6 sources count by /64. */
bool dp_punt_allowed(struct dp_punt_limiter *limiter, const struct dp_addr *source, uint64_t now);

/* A channel: the writer's end, the reader's end. false with errno. */
bool dp_punt_pair(int pair[2]);
/* Writes one record. false: the channel is full. */
bool dp_punt_write(int fd, struct dp_punt *punt, const uint8_t *payload, size_t octets);
/* The same by a loop, which counts what is lost. */
bool dp_punt_send(struct dp_loop *loop, unsigned channel, struct dp_punt *punt, const uint8_t *payload, size_t octets);

#endif
