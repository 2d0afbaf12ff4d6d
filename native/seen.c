#include "seen.h"

#include <stdlib.h>
#include <string.h>

#include "bucket.h"
#include "network.h"

enum {
    BITS = 1 << 22, /* of a period: 20,000 networks a second for 8 s set one in 26 */
    WORDS = BITS / 64,
};

struct dp_seen {
    uint64_t secret, period, began;
    unsigned current;
    uint64_t words[2][WORDS]; /* by period, in turn */
};

struct dp_seen *dp_seen_new(uint64_t secret, uint32_t seconds) {
    struct dp_seen *seen = calloc(1, sizeof *seen); /* only what is touched becomes resident */
    if (seen != NULL) {
        seen->secret = secret;
        seen->period = seconds * DP_SECOND;
    }
    return seen;
}

static void turn(struct dp_seen *seen, uint64_t now) {
    if (now - seen->began < seen->period)
        return;
    bool both = now - seen->began >= 2 * seen->period;
    seen->current ^= 1;
    memset(seen->words[seen->current], 0, sizeof seen->words[0]);
    if (both)
        memset(seen->words[seen->current ^ 1], 0, sizeof seen->words[0]);
    seen->began = now;
}

static uint64_t place_of(const struct dp_seen *seen, const struct dp_addr *address) {
    return dp_network_hash(seen->secret, address) % BITS;
}

void dp_seen_prefetch(const struct dp_seen *seen, const struct dp_addr *address) {
    uint64_t at = place_of(seen, address);
    for (unsigned i = 0; i < 2; i++)
        __builtin_prefetch(&seen->words[i][at / 64], 1);
}

bool dp_seen_before(struct dp_seen *seen, const struct dp_addr *address, uint64_t now) {
    turn(seen, now);
    uint64_t at = place_of(seen, address), bit = UINT64_C(1) << at % 64;
    bool before = ((seen->words[0][at / 64] | seen->words[1][at / 64]) & bit) != 0;
    seen->words[seen->current][at / 64] |= bit;
    return before;
}
