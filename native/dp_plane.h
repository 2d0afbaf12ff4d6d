/* A data plane: made, described, ended. */
#ifndef DP_DP_PLANE_H
#define DP_DP_PLANE_H

#include "dp_common.h"

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

/* Frees what was removed and no loop holds any more, wiping keys. The number of things still waiting. */
int dp_reclaim(struct dp *dp);

/* 1: every loop has let go of all that it held since the last call that said so, or never held anything; a loop that waits for
 * packets holds nothing. 0: one still does. From the control thread. */
int dp_loops_pass(struct dp *dp);

#endif
