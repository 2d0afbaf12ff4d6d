/* Inbound SPIs: their low bits name a slot of the SA table, which is kept for whoever asked for one. */
#include <errno.h>

#include "early.h"
#include "engine.h"
#include "esp_wire.h"
#include "sa.h"

static bool reserved(const struct dp_sa_table *t, uint32_t slot) {
    return t->reserved[slot / 64] >> (slot % 64) & 1;
}

/* The first free slot that is `rest` modulo `modulus`. */
static int allocate(struct dp *dp, uint32_t modulus, uint32_t rest, uint32_t random, uint32_t *spi) {
    struct dp_sa_table *t = &dp->sas;
    for (uint32_t tried = 0; tried <= t->slot_mask; tried++) {
        uint32_t slot = (t->slot_hint + tried) & t->slot_mask;
        uint32_t candidate = (random & ~t->slot_mask) | slot;
        if (candidate < DP_SPI_MIN)
            candidate |= t->slot_mask + 1; /* the lowest bit that does not name a slot */
        if (slot % modulus != rest || reserved(t, slot) || atomic_load_explicit(&t->inbound[slot], memory_order_relaxed) != NULL)
            continue;
        t->reserved[slot / 64] |= UINT64_C(1) << (slot % 64);
        t->slot_hint = slot + 1;
        *spi = candidate;
        return 0;
    }
    return -ENOSPC;
}

int dp_spi_allocate(struct dp *dp, uint32_t random, uint32_t *spi) {
    return allocate(dp, 1, 0, random, spi);
}

int dp_spi_allocate_for(struct dp *dp, uint32_t worker, uint32_t random, uint32_t *spi) {
    return worker < dp->config.workers ? allocate(dp, dp->config.workers, worker, random, spi) : -EINVAL;
}

int dp_spi_claim(struct dp *dp, uint32_t spi) {
    struct dp_sa_table *t = &dp->sas;
    uint32_t slot = spi & t->slot_mask;
    if (spi < DP_SPI_MIN)
        return -EINVAL;
    if (reserved(t, slot) || atomic_load_explicit(&t->inbound[slot], memory_order_relaxed) != NULL)
        return -EEXIST;
    t->reserved[slot / 64] |= UINT64_C(1) << (slot % 64);
    return 0;
}

uint32_t dp_spi_receiver(const struct dp *dp, uint32_t spi) {
    return (spi & dp->sas.slot_mask) % dp->config.workers;
}

void dp_spi_release(struct dp *dp, uint32_t spi) {
    uint32_t slot = spi & dp->sas.slot_mask;
    dp->sas.reserved[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    dp_early_forget(dp, spi);
}

int dp_spi_expect(struct dp *dp, uint32_t spi, const struct dp_addr *peer) {
    if (!reserved(&dp->sas, spi & dp->sas.slot_mask) || (peer->family != 4 && peer->family != 6))
        return -EINVAL;
    return dp_early_begin(dp, spi, peer);
}
