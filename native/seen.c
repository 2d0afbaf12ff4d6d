#include "seen.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bucket.h"
#include "network.h"

struct dp_seen {
    uint64_t secret, period, began;
    struct dp_seen_table *table, own;
};

struct dp_seen *dp_seen_new(uint64_t secret, uint32_t seconds) {
    struct dp_seen *seen = calloc(1, sizeof *seen); /* only what is touched becomes resident */
    if (seen != NULL) {
        seen->secret = secret;
        seen->period = seconds * DP_SECOND;
        seen->table = &seen->own;
    }
    return seen;
}

static void turn(struct dp_seen *seen, uint64_t now) {
    if (now - seen->began < seen->period)
        return;
    bool both = now - seen->began >= 2 * seen->period;
    struct dp_seen_table *t = seen->table;
    uint64_t current = atomic_load_explicit(&t->current, memory_order_relaxed) ^ 1;
    atomic_store_explicit(&t->current, current, memory_order_relaxed);
    memset(t->words[current], 0, sizeof t->words[0]);
    if (both)
        memset(t->words[current ^ 1], 0, sizeof t->words[0]);
    seen->began = now;
}

void dp_seen_use(struct dp_seen *seen, struct dp_seen_table *table) {
    seen->table = table;
}

uint64_t dp_seen_secret(const struct dp_seen *seen) {
    return seen->secret;
}

static uint64_t place_of(const struct dp_seen *seen, const struct dp_addr *address) {
    return dp_network_hash(seen->secret, address) % DP_SEEN_BITS;
}

void dp_seen_prefetch(const struct dp_seen *seen, const struct dp_addr *address) {
    uint64_t at = place_of(seen, address);
    for (unsigned i = 0; i < 2; i++)
        __builtin_prefetch(&seen->table->words[i][at / 64], 1);
}

bool dp_seen_before(struct dp_seen *seen, const struct dp_addr *address, uint64_t now) {
    turn(seen, now);
    uint64_t at = place_of(seen, address), bit = UINT64_C(1) << at % 64;
    struct dp_seen_table *t = seen->table;
    uint64_t current = atomic_load_explicit(&t->current, memory_order_relaxed),
             before = atomic_load_explicit(&t->words[current ^ 1][at / 64], memory_order_relaxed) |
                      atomic_fetch_or_explicit(&t->words[current][at / 64], bit, memory_order_relaxed);
    return (before & bit) != 0;
}
