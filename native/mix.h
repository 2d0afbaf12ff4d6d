/* Spreads bits; protects nothing without a secret among them. */
#ifndef DP_MIX_H
#define DP_MIX_H

#include <stdint.h>

/* The finalizer of MurmurHash3. */
static inline uint64_t dp_mix(uint64_t h) {
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

#endif
