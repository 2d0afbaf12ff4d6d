/* What the tests of SAs of several workers share (RFC 9611): a gateway that sends to itself.
 *
 * Tunnel 0 has a CHILD_SA for each worker in the order of their numbers, unless a test says otherwise; tunnel 1 has one for worker
 * 0 alone. */
#ifndef DP_TEST_SPREAD_SITE_H
#define DP_TEST_SPREAD_SITE_H

#include "child.h"
#include "packets.h"
#include "plane.h"
#include "spread.h"

enum {
    WORKERS = 3,
    QUEUE = 512,
};

struct site {
    struct dp *dp;
    uint32_t child[WORKERS]; /* of tunnel 0, by worker; 0: none */
    uint32_t other_child;    /* of tunnel 1 */
    dp_sa_id out[WORKERS];
    unsigned installed;
    uint64_t now;
};

/* A new pair of SAs, both of this worker. */
static inline dp_sa_id install(struct site *s, uint32_t tunnel, uint32_t worker) {
    uint32_t spi;
    assert_int_equal(dp_spi_allocate_for(s->dp, 0, 0xab000000 + (s->installed << 12), &spi), 0);
    struct dp_sa_params params = plane_params(spi, 0, 4500);
    params.tunnel = tunnel;
    params.worker = worker;
    s->installed++;
    (void)plane_install(s->dp, DP_INBOUND, &params); /* it stays to the end */
    return plane_install(s->dp, DP_OUTBOUND, &params);
}

static inline uint32_t add_child(struct site *s, uint32_t tunnel) {
    const struct dp_selector both[] = {any_selector(4), any_selector(6)};
    uint32_t child;
    assert_int_equal(dp_child_add(s->dp, tunnel, both, 2, &child), 0);
    return child;
}

/* Worker `worker` has an SA of tunnel 0 from now on. */
static inline void add(struct site *s, uint32_t worker) {
    s->child[worker] = add_child(s, 0);
    s->out[worker] = install(s, 0, worker);
    assert_int_equal(dp_child_switch(s->dp, 0, s->child[worker], s->out[worker]), 0);
}

/* It has another one. */
static inline void rekey(struct site *s, uint32_t worker) {
    dp_sa_id old = s->out[worker];
    s->out[worker] = install(s, 0, worker);
    assert_int_equal(dp_child_switch(s->dp, 0, s->child[worker], s->out[worker]), 0);
    assert_int_equal(dp_sa_remove(s->dp, old), 0);
}

/* It has none any more. */
static inline void end(struct site *s, uint32_t worker) {
    assert_int_equal(dp_child_switch(s->dp, 0, s->child[worker], 0), 0);
    assert_int_equal(dp_child_remove(s->dp, 0, s->child[worker]), 0);
    s->child[worker] = 0;
}

/* With SAs of so many workers. */
static inline struct site *site_new(uint32_t resources) {
    static struct site site;
    struct site *s = &site;
    memset(s, 0, sizeof *s);
    s->dp = plane_new_holding(WORKERS, 1 << 16);
    s->now = START;
    plane_protect(s->dp);
    struct dp_addr here = loopback(4500);
    for (uint32_t w = 0; w < WORKERS; w++) {
        assert_int_equal(dp_mem_tun_attach(s->dp, w, 0, QUEUE), 0);
        assert_int_equal(dp_mem_link_attach(s->dp, w, DP_ENCAPSULATION_UDP, &here, QUEUE), 0);
    }
    for (uint32_t w = 0; w < resources; w++)
        add(s, w);
    s->other_child = add_child(s, 1);
    assert_int_equal(dp_child_switch(s->dp, 1, s->other_child, install(s, 1, 0)), 0);
    return s;
}

static inline struct dp_loop *reader(struct site *s) {
    return &s->dp->worker[0].outbound;
}

static inline struct dp_inner read_packet(const uint8_t *packet, size_t octets) {
    struct dp_inner inner;
    assert_int_equal(dp_inner_read(packet, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    return inner;
}

/* IPv4 and UDP, to another address for each flow. */
static inline struct dp_inner flow_of(uint32_t flow) {
    uint8_t packet[256];
    struct shape shape = shape_new(4, DP_PROTOCOL_UDP, 64);
    size_t octets = packet_build(packet, &shape);
    packet_put(packet + 16, 0x0a020000 + flow, 4);
    return read_packet(packet, octets);
}

/* Where the loop of worker 0 has a packet of it go now, of which SA `found` tells no more than that its tunnel has it. */
static inline uint32_t taken_by(struct site *s, struct dp_sa *found, const struct dp_inner *inner) {
    struct dp_burst b = {.packets = 1};
    uint32_t worker = UINT32_MAX;
    (void)dp_spread(reader(s), found, &b, inner, s->now, &worker);
    return worker;
}

static inline uint32_t worker_of(struct site *s, const struct dp_inner *inner) {
    return taken_by(s, dp_tunnel_outbound(&s->dp->tunnel[0], &inner->flow), inner);
}

static inline uint32_t worker_of_flow(struct site *s, uint32_t flow) {
    struct dp_inner inner = flow_of(flow);
    return worker_of(s, &inner);
}

/* A flow, none of those before `from`, whose packets the loop gives to this worker. */
static inline uint32_t flow_for(struct site *s, uint32_t worker, uint32_t from) {
    while (worker_of_flow(s, from) != worker)
        from++;
    return from;
}

static inline void rest(struct site *s) {
    s->now += DP_SPREAD_REST_NS;
}

#endif
