/* The data plane as Python sees it: the only header it sees.
 *
 * Conventions. Integers are in host order, addresses in network order. Octets unless a unit is named. Times are nanoseconds of one
 * monotonic clock that the caller owns (`now`); nothing here reads a clock but the worker threads of dp_worker_start. Functions
 * return 0 or a count, or -errno; those that move packets return a count and tell the reason for each packet that was dropped.
 * One control thread calls everything but dp_outbound_step and dp_inbound_step, each of which belongs to one thread at a time. */
#ifndef DP_H
#define DP_H

#ifndef DP_CFFI
#include <stddef.h>
#include <stdint.h>
#endif

#include "drops.h"

struct dp; /* one data plane: tables, channels, workers */

/* The sentence and the name of a drop reason; NULL outside the enumeration. */
const char *dp_drop_name(unsigned reason);
const char *dp_drop_sentence(unsigned reason);

/* ---- addresses, paths, selectors -------------------------------------------------------------------------------------------- */

struct dp_addr {
    uint8_t family; /* 4, 6; 0: unset */
    uint8_t pad;
    uint16_t port;  /* 0 under IP protocol 50 */
    uint32_t scope; /* IPv6 link-local zone, else 0 */
    uint8_t ip[16]; /* IPv4 in the first four */
};

enum dp_encapsulation {
    DP_ENCAPSULATION_ESP = 0, /* IP protocol 50 */
    DP_ENCAPSULATION_UDP = 1, /* RFC 3948 */
};

enum dp_df { /* the outer IPv4 don't-fragment bit (RFC 4301 §8.1) */
    DP_DF_COPY = 0,
    DP_DF_SET = 1,
    DP_DF_CLEAR = 2,
};

enum dp_dscp { /* the outer DSCP (RFC 2983) */
    DP_DSCP_COPY = 0,
    DP_DSCP_ZERO = 1,
    DP_DSCP_VALUE = 2, /* dp_path.dscp_value */
};

enum dp_outer {                  /* further choices about the outer header, a mask */
    DP_OUTER_HOP_LIMIT_COPY = 1, /* TTL or hop limit of the inner packet (RFC 2983 calls such a tunnel uniform) */
    DP_OUTER_FLOW_LABEL = 2,     /* IPv6: a flow label for each inner flow (RFC 6438 §3); else zero */
    DP_OUTER_NO_ECN = 4, /* not ECN-capable, for a peer that does not merge the marks (RFC 6040 §4.1, compatibility mode) */
};

/* Where an outbound SA's packets go. */
struct dp_path {
    struct dp_addr local;
    struct dp_addr remote;
    uint8_t encapsulation; /* enum dp_encapsulation */
    uint8_t df;            /* enum dp_df */
    uint8_t dscp;          /* enum dp_dscp */
    uint8_t dscp_value;    /* under DP_DSCP_VALUE: 0..63 */
    uint16_t link;         /* index that dp_link_attach or dp_mem_link_attach gave */
    uint8_t hop_limit;     /* outer TTL or hop limit, 1..255; 0: the host's own */
    uint8_t outer;         /* enum dp_outer */
};

/* A traffic selector pair (RFC 4301 §4.4.1.1, RFC 7296 §3.13), all bounds inclusive. 256 as protocol and 65536 as port stand for
 * OPAQUE, so "any" is 0..256 and 0..65536. Ports 65536..65536 hold later fragments (RFC 4301 §7.2) and protocols without
 * ports, and no whole packet whose ports are cut off. ICMP type and code lie in both ports as type << 8 | code. */
struct dp_selector {
    uint8_t family; /* 4 or 6 */
    uint8_t pad;
    uint16_t protocol_low, protocol_high;
    uint16_t pad2;
    uint32_t local_port_low, local_port_high;
    uint32_t remote_port_low, remote_port_high;
    uint8_t local_low[16], local_high[16];
    uint8_t remote_low[16], remote_high[16];
};

/* ---- life of a data plane --------------------------------------------------------------------------------------------------- */

enum dp_provider { /* of the AEADs; see dp_provider_name */
    DP_PROVIDER_AUTO = 0,
    DP_PROVIDER_OPENSSL = 1,
    DP_PROVIDER_IPSEC_MB = 2,
};

