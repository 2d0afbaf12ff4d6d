/* Selectors that tests start from. */
#ifndef DP_TEST_SELECTORS_H
#define DP_TEST_SELECTORS_H

#include <string.h>

#include "flow.h"

static inline void set_range(uint8_t low[16], uint8_t high[16], size_t octets) {
    memset(low, 0, 16);
    memset(high, 0, 16);
    memset(high, 0xff, octets);
}

static inline struct dp_selector any_selector(uint8_t family) {
    struct dp_selector s = {.family = family, .protocol_high = 256, .local_port_high = 65536, .remote_port_high = 65536};
    size_t octets = family == 6 ? 16 : 4;
    set_range(s.local_low, s.local_high, octets);
    set_range(s.remote_low, s.remote_high, octets);
    return s;
}

#endif
