/* Packets that come before their SA is there.
 *
 * A responder may send on a new SA as soon as it has answered, and what it sends may overtake its answer (RFC 7296 §2.8). For each
 * SPI that a request of ours under way names, what its peer sends is kept as it came, and nothing of it is opened before the SA is
 * installed, which is to say before the answer was authenticated. Then the loop that owns the SA takes it first, in the order of
 * arrival, through all that any packet passes. Where no SA comes of it, it is wiped.
 *
 * All memory is made with the data plane. A flood that bears the SPI and the peer's address costs the room of this SPI, and no
 * other's. Only the control thread begins and ends an SPI; a lock orders it and the inbound loops, none of which comes here as long
 * as all SPIs are known. */
#ifndef DP_EARLY_H
#define DP_EARLY_H

#include "engine.h"

enum {
    DP_EARLY_ALL = 32 << 20,    /* octets that are kept for all SPIs together */
    DP_EARLY_SPI = 1 << 20,     /* for one */
    DP_EARLY_CHUNK = 17 * 4096, /* what an SPI takes at once: the longest datagram fits */
    DP_EARLY_SPIS = 4096,       /* under way at once; what comes for others is not kept */
};
#define DP_EARLY_NS UINT64_C(2000000000) /* that a packet is kept */

enum dp_early_answer {
    DP_EARLY_STRANGE = 0, /* the SPI is in no request of ours, or it does not come from where that went */
    DP_EARLY_KEPT = 1,
    DP_EARLY_FULL = 2, /* the SPI's room is used up */
};

struct dp_early;

/* 0 or -ENOMEM. */
int dp_early_open(struct dp *dp);
void dp_early_close(struct dp *dp);

/* By the control thread, for dp_spi_expect, dp_spi_release and dp_sa_install: */
/* 0; -ENOSPC: there are too many. Once more for the same SPI changes its peer. */
int dp_early_begin(struct dp *dp, uint32_t spi, const struct dp_addr *peer);
/* No SA comes of it: what was kept is wiped and counted. */
void dp_early_forget(struct dp *dp, uint32_t spi);
/* The SA is about to be seen by the loops: `worker`'s inbound loop is to take what was kept before anything else. true: there is
 * something, so wake it once the SA can be seen. Again: as before. */
bool dp_early_ready(struct dp *dp, uint32_t spi, uint32_t worker);
/* Shows each datagram that is kept, those of an SPI oldest first. */
void dp_early_show(struct dp *dp, void (*show)(void *to, uint32_t spi, const struct dp_burst *b), void *to);
/* Keeps a datagram that was kept elsewhere since `b->now`. 0; -ENOENT: its SPI is not expected; -ENOSPC. */
int dp_early_restore(struct dp *dp, uint32_t spi, const struct dp_burst *b);
/* Packets that were kept and dropped, and for which no loop counts. */
uint64_t dp_early_dropped(const struct dp *dp);

/* By an inbound loop: */
/* Keeps a copy of a datagram of burst `b`. */
enum dp_early_answer dp_early_keep(struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data, uint32_t octets,
                                   uint64_t now);
/* Whether packets wait that go before whatever comes on their SAs. */
static inline bool dp_early_due(const struct dp_loop *loop) {
    return atomic_load_explicit(&loop->early_ready, memory_order_relaxed) != 0 && !loop->early_taking;
}
/* Hands each of them, oldest first, to `take`; after `finish` their memory is used again. */
void dp_early_take(struct dp_loop *loop, uint64_t now, void (*take)(struct dp_loop *loop, const struct dp_burst *b, uint64_t now),
                   void (*finish)(struct dp_loop *loop, uint64_t now));

#endif
