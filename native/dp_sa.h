/* Security associations: made, changed, read, removed. */
#ifndef DP_DP_SA_H
#define DP_DP_SA_H

#include "dp_addresses.h"
#include "drops.h"

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

#endif
