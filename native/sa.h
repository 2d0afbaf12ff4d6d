/* One security association as the loops use it, and the tables that hold them (RFC 4301 §4.4.2).
 *
 * The control thread makes and removes SAs; the loop that owns an SA is the only writer of its sequence number or window and of its
 * counters. Everything the other thread may read meanwhile is a relaxed atomic. */
#ifndef DP_SA_H
#define DP_SA_H

#include <stdatomic.h>

#include "esp.h"
#include "flow.h"
#include "replay.h"

enum {
    DP_TFC_MAX = 9000, /* octets that an inner packet may be padded to */
    DP_SA_RETIRED = 1, /* in an SA's generation; the machine's are even, so none is like it */
    DP_GENERATION_STEP = 2,
};

struct dp_sa {
    /* What sealing or opening a packet touches. */
    _Alignas(64) struct dp_esp esp;
    uint64_t sequence;                                             /* outbound: the last one used */
    _Atomic uint64_t sequence_last;                                /* outbound: the last one that may be used, see dp_sa_reserve */
    uint64_t sequence_soft;                                        /* outbound: where SEQUENCE_SOFT is raised */
    uint64_t period_sequence, period_at;                           /* outbound: where the current period began, see `recent` */
    struct dp_replay replay;                                       /* inbound */
    uint64_t soft_octets, hard_octets, soft_packets, hard_packets; /* UINT64_MAX: no limit */
    _Atomic uint64_t packets, octets, sequence_shown, first_use, last_use, recent;
    _Atomic uint64_t asked; /* packets that want an answer (traffic.h), of a super-packet one */
    uint64_t segment;       /* the last TCP data: its ports and where it began */
    _Atomic uint32_t flags;
    _Atomic bool goes_on;        /* a packet was such that its sender has heard the other end */
    _Atomic uint32_t generation; /* of the machine, see dp_sa_expire_all; DP_SA_RETIRED: its key is retired */
    uint32_t interface, tunnel;
    const struct dp_selectors *selectors; /* inbound */
    _Atomic(struct dp_path *) path;       /* outbound */
    struct dp_addr peer;                  /* inbound, the loop's own: last authenticated outer source */

    /* Cold. */
    dp_sa_id id;
    uint32_t worker;
    /* Outbound: dp_child.first of the CHILD that was pointed at it, which a rekey leaves as it is; 0: none. */
    _Atomic uint32_t first;
    _Atomic uint64_t likes; /* outbound: by what flows of that CHILD and of those like it are found, in any process */
    uint8_t direction;
    bool fragments_also; /* later fragments too, though its selectors ask for ports (dp_sa_params) */
    bool opaque;         /* later fragments alone (RFC 4301 §7.2); outbound: since its CHILD was pointed at it */
    uint64_t *ring;
    size_t ring_octets;
    /* As it was installed, in the key arena: an export takes it along. NULL: taken and wiped; zeros while it waits. */
    uint8_t *keymat;
    size_t keymat_octets;
    uint64_t sequence_end;            /* the last one that there is */
    bool waits;                       /* for its key and its state, see dp_sa_go_on_many; it has room for them */
    bool named;                       /* among those that dp_sa_export_many is looking at */
    uint64_t bound;                   /* dp_sa_reserve, dp_sa_publish; 0: none */
    uint64_t settled;                 /* dp_epoch_mark of retiring it, or of its first bound */
    uint64_t iv_ahead, packets_ahead; /* outbound: of the sequence number, modulo 2^64: what never changes */
    struct {
        uint64_t packets, octets, asked;
    } kept; /* what its tunnel has of these already, see dp_traffic_keep */
    /* `peer` as others may read it: odd version while it is written. */
    _Atomic uint32_t peer_version;
    _Atomic uint64_t peer_words[3];
    _Atomic uint64_t drops[DP_DROP_COUNT];
    _Atomic uint32_t last_drop; /* enum dp_drop; DP_OK: none */
};
static_assert(sizeof(struct dp_addr) == 3 * sizeof(uint64_t), "peer_words holds one address");

struct dp_sa_table {
    _Atomic(struct dp_sa *) *inbound; /* by slot: SPI & slot_mask */
    uint32_t slot_mask;
    uint64_t *reserved;                                        /* a bit a slot: SPI given out, not yet installed */
    uint32_t slot_hint;                                        /* where to look for a free slot first */
    struct dp_sa **outbound;                                   /* by index; control thread only */
    uint32_t outbound_count, outbound_capacity, outbound_hint; /* hint: no hole lies below it */
    uint32_t serial;
};

struct dp;
int dp_sa_table_init(struct dp *dp);
void dp_sa_table_finish(struct dp *dp);
/* The SA that an inbound packet names, or NULL. */
static inline struct dp_sa *dp_sa_by_spi(const struct dp_sa_table *t, uint32_t spi) {
    struct dp_sa *sa = atomic_load_explicit(&t->inbound[spi & t->slot_mask], memory_order_acquire);
    return sa != NULL && sa->esp.spi == spi ? sa : NULL;
}
/* Gives an SA that has none its key, by the suite that it has, in the room that it has for it. -errno, and it has none as before.
 */
int dp_sa_set_key(struct dp *dp, struct dp_sa *sa, const uint8_t *keymat, size_t octets);
/* By name, for the control thread. */
struct dp_sa *dp_sa_by_id(const struct dp *dp, dp_sa_id id);

/* Single writer: no locked instruction. */
static inline void dp_add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Counts a packet that an SA dropped, and remembers why. By the loop that owns it. */
static inline void dp_sa_drop(struct dp_sa *sa, enum dp_drop reason) {
    dp_add(&sa->drops[reason], 1);
    atomic_store_explicit(&sa->last_drop, (uint32_t)reason, memory_order_relaxed);
}

#endif
