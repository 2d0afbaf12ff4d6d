/* What one host can choose its source addresses from: an IPv4 address, the first 64 bits of an IPv6 address. */
#ifndef DP_NETWORK_H
#define DP_NETWORK_H

#include <string.h>

#include "dp.h"
#include "mix.h"

/* With a secret, so that nobody can choose with whom he collides. */
static inline uint64_t dp_network_hash(uint64_t secret, const struct dp_addr *address) {
    uint64_t prefix = 0;
    memcpy(&prefix, address->ip, address->family == 6 ? 8 : 4);
    return dp_mix(dp_mix(secret ^ prefix) + address->family);
}

#endif
