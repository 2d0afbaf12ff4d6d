#include "fragment_follow.h"

#include "child.h"
#include "fragment_state.h"

static struct dp_flow without_ports(const struct dp_flow *flow) {
    struct dp_flow later = *flow;
    later.portless = true;
    later.port[DP_LOCAL] = later.port[DP_REMOTE] = DP_PORT_OPAQUE;
    return later;
}

static bool leads_into(const struct dp *dp, struct dp_decision decision) {
    return decision.rule >= 0 && decision.action == DP_PROTECT && decision.tunnel < dp->config.tunnels;
}

/* The way of later fragments by themselves. */
struct way {
    bool protects; /* into a tunnel */
    bool opaque;   /* and policy, or the SA, is for them alone */
    uint32_t tunnel;
    const struct dp_sa *sa; /* NULL: none yet */
};

static struct way way_of(const struct dp_loop *loop, const struct dp_policy *policy, uint32_t interface,
                         const struct dp_flow *later) {
    struct dp_decision decision = dp_policy_decide(policy, interface, later);
    struct way way = {.protects = leads_into(loop->dp, decision), .tunnel = decision.tunnel};
    if (way.protects)
        way.sa = dp_tunnel_outbound(&loop->dp->tunnel[decision.tunnel], later);
    way.opaque = way.protects && (decision.opaque || (way.sa != NULL && way.sa->opaque));
    return way;
}

/* The flow of the first fragment leads where the packet may follow: into an SA that was agreed to take it, or is being negotiated
 * and they have no way of their own. */
static bool may_follow(const struct dp_loop *loop, const struct dp_policy *policy, uint32_t interface, const struct dp_flow *flow,
                       const struct dp_flow *later) {
    struct dp_decision decision = dp_policy_decide(policy, interface, flow);
    if (!leads_into(loop->dp, decision))
        return false;
    const struct dp_sa *sa = dp_tunnel_outbound(&loop->dp->tunnel[decision.tunnel], flow);
    return sa != NULL ? sa->fragments_also : !way_of(loop, policy, interface, later).opaque;
}

static void borrow(struct dp_burst *b, struct dp_inner *inner, const struct dp_flow *flow) {
    b->lent = true;
    b->lent_protocol = inner->flow.protocol = flow->protocol;
    for (int end = DP_LOCAL; end <= DP_REMOTE; end++) {
        inner->flow.port[end] = flow->port[end];
        b->lent_port[end] = (uint16_t)flow->port[end]; /* one without any has no need to be remembered */
    }
}

enum dp_drop dp_fragment_lend(struct dp_loop *loop, const struct dp_policy *policy, struct dp_burst *b, struct dp_inner *inner,
                              uint64_t now) {
    struct dp_flow flow = inner->flow;
    struct dp_fragment f;
    if (!inner->later_fragment)
        return DP_OK;
    if (b->lent) { /* it waited for its SA, or was handed over: it was checked then */
        flow.protocol = b->lent_protocol;
        flow.port[DP_LOCAL] = b->lent_port[DP_LOCAL];
        flow.port[DP_REMOTE] = b->lent_port[DP_REMOTE];
        borrow(b, inner, &flow);
        return DP_OK;
    }
    dp_fragment_read(b->data, inner, b->interface, &f);
    if (!dp_fragment_known(loop->dp->fragments[DP_OUTBOUND], &f, now, &flow) ||
        !may_follow(loop, policy, b->interface, &flow, &inner->flow))
        return DP_OK;
    enum dp_drop reason = dp_fragment_later(loop->dp->fragments[DP_OUTBOUND], &f, now);
    if (reason == DP_OK)
        borrow(b, inner, &flow);
    return reason;
}

enum dp_drop dp_fragment_admit(struct dp_loop *loop, const struct dp_policy *policy, struct dp_burst *b,
                               const struct dp_inner *inner, uint32_t tunnel, const struct dp_sa *sa, uint64_t now) {
    struct dp_fragment_states *states = loop->dp->fragments[DP_OUTBOUND];
    bool agreed = sa == NULL || sa->fragments_also;
    struct dp_fragment f;
    if (b->lent)
        return agreed ? DP_OK : DP_DROP_fragment_ports;
    if (b->remembered)
        return DP_OK;
    if (inner->later_fragment) {
        if (sa == NULL || !sa->opaque)
            return DP_OK;
        dp_fragment_read(b->data, inner, b->interface, &f);
        b->remembered = true;
        return dp_fragment_alone(states, &f, now);
    }
    struct dp_flow later = without_ports(&inner->flow);
    struct way way = way_of(loop, policy, b->interface, &later);
    bool same = way.protects && way.tunnel == tunnel && way.sa == sa && (sa != NULL || !way.opaque);
    if (same || !(agreed || way.opaque))
        return DP_OK; /* later ones go the same way by themselves, or none */
    dp_fragment_read(b->data, inner, b->interface, &f);
    b->remembered = true;
    return dp_fragment_first(states, &f, now);
}

enum dp_drop dp_fragment_no_rule(const struct dp_policy *policy, uint32_t interface, const struct dp_inner *inner) {
    return inner->later_fragment && dp_policy_asks_ports(policy, interface) ? DP_DROP_fragment_ports : DP_DROP_policy_none;
}

/* A fragment that the SA's selectors hold as it is. */
static enum dp_drop inbound_held(struct dp_loop *loop, const struct dp_sa *sa, const uint8_t *packet, const struct dp_inner *inner,
                                 uint64_t now) {
    struct dp_fragment_states *states = loop->dp->fragments[DP_INBOUND];
    struct dp_fragment f;
    if (inner->later_fragment) {
        if (!sa->opaque)
            return DP_OK;
        dp_fragment_read(packet, inner, sa->tunnel, &f);
        return dp_fragment_alone(states, &f, now);
    }
    struct dp_flow later = without_ports(&inner->flow);
    if (dp_selectors_hold(sa->selectors, &later))
        return DP_OK;
    const struct dp_sa *theirs = dp_tunnel_outbound(&loop->dp->tunnel[sa->tunnel], &later);
    if (!sa->fragments_also && (theirs == NULL || !theirs->opaque))
        return DP_OK;
    dp_fragment_read(packet, inner, sa->tunnel, &f);
    return dp_fragment_first(states, &f, now);
}

enum dp_drop dp_fragment_inbound(struct dp_loop *loop, const struct dp_sa *sa, const uint8_t *packet, struct dp_inner *inner,
                                 bool held, uint64_t now) {
    struct dp_fragment_states *states = loop->dp->fragments[DP_INBOUND];
    struct dp_fragment f;
    if (held)
        return inbound_held(loop, sa, packet, inner, now);
    if (!inner->later_fragment || !dp_selectors_hold_but_for_ports(sa->selectors, &inner->flow))
        return DP_DROP_selectors;
    struct dp_flow flow;
    dp_fragment_read(packet, inner, sa->tunnel, &f);
    if (!sa->fragments_also || !dp_fragment_known(states, &f, now, &flow) || !dp_selectors_hold(sa->selectors, &flow))
        return DP_DROP_fragment_ports;
    enum dp_drop reason = dp_fragment_later(states, &f, now);
    if (reason == DP_OK)
        inner->flow = flow;
    return reason;
}

bool dp_fragment_shows_too_little(const struct dp *dp, const struct dp_sa *sa, const struct dp_flow *flow) {
    struct dp_flow later = without_ports(flow);
    return !dp_sa_mates(dp_tunnel_outbound(&dp->tunnel[sa->tunnel], &later), sa);
}
