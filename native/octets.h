/* Integers in network order, at any alignment. */
#ifndef DP_OCTETS_H
#define DP_OCTETS_H

#include <stdint.h>

__extension__ typedef unsigned __int128 dp_u128;

static inline uint16_t dp_read_16(const uint8_t *octets) {
    return (uint16_t)(octets[0] << 8 | octets[1]);
}

static inline uint32_t dp_read_32(const uint8_t *octets) {
    return (uint32_t)dp_read_16(octets) << 16 | dp_read_16(octets + 2);
}

static inline dp_u128 dp_read_128(const uint8_t *octets) {
    dp_u128 value = 0;
    for (int i = 0; i < 16; i += 4)
        value = value << 32 | dp_read_32(octets + i);
    return value;
}

#endif
