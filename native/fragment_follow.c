#include "fragment_follow.h"

#include "child.h"
#include "fragment_state.h"

static struct dp_flow without_ports(const struct dp_flow *flow) {
    struct dp_flow later = *flow;
    later.port[DP_LOCAL] = later.port[DP_REMOTE] = DP_PORT_OPAQUE;
    return later;
}

static bool leads_into(const struct dp *dp, struct dp_decision decision) {
    return decision.rule >= 0 && decision.action == DP_PROTECT && decision.tunnel < dp->config.tunnels;
}

/* The flow of the first fragment leads where the packet may follow: into an SA that was agreed to take it, or is being negotiated.
 */
static bool may_follow(const struct dp_loop *loop, const struct dp_policy *policy, uint32_t interface, const struct dp_flow *flow) {
    struct dp_decision decision = dp_policy_decide(policy, interface, flow);
    if (!leads_into(loop->dp, decision))
        return false;
    const struct dp_sa *sa = dp_tunnel_outbound(&loop->dp->tunnel[decision.tunnel], flow);
    return sa == NULL || sa->fragments_also;
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
    if (!dp_fragment_known(loop->dp->fragments[DP_OUTBOUND], &f, now, &flow) || !may_follow(loop, policy, b->interface, &flow))
        return DP_OK;
    enum dp_drop reason = dp_fragment_later(loop->dp->fragments[DP_OUTBOUND], &f, now);
    if (reason == DP_OK)
        borrow(b, inner, &flow);
    return reason;
}

enum dp_drop dp_fragment_admit(struct dp_loop *loop, const struct dp_policy *policy, struct dp_burst *b,
                               const struct dp_inner *inner, uint32_t tunnel, const struct dp_sa *sa, uint64_t now) {
    bool agreed = sa == NULL || sa->fragments_also;
    if (inner->later_fragment)
        return b->lent && !agreed ? DP_DROP_fragment_ports : DP_OK;
    if (!agreed || b->remembered)
        return DP_OK;
    struct dp_flow later = without_ports(&inner->flow);
    struct dp_decision decision = dp_policy_decide(policy, b->interface, &later);
    if (leads_into(loop->dp, decision) && decision.tunnel == tunnel && dp_tunnel_outbound(&loop->dp->tunnel[tunnel], &later) == sa)
        return DP_OK; /* later ones go the same way by themselves */
    struct dp_fragment f;
    dp_fragment_read(b->data, inner, b->interface, &f);
    b->remembered = true;
    return dp_fragment_first(loop->dp->fragments[DP_OUTBOUND], &f, now);
}

enum dp_drop dp_fragment_no_rule(const struct dp_policy *policy, uint32_t interface, const struct dp_inner *inner) {
    return inner->later_fragment && dp_policy_asks_ports(policy, interface) ? DP_DROP_fragment_ports : DP_DROP_policy_none;
}

enum dp_drop dp_fragment_inbound(struct dp_loop *loop, const struct dp_sa *sa, const uint8_t *packet, struct dp_inner *inner,
                                 bool held, uint64_t now) {
    struct dp_fragment_states *states = loop->dp->fragments[DP_INBOUND];
    struct dp_fragment f;
    if (held) {
        struct dp_flow later = without_ports(&inner->flow);
        if (inner->later_fragment || !sa->fragments_also || dp_selectors_hold(sa->selectors, &later))
            return DP_OK;
        dp_fragment_read(packet, inner, sa->tunnel, &f);
        return dp_fragment_first(states, &f, now);
    }
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
    return dp_tunnel_outbound(&dp->tunnel[sa->tunnel], &later) != sa;
}
