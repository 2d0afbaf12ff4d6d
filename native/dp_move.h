/* What moves to another data plane: SAs, one by one or many at once, devices, packets that wait, flows. */
#ifndef DP_DP_MOVE_H
#define DP_DP_MOVE_H

#include "dp_addresses.h"
#include "dp_sa.h"

enum {
    DP_WINDOW_WORDS = 129, /* of the largest anti-replay window */
    DP_KEYMAT_ROOM = 128,  /* octets that the keying material of any suite fits into */
};

/* What an SA has used of itself: what goes with it when it moves, beside its parameters and its keying material. */
struct dp_sa_state {
    uint64_t sequence; /* outbound: the last one used; inbound: the highest received */
    uint64_t bound;    /* that is reserved or published for it; 0: none */
    uint64_t iv;       /* outbound AEAD: the next one */
    uint64_t packets, octets, asked;
    uint64_t first_use, last_use;                /* 0: never */
    uint64_t recent, period_sequence, period_at; /* outbound, see dp_sa_info.recent */
    uint64_t segment;                            /* the last TCP data: its ports and where it began */
    uint32_t flags;                              /* enum dp_sa_flag */
    uint32_t window;                             /* inbound, packets; 0: all numbers up to `sequence` count as received */
    uint16_t last_drop;
    uint8_t goes_on;
    uint8_t pad[5];
    struct dp_addr peer;             /* inbound; family 0: an import goes by its parameters */
    struct dp_path path;             /* outbound, as it was; an import goes by its parameters */
    uint64_t drops[DP_DROP_COUNT];   /* by reason */
    uint64_t words[DP_WINDOW_WORDS]; /* window / 64 + 1, the newest first: bit b of word k: sequence / 64 - k, times 64, plus b */
};

/* From now on the SA neither seals nor opens (retired), for good: it is about to be exported. A loop may finish what it has begun.
 * 0, also when it was retired already; -ENOENT. */
int dp_sa_retire(struct dp *dp, dp_sa_id id);
/* Whether dp_sa_export would give the SA away, and will: 0, or its -errno. */
int dp_sa_may_leave(const struct dp *dp, dp_sa_id id);
/* The exact state of an SA that is retired, after its last packet, and its keying material, which is wiped here: once. The SA stays
 * where it is and drops until dp_sa_remove. The octets of `keymat`; -EAGAIN: a loop still has a burst from before, ask again;
 * -EPERM: it is not retired; -EALREADY: it was exported; -EKEYEXPIRED: dp_sa_expire_all; -ENOBUFS: too little room; -ENOENT. */
int dp_sa_export(struct dp *dp, dp_sa_id id, struct dp_sa_state *state, uint8_t *keymat, size_t room);

/* An SA that goes on promises to use no number above `bound` from now on (outbound: unreserved; inbound: unpublished, and whoever
 * calls has published the bound before). Later calls raise it. 0: it holds; -EAGAIN: a loop still has a burst from before, ask
 * again; -ERANGE: the SA has gone beyond it already, or has no such number: ask for more; -EINVAL: there is a higher one;
 * -EKEYREVOKED: it is retired; -ENOENT: no such SA of that direction. */
int dp_sa_reserve(struct dp *dp, dp_sa_id id, uint64_t bound);
int dp_sa_publish(struct dp *dp, dp_sa_id id, uint64_t bound);
/* What another one would go on from, should this one be lost: behind its bound, in numbers and IVs and, at `most` octets a packet,
 * in what is counted; inbound, above it alone. As dp_sa_export; -EPERM: no bound holds; -ERANGE: it is beyond it; -EKEYREVOKED. */
int dp_sa_snapshot(struct dp *dp, dp_sa_id id, uint32_t most, struct dp_sa_state *state, uint8_t *keymat, size_t room);
/* dp_sa_install of an SA that goes on from `state` (params->sequence and iv mean nothing). -EINVAL: also a state that it cannot
 * have. */
int dp_sa_import(struct dp *dp, unsigned direction, const struct dp_sa_params *params, const uint8_t *keymat, size_t keymat_octets,
                 const struct dp_selector *selectors, size_t selector_count, const struct dp_sa_state *state, dp_sa_id *id);

/* Many at once, in the little time that nobody forwards: what is known before is installed before, and waits for the rest.
 *
 * Records lie one behind the other. Each is no longer than what its SA has: this head, the state up to its path, the words of its
 * window, its drops that are not 0 (two uint64_t: reason, count), its keying material, and zeros to a multiple of 8 octets. */
struct dp_sa_record {
    uint32_t octets; /* with its head */
    uint16_t drops, keymat_octets;
};
/* A state and its keying material as a record; its octets, also where it does not fit into `room` and is not written. -EINVAL: no
 * SA has so long a key, or such a window. */
int dp_sa_record_write(const struct dp_sa_state *state, const uint8_t *keymat, size_t keymat_octets, uint8_t *out, size_t room);
/* dp_sa_retire of `n` SAs. -ENOENT of one: the others are retired all the same. */
int dp_sa_retire_many(struct dp *dp, const dp_sa_id *ids, size_t n);
/* dp_sa_export of `n` SAs, a record of each. 0, or -errno and none has left: -EINVAL: one is named twice; -ENOBUFS: they take
 * `*octets`, and `room` is less. What was written by then stays for the caller to wipe. */