struct dp_config {
    uint32_t sa_slots;       /* inbound SAs at the most: a power of two, 256..2^20. The low bits of an SPI are its slot. */
    uint32_t tunnels;        /* tunnels at the most, 1..2^20 */
    uint32_t interfaces;     /* TUN interfaces at the most, 1..4096 */
    uint32_t workers;        /* 1..64 */
    uint32_t provider;       /* enum dp_provider; forcing one that cannot be had is -ENOTSUP */
    uint32_t stranger_rate;  /* punts a second and source that strangers may cause, ≥ 1 */
    uint32_t stranger_burst; /* and at once, ≥ 1 */
    uint32_t hold_octets;    /* of packets that wait for an SA, for one tunnel, 0..2^20; 0: none wait, each is dropped */
    /* Of IKE, a second; 0: no limit. Each at port 500 and at port 4500. A network is as for stranger_rate. */
    uint32_t begin_rate;                   /* requests for a new IKE SA without a good COOKIE that are passed on, in all */
    uint32_t other_rate;                   /* messages of no IKE SA and ESP of unknown SPIs that are passed on, in all */
    uint32_t ikev1_rate, ikev1_burst;      /* messages 1 of main mode that are passed on of one peer with IKEv1, besides these */
    uint32_t ikev1_rate_in_all;            /* and of all such */
    uint32_t isakmp_rate;                  /* messages of authenticated ISAKMP SAs, besides; of each by repeat_rate */
    uint32_t proven_rate, proven_burst;    /* messages of one network that show that their sender receives there */
    uint32_t proven_rate_in_all;           /* and of all */
    uint32_t repeat_rate, repeat_burst;    /* authentic messages of one IKE SA that are not new */
    uint32_t cookie_rate, cookie_nat_rate; /* COOKIE answers from here, at port 500 and at port 4500; 0: none */
    uint32_t cookie_first_rate;            /* of these, to networks that did not ask before; the others are for those that did */
    uint32_t cookie_seen_seconds;          /* how long it is remembered at least who asked, ≥ 1 where there are any answers */
    uint32_t cookie_seconds;               /* the life of a cookie's key; the one before is still good. 0: no cookies */
    /* For rigs: whatever is random here follows from `seed`, CBC's IVs too, and no real device may be attached (-EPERM). 0: the
     * system's randomness. */
    uint8_t seeded;
    uint64_t seed;
};

/* Loads the providers (each passes its known-answer tests or the call fails with -EBADMSG). -EINVAL: a value out of range;
 * -ENOMEM. The data plane is returned through `out`. */
int dp_create(const struct dp_config *config, struct dp **out);
/* Stops the workers, wipes every key, closes what was attached. */
void dp_destroy(struct dp *dp);

/* Makes the process undumpable for good: no core file, no ptrace or /proc/PID/mem but by root. 0 or -errno. */
int dp_process_protect(void);
/* Keeps all memory of the process out of swap, and what it maps later (mlockall(2)): for whoever may lock without limit. Under a
 * limit (RLIMIT_MEMLOCK) whatever is mapped beyond it from then on is refused, be it a thread's stack. 0 or -errno: Linux
 * before 4.4, or the limit is passed already. */
int dp_process_lock(void);
/* Whether this process has done so. */
int dp_process_is_locked(void);

/* The provider that makes AES-GCM SAs ("intel-ipsec-mb", "openssl"). */
const char *dp_provider_name(const struct dp *dp);
/* Why intel-ipsec-mb is not used; empty when it is. */
const char *dp_provider_reason(const struct dp *dp);
/* What the libraries say of their versions ("OpenSSL 3.0.19 27 Jan 2026", "1.3.0"); the second is empty in a build without it. */
const char *dp_openssl_version(void);
const char *dp_ipsec_mb_version(void);

struct dp_arena_info {
    uint64_t octets;  /* mapped for keys */
    uint64_t in_use;  /* octets holding keys */
    uint8_t locked;   /* all of it is locked in memory */
    uint8_t undumped; /* left out of core dumps */
    uint8_t wiped_on_fork;
};
void dp_arena_read(const struct dp *dp, struct dp_arena_info *info);

/* ---- security associations -------------------------------------------------------------------------------------------------- */

enum dp_direction {
    DP_INBOUND = 0,
    DP_OUTBOUND = 1
};

/* IANA "Transform Type 1" and "Transform Type 3" numbers. */
enum dp_encr {
    DP_ENCR_AES_CBC = 12,
    DP_ENCR_AES_GCM_16 = 20,
    DP_ENCR_CHACHA20_POLY1305 = 28
};
enum dp_integ {
    DP_INTEG_NONE = 0,
    DP_INTEG_HMAC_SHA1_96 = 2,
    DP_INTEG_HMAC_SHA2_256_128 = 12,
    DP_INTEG_HMAC_SHA2_384_192 = 13,
    DP_INTEG_HMAC_SHA2_512_256 = 14,
};

/* Names one SA for as long as it lives; never given again. 0: none. */
typedef uint64_t dp_sa_id;

