/* Several SAs with the same selectors, each another worker's, by whole packets: flows keep their order where SAs end and where they
 * are rekeyed. Steps are called one by one but in the last test, which has threads. */
#include <sched.h>
#include <time.h>

#include "io_set.h"
#include "spread_site.h"

enum {
    REKEYS = 25,    /* SPIs of one receiver are a third of all, and none is given back */
    NUMBER_AT = 48, /* behind the headers of IPv4 and UDP, and something */
};

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

/* ---- in the middle of a step */

static uint8_t sealed[64];

/* A worker has sealed this and not sent it yet. */
static struct dp_loop *seal(struct site *s, uint32_t worker) {
    struct dp_loop *loop = &s->dp->worker[worker].outbound;
    loop->out_io = atomic_load(&s->dp->worker[worker].links)->io[0];
    loop->out[loop->out_count++] = (struct dp_burst){
        .data = sealed,
        .octets = sizeof sealed,
        .packets = 1,
        .gso_size = sizeof sealed,
        .encapsulation = DP_ENCAPSULATION_UDP,
        .remote = loopback(4500),
    };
    return loop;
}

static bool sealed_has_left(struct site *s, uint32_t worker) {
    uint8_t data[1024];
    struct dp_mem_meta meta;
    return dp_mem_link_pull(s->dp, worker, 0, &meta, data, sizeof data) == sizeof sealed;
}

/* What this worker has sealed itself is sent before anybody else gets the next one. */
static void test_where_the_readers_own_ends_what_it_has_sealed_goes_first(void **state) {
    (void)state;
    struct site *s = site_new(2);
    struct dp_inner inner = flow_of(flow_for(s, 0, 0));
    (void)seal(s, 0);
    end(s, 0);
    assert_int_equal(worker_of(s, &inner), 1);
    assert_true(sealed_has_left(s, 0));
    dp_destroy(s->dp);
}

static void test_where_an_owners_ends_what_it_has_sealed_goes_before_what_it_hands_on(void **state) {
    (void)state;
    struct site *s = site_new(WORKERS);
    struct dp_inner inner = flow_of(flow_for(s, 2, 0));
    const struct dp_burst b = {.packets = 1, .handed = true};
    struct dp_loop *owner = seal(s, 2);
    uint32_t worker = UINT32_MAX;
    end(s, 2);
    (void)dp_spread(owner, dp_tunnel_outbound(&s->dp->tunnel[0], &inner.flow), &b, &inner, s->now, &worker);
    assert_int_equal(worker, 0);
    assert_true(sealed_has_left(s, 2));
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
        cmocka_unit_test(test_where_an_sa_ends_its_flows_overtake_nothing_that_waits_between_workers),
        cmocka_unit_test(test_where_the_readers_own_ends_what_it_has_sealed_goes_first),
        cmocka_unit_test(test_where_an_owners_ends_what_it_has_sealed_goes_before_what_it_hands_on),
        cmocka_unit_test(test_rekeys_of_all_of_them_beside_running_workers_reorder_and_lose_nothing),
    };
    return cmocka_run_group_tests_name("spread_order", tests, NULL, NULL);
}
