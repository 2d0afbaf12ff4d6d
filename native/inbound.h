/* One ESP packet as the inbound step takes it, for batches too. */
#ifndef DP_INBOUND_H
#define DP_INBOUND_H

#include "engine.h"
#include "inner.h"

struct dp_inbound_result {
    struct dp_sa *sa;  /* NULL: none */
    uint64_t sequence; /* as inferred */
    uint8_t *plain;    /* where the inner packet lies */
    struct dp_inner inner;
};
/* `plain` has room for `octets`; it is `packet` itself to open it where it lies. */
enum dp_drop dp_open_packet(struct dp_loop *loop, const uint8_t *packet, size_t octets, uint8_t *plain, uint64_t now,
                            struct dp_inbound_result *result);

#endif