struct dp_sa_params {
    uint32_t spi;           /* 256.. ; inbound: its low bits name the slot */
    uint32_t tunnel;        /* index below dp_config.tunnels */
    uint32_t interface;     /* inbound: TUN interface that gets the packets */
    uint32_t worker;        /* whose loops own it */
    uint16_t encr;          /* enum dp_encr */
    uint16_t integ;         /* enum dp_integ; NONE with an AEAD */
    uint16_t key_octets;    /* of the encryption key without salt: 16, 24, 32 */
    uint8_t esn;            /* extended sequence numbers (RFC 4303 §2.2.1) */
    uint8_t fragments_also; /* where selectors ask for ports, later fragments follow their first: both sides agreed on
                             * N(NON_FIRST_FRAGMENTS_ALSO) (RFC 4301 §7.3). 0: they are dropped, and what does not fit is not
                             * fragmented before it is sealed */
    uint32_t replay_window; /* inbound, packets: a power of two, 64..8192 */
    uint32_t tfc_octets;    /* outbound: inner packets are padded to this size at least; 0: no TFC padding (RFC 4303 §2.7) */
    uint64_t sequence;      /* outbound: the last sequence number already used, 0 for a new key */
    uint64_t iv;            /* outbound AEAD: the first IV. 0 for a negotiated key, random for a manual one */
    uint64_t soft_octets, hard_octets;   /* of inner packets; 0: no limit */
    uint64_t soft_packets, hard_packets; /* 0: no limit */
    struct dp_path path;                 /* outbound; inbound: `remote` is the peer as far as it is known, family 0: not yet */
};

/* A free inbound SPI: the slot in its low bits, the others from `random` (RFC 4303 §2.1). -ENOSPC: every slot is taken. The slot is
 * kept for dp_sa_install until dp_spi_release. */
int dp_spi_allocate(struct dp *dp, uint32_t random, uint32_t *spi);
void dp_spi_release(struct dp *dp, uint32_t spi);
/* The same with a slot whose datagrams the sockets are to steer to `worker`, see dp_spi_receiver. -EINVAL, -ENOSPC: of its share.
 */
int dp_spi_allocate_for(struct dp *dp, uint32_t worker, uint32_t random, uint32_t *spi);
/* A request that names this allocated SPI is about to be sent to `peer` (its UDP port; IP protocol 50 is taken from any): what
 * comes from there on the SPI before dp_sa_install is kept, each packet for 2 s, 1 MiB of an SPI, 32 MiB in all, and goes first
 * then (RFC 7296 §2.8). dp_spi_release wipes it (reserved_dropped). Again with another `peer`: it moved. -EINVAL: not allocated, or
 * no address; -ENOSPC: 4096 are under way. */
int dp_spi_expect(struct dp *dp, uint32_t spi, const struct dp_addr *peer);
/* The worker whose sockets are to receive an SPI: its slot modulo the workers. An SA's owner may be another one. */
uint32_t dp_spi_receiver(const struct dp *dp, uint32_t spi);

/* Installs one SA and returns its name through `id`. `keymat` is the encryption key, the salt (AEAD, 4 octets) and the integrity
 * key, in this order (RFC 7296 §2.17, RFC 4106 §8.1), exactly as long as the suite asks. Selectors (1..256 of them) bound what an
 * inbound SA may carry. An inbound SA receives at once; an outbound one sends nothing before dp_child_switch.
 * -EINVAL: a value out of range; -ENOTSUP: no provider for the suite; -EEXIST: the slot that the SPI names is taken; -ENOSPC;
 * -ENOMEM (also when the key arena cannot grow). The caller wipes its own copy of the key. */
int dp_sa_install(struct dp *dp, unsigned direction, const struct dp_sa_params *params, const uint8_t *keymat, size_t keymat_octets,
                  const struct dp_selector *selectors, size_t selector_count, dp_sa_id *id);

/* Takes the SA out of use at once. Its key is wiped and its memory freed by dp_reclaim, when no loop can hold it any more.
 * -ENOENT: no such SA (a second removal too). */
int dp_sa_remove(struct dp *dp, dp_sa_id id);

/* New path for an outbound SA (a peer that moved, RFC 7296 §2.23). -ENOENT. */
int dp_sa_set_path(struct dp *dp, dp_sa_id id, const struct dp_path *path);

/* For rigs: an outbound SA goes on as if so many packets more had been sent. -EPERM: the engine has no seed; -ENOENT; -ERANGE: it
 * has not so many sequence numbers left. */
int dp_sa_skip(struct dp *dp, dp_sa_id id, uint64_t packets);

/* ---- SAs that move to another data plane ------------------------------------------------------------------------------------ */

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

