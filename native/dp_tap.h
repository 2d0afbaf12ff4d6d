/* Captures: packets of all interfaces and links, as they pass. */
#ifndef DP_DP_TAP_H
#define DP_DP_TAP_H

#include "dp_addresses.h"

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

#endif
