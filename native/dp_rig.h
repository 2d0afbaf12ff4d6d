/* For rigs, tests and benchmarks: devices in memory, whole batches, SAs by themselves, single parts. */
#ifndef DP_DP_RIG_H
#define DP_DP_RIG_H

#include "dp_addresses.h"
#include "dp_plane.h"
#include "dp_sa.h"

/* ---- devices in memory ------------------------------------------------------------------------------------------------------ */

/* Doubles of TUN devices and of links: bounded queues of packets instead of descriptors. -ENOBUFS when full; `dp_mem_*_pull`
 * returns the octets of the oldest packet (copied into `data`), 0 when there is none, -EMSGSIZE when it does not fit. */
struct dp_mem_meta {
    struct dp_addr local, remote; /* outer; of a link only */
    uint8_t tos, df;              /* outer TOS or traffic class; DF as asked for */
    uint8_t hop_limit;            /* sent: outer TTL or hop limit, 0: the host's own */
    uint8_t pad;
    uint32_t flow_label; /* sent: outer, 20 bits */
    uint16_t gso_size;   /* pushed: octets of each datagram, the last may be shorter; 0: one datagram */
};
/* What lies in front of a packet of a TUN device: <linux/virtio_net.h>, without its hdr_len. All zero: one whole packet. */
struct dp_mem_offload {
    uint8_t gso_type, needs_checksum;
    uint16_t gso_size, checksum_start, checksum_offset;
    uint16_t network;        /* in a UDP tunnel: octets before the inner IP header */
    uint8_t tunnel_checksum; /* whose checksum is to be written too */
};
int dp_mem_tun_attach(struct dp *dp, uint32_t worker, uint32_t interface, uint32_t packets);
int dp_mem_tun_push(struct dp *dp, uint32_t worker, uint32_t interface, const uint8_t *data, size_t octets);
int dp_mem_tun_pull(struct dp *dp, uint32_t worker, uint32_t interface, uint8_t *data, size_t capacity);
int dp_mem_tun_push_super(struct dp *dp, uint32_t worker, uint32_t interface, const struct dp_mem_offload *offload,
                          const uint8_t *data, size_t octets);
int dp_mem_tun_pull_super(struct dp *dp, uint32_t worker, uint32_t interface, struct dp_mem_offload *offload, uint8_t *data,
                          size_t capacity);
int dp_mem_link_attach(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, uint32_t packets);
int dp_mem_link_push(struct dp *dp, uint32_t worker, uint32_t link, const struct dp_mem_meta *meta, const uint8_t *data,
                     size_t octets);
int dp_mem_link_pull(struct dp *dp, uint32_t worker, uint32_t link, struct dp_mem_meta *meta, uint8_t *data, size_t capacity);

/* ---- whole batches, for rigs and benchmarks: what the loops do to each packet ----------------------------------------------- */

/* Seals rows of `in` through one outbound SA: life, sequence number, ESP, counters. Row i is in[i * in_stride ..], in_octets[i]
 * long, with DP_ESP_TAILROOM (18) more octets of its stride that are overwritten, and tfc_octets in all under TFC padding. `out`
 * rows hold the ESP packets (in_octets[i] + 74 at the most), out_octets[i] long, 0 where reasons[i] says why not (too_big: a
 * stride is too small). The number sealed, or -ENOENT, -EBUSY (the worker's threads run). */
int dp_seal_burst(struct dp *dp, dp_sa_id outbound, uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out,
                  uint32_t *out_octets, size_t out_stride, size_t n, uint8_t *reasons, uint64_t now);
/* Opens rows of ESP packets of worker 0: SA by SPI, replay, ICV, trailer, inner header, selectors, counters. Rows of `out` are as
 * long as the ESP packets. The number opened, or -EBUSY. */
int dp_open_burst(struct dp *dp, const uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out, uint32_t *out_octets,
                  size_t out_stride, size_t n, uint8_t *reasons, uint64_t now);

/* ---- SAs by themselves, for rigs: keys set by hand, no plane, no tables, no policy, no life -------------------------------- */

struct dp_lone_keys; /* an arena for the keys of lone SAs; any thread may use it */
struct dp_lone;      /* one SA, which seals and opens under one key; used by one thread at a time (-EBUSY) */

struct dp_lone_params {
    uint32_t spi;                     /* any but 0 */
    uint16_t encr, integ, key_octets; /* as in struct dp_sa_params */
    uint8_t esn;
    uint8_t seeded;         /* CBC: IVs follow from `seed`; 0: the system's randomness */
    uint32_t replay_window; /* packets: a power of two, 64..8192 */
    uint32_t tfc_octets;    /* inner packets are padded to this size at least, 0..9000 */
    uint64_t sequence;      /* the last sequence number that was used already */
    uint64_t iv;            /* AEAD: the first IV */
    uint64_t seed;
};