enum dp_sa_flag { /* sticky conditions; each is also punted once */
    DP_SA_SOFT_LIMIT = 1,
    DP_SA_HARD_LIMIT = 2,
    DP_SA_SEQUENCE_SOFT = 4, /* three quarters of the sequence numbers are used */
    DP_SA_SEQUENCE_EXHAUSTED = 8,
    DP_SA_PEER_MOVED = 16, /* inbound: authenticated ESP came from another outer address; see dp_sa_info.peer */
};

struct dp_sa_info {
    dp_sa_id id;
    uint32_t spi, tunnel;
    uint8_t direction, esn;
    uint16_t last_drop;            /* enum dp_drop: why it dropped the last packet that it did; DP_OK: none */
    uint32_t flags;                /* enum dp_sa_flag */
    uint64_t packets, octets;      /* inner */
    uint64_t sequence;             /* outbound: last used; inbound: highest received */
    uint64_t first_use, last_use;  /* 0: never */
    uint64_t recent;               /* outbound: sequence numbers above it were used within the last 20 s before last_use */
    struct dp_addr peer;           /* inbound: outer source of the newest authentic packet; before the first, as installed */
    uint64_t drops[DP_DROP_COUNT]; /* by reason, those that an SA can know */
};
int dp_sa_read(const struct dp *dp, dp_sa_id id, struct dp_sa_info *info);

struct dp_sa_condition {
    dp_sa_id id;
    uint32_t tunnel, spi, flags, pad;
};
/* SAs whose flags are not 0, up to `n` of them from `*cursor` (0 to begin) on; the count. `*cursor` is 0 again after the last. */
int dp_sa_scan(const struct dp *dp, struct dp_sa_condition *out, size_t n, uint64_t *cursor);
/* Clears flags that were acted on. -ENOENT. */
int dp_sa_clear(struct dp *dp, dp_sa_id id, uint32_t flags);

/* Every SA stops sealing and opening at once and for good (a cloned or restored virtual machine: nonces would repeat). */
void dp_sa_expire_all(struct dp *dp);

/* An IKE message (without the non-ESP marker, `octets` long) is about to be sent from `local` to `remote`: should it come out of a
 * TUN interface, it is ours and is dropped (own_outer), as ESP of our outbound SAs is. The last 4096 messages are known. */
void dp_ike_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote, const uint8_t *message, size_t octets);
/* So is a NAT keepalive, which a capture shows. */
void dp_keepalive_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote);

/* ---- IKE SAs: whose messages reach the control plane, whoever floods ----------------------------------------------------------
 */

/* One as the control plane has it, by its own SPI. */
struct dp_ike_sa_params {
    uint8_t own_spi[8], peer_spi[8]; /* peer_spi 0: not known yet */
    uint8_t initiator;               /* we are the original initiator */
    uint8_t nat_port;                /* the peer's messages come to port 4500, else to port 500 */
    uint8_t isakmp;                  /* of IKEv1, and the peer is authenticated: its messages are known by their cookies alone */
    uint16_t encr, integ, key_octets;
};
/* An IKE SA is there from now on, or as it is now. `keymat`: what the peer's messages are protected with: encryption key, salt
 * (AEAD), integrity key; `octets` 0: the peer has not shown who it is. Where a key is given, messages whose ICV does not hold go no
 * further (ike_icv), and no count of anything keeps one back that is authentic and new; the caller wipes its own copy. -ENOSPC
 * beyond 65,536; -ENOTSUP: no provider for the suite; -EINVAL: another length of key; -ENOMEM. */
int dp_ike_sa_set(struct dp *dp, const struct dp_ike_sa_params *params, const uint8_t *keymat, size_t octets);
/* -ENOENT. */
int dp_ike_sa_remove(struct dp *dp, const uint8_t own_spi[8]);

/* The secret (32 octets) that cookies follow from; those of an earlier one are good no more. -EINVAL: no cookie_seconds. */
int dp_ike_cookie_secret(struct dp *dp, const uint8_t *secret, size_t octets);

struct dp_range {
    uint8_t family; /* 4 or 6 */
    uint8_t pad[7];
    uint8_t low[16], high[16]; /* inclusive; IPv4 in the first four, the others zero */
};
/* Where no COOKIE answer goes: ranges in order (IPv4 first) that do not meet. -EINVAL, -ENOMEM. */
int dp_ike_quiet_set(struct dp *dp, const struct dp_range *ranges, size_t count);

/* A peer that speaks IKEv1 is expected at an address, whatever its port: ikev1_rate is its own. -ENOSPC beyond 65,536, -ENOMEM. */
int dp_ike_peer_add(struct dp *dp, const struct dp_addr *address);
/* -ENOENT. */
int dp_ike_peer_remove(struct dp *dp, const struct dp_addr *address);

