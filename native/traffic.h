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
};

/* Of a packet that passed dp_inner_read, `far` being the end that it goes to. */
static inline enum dp_talk dp_talk_of(const uint8_t *packet, const struct dp_inner *inner, int far) {
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
        if (inner->octets <= inner->header + (uint32_t)DP_TCP_FLAGS)
            return DP_TALK_OTHER;
        uint8_t flags = packet[inner->header + DP_TCP_FLAGS];
        if ((flags & (ACK | RST)) != 0)
            return (flags & RST) != 0 ? DP_TALK_OTHER : DP_TALK_GOES_ON;
        return (flags & SYN) != 0 ? DP_TALK_ASKS : DP_TALK_OTHER;
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

/* By the loop that owns the SA. */
static inline void dp_talk_count(struct dp_sa *sa, enum dp_talk talk) {
    if (talk == DP_TALK_ASKS)
        dp_add(&sa->asked, 1);
    else if (talk == DP_TALK_GOES_ON && !atomic_load_explicit(&sa->goes_on, memory_order_relaxed))
        atomic_store_explicit(&sa->goes_on, true, memory_order_relaxed);
}

/* An SA is about to go: its tunnel keeps what it counted. Again when no loop holds it any more: what was under way meanwhile. */
void dp_traffic_keep(struct dp *dp, struct dp_sa *sa);
void dp_traffic_keep_drops(struct dp *dp, const struct dp_sa *sa);
void dp_traffic_finish(struct dp *dp);

#endif
