/* The two narrow burst interfaces: TUN devices and outer links, real or in memory.
 *
 * A burst is what one read or one send moves: one packet, or a super-packet of equal segments. Whoever receives fills a burst in,
 * whoever sends reads it; the loops only hand bursts on. */
#ifndef DP_IO_H
#define DP_IO_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "dp.h"

enum {
    DP_BURSTS = 64,               /* bursts a receive or send call moves at the most */
    DP_PACKET_ROOM = 65536 + 256, /* room for the largest burst and what an I/O writes before and behind it */
    DP_TUN_HEADROOM = 24,         /* octets before a packet for a TUN, which may overwrite them */
    DP_ESP_HEADROOM = 64, /* before a received datagram, which so begins on a cache line: what its ESP header leaves of it */
};

struct dp_burst {
    uint8_t *data;
    uint32_t octets;
    uint32_t packets;    /* how many this is, ≥ 1; 0: not yet known */
    uint16_t gso_size;   /* octets of each datagram, the last may be shorter; TUN: of a packet's payload. 0: one packet */
    uint8_t gso_type;    /* TUN: VIRTIO_NET_HDR_GSO_*, 0: none */
    bool needs_checksum; /* TUN: the upper checksum at checksum_start + checksum_offset is left to who gets the burst */
    uint16_t checksum_start, checksum_offset;
    uint16_t headers; /* to a TUN: octets before the payload of a super-packet */
    union {
        uint16_t lent_protocol; /* of a later fragment */
        uint16_t network;       /* of a super-packet in a UDP tunnel: octets before the IP header in it */
    };
    uint16_t lent_port[2]; /* ports as they lie in struct dp_flow: a first fragment shows them */
    struct iovec *piece;   /* to a TUN: `packets` parts, one behind the other; before the first lie DP_TUN_HEADROOM octets that the
                              device may overwrite (where the ESP header was). NULL: all at `data` */
    uint8_t tos;           /* outer TOS or traffic class, received or to send */
    uint8_t df;            /* outer DF to send: DP_DF_SET or DP_DF_CLEAR */
    uint8_t encapsulation;
    uint8_t hop_limit;    /* outer TTL or hop limit to send, 0: the host's own */
    bool handed;          /* by the worker that received it to the one that owns its SA */
    bool remembered;      /* from a TUN: a first fragment, which later ones may follow (fragment_follow.h) */
    bool lent;            /* from a TUN: a later fragment that follows its first, with `lent_protocol` and `lent_port` */
    bool tunnel_checksum; /* TUN: a super-packet in a UDP tunnel has the pseudo-header's sum for its outer UDP checksum */
    uint32_t flow_label;  /* outer IPv6 flow label to send */
    uint32_t interface;   /* TUN interface */
    uint32_t link;
    union {
        uint32_t ifindex; /* received: of the outer interface, 0: unknown */
        uint32_t tunnel;  /* to send: of the SA */
    };
    struct dp_addr local, remote;
    uint64_t now;
};

static_assert(sizeof(struct dp_burst) <= 120, "longer ones are cleared by slower instructions, once a packet");

/* Memory that bursts are received into or built in, one behind the other. */
struct dp_area {
    uint8_t *base;
    size_t octets, used;
};

struct dp_io;

/* Why a device is not read. */
enum dp_unread {
    DP_UNREAD_OTHER = 1,  /* another worker reads it */
    DP_UNREAD_PAUSED = 2, /* dp_receive_pause */
};

struct dp_io_ops {
    /* Receives 0..n bursts into `area` (at least one fits); 0: nothing is ready; -errno: the device failed. */
    int (*receive)(struct dp_io *io, struct dp_area *area, struct dp_burst *b, unsigned n);
    /* Sends from the front of b; the number taken (≥ 1), or -errno of b[0]. */
    int (*send)(struct dp_io *io, const struct dp_burst *b, unsigned n);
    /* Turns on what of `wanted` (enum dp_offload) the device can do and the rest off; what is on. */
    uint32_t (*offload)(struct dp_io *io, uint32_t wanted);
    void (*close)(struct dp_io *io);
};

struct dp_io {
    const struct dp_io_ops *ops;
    uint32_t number; /* interface or link */
    uint8_t encapsulation;
    struct dp_addr local;      /* of a link */
    int poll_fd;               /* -1: in memory */
    _Atomic uint32_t offloads; /* enum dp_offload: what is on */
    _Atomic uint32_t given_up; /* enum dp_offload: what this kernel did not do after all; not turned on again */
    _Atomic int offload_error; /* errno for which one was given up; 0: none since it was reported */
    _Atomic bool ready;        /* the receiving loop should look at it */
    _Atomic bool failed;       /* reported; not read again */
    _Atomic uint8_t unread;    /* enum dp_unread; 0: it is read */
    _Atomic uint64_t reported; /* when an error was last reported, by either loop */
    _Atomic uint64_t refused;  /* when a datagram that was too big was last reported */
    void *scratch;             /* freed with it, after close */
};

static inline void dp_io_close(struct dp_io *io) {
    io->ops->close(io);
    free(io->scratch);
    free(io);
}

static inline int dp_io_offload(struct dp_io *io, uint32_t wanted) {
    uint32_t on = io->ops->offload(io, wanted & ~atomic_load_explicit(&io->given_up, memory_order_relaxed));
    atomic_store_explicit(&io->offloads, on, memory_order_relaxed);
    return (int)on;
}

/* Gives up an offload that the kernel does not do after all, for good; to be reported by whoever sent or received. */
static inline void dp_io_give_up(struct dp_io *io, uint32_t offload, int error) {
    atomic_fetch_or_explicit(&io->given_up, offload, memory_order_relaxed);
    atomic_fetch_and_explicit(&io->offloads, ~offload, memory_order_relaxed);
    atomic_store_explicit(&io->offload_error, error, memory_order_relaxed);
}

/* `octets` of the area, aligned to 64; NULL when they do not fit. */
static inline uint8_t *dp_area_take(struct dp_area *area, size_t octets) {
    size_t take = (octets + 63) & ~(size_t)63;
    if (area->octets - area->used < take)
        return NULL;
    uint8_t *p = area->base + area->used;
    area->used += take;
    return p;
}

#endif