/* The sockets of port 500, one for each local address: read by a thread of their own, which writes what the control plane is to see
 * into a channel, as records of kind IKE with the socket's number as `link`. The descriptor is duplicated. The number, -errno,
 * -ENOSPC beyond 1024. */
int dp_ike_port_add(struct dp *dp, int fd, const struct dp_addr *local);
/* -ENOENT. */
int dp_ike_port_remove(struct dp *dp, uint32_t number);
/* The channel's non-blocking descriptor, as dp_punt_fd. */
int dp_ike_port_fd(const struct dp *dp);
/* Starts the thread and ends it. -EALREADY, -errno. */
int dp_ike_port_start(struct dp *dp);
void dp_ike_port_stop(struct dp *dp);
/* What the thread repeats, for rigs: one look at each socket. Datagrams that were read. */
int dp_ike_port_step(struct dp *dp, uint64_t now);

/* ---- CHILD_SAs: which outbound SA a tunnel's packets take ------------------------------------------------------------------- */

/* A CHILD of `tunnel` with its negotiated selectors (1..256) and no outbound SA yet. Packets take the first CHILD added whose
 * selectors hold them. CHILDren with equal lists share their flows, where their SAs are of several workers (RFC 9611): so a set of
 * selectors is to come in one order. Returns its number through `child`. -EINVAL, -ENOMEM, -ENOSPC. */
int dp_child_add(struct dp *dp, uint32_t tunnel, const struct dp_selector *selectors, size_t selector_count, uint32_t *child);
/* Points the CHILD at an outbound SA (0: none), one atomic store. -ENOENT, -EINVAL: not an outbound SA of this tunnel. */
int dp_child_switch(struct dp *dp, uint32_t tunnel, uint32_t child, dp_sa_id outbound);
int dp_child_remove(struct dp *dp, uint32_t tunnel, uint32_t child);
/* How a tunnel treats inner packets for their size and DSCP. All zero: it does not look at them. */
struct dp_tunnel_settings {
    uint16_t mtu;           /* octets of the largest inner packet; 0: no bound. IPv6 packets up to 1280 octets pass in any case, and
                             * are fragmented outside when they are longer than this (RFC 8200 §5) */
    uint16_t mss4, mss6;    /* the largest TCP MSS that a SYN leaves with, in either direction; 0: untouched */
    uint8_t fragment_after; /* a longer packet that may be fragmented: 0: is before it is sealed; 1: its outer packet is */
    uint8_t dscp_in;        /* the inner DSCP of what comes in: 0: is kept; 1: is that of the outer packet (RFC 2983) */
};
/* -EINVAL: no such tunnel. */
int dp_tunnel_set(struct dp *dp, uint32_t tunnel, const struct dp_tunnel_settings *settings);

/* What a tunnel has carried, by all SAs that it ever had: they come and go, and this goes on. */
struct dp_tunnel_traffic {
    uint64_t packets_in, octets_in, packets_out, octets_out; /* inner */
    uint64_t asked_in, asked_out;     /* of these: echo requests, DNS queries, TCP: first segments, data sent again */
    uint64_t last_in, last_out;       /* when the last authentic packet came, and the last one was sealed; 0: never */
    uint64_t goes_on_in, goes_on_out; /* 1: a TCP segment acknowledged what its sender had received */
};
/* `ids`: the SAs that the tunnel has now; `drops`: DP_DROP_COUNT of them, by reason, those that an SA can know. -EINVAL. */
int dp_tunnel_read(const struct dp *dp, uint32_t tunnel, const dp_sa_id *ids, size_t n, struct dp_tunnel_traffic *traffic,
                   uint64_t *drops);
/* Goes on from what SAs that are gone had carried elsewhere: what dp_tunnel_read says without `ids`. It is added. -EINVAL, -ENOMEM.
 */
int dp_tunnel_import(struct dp *dp, uint32_t tunnel, const struct dp_tunnel_traffic *traffic, const uint64_t *drops);
/* Begins with nothing, and has not asked for an SA: the number is another tunnel's from now on. -EINVAL. */
int dp_tunnel_forget(struct dp *dp, uint32_t tunnel);

/* Packets that want an answer went one way since the last one came the other way, as far as looks show that are a second apart. */
struct dp_unanswered {
    uint32_t tunnel;
    uint8_t direction; /* enum dp_direction of what is unanswered */
    uint8_t goes_on;   /* dp_tunnel_traffic.goes_on_* of this direction */
    uint8_t pad[2];
    uint64_t asked, packets; /* since then */
    uint64_t last;           /* when that was; 0: never */
};
/* The tunnels that have SAs in both directions and of which that is so, up to `n` (≥ 2) answers from `*cursor` (0 to begin, which
 * looks anew) on; the count. `*cursor` is 0 again after the last. */