int dp_sa_export_many(struct dp *dp, const dp_sa_id *ids, size_t n, uint8_t *out, size_t room, size_t *octets);
/* dp_sa_install without keying material and state: the SA neither seals nor opens (retired) before dp_sa_go_on_many, for which it
 * has its memory already. */
int dp_sa_install_waiting(struct dp *dp, unsigned direction, const struct dp_sa_params *params, const struct dp_selector *selectors,
                          size_t selector_count, dp_sa_id *id);
/* SAs that wait go on from these records, which are theirs by their order (0: nobody's), while no device is read. How many do not,
 * and in `errors`, of each, 0 or -errno: -EPERM: it never waited, or does no more; -ENOENT, -EINVAL, -ENOMEM. Or -errno, and none
 * goes on: -EBUSY: devices are read, or a loop still has a burst (dp_receive_idle); -EINVAL: these are no `n` records. */
int dp_sa_go_on_many(struct dp *dp, const dp_sa_id *ids, size_t n, const uint8_t *records, size_t octets, int32_t *errors);

/* Takes an SPI that somebody named already, as dp_spi_allocate would have. -EEXIST: its slot is taken; -EINVAL. */
int dp_spi_claim(struct dp *dp, uint32_t spi);

/* As dp_tun_attach and dp_link_attach, with a descriptor that another process has attached, and reads on perhaps: nothing about the
 * device is changed. `on` (a mask of enum dp_offload) is what is on for it; the kernel is asked where it can tell. The descriptor's
 * own flags are shared: it is non-blocking already. -EINVAL: offloads of a device that cannot have them. */
int dp_tun_inherit(struct dp *dp, uint32_t worker, uint32_t interface, int fd, uint32_t on);
int dp_link_inherit(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, int fd_receive,
                    int receive_df, int fd_other, uint32_t on);

/* No device is read from now on, those attached later neither, and none is closed: what comes waits in the kernel. A loop may
 * finish what it has begun; sending goes on. */
void dp_receive_pause(struct dp *dp);
/* 1: they are paused, no loop has a burst from before, and nothing is on its way from worker to worker: all that was read is sent,
 * or waits for an SA. 0: ask again. */
int dp_receive_idle(const struct dp *dp);
/* All are read again but those of dp_receive_off. 0 or -errno: of a device that is not. */
int dp_receive_resume(struct dp *dp);

/* What waits for an SA while devices are paused, and goes to another data plane: a packet of a tunnel that is coming up, or ESP
 * that came before its SA. `octets` of it follow, padded to 8. Whether a packet was read by its worker or handed over to it is
 * not said: the other data plane takes it as read there. */
struct dp_kept {
    uint64_t since; /* when it came */
    uint32_t octets;
    uint32_t spi;                 /* of early ESP; 0: a packet from a TUN */
    uint32_t tunnel, interface;   /* from a TUN */
    uint32_t link;                /* early: where it came, and how */
    struct dp_addr local, remote; /* early */
    uint16_t gso_size, checksum_start, checksum_offset;
    uint16_t lent_protocol, lent_port[2]; /* a later fragment that follows its first */
    uint8_t gso_type, needs_checksum, remembered, lent;
    uint8_t tos, encapsulation;
    uint8_t tunnel_checksum; /* from a TUN, in a UDP tunnel; where its inner IP header begins lies in `lent_protocol` */
    uint8_t worker;          /* from a TUN: where it waits */
};
/* Copies all that waits, in its order, into `room` octets of `out`; it waits on here. `octets`: what that takes. 0; -ENOBUFS: more
 * than `room`, of which nothing is left out that fits; -EBUSY: as dp_receive_idle. */
int dp_kept_export(struct dp *dp, uint8_t *out, size_t room, size_t *octets);
/* It waits here from now on, since when it did: what is imported first goes first. 0; -ENOSPC: there is no room, or it has waited
 * too long; -ENOENT: nobody expects its SPI (dp_spi_expect) and no SA has it; -EINVAL; -EBUSY. */
int dp_kept_import(struct dp *dp, const struct dp_kept *kept, const uint8_t *packet, uint64_t now);

/* Which worker each flow is with that is under way at `now`, as far as several have SAs with the same selectors (RFC 9611), into
 * `room` octets of `out`; and the seed by which others find theirs, and all their IPv6 flow label. `octets`: what that takes. For
 * dp_flows_import of another data plane with as many workers and the same numbers of tunnels. 0; -ENOBUFS: more than `room`;
 * -EBUSY: as dp_receive_idle. */
int dp_flows_export(const struct dp *dp, uint64_t now, uint64_t *seed, uint8_t *out, size_t room, size_t *octets);
/* They keep to their workers here. Before the threads run. 0; -EINVAL: these are none, and nothing was taken; -EBUSY. */
int dp_flows_import(struct dp *dp, uint64_t seed, const uint8_t *records, size_t octets);

/* This worker only sends on the device from now on: another one has the same descriptor and reads it. Before the loops start.
 * -ENOENT. */
int dp_receive_off(struct dp *dp, uint32_t worker, int is_link, uint32_t number);

#endif
