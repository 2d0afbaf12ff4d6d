/* The data plane's own structures: what dp.h only names. */
#ifndef DP_ENGINE_H
#define DP_ENGINE_H

#include <pthread.h>

#include "coalesce.h"
#include "epoch.h"
#include "ike_peers.h"
#include "ike_port.h"
#include "ike_sas.h"
#include "io.h"
#include "own_outer.h"
#include "random.h"
#include "sa.h"
#include "spread.h"
#include "vteps.h"

/* What policy says of a flow. A loop keeps the last one, since the packets of a burst are mostly of one flow. */
struct dp_verdict {
    const struct dp_policy *policy; /* NULL: none was asked yet in this step; no snapshot is freed while a step runs */
    uint32_t interface;
    enum dp_drop verdict;
    struct dp_flow flow;
};

/* One direction of one worker. Only the thread that runs its step writes here. */
struct dp_loop {
    struct dp_epoch_reader epoch;
    struct dp *dp;
    uint32_t worker;
    uint8_t direction; /* enum dp_direction */

    struct dp_area received; /* what the receive call filled */
    struct dp_area built;    /* what is about to be sent */
    struct dp_burst in[DP_BURSTS], out[DP_BURSTS];
    unsigned out_count;
    struct dp_io *out_io;           /* all of `out` goes there */
    bool run_open;                  /* outbound: the last of `out` may take more datagrams */
    const struct dp_path *run_path; /* which go where it goes */
    bool more;                      /* after a step: a device was not read to its end */
    uint32_t turn;                  /* where the next step begins among the devices */

    _Atomic uint64_t drops[DP_DROP_COUNT];
    _Atomic uint64_t packets, octets, keepalives, ike, punts_limited, punts_lost, handed_over, taken_over;
    struct dp_ring **from;             /* by worker: what it hands over to this loop; NULL with one worker */
    uint64_t to_wake;                  /* a bit a worker: it was handed something */
    _Atomic bool asleep;               /* whoever hands something over has to wake this loop */
    struct dp_punt_limiter *limiter;   /* outbound: of ICMP messages to the senders of packets */
    struct dp_ike_gate gate;           /* inbound: what strangers may cause */
    struct dp_verdict last_verdict;    /* inbound */
    struct dp_hold *hold;              /* outbound */
    struct dp_examples *examples;      /* of what it dropped */
    uint32_t switches;                 /* outbound: dp.switches when `hold` was last released */
    struct dp_own_fragments came_back; /* outbound */
    struct dp_spread_set *flows;       /* outbound, with several workers: whose a flow's packets are */
    _Atomic uint32_t early_ready;      /* inbound: SPIs whose packets came before their SA, and go first (early.h) */
    bool early_taking;                 /* inbound: they are being taken */
    union {
        uint8_t padded[DP_TFC_MAX + DP_ESP_TAILROOM]; /* outbound: where a packet gets its TFC padding */
        struct dp_coalescer coalescer;                /* inbound: what is about to be sent */
    };

    pthread_t thread;
    uint64_t spin; /* ns: how long the thread looks for more before sleeping */
    uint64_t busy; /* ns spent in steps since somebody last asked */
    bool due;      /* there is something for the next step */
    int cpu;       /* that the thread is bound to; -1: none */
    bool running;
    _Atomic bool stop;
    int wake_fd, epoll_fd;
};

/* What decides whether a worker's loops share a thread (sharing.h); the limits are there to be changed by tests. */
struct dp_sharing {
    uint64_t part_window, join_window; /* ns */
    uint32_t part_busy, part_share;    /* per mille */
    uint64_t part_looked, join_looked; /* when the time spent was last looked at */
    _Atomic uint32_t outbound_share;   /* per mille, then */
};

struct dp_worker {
    struct dp_loop outbound, inbound;
    _Atomic(struct dp_io_set *) tuns, links; /* by number, with holes */
    pthread_mutex_t lock;                    /* of `apart`, and of which epoll set each device is in */
    pthread_cond_t parted;                   /* signalled when the inbound thread gets its loop */
    _Atomic bool apart;                      /* the inbound loop is run by its own thread */
    struct dp_sharing sharing;
};

struct dp_fragment_states;
struct dp_early;
struct dp_traffic;
struct dp_tap;

struct dp {
    struct dp_config config;
    struct dp_random random; /* control thread only */
    struct dp_epoch epoch;
    struct dp_arena *arena;
    struct dp_sa_table sas;
    struct dp_own_outer own_outer;
    struct dp_ike_sas ike_sas;
    struct dp_ike_peers ike_peers;
    struct dp_ike_port ike_port;
    _Atomic(struct dp_cookie_secret *) cookie_secret; /* NULL: none yet */
    uint64_t cookie_serial;                           /* how often it was set */
    _Atomic(struct dp_ike_quiet *) ike_quiet;         /* NULL: nowhere */
    struct dp_early *early;
    struct dp_tunnel *tunnel;
    struct dp_traffic *traffic; /* by tunnel; control thread only */
    uint32_t tunnels_used;      /* no tunnel from here on ever had an SA */
    uint32_t next_child;
    _Atomic(struct dp_policy *) policy;
    _Atomic(struct dp_tap *) tap;            /* NULL: nobody captures */
    _Atomic uint32_t generation;             /* even; SAs of another one are dead */
    _Atomic bool paused;                     /* no device is read, and nothing that waits is let go of */
    uint64_t paused_at;                      /* dp_epoch_mark since when */
    struct dp_fragment_states *fragments[2]; /* by direction */
    struct dp_vteps vteps;
    uint64_t flow_seed;        /* so that a flow label does not reveal its flow */
    _Atomic uint32_t switches; /* of CHILDren, counted twice: odd meanwhile. What waits for an SA is decided again */
    int punt_fd[2][2];         /* by channel: the loops' end, Python's end */
    struct dp_worker *worker;
};

/* Counts packets as dropped; those of an SA are counted in it too. */
static inline void dp_drop_packets(struct dp_loop *loop, enum dp_drop reason, uint32_t n) {
    dp_add(&loop->drops[reason], n);
}

static inline void dp_drop(struct dp_loop *loop, enum dp_drop reason) {
    dp_drop_packets(loop, reason, 1);
}

#endif