int dp_unanswered_scan(struct dp *dp, struct dp_unanswered *out, size_t n, uint32_t *cursor);

/* Sticky: a packet of this tunnel found no SA since the last call (see DP_PUNT_ACQUIRE). */
int dp_tunnel_take_acquire(struct dp *dp, uint32_t tunnel);

/* Frees what was removed and no loop holds any more, wiping keys. The number of things still waiting. */
int dp_reclaim(struct dp *dp);

/* 1: every loop has let go of all that it held since the last call that said so, or never held anything; a loop that waits for
 * packets holds nothing. 0: one still does. From the control thread. */
int dp_loops_pass(struct dp *dp);

/* ---- policy ----------------------------------------------------------------------------------------------------------------- */

enum dp_action {
    DP_DISCARD = 0,
    DP_PROTECT = 1,
    DP_BYPASS = 2, /* not for a TUN interface: what came into one all the same is dropped, and counted as policy_bypass */
};

struct dp_rule {
    struct dp_selector selector;
    uint32_t interface; /* TUN interface the rule belongs to, below 4096 */
    uint32_t tunnel;    /* under PROTECT */
    uint8_t action;     /* enum dp_action */
    uint8_t pad[7];
};

struct dp_policy; /* an immutable snapshot of ordered rules for all interfaces */

/* Compiles `count` rules (0..2^20): the first that holds a packet decides; none: DISCARD, counted as policy_none. -EINVAL with the
 * index of the offending rule in `*bad`; -ENOMEM. */
int dp_policy_build(const struct dp_rule *rules, size_t count, struct dp_policy **out, size_t *bad);
void dp_policy_free(struct dp_policy *policy);

/* A packet's flow, as dp_selector describes it: addresses in network order. */
struct dp_flow_key {
    uint8_t family;
    uint8_t pad;
    uint16_t protocol;
    uint32_t local_port, remote_port;
    uint8_t local[16], remote[16];
};
/* The index of the rule that decides, or -1. `n` flows at once; `linear` scans rule by rule (the oracle of the tests). */
void dp_policy_lookup(const struct dp_policy *policy, uint32_t interface, const struct dp_flow_key *keys, int32_t *rules, size_t n,
                      int linear);
/* Octets that the snapshot takes. */
size_t dp_policy_octets(const struct dp_policy *policy);

/* Publishes a snapshot, which the data plane owns from now on, and retires the one before. */
void dp_policy_install(struct dp *dp, struct dp_policy *policy);

/* ---- interfaces and links --------------------------------------------------------------------------------------------------- */

/* Gives a TUN device (IFF_TUN, IFF_NO_PI) to `worker`. The descriptor is duplicated (close-on-exec) and made non-blocking. -EBUSY:
 * this worker has that interface already. */
int dp_tun_attach(struct dp *dp, uint32_t worker, uint32_t interface, int fd);
int dp_tun_detach(struct dp *dp, uint32_t worker, uint32_t interface);

/* A link: the outer sockets of one local address and encapsulation. `fd_receive` gets datagrams and sends those whose DF bit is
 * `receive_df` (enum dp_df, not COPY); `fd_other` sends the others (-1: none, everything leaves by fd_receive). Descriptors are
 * duplicated. Returns the link's index. -ENOSPC after 1024 links. */
int dp_link_attach(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, int fd_receive,
                   int receive_df, int fd_other);
int dp_link_detach(struct dp *dp, uint32_t worker, uint32_t link);

/* The same with a descriptor that another process has attached, and reads on perhaps: nothing about the device is changed. `on` (a
 * mask of enum dp_offload) is what is on for it; the kernel is asked where it can tell. The descriptor's own flags are shared: it
 * is non-blocking already. -EINVAL: offloads of a device that cannot have them. */
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

/* What the kernel can do for a device in bulk. Everything works without it, packet by packet. */
enum dp_offload {
    DP_OFFLOAD_TUN_CSUM = 1 << 0,       /* a packet's upper checksum may be left to us, and by us to the kernel */
    DP_OFFLOAD_TUN_TSO4 = 1 << 1,       /* TCP super-packets over IPv4 */
    DP_OFFLOAD_TUN_TSO6 = 1 << 2,       /* and IPv6 */
    DP_OFFLOAD_TUN_USO4 = 1 << 3,       /* UDP super-packets over IPv4 (Linux 6.2) */
    DP_OFFLOAD_TUN_USO6 = 1 << 4,       /* and IPv6 */
    DP_OFFLOAD_UDP_SEGMENT = 1 << 5,    /* one send of many equal datagrams to a peer */
    DP_OFFLOAD_UDP_GRO = 1 << 6,        /* one receive of many equal datagrams from a peer */
    DP_OFFLOAD_TUN_UDP_TUNNEL = 1 << 7, /* super-packets of TCP or UDP in a UDP tunnel: VXLAN, Geneve (Linux 6.17) */
    DP_OFFLOAD_ALL = 255,
};
/* What is on for a TUN interface (is_link 0) or a link: each is probed when a device is attached, and on if it can be; in-memory
 * doubles begin with none. UDP_SEGMENT goes off by itself when the kernel refuses what must fit (DP_PUNT_OFFLOAD). A mask of enum
 * dp_offload, or -ENOENT. */