struct dp_lone_state {
    uint64_t sequence;      /* last used */
    uint64_t highest;       /* received; 0: none yet */
    uint64_t octets;        /* memory of it, without its key */
    uint64_t key_octets;    /* in the arena */
    uint32_t alignment;     /* of plaintext with its trailer */
    uint32_t packet_octets; /* what ESP adds to plaintext with its trailer: header, IV, ICV */
};

enum dp_lone_how {
    DP_LONE_NUMBERED = 1, /* seal: `sequences` are given, and the SA's own goes on where it was */
    DP_LONE_KEEP = 2,     /* seal: nothing is written to `in` */
    DP_LONE_RAW = 4,      /* seal: `in` has padding and trailer already; open: any next header, and what was before the padding */
    DP_LONE_LOOK = 8,     /* open: the window stays as it is */
};

/* -EBADMSG, -ENOTSUP, -ENOMEM as dp_create. */
int dp_lone_keys_new(unsigned provider, struct dp_lone_keys **out);
/* Gone when its last SA is. */
void dp_lone_keys_free(struct dp_lone_keys *keys);
void dp_lone_keys_read(struct dp_lone_keys *keys, struct dp_arena_info *info);
/* `keymat` as for dp_sa_install. -EINVAL, -ENOTSUP, -ENOMEM. */
int dp_lone_new(struct dp_lone_keys *keys, const struct dp_lone_params *params, const uint8_t *keymat, size_t octets,
                struct dp_lone **out);
/* Wipes its key; sealing and opening are -EBADF from now on. -EBUSY. */
int dp_lone_close(struct dp_lone *lone);
/* Closes it and frees its memory: nobody uses it. */
void dp_lone_free(struct dp_lone *lone);
void dp_lone_read(const struct dp_lone *lone, struct dp_lone_state *state);
/* The last sequence number that was used. -EINVAL: it has no such one. */
int dp_lone_set_sequence(struct dp_lone *lone, uint64_t sequence);
/* The highest one received: the window begins anew, with this one in it alone; 0: with none. -EINVAL. */
int dp_lone_set_highest(struct dp_lone *lone, uint64_t highest);

/* Seals rows of `in` into rows of `out`, laid out as for dp_seal_burst, with the reasons; `next_header` -1: what the inner packet
 * is, which is looked at then. A row of `in` that has no DP_ESP_TAILROOM octets behind its packet is padded in `out`, as are all
 * under DP_LONE_KEEP; a row of `out` has room for the packet and DP_ESP_GROWTH (74) octets. `sequences`: those of the rows, 64
 * bits. The number sealed; -EBUSY; -ENOKEY: the key is gone, since this process was forked. */
int dp_lone_seal(struct dp_lone *lone, uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out, uint32_t *out_octets,
                 size_t out_stride, size_t n, uint8_t *reasons, uint64_t *sequences, int next_header, unsigned how);
/* Opens rows of ESP packets, checked in the order of dp_open_burst: SPI, window, ICV, window again, padding, next header, inner
 * header. `sequences` and `next_headers` of what was opened, else 0. The number opened; -EBUSY, -ENOKEY. */
int dp_lone_open(struct dp_lone *lone, const uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out,
                 uint32_t *out_octets, size_t out_stride, size_t n, uint8_t *reasons, uint64_t *sequences, uint8_t *next_headers,
                 unsigned how);

/* ---- single parts, for tests and benchmarks --------------------------------------------------------------------------------- */

/* Loops for the benchmarks, which hold the clock. Each returns 0 or -errno.
 *
 * The bare cipher of a suite: `rounds` times `n` rows of `octets` (a multiple of the cipher's block, 1..65536), sealed or opened
 * one by one from one buffer into another. With `rounds` 0 only the preparation, which is to be subtracted: key, buffers and, to
 * open, one sealing. -EINVAL; -ENOTSUP: the provider lacks the suite; -EBADMSG: its known-answer tests failed; -ENOMEM; -EIO. */
int dp_bench_aead(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets, int open, size_t octets, size_t n,
                  size_t rounds);
/* dp_seal_burst called `rounds` times from C with the same arguments. -EIO: a packet was dropped. */
int dp_bench_seal(struct dp *dp, dp_sa_id outbound, uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out,
                  uint32_t *out_octets, size_t out_stride, size_t n, uint8_t *reasons, uint64_t now, size_t rounds);
/* dp_open_burst called `rounds` times from C. No packet opens twice, so `in` and `in_octets` hold rounds * n rows, taken n at a
 * time in their order, and `out`, `out_octets`, `reasons` n. -EIO: a packet was dropped. */
int dp_bench_open(struct dp *dp, const uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out, uint32_t *out_octets,
                  size_t out_stride, size_t n, uint8_t *reasons, uint64_t now, size_t rounds);
/* One anti-replay window of `window` packets fed `n` sequence numbers (64-bit, as inferred under ESN; else below 2^32), each
 * checked and committed: verdicts[i] is DP_OK, DP_DROP_replay or DP_DROP_too_old. -EINVAL. */
int dp_replay_run(uint32_t window, int esn, const uint32_t *low, size_t n, uint64_t *inferred, uint8_t *verdicts);

#endif
