/* Several SAs with the same selectors, each another worker's: which of them a flow takes, and that it stays there (RFC 9611).
 *
 * Tunnel 0 has a CHILD_SA for each worker in the order of their numbers, unless a test says otherwise; tunnel 1 has one for worker
 * 0 alone. The gateway sends to itself. Steps are called one by one but in the last test, which has threads. */
#include "spread.h"

#include <sched.h>
#include <time.h>

#include "child.h"
#include "fragment.h"
#include "handover.h"
#include "io_set.h"
#include "packets.h"
#include "plane.h"

enum {
    WORKERS = 3,
    FLOWS = 96, /* no worker is without any: 3 * (2/3) ** 96 is nothing */
    QUEUE = 512,
    REKEYS = 25,    /* SPIs of one receiver are a third of all, and none is given back */
    NUMBER_AT = 48, /* behind the headers of IPv4 and UDP, and something */
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
static dp_sa_id install(struct site *s, uint32_t tunnel, uint32_t worker) {
    uint32_t spi;
    assert_int_equal(dp_spi_allocate_for(s->dp, 0, 0xab000000 + (s->installed << 12), &spi), 0);
    struct dp_sa_params params = plane_params(spi, 0, 4500);
    params.tunnel = tunnel;
    params.worker = worker;
    s->installed++;
    (void)plane_install(s->dp, DP_INBOUND, &params); /* it stays to the end */
    return plane_install(s->dp, DP_OUTBOUND, &params);
}

static uint32_t add_child(struct site *s, uint32_t tunnel) {
    const struct dp_selector both[] = {any_selector(4), any_selector(6)};
    uint32_t child;
    assert_int_equal(dp_child_add(s->dp, tunnel, both, 2, &child), 0);
    return child;
}

/* Worker `worker` has an SA of tunnel 0 from now on. */
static void add(struct site *s, uint32_t worker) {
    s->child[worker] = add_child(s, 0);
    s->out[worker] = install(s, 0, worker);
    assert_int_equal(dp_child_switch(s->dp, 0, s->child[worker], s->out[worker]), 0);
}

/* It has another one. */
static void rekey(struct site *s, uint32_t worker) {
    dp_sa_id old = s->out[worker];
    s->out[worker] = install(s, 0, worker);
    assert_int_equal(dp_child_switch(s->dp, 0, s->child[worker], s->out[worker]), 0);
    assert_int_equal(dp_sa_remove(s->dp, old), 0);
}

/* It has none any more. */
static void end(struct site *s, uint32_t worker) {
    assert_int_equal(dp_child_switch(s->dp, 0, s->child[worker], 0), 0);
    assert_int_equal(dp_child_remove(s->dp, 0, s->child[worker]), 0);
    s->child[worker] = 0;
}

/* With SAs of so many workers. */
static struct site *site_new(uint32_t resources) {
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

static struct dp_loop *reader(struct site *s) {
    return &s->dp->worker[0].outbound;
}

static struct dp_inner read_packet(const uint8_t *packet, size_t octets) {
    struct dp_inner inner;
    assert_int_equal(dp_inner_read(packet, octets, DP_FLOW_OUTBOUND, &inner), DP_OK);
    return inner;
}

/* IPv4 and UDP, to another address for each flow. */
static struct dp_inner flow_of(uint32_t flow) {
    uint8_t packet[256];
    struct shape shape = shape_new(4, DP_PROTOCOL_UDP, 64);
    size_t octets = packet_build(packet, &shape);
    packet_put(packet + 16, 0x0a020000 + flow, 4);
    return read_packet(packet, octets);
}

/* Where the loop of worker 0 has a packet of it go now, of which SA `found` tells no more than that its tunnel has it. */
static uint32_t taken_by(struct site *s, struct dp_sa *found, const struct dp_inner *inner) {
    struct dp_burst b = {.packets = 1};
    uint32_t worker = UINT32_MAX;
    (void)dp_spread(reader(s), found, &b, inner, s->now, &worker);
    return worker;
}

static uint32_t worker_of(struct site *s, const struct dp_inner *inner) {
    return taken_by(s, dp_tunnel_outbound(&s->dp->tunnel[0], &inner->flow), inner);
}

static uint32_t worker_of_flow(struct site *s, uint32_t flow) {
    struct dp_inner inner = flow_of(flow);
    return worker_of(s, &inner);
}

/* A flow, none of those before `from`, whose packets the loop gives to this worker. */
static uint32_t flow_for(struct site *s, uint32_t worker, uint32_t from) {
    while (worker_of_flow(s, from) != worker)
        from++;
    return from;
}

static void rest(struct site *s) {
    s->now += DP_SPREAD_REST_NS;
}

static void test_a_flow_has_one_worker_and_each_worker_has_flows(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    unsigned flows[WORKERS] = {0};
    for (uint32_t flow = 0; flow < FLOWS; flow++) {
        uint32_t worker = worker_of_flow(s, flow);
        flows[worker]++;
        rest(s);
        assert_int_equal(worker_of_flow(s, flow), worker);
    }
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_true(flows[w] > 0);
    dp_destroy(s->dp);
}

static void test_with_one_worker_there_is_no_table(void **state) {
    (void)state;
    struct dp *dp = plane_new(1);
    assert_null(dp->worker[0].outbound.flows);
    dp_destroy(dp);
}

/* Whether any of so many packets, one of each shape that `change` makes, goes to another worker than the others. */
static bool differ(struct site *s, struct shape shape, void (*change)(struct shape *shape, unsigned i)) {
    uint8_t packet[256];
    uint32_t first = UINT32_MAX;
    for (unsigned i = 0; i < FLOWS; i++) {
        change(&shape, i);
        struct dp_inner inner = read_packet(packet, packet_build(packet, &shape));
        uint32_t worker = worker_of(s, &inner);
        if (i != 0 && worker != first)
            return true;
        first = worker;
    }
    return false;
}

static void another_port(struct shape *shape, unsigned i) {
    shape->source_port = (uint16_t)(40000 + i);
}

static void another_host(struct shape *shape, unsigned i) {
    shape->host = (uint8_t)(1 + i);
}

static void test_addresses_tell_flows_apart_and_ports_those_of_tcp(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    for (uint8_t version = 4; version <= 6; version += 2) {
        assert_true(differ(s, shape_new(version, DP_PROTOCOL_TCP, 64), another_port));
        assert_false(differ(s, shape_new(version, DP_PROTOCOL_UDP, 64), another_port));
        assert_true(differ(s, shape_new(version, DP_PROTOCOL_UDP, 64), another_host));
    }
    dp_destroy(s->dp);
}

static void test_both_halves_of_an_ipv6_address_count(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    struct shape shape = shape_new(6, DP_PROTOCOL_UDP, 64);
    uint8_t packet[256];
    size_t octets = packet_build(packet, &shape);
    static const size_t at[] = {8 + 7, 8 + 15, 24 + 7, 24 + 15}; /* source and destination, the last octet of each half */
    for (unsigned half = 0; half < 4; half++) {
        bool different = false;
        uint32_t first = UINT32_MAX;
        for (unsigned i = 0; i < FLOWS; i++) {
            packet[at[half]] = (uint8_t)(1 + i);
            struct dp_inner inner = read_packet(packet, octets);
            uint32_t worker = worker_of(s, &inner);
            different = different || (i != 0 && worker != first);
            first = worker;
        }
        assert_true(different);
    }
    dp_destroy(s->dp);
}

static void test_fragments_go_with_the_rest_of_their_flow(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    for (unsigned host = 1; host < FLOWS; host++) {
        uint8_t packet[256];
        struct shape shape = shape_new(4, DP_PROTOCOL_UDP, 64);
        shape.host = (uint8_t)host;
        size_t octets = packet_build(packet, &shape);
        struct dp_inner whole = read_packet(packet, octets);
        packet_put(packet + 6, 0x2000, 2); /* the first, which shows ports */
        struct dp_inner first = read_packet(packet, octets);
        packet_put(packet + 6, 1, 2); /* the last */
        struct dp_inner last = read_packet(packet, octets);
        assert_true(first.fragment && last.later_fragment);
        uint32_t worker = worker_of(s, &whole);
        assert_int_equal(worker_of(s, &first), worker);
        assert_int_equal(worker_of(s, &last), worker);
    }
    dp_destroy(s->dp);
}

static void test_ipv6_fragments_go_with_the_rest_of_their_flow(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    for (unsigned host = 1; host < FLOWS; host++) {
        uint8_t packet[256], fragment[256];
        struct shape shape = shape_new(6, DP_PROTOCOL_UDP, 64);
        shape.host = (uint8_t)host;
        size_t octets = packet_build(packet, &shape);
        memcpy(fragment, packet, 40);
        memcpy(fragment + 48, packet + 40, octets - 40);
        packet_put(fragment + 4, octets - 40 + 8, 2);
        fragment[6] = 44; /* RFC 8200 §4.5 */
        struct dp_inner whole = read_packet(packet, octets);
        for (unsigned offset = 0; offset < 2; offset++) {
            packet_put(fragment + 40, (uint64_t)DP_PROTOCOL_UDP << 56 | (uint64_t)(offset << 3 | 1) << 32 | 7, 8);
            struct dp_inner part = read_packet(fragment, octets + 8);
            assert_true(part.fragment);
            assert_int_equal(worker_of(s, &part), worker_of(s, &whole));
        }
    }
    dp_destroy(s->dp);
}

static void test_the_first_takes_flows_whose_worker_has_none(void **state) {
    (void)state;
    struct site *s = site_new(2);
    unsigned flows[WORKERS] = {0};
    for (uint32_t flow = 0; flow < FLOWS; flow++)
        flows[worker_of_flow(s, flow)]++;
    assert_true(flows[0] > 0 && flows[1] > 0);
    assert_int_equal(flows[2], 0);
    dp_destroy(s->dp);
}

static void test_a_flow_that_is_under_way_moves_only_when_it_has_rested(void **state) {
    (void)state;
    struct site *s = site_new(1);
    unsigned moved = 0;
    for (uint32_t flow = 0; flow < FLOWS; flow++)
        assert_int_equal(worker_of_flow(s, flow), 0);
    add(s, 1);
    add(s, 2);
    for (unsigned i = 0; i < 5; i++) {
        s->now += DP_SPREAD_REST_NS - 1;
        for (uint32_t flow = 0; flow < FLOWS; flow++)
            assert_int_equal(worker_of_flow(s, flow), 0);
    }
    rest(s);
    for (uint32_t flow = 0; flow < FLOWS; flow++)
        moved += worker_of_flow(s, flow) != 0;
    assert_true(moved > 0);
    dp_destroy(s->dp);
}

static void test_what_was_handed_over_is_for_this_worker_where_it_has_one(void **state) {
    (void)state;
    struct site *s = site_new(2);
    struct dp_burst b = {.packets = 1, .handed = true};
    for (uint32_t flow = 0; flow < FLOWS; flow++) {
        struct dp_inner inner = flow_of(flow);
        struct dp_sa *found = dp_tunnel_outbound(&s->dp->tunnel[0], &inner.flow);
        static const uint32_t expected[WORKERS] = {0, 1, 0};
        for (uint32_t w = 0; w < WORKERS; w++) {
            uint32_t worker = UINT32_MAX;
            const struct dp_sa *sa = dp_spread(&s->dp->worker[w].outbound, found, &b, &inner, s->now, &worker);
            assert_int_equal(worker, expected[w]);
            assert_ptr_equal(sa, dp_sa_by_id(s->dp, s->out[expected[w]]));
        }
    }
    dp_destroy(s->dp);
}

/* A loop may find the first one's SA and then look for the others, while the control thread replaces the first in between. */
static void test_while_the_first_is_rekeyed_flows_stay_and_so_does_what_was_handed_over(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    struct dp_inner inner = flow_of(flow_for(s, 2, 0));
    struct dp_sa *found = dp_tunnel_outbound(&s->dp->tunnel[0], &inner.flow);
    assert_int_equal(found->worker, 0);
    dp_epoch_online(&reader(s)->epoch, &s->dp->epoch); /* as in a step: it stays allocated */
    rekey(s, 0);
    assert_ptr_not_equal(dp_tunnel_outbound(&s->dp->tunnel[0], &inner.flow), found);
    assert_int_equal(taken_by(s, found, &inner), 2);
    struct dp_burst b = {.packets = 1, .handed = true};
    uint32_t worker = UINT32_MAX;
    (void)dp_spread(&s->dp->worker[1].outbound, found, &b, &inner, s->now, &worker);
    assert_int_equal(worker, 1);
    assert_true(dp_sa_mates(found, dp_sa_by_id(s->dp, s->out[1])));
    dp_epoch_offline(&reader(s)->epoch);
    dp_destroy(s->dp);
}

static void test_sas_of_other_selectors_or_tunnels_are_no_mates(void **state) {
    (void)state;
    struct site *s = site_new(2);
    const struct dp_selector narrow = any_selector(4);
    uint32_t child;
    assert_int_equal(dp_child_add(s->dp, 0, &narrow, 1, &child), 0);
    dp_sa_id out = install(s, 0, 2);
    assert_int_equal(dp_child_switch(s->dp, 0, child, out), 0);
    const struct dp_sa *first = dp_sa_by_id(s->dp, s->out[0]);
    const struct dp_child *other = atomic_load(&s->dp->tunnel[1].children)->child[0];
    assert_true(dp_sa_mates(first, dp_sa_by_id(s->dp, s->out[1])));
    assert_false(dp_sa_mates(first, dp_sa_by_id(s->dp, out)));
    assert_false(dp_sa_mates(first, atomic_load(&other->outbound)));
    assert_false(dp_sa_mates(first, NULL));
    assert_null(dp_tunnel_mate(&s->dp->tunnel[0], first, 2));
    dp_destroy(s->dp);
}

/* ---- flows of one set */

/* The set in which a flow has its place. */
static const struct dp_spread_set *set_of(struct site *s, uint32_t flow) {
    rest(s);
    (void)worker_of_flow(s, flow);
    for (unsigned i = 0; i < DP_SPREAD_SETS; i++)
        for (unsigned place = 0; place < DP_SPREAD_PLACES; place++)
            if (reader(s)->flows[i].last[place] == s->now)
                return &reader(s)->flows[i];
    fail();
    return NULL;
}

/* `count` flows with one set. */
static void flows_of_one_set(struct site *s, uint32_t *flows, unsigned count) {
    static uint16_t held[DP_SPREAD_SETS];
    memset(held, 0, sizeof held);
    const struct dp_spread_set *base = reader(s)->flows, *full = NULL;
    uint32_t end = 0;
    for (; full == NULL; end++) {
        const struct dp_spread_set *set = set_of(s, end);
        full = ++held[set - base] == count ? set : NULL;
    }
    unsigned found = 0;
    for (uint32_t flow = 0; flow < end; flow++)
        if (set_of(s, flow) == full)
            flows[found++] = flow;
    assert_int_equal(found, count);
    rest(s);
}

enum {
    CROWD = DP_SPREAD_PLACES + 2
};

static void test_a_flow_that_finds_no_place_goes_with_the_first_and_moves_nobody(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    uint32_t flows[CROWD], alone[CROWD];
    flows_of_one_set(s, flows, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        alone[i] = worker_of_flow(s, flows[i]);
        rest(s);
    }
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < CROWD; i++)
            assert_int_equal(worker_of_flow(s, flows[i]), i < DP_SPREAD_PLACES ? alone[i] : 0);
    dp_destroy(s->dp);
}

/* Nobody can tell whether it begins or has gone on without a place. */
static void test_nobody_gets_a_place_while_one_without_is_under_way(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    uint32_t flows[CROWD], last = CROWD - 1;
    flows_of_one_set(s, flows, CROWD);
    for (uint32_t tries = 0; worker_of_flow(s, flows[last]) == 0; tries++) { /* one that would move is needed as the last */
        assert_true(tries < last);
        uint32_t first = flows[tries];
        flows[tries] = flows[last];
        flows[last] = first;
        rest(s);
    }
    uint32_t alone = worker_of_flow(s, flows[last]);
    rest(s);
    for (unsigned i = 0; i < CROWD; i++)
        (void)worker_of_flow(s, flows[i]);
    for (unsigned i = 0; i < 4; i++) { /* the places become free, and the one without goes on */
        s->now += DP_SPREAD_REST_NS / 2;
        assert_int_equal(worker_of_flow(s, flows[last]), 0);
    }
    rest(s);
    assert_int_equal(worker_of_flow(s, flows[last]), alone);
    dp_destroy(s->dp);
}

/* The same addresses by the SA of another tunnel, or of a CHILD with other selectors, that has no other workers: they do not take
 * flows with them to where it has one. */
static void test_what_looks_the_same_by_another_sa_moves_no_flow(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    uint32_t workers[FLOWS], child;
    const struct dp_selector narrow = any_selector(4);
    assert_int_equal(dp_child_add(s->dp, 0, &narrow, 1, &child), 0);
    dp_sa_id out = install(s, 0, 0);
    assert_int_equal(dp_child_switch(s->dp, 0, child, out), 0);
    struct dp_sa *others[] = {dp_sa_by_id(s->dp, out), atomic_load(&atomic_load(&s->dp->tunnel[1].children)->child[0]->outbound)};
    for (unsigned round = 0; round < 3; round++)
        for (uint32_t flow = 0; flow < FLOWS; flow++) {
            struct dp_inner inner = flow_of(flow);
            uint32_t worker = worker_of_flow(s, flow);
            if (round == 0)
                workers[flow] = worker;
            assert_int_equal(worker, workers[flow]);
            for (unsigned each = 0; each < 2; each++)
                assert_int_equal(taken_by(s, others[each], &inner), 0);
        }
    dp_destroy(s->dp);
}

/* ---- whole packets, told apart by their length */

/* The packet `number` of a flow: each 4 octets longer than the one before it, as long as ESP needs no padding. */
static void push(struct site *s, uint32_t flow, unsigned number) {
    uint8_t packet[512];
    struct shape shape = shape_new(4, DP_PROTOCOL_UDP, (uint16_t)(6 + 4 * number));
    size_t octets = packet_build(packet, &shape);
    packet_put(packet + 16, 0x0a020000 + flow, 4);
    packet_checksums(packet, &shape, octets);
    assert_int_equal(dp_mem_tun_push(s->dp, 0, 0, packet, octets), 0);
}

static void step(struct site *s, uint32_t worker) {
    assert_true(dp_outbound_step(s->dp, worker, 256, s->now) >= 0);
}

/* Expects what has left since the last time, by whatever worker, to be the packets from `*next` on, in order. */
static void left_in_order(struct site *s, unsigned *next) {
    uint8_t data[1024];
    struct dp_mem_meta meta;
    size_t shortest = 20 + 8 + 6 + DP_ESP_HEADER + 8 + 2 + 16; /* inner headers and payload; ESP, IV, trailer, ICV */
    int octets;
    for (uint32_t w = 0; w < WORKERS; w++)
        while ((octets = dp_mem_link_pull(s->dp, w, 0, &meta, data, sizeof data)) > 0)
            assert_int_equal(octets, shortest + 4 * (*next)++);
}

static void test_where_an_sa_ends_its_flows_overtake_nothing_that_waits_between_workers(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    uint32_t flow = flow_for(s, 2, 0);
    unsigned sent = 0, left = 0;
    for (; sent < 4; sent++)
        push(s, flow, sent);
    step(s, 0); /* handed to worker 2, which does not look yet */
    end(s, 2);
    push(s, flow, sent++);
    step(s, 0);
    left_in_order(s, &left);
    assert_int_equal(left, 0);
    assert_int_equal(worker_of_flow(s, flow), 2);
    step(s, 2); /* it hands them on to the first, which reads the next one before it takes them */
    assert_int_equal(worker_of_flow(s, flow), 2);
    push(s, flow, sent++);
    step(s, 0);
    left_in_order(s, &left);
    step(s, 2);
    step(s, 0);
    left_in_order(s, &left);
    assert_int_equal(left, sent);
    assert_int_equal(worker_of_flow(s, flow), 0); /* nothing is on its way: the short one from now on */
    push(s, flow, sent++);
    step(s, 0);
    left_in_order(s, &left);
    assert_int_equal(left, sent);
    dp_destroy(s->dp);
}

/* What this worker has sealed itself is sent before anybody else gets the next one. */
static void test_where_the_readers_own_ends_what_it_has_sealed_goes_first(void **state) {
    (void)state;
    struct site *s = site_new(2);
    uint32_t flow = flow_for(s, 0, 0);
    struct dp_inner inner = flow_of(flow);
    reader(s)->out_io = atomic_load(&s->dp->worker[0].links)->io[0];
    uint8_t sealed[64] = {0};
    reader(s)->out[reader(s)->out_count++] = (struct dp_burst){
        .data = sealed,
        .octets = sizeof sealed,
        .packets = 1,
        .gso_size = sizeof sealed,
        .encapsulation = DP_ENCAPSULATION_UDP,
        .remote = loopback(4500),
    };
    end(s, 0);
    assert_int_equal(worker_of(s, &inner), 1);
    uint8_t data[1024];
    struct dp_mem_meta meta;
    assert_int_equal(dp_mem_link_pull(s->dp, 0, 0, &meta, data, sizeof data), sizeof sealed);
    dp_destroy(s->dp);
}

/* ---- threads */

static uint64_t monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void push_numbered(struct site *s, uint32_t flow, uint32_t number) {
    uint8_t packet[256];
    struct shape shape = shape_new(4, DP_PROTOCOL_UDP, 100);
    size_t octets = packet_build(packet, &shape);
    packet_put(packet + 16, 0x0a020000 + flow, 4);
    memcpy(packet + NUMBER_AT, &number, sizeof number);
    packet_checksums(packet, &shape, octets);
    assert_int_equal(dp_mem_tun_push(s->dp, 0, 0, packet, octets), 0);
}

/* What left by any link arrives at worker 0. */
static void loop_back(struct site *s) {
    uint8_t data[1024];
    struct dp_mem_meta meta;
    int octets;
    for (uint32_t w = 0; w < WORKERS; w++)
        while ((octets = dp_mem_link_pull(s->dp, w, 0, &meta, data, sizeof data)) > 0) {
            const struct dp_mem_meta back = {.local = meta.remote, .remote = meta.local};
            assert_int_equal(dp_mem_link_push(s->dp, 0, 0, &back, data, (size_t)octets), 0);
        }
}

/* Expects each flow's packets from `got[flow]` on, in order; how many. */
static unsigned arrive(struct site *s, uint32_t *got) {
    uint8_t data[1024];
    unsigned count = 0;
    for (uint32_t w = 0; w < WORKERS; w++)
        while (dp_mem_tun_pull(s->dp, w, 0, data, sizeof data) > 0) {
            uint32_t flow = data[19], number;
            memcpy(&number, data + NUMBER_AT, sizeof number);
            assert_int_equal(number, got[flow]++);
            count++;
        }
    return count;
}

static void test_rekeys_of_all_of_them_beside_running_workers_reorder_and_lose_nothing(void **state) {
    (void)state;
    enum {
        STREAMS = 12,
        WINDOW = 16, /* packets of a flow under way at the most */
    };
    struct site *s = site_new(WORKERS);
    uint32_t sent[STREAMS] = {0}, got[256] = {0};
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(dp_worker_start(s->dp, w), 0);
    uint64_t until = monotonic_ns() + 60 * SECOND;
    for (unsigned rekeys = 0, arrived = 0, at = 0; rekeys < WORKERS * REKEYS || arrived < at;) {
        assert_true(monotonic_ns() < until);
        for (uint32_t flow = 0; flow < STREAMS && rekeys < WORKERS * REKEYS; flow++)
            for (; sent[flow] - got[flow] < WINDOW; at++)
                push_numbered(s, flow, sent[flow]++);
        if (rekeys < WORKERS * REKEYS && arrived >= 20 * rekeys)
            rekey(s, rekeys++ % WORKERS);
        loop_back(s);
        arrived += arrive(s, got);
        (void)dp_reclaim(s->dp);
        sched_yield();
    }
    for (uint32_t w = 0; w < WORKERS; w++)
        assert_int_equal(dp_worker_stop(s->dp, w), 0);
    dp_destroy(s->dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_with_one_worker_there_is_no_table),
        cmocka_unit_test(test_a_flow_has_one_worker_and_each_worker_has_flows),
        cmocka_unit_test(test_addresses_tell_flows_apart_and_ports_those_of_tcp),
        cmocka_unit_test(test_both_halves_of_an_ipv6_address_count),
        cmocka_unit_test(test_fragments_go_with_the_rest_of_their_flow),
        cmocka_unit_test(test_ipv6_fragments_go_with_the_rest_of_their_flow),
        cmocka_unit_test(test_the_first_takes_flows_whose_worker_has_none),
        cmocka_unit_test(test_a_flow_that_is_under_way_moves_only_when_it_has_rested),
        cmocka_unit_test(test_what_was_handed_over_is_for_this_worker_where_it_has_one),
        cmocka_unit_test(test_while_the_first_is_rekeyed_flows_stay_and_so_does_what_was_handed_over),
        cmocka_unit_test(test_sas_of_other_selectors_or_tunnels_are_no_mates),
        cmocka_unit_test(test_a_flow_that_finds_no_place_goes_with_the_first_and_moves_nobody),
        cmocka_unit_test(test_nobody_gets_a_place_while_one_without_is_under_way),
        cmocka_unit_test(test_what_looks_the_same_by_another_sa_moves_no_flow),
        cmocka_unit_test(test_where_an_sa_ends_its_flows_overtake_nothing_that_waits_between_workers),
        cmocka_unit_test(test_where_the_readers_own_ends_what_it_has_sealed_goes_first),
        cmocka_unit_test(test_rekeys_of_all_of_them_beside_running_workers_reorder_and_lose_nothing),
    };
    return cmocka_run_group_tests_name("spread", tests, NULL, NULL);
}