int dp_offloads_read(const struct dp *dp, uint32_t worker, int is_link, uint32_t number);
/* What the kernel said it does and then did not, which stays off: a mask of enum dp_offload, or -ENOENT. */
int dp_offloads_given_up(const struct dp *dp, uint32_t worker, int is_link, uint32_t number);
/* Turns on what of `wanted` the device can do, and the rest off. What is on now, or -ENOENT. */
int dp_offloads_set(struct dp *dp, uint32_t worker, int is_link, uint32_t number, uint32_t wanted);

/* In-memory doubles of both, for rigs: bounded queues of packets instead of descriptors. -ENOBUFS when full; `dp_mem_*_pull`
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

/* ---- the two steps, and the threads that only repeat them ------------------------------------------------------------------- */

/* Moves up to `budget` packets from the TUN interfaces to the links (outbound), or back (inbound); the number moved or dropped,
 * which exceeds the budget by what a last burst of many packets holds. */
int dp_outbound_step(struct dp *dp, uint32_t worker, uint32_t budget, uint64_t now);
int dp_inbound_step(struct dp *dp, uint32_t worker, uint32_t budget, uint64_t now);

/* Starts the two threads of a worker (clock: CLOCK_BOOTTIME), of which one runs both steps while that is enough; stops them within
 * one step. -EALREADY, -errno of pthread_create. */
int dp_worker_start(struct dp *dp, uint32_t worker);
/* Binds each of the two threads to a CPU (-1: to none) when it is started; then -EINVAL if there is no such CPU for us. */
int dp_worker_pin(struct dp *dp, uint32_t worker, int outbound_cpu, int inbound_cpu);
int dp_worker_stop(struct dp *dp, uint32_t worker);

/* ---- what the loops report -------------------------------------------------------------------------------------------------- */

enum dp_channel {
    DP_CHANNEL_STRANGER = 0, /* what anybody can cause: rate-limited for each source */
    DP_CHANNEL_TRUSTED = 1,  /* what only we and authenticated peers can cause */
};

enum dp_punt_kind {
    DP_PUNT_IKE = 1,         /* stranger: datagram with non-ESP marker on port 4500, the marker taken off */
    DP_PUNT_UNKNOWN_SPI = 2, /* stranger: first octets of an ESP packet */
    DP_PUNT_ACQUIRE = 16,    /* trusted: inner packet (first octets) that found no SA; `tunnel` */
    DP_PUNT_SA = 17,         /* trusted: an SA's sticky flag was raised; `sa`, `flags` */
    DP_PUNT_IO_ERROR = 18,   /* trusted: a device or socket failed; `interface` or `link`, `error` */
    DP_PUNT_OFFLOAD = 19,    /* trusted: an offload was given up; `interface` or `link`, `error`, `flags`: what is still on */
    DP_PUNT_TOO_BIG = 20,    /* trusted: the host took no datagram of this size; `link`, `local`, `remote`, `flags`: octets of it */
};

enum {
    DP_PUNT_INNER_MAX = 256 /* octets of a packet quoted by ACQUIRE and UNKNOWN_SPI */
};

struct dp_punt {
    uint16_t kind;   /* enum dp_punt_kind */
    uint16_t link;   /* of IKE, UNKNOWN_SPI, IO_ERROR; 65535: none */
    uint32_t tunnel; /* of ACQUIRE, SA */
    dp_sa_id sa;
    uint32_t spi;
    uint32_t flags;     /* enum dp_sa_flag */
    uint32_t interface; /* of ACQUIRE, IO_ERROR; 4294967295: none */
    int32_t error;      /* errno of IO_ERROR */
    uint64_t now;
    struct dp_addr local, remote; /* outer addresses */
    uint32_t octets;              /* of payload that follow this header in the same record */
    uint32_t pad;
};

/* The non-blocking SOCK_SEQPACKET descriptor to read punts from: one record a punt, header and payload. Owned by the data plane. */
int dp_punt_fd(const struct dp *dp, unsigned channel);

