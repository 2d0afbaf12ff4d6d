/* What every unit test includes: cmocka with the headers that it wants before it, hexadecimal, and random input that is the same in
 * every run. */
#ifndef UNIT_H
#define UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdlib.h>
#include <string.h>

/* Two digits an octet; the number of octets. */
static inline size_t unit_unhex(uint8_t *out, const char *hex) {
    size_t octets = strlen(hex) / 2;
    for (size_t i = 0; i < octets; i++) {
        const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return octets;
}

/* xorshift64*; the seed is not 0. */
static inline uint64_t unit_draw(uint64_t *seed) {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545f4914f6cdd1dULL;
}

static inline void unit_fill(uint64_t *seed, uint8_t *out, size_t octets) {
    for (size_t i = 0; i < octets; i++)
        out[i] = (uint8_t)(unit_draw(seed) >> 56);
}

#endif
