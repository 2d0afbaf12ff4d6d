/* Which networks were here lately: in bounded memory, so that now and then one that was not seems to have been. A flood from random
 * addresses hardly comes twice from one; whoever means it asks again. */
#ifndef DP_SEEN_H
#define DP_SEEN_H

#include <stdatomic.h>
#include <stdbool.h>

#include "dp.h"

struct dp_seen;

enum {
    DP_SEEN_BITS = 1 << 22, /* of a period: 20,000 networks a second for 8 s set one in 26 */
};

/* What is remembered: the bit that dp_network_hash with the secret gives, of each period. Others may set bits too. */
struct dp_seen_table {
    _Atomic uint64_t current;
    _Atomic uint64_t words[2][DP_SEEN_BITS / 64]; /* by period, in turn */
};

/* Of the last one to two periods of `seconds`. NULL: no memory. */
struct dp_seen *dp_seen_new(uint64_t secret, uint32_t seconds);
/* Whether somebody of this network was here; he was from now on. */
bool dp_seen_before(struct dp_seen *seen, const struct dp_addr *address, uint64_t now);
/* To be remembered there from now on, in a table that is empty and outlives it. */
void dp_seen_use(struct dp_seen *seen, struct dp_seen_table *table);
uint64_t dp_seen_secret(const struct dp_seen *seen);
/* That is going to be asked about somebody: what it takes is fetched from memory meanwhile. */
void dp_seen_prefetch(const struct dp_seen *seen, const struct dp_addr *address);

#endif