struct dp_counters {
    uint64_t drops[DP_DROP_COUNT];
    uint64_t packets_out, octets_out; /* inner */
    uint64_t packets_in, octets_in;
    uint64_t keepalives_in; /* RFC 3948 §2.3 */
    uint64_t ike_in;        /* datagrams with the non-ESP marker */
    uint64_t punts_limited, punts_lost;
    uint64_t handed_over;  /* packets that arrived at a worker and whose SA is another's; both directions */
    uint64_t taken_over;   /* the same at the other end: what the owners have taken */
    uint64_t cookies_sent; /* COOKIE answers from here (dp_config.cookie_rate) */
};
void dp_counters_read(const struct dp *dp, struct dp_counters *out);
/* Those of one worker. -EINVAL. */
int dp_worker_counters_read(const struct dp *dp, uint32_t worker, struct dp_counters *out);
/* The same, with worker 0 what belongs to none: together they are those of dp_counters_read. */
int dp_counters_export(const struct dp *dp, uint32_t worker, struct dp_counters *out);
/* A worker goes on from what one of another data plane counted: it is added. Before its threads run; -EBUSY, -EINVAL. */
int dp_counters_import(struct dp *dp, uint32_t worker, const struct dp_counters *counters);
/* Octets that a worker and its buffers for packets take, once traffic has touched all of them. -EINVAL. */
int64_t dp_worker_octets(const struct dp *dp, uint32_t worker);

enum {
    DP_EXAMPLES = 4 /* that each loop keeps of a reason: its last ones, each of another flow */
};

/* A packet that was dropped, as far as it shows itself. What is not opened, or was sealed already, has its outer addresses. */
struct dp_example {
    uint64_t now;
    uint8_t source[16], destination[16];    /* IPv4 in the first four */
    uint32_t source_port, destination_port; /* 65536: OPAQUE; ICMP: type << 8 | code in both */
    uint32_t interface, tunnel;             /* 4294967295: none, or not known */
    uint32_t spi;                           /* of ESP; 0: none */
    uint16_t protocol;                      /* 256: OPAQUE */
    uint8_t reason;
    uint8_t family;    /* 4, 6; 0: it shows no addresses */
    uint8_t direction; /* enum dp_direction */
    uint8_t outer;     /* the addresses are outer ones */
    uint8_t pad[6];
};
/* The examples of a reason that all loops keep, in no order: DP_EXAMPLES for each of a worker's two loops at the most. How many, or
 * -EINVAL: no such reason. */
int dp_examples_read(const struct dp *dp, unsigned reason, struct dp_example *out, size_t n);

/* ---- captures --------------------------------------------------------------------------------------------------------------- */

enum {
    DP_TAP_INNER = 1, /* packets as they come out of TUN interfaces, and as inbound SAs brought them */
    DP_TAP_OUTER = 2, /* datagrams of ESP and IKE, and NAT keepalives */
    DP_TAP_PEERS = 64,
    DP_TAP_RING_LEAST = 1 << 18,
};

struct dp_tap_config {
    uint32_t what;      /* DP_TAP_INNER | DP_TAP_OUTER */
    uint32_t snap;      /* octets kept of each packet; 0: all */
    uint32_t tunnel;    /* 4294967295: all, else this one with: */
    uint32_t interface; /* its TUN interface, for what was dropped before its tunnel was known */
    uint32_t peers;     /* how many addresses of its peer are given, for IKE; DP_TAP_PEERS at the most */
    uint32_t pad;
    uint64_t wall_offset; /* ns that the time of day is ahead of `now`, modulo 2^64 */
    uint64_t ring_octets; /* of each loop, a power of two: what waits to be read */
};
/* From now on what loops see is to be read. -EBUSY: a capture runs already; -EINVAL; -ENOMEM. */
int dp_tap_start(struct dp *dp, const struct dp_tap_config *config, const struct dp_addr *peers);
void dp_tap_stop(struct dp *dp);
/* The oldest blocks of a pcapng file, in the order of their time as far as all loops have written; how many octets, or -ENOENT: no
 * capture runs. `unnamed`: what comes next is of an interface that has no number in the file yet (0: the outer one; else the TUN
 * interface of one less), 4294967295: it is not. */
int dp_tap_read(struct dp *dp, uint8_t *out, size_t room, uint32_t *unnamed);
/* The number in the file of such an interface. -ENOENT. */
int dp_tap_name(struct dp *dp, uint32_t key, uint32_t id);
/* How many packets of such an interface were read, and how many found no room. -ENOENT. */
int dp_tap_counts(const struct dp *dp, uint32_t key, uint64_t *taken, uint64_t *missed);

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
