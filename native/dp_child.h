/* CHILD_SAs, which outbound SA a tunnel's packets take, and what is counted for a tunnel. */
#ifndef DP_DP_CHILD_H
#define DP_DP_CHILD_H

#include "dp_addresses.h"
#include "dp_sa.h"

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

#endif
