/* Where a data plane's randomness comes from: the system, or in rigs a seed, so that two runs are the same octet by octet. What a
 * seed gives is no secret, so a plane that has one gets no real device (-EPERM). */
#ifndef DP_RANDOM_H
#define DP_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

#include "mix.h"

struct dp_random {
    bool seeded;
    uint64_t state; /* seeded: of the sequence of numbers */
};

/* The next number that follows from a seed (SplitMix64: a Weyl sequence, its values mixed). */
static inline uint64_t dp_random_follow(uint64_t *state) {
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return dp_mix(*state);
}

/* The next number, or false: the system has none to give. By the control thread. */
bool dp_random_next(struct dp_random *random, uint64_t *number);

#endif
