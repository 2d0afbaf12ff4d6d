/* What the SAs of a tunnel have carried, those that are gone included, and what of it went one way alone. */
#ifndef DP_TRAFFIC_H
#define DP_TRAFFIC_H

#include "inner.h"
#include "offload.h"
#include "sa.h"

/* Of one tunnel; by the control thread alone. */
struct dp_traffic {
    struct dp_tunnel_traffic gone; /* by SAs that were removed */
    struct dp_tunnel_traffic sum;  /* of all, at the last dp_unanswered_scan */
    uint64_t *drops;               /* by reason, of SAs that were removed; NULL: none */
    uint32_t senders, receivers;   /* SAs that are there, at the same time */
    struct {
        uint64_t last;           /* when something last came the other way */
        uint64_t asked, packets; /* what had gone this way until then */
    } before[2];                 /* by direction */
};

/* What a packet says about the conversation that it belongs to. */
enum dp_talk {
    DP_TALK_OTHER,
    DP_TALK_ASKS,    /* whoever gets it answers: an echo request, the first segment of a TCP connection, a DNS query */
    DP_TALK_GOES_ON, /* a TCP segment that acknowledges: its sender has heard the other end, by whatever way */
    DP_TALK_REPEATS, /* one with the data of the one before it: its sender has not heard of that */
};

/* Of a TCP segment that acknowledges; data that is sent again begins where the last data of the SA began. */
static inline enum dp_talk dp_talk_of_data(struct dp_sa *sa, const uint8_t *tcp, uint32_t octets) {
    uint64_t segment = (uint64_t)dp_read_32(tcp) << 32 | dp_read_32(tcp + DP_TCP_SEQUENCE); /* ports, sequence number */
    if (octets <= (tcp[DP_TCP_OFFSET] >> 4) * 4u)
        return DP_TALK_GOES_ON;
    if (segment == sa->segment)
        return DP_TALK_REPEATS;
    sa->segment = segment;
    return DP_TALK_GOES_ON;
}

/* Of a packet of this SA that passed dp_inner_read, `far` being the end that it goes to. By the loop that owns the SA. */
static inline enum dp_talk dp_talk_of(struct dp_sa *sa, const uint8_t *packet, const struct dp_inner *inner, int far) {
    enum {
        SYN = 0x02,
        RST = 0x04,
        ACK = 0x10,
        UDP = 17,
        DNS = 53,
        ICMP = 1,
        ECHO = 8,
        ICMPV6 = 58,
        ECHO6 = 128,
    };
    const struct dp_flow *flow = &inner->flow;
    if (inner->later_fragment)
        return DP_TALK_OTHER;
    switch (flow->protocol) {
    case DP_PROTOCOL_TCP: {
        const uint8_t *tcp = packet + inner->header;
        if (inner->octets <= inner->header + (uint32_t)DP_TCP_FLAGS || (tcp[DP_TCP_FLAGS] & RST) != 0)
            return DP_TALK_OTHER;
        if ((tcp[DP_TCP_FLAGS] & ACK) != 0)
            return dp_talk_of_data(sa, tcp, inner->octets - inner->header);
        return (tcp[DP_TCP_FLAGS] & SYN) != 0 ? DP_TALK_ASKS : DP_TALK_OTHER;
    }
    case UDP:
        return flow->port[far] == DNS ? DP_TALK_ASKS : DP_TALK_OTHER;
    case ICMP:
        return flow->port[far] >> 8 == ECHO ? DP_TALK_ASKS : DP_TALK_OTHER;
    case ICMPV6:
        return flow->port[far] >> 8 == ECHO6 ? DP_TALK_ASKS : DP_TALK_OTHER;
    default:
        return DP_TALK_OTHER;
    }
}

static inline void dp_talk_count(struct dp_sa *sa, enum dp_talk talk) {
    if (talk == DP_TALK_ASKS || talk == DP_TALK_REPEATS)
        dp_add(&sa->asked, 1);
    if (talk >= DP_TALK_GOES_ON && !atomic_load_explicit(&sa->goes_on, memory_order_relaxed))
        atomic_store_explicit(&sa->goes_on, true, memory_order_relaxed);
}

/* Adds what an SA has counted since the last dp_traffic_keep. */
void dp_traffic_add(struct dp_tunnel_traffic *sum, const struct dp_sa *sa);
/* An SA is about to go: its tunnel keeps what it counted. Again when no loop holds it any more: what was under way meanwhile. */
void dp_traffic_keep(struct dp *dp, struct dp_sa *sa);
void dp_traffic_keep_drops(struct dp *dp, const struct dp_sa *sa);
void dp_traffic_finish(struct dp *dp);

#endif
