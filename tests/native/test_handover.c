/* From worker to worker: the ring, who is woken, and several workers' loops at once while the main thread does all that a control
 * plane does. ThreadSanitizer and AddressSanitizer watch. */
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "handover.h"
#include "plane.h"

enum {
    RING = 1 << 18,
    QUEUE = 512,
    STREAM = 3000, /* packets of a numbered stream */
    ROUNDS = 200,
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* ---- the ring */

static bool push_octets(struct dp_ring *ring, uint32_t octets, uint8_t mark) {
    static uint8_t data[DP_IP_MAX];
    memset(data, mark, octets);
    struct dp_burst b = {.data = data, .octets = octets, .packets = 1, .tos = mark};
    return dp_ring_push(ring, &b);
}

static void expect(struct dp_ring *ring, uint32_t octets, uint8_t mark) {
    struct dp_burst *b = dp_ring_peek(ring);
    assert_non_null(b);
    assert_int_equal(b->octets, octets);
    assert_int_equal(b->tos, mark);
    assert_true(b->handed);
    for (uint32_t i = 0; i < octets; i++)
        assert_int_equal(b->data[i], mark);
    memset(b->data, 0, octets + DP_ESP_TAILROOM); /* the consumer's to write to */
}

static void test_a_ring_gives_back_what_it_got_in_order_over_its_end(void **state) {
    (void)state;
    static const uint32_t sizes[] = {1, 64, 1400, 65535, 0, 9000, 40000, 77};
    struct dp_ring *ring = dp_ring_new(RING);
    assert_null(dp_ring_peek(ring));
    for (unsigned round = 0; round < 200; round++) {
        uint32_t first = sizes[round % 8], second = sizes[(round * 3 + 1) % 8];
        assert_true(push_octets(ring, first, (uint8_t)round));
        assert_true(push_octets(ring, second, (uint8_t)(round + 1)));
        expect(ring, first, (uint8_t)round);
        expect(ring, second, (uint8_t)(round + 1));
        assert_null(dp_ring_peek(ring));
        dp_ring_release(ring);
    }
    dp_ring_free(ring);
}

static void test_a_full_ring_takes_nothing_and_loses_nothing(void **state) {
    (void)state;
    struct dp_ring *ring = dp_ring_new(RING);
    unsigned count = 0;
    for (unsigned start = 0; start < 20; start++) { /* wherever its end lies */
        assert_true(push_octets(ring, 3000, 0));
        expect(ring, 3000, 0);
        dp_ring_release(ring);
        for (count = 0; push_octets(ring, 1000, (uint8_t)count); count++)
            continue;
        assert_in_range(count, 100, RING / 1000);
        assert_false(push_octets(ring, 60000, 1));
        for (unsigned i = 0; i < count; i++)
            expect(ring, 1000, (uint8_t)i);
        assert_false(push_octets(ring, 60000, 1)); /* what was peeked at is still in use */
        dp_ring_release(ring);
        assert_null(dp_ring_peek(ring));
    }
    dp_ring_free(ring);
}

static void *produce(void *argument) {
    for (uint32_t i = 0; i < STREAM * 10;) {
        uint8_t data[300];
        memset(data, (int)i, sizeof data);
        memcpy(data, &i, sizeof i);
        struct dp_burst b = {.data = data, .octets = sizeof i + i % 290, .packets = 1};
        if (dp_ring_push(argument, &b))
            i++;
        else
            sched_yield();
    }
    return NULL;
}

static void test_a_ring_between_two_threads_keeps_order_and_content(void **state) {
    (void)state;
    struct dp_ring *ring = dp_ring_new(RING);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, ring), 0);
    for (uint32_t i = 0; i < STREAM * 10;) {
        struct dp_burst *b = dp_ring_peek(ring);
        if (b == NULL) {
            dp_ring_release(ring);
            sched_yield();
            continue;
        }
        assert_int_equal(b->octets, sizeof i + i % 290);
        assert_memory_equal(b->data, &i, sizeof i);
        if (i++ % 7 == 0)
            dp_ring_release(ring);
    }
    pthread_join(producer, NULL);
    dp_ring_free(ring);
}

/* ---- several workers */

/* Every worker has a TUN and a link; whatever leaves by any link comes in again at worker `receiver`. */
struct sites {
    struct dp *dp;
    uint32_t workers;
    uint32_t child;
    uint32_t spi;
    dp_sa_id in, out;
};

static void rekey(struct sites *s, uint32_t inbound_owner, uint32_t outbound_owner) {
    dp_sa_id old_in = s->in, old_out = s->out;
    assert_int_equal(dp_spi_allocate_for(s->dp, s->spi % s->workers, 0xab000000 + (s->spi << 12), &s->spi), 0);
    struct dp_sa_params params = plane_params(s->spi, 0, 4500);
    params.soft_packets = 50;
    params.worker = inbound_owner;
    s->in = plane_install(s->dp, DP_INBOUND, &params);
    params.worker = outbound_owner;
    s->out = plane_install(s->dp, DP_OUTBOUND, &params);
    assert_int_equal(dp_child_switch(s->dp, 0, s->child, s->out), 0);
    if (old_in != 0) {
        assert_int_equal(dp_sa_remove(s->dp, old_out), 0);
        assert_int_equal(dp_sa_remove(s->dp, old_in), 0);
    }
}

static struct sites *sites_new(uint32_t workers, uint32_t hold_octets) {
    static struct sites sites;
    struct sites *s = &sites;
    memset(s, 0, sizeof *s);
    s->workers = workers;
    s->dp = plane_new_holding(workers, hold_octets);
    plane_protect(s->dp);
    struct dp_addr here = loopback(4500);
    for (uint32_t w = 0; w < workers; w++) {
        assert_int_equal(dp_mem_tun_attach(s->dp, w, 0, QUEUE), 0);
        assert_int_equal(dp_mem_link_attach(s->dp, w, DP_ENCAPSULATION_UDP, &here, QUEUE), 0);
    }
    struct dp_selector any = any_selector(4);
    assert_int_equal(dp_child_add(s->dp, 0, &any, 1, &s->child), 0);
    return s;
}

static void start(struct sites *s) {
    for (uint32_t w = 0; w < s->workers; w++)
        assert_int_equal(dp_worker_start(s->dp, w), 0);
}

static void stop(struct sites *s) {
    for (uint32_t w = 0; w < s->workers; w++)
        assert_int_equal(dp_worker_stop(s->dp, w), 0);
}

static bool push_numbered(struct sites *s, uint32_t worker, uint32_t number) {
    uint8_t packet[PACKET];
    plane_packet(packet, 0);
    memcpy(packet + 40, &number, sizeof number);
    return dp_mem_tun_push(s->dp, worker, 0, packet, PACKET) == 0;
}

/* What left by any link arrives at worker `receiver`. */
static void loop_back(struct sites *s, uint32_t receiver) {
    uint8_t data[2048];
    struct dp_mem_meta meta;
    int octets;
    for (uint32_t w = 0; w < s->workers; w++)
        while ((octets = dp_mem_link_pull(s->dp, w, 0, &meta, data, sizeof data)) > 0) {
            struct dp_mem_meta back = {.local = meta.remote, .remote = meta.local};
            (void)dp_mem_link_push(s->dp, receiver, 0, &back, data, (size_t)octets);
        }
}

static unsigned arrived_at(struct sites *s, uint32_t worker, uint32_t *last) {
    uint8_t data[2048];
    unsigned count = 0;
    while (dp_mem_tun_pull(s->dp, worker, 0, data, sizeof data) > 0) {
        memcpy(last, data + 40, sizeof *last);
        count++;
    }
    return count;
}

static struct dp_counters counters(const struct sites *s) {
    struct dp_counters c;
    dp_counters_read(s->dp, &c);
    return c;
}

/* Read by worker 0, sealed by the last one, received by worker 0, opened by the last one. */
static void test_a_numbered_stream_over_two_hand_overs_keeps_its_order_and_loses_nothing(void **state) {
    (void)state;
    for (uint32_t workers = 2; workers <= 4; workers++) {
        struct sites *s = sites_new(workers, 0);
        rekey(s, workers - 1, workers - 1);
        start(s);
        uint64_t end = now_ns() + 60 * SECOND;
        uint32_t sent = 0, got = 0;
        while (got < STREAM) {
            while (sent < STREAM && sent - got < 200 && push_numbered(s, 0, sent))
                sent++;
            loop_back(s, 0);
            uint8_t data[2048];
            while (dp_mem_tun_pull(s->dp, workers - 1, 0, data, sizeof data) > 0) {
                assert_memory_equal(data + 40, &got, sizeof got);
                got++;
            }
            assert_true(now_ns() < end);
        }
        stop(s);
        assert_int_equal(counters(s).handed_over, 2 * STREAM);
        assert_int_equal(counters(s).taken_over, 2 * STREAM);
        dp_destroy(s->dp);
    }
}

static void test_a_sleeping_owner_is_woken(void **state) {
    (void)state;
    struct sites *s = sites_new(3, 0);
    rekey(s, 1, 2);
    start(s);
    for (uint32_t i = 0; i < 5; i++) {
        struct timespec settle = {.tv_nsec = 3000000};
        nanosleep(&settle, NULL); /* all sleep */
        assert_true(push_numbered(s, 0, i));
        uint32_t last = UINT32_MAX;
        uint64_t end = now_ns() + 20 * SECOND;
        while (last != i) {
            loop_back(s, 0);
            (void)arrived_at(s, 1, &last);
            assert_true(now_ns() < end);
        }
    }
    stop(s);
    dp_destroy(s->dp);
}

/* Packets that wait at the worker that read them, for an SA of another one. */
static void test_held_packets_go_to_the_owner_of_the_new_sa(void **state) {
    (void)state;
    struct sites *s = sites_new(2, 1 << 16);
    start(s);
    for (uint32_t i = 0; i < 20; i++)
        assert_true(push_numbered(s, 0, i));
    uint64_t end = now_ns() + 20 * SECOND;
    while (!dp_tunnel_take_acquire(s->dp, 0))
        assert_true(now_ns() < end);
    rekey(s, 0, 1);
    uint32_t last = 0;
    unsigned got = 0;
    while (got < 20) {
        loop_back(s, 0);
        got += arrived_at(s, 0, &last);
        assert_true(now_ns() < end);
    }
    assert_int_equal(last, 19);
    stop(s);
    dp_destroy(s->dp);
}

static void read_everything(struct sites *s) {
    uint8_t record[65536 + 256];
    struct dp_counters one;
    struct dp_sa_info info;
    for (uint32_t w = 0; w < s->workers; w++)
        assert_int_equal(dp_worker_counters_read(s->dp, w, &one), 0);
    assert_int_equal(dp_sa_read(s->dp, s->in, &info), 0);
    assert_int_equal(dp_sa_clear(s->dp, s->out, DP_SA_SOFT_LIMIT), 0);
    for (unsigned channel = 0; channel < 2; channel++)
        while (recv(dp_punt_fd(s->dp, channel), record, sizeof record, MSG_DONTWAIT) > 0)
            continue;
    (void)dp_tunnel_take_acquire(s->dp, 0);
}

static void disturb(struct sites *s, uint32_t worker, unsigned round) {
    static const uint8_t ike[8] = {0, 0, 0, 0, 1, 2, 3, 4}, keepalive[1] = {0xff}, junk[40] = {9, 9, 9, 9, 1};
    const uint8_t *data[3] = {ike, keepalive, junk};
    const size_t octets[3] = {sizeof ike, sizeof keepalive, sizeof junk};
    const struct dp_mem_meta meta = {.local = loopback(4500), .remote = loopback(4501)};
    (void)dp_mem_link_push(s->dp, worker, 0, &meta, data[round % 3], octets[round % 3]);
}

/* Owners change with each rekey, packets come anywhere, policy is swapped, devices are replugged, SAs expire. */
static void test_everything_at_once(void **state) {
    (void)state;
    for (uint32_t workers = 2; workers <= 4; workers++) {
        struct sites *s = sites_new(workers, 1 << 14);
        rekey(s, 0, 1);
        start(s);
        unsigned arrived = 0;
        uint32_t last;
        uint64_t end = now_ns() + SECOND;
        for (unsigned round = 0; (round < ROUNDS && now_ns() < end) || arrived == 0; round++) {
            assert_true(now_ns() < end + 20 * SECOND);
            for (uint32_t i = 0; i < 8; i++)
                (void)push_numbered(s, (round + i) % workers, i);
            for (uint32_t w = 0; w < workers; w++)
                arrived += arrived_at(s, w, &last);
            loop_back(s, round % workers);
            disturb(s, round % workers, round);
            if (round % 3 == 0)
                rekey(s, round % workers, (round / 3) % workers);
            if (round % 5 == 0)
                plane_protect(s->dp);
            if (round % 7 == 0) {
                assert_int_equal(dp_mem_tun_attach(s->dp, round % workers, 0, QUEUE), -EBUSY);
                assert_int_equal(dp_tun_detach(s->dp, round % workers, 0), 0);
                assert_int_equal(dp_mem_tun_attach(s->dp, round % workers, 0, QUEUE), 0);
            }
            if (round % 50 == 49)
                dp_sa_expire_all(s->dp);
            read_everything(s);
            (void)dp_reclaim(s->dp);
            sched_yield();
        }
        stop(s);
        assert_true(counters(s).handed_over > 0);
        assert_int_equal(dp_sa_remove(s->dp, s->in), 0);
        assert_int_equal(dp_sa_remove(s->dp, s->out), 0);
        assert_int_equal(dp_reclaim(s->dp), 0);
        assert_int_equal(keys_in_use(s->dp), 0);
        dp_destroy(s->dp);
    }
}

static uint64_t thread_ns(const struct dp_loop *loop) {
    clockid_t id;
    struct timespec t;
    assert_int_equal(pthread_getcpuclockid(loop->thread, &id), 0);
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t all_ns(const struct sites *s) {
    uint64_t sum = 0;
    for (uint32_t w = 0; w < s->workers; w++)
        sum += thread_ns(&s->dp->worker[w].inbound) + thread_ns(&s->dp->worker[w].outbound);
    return sum;
}

static void test_idle_workers_do_not_spin(void **state) {
    (void)state;
    struct sites *s = sites_new(4, 0);
    rekey(s, 1, 2);
    start(s);
    uint32_t last;
    uint64_t end = now_ns() + 20 * SECOND;
    assert_true(push_numbered(s, 3, 1)); /* after a hand-over, not only before the first */
    do {
        loop_back(s, 0);
        assert_true(now_ns() < end);
    } while (arrived_at(s, 1, &last) == 0);
    struct timespec settle = {.tv_nsec = 20000000}, wait = {.tv_nsec = 50000000};
    nanosleep(&settle, NULL);
    uint64_t before = all_ns(s);
    nanosleep(&wait, NULL);
    uint64_t spent = all_ns(s) - before;
    stop(s);
    dp_destroy(s->dp);
    assert_in_range(spent, 0, 2000000);
}

static void test_threads_are_bound_where_they_are_told(void **state) {
    (void)state;
    cpu_set_t mine, set;
    CPU_ZERO(&mine);
    assert_int_equal(sched_getaffinity(0, sizeof mine, &mine), 0);
    int cpu = 0;
    while (!CPU_ISSET((size_t)cpu, &mine))
        cpu++;
    struct sites *s = sites_new(2, 0);
    assert_int_equal(dp_worker_pin(s->dp, 1, cpu, cpu), 0);
    start(s);
    assert_int_equal(pthread_getaffinity_np(s->dp->worker[1].inbound.thread, sizeof set, &set), 0);
    assert_int_equal(CPU_COUNT(&set), 1);
    assert_true(CPU_ISSET((size_t)cpu, &set));
    assert_int_equal(pthread_getaffinity_np(s->dp->worker[0].outbound.thread, sizeof set, &set), 0);
    assert_int_equal(CPU_COUNT(&set), CPU_COUNT(&mine));
    stop(s);
    assert_int_equal(dp_worker_pin(s->dp, 0, 1023, cpu), 0);
    assert_int_equal(dp_worker_start(s->dp, 0), -EINVAL);
    assert_int_equal(dp_worker_pin(s->dp, 0, CPU_SETSIZE, cpu), 0);
    assert_int_equal(dp_worker_start(s->dp, 0), -EINVAL);
    assert_int_equal(dp_worker_pin(s->dp, 2, 0, 0), -EINVAL);
    dp_destroy(s->dp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_ring_gives_back_what_it_got_in_order_over_its_end),
        cmocka_unit_test(test_a_full_ring_takes_nothing_and_loses_nothing),
        cmocka_unit_test(test_a_ring_between_two_threads_keeps_order_and_content),
        cmocka_unit_test(test_a_numbered_stream_over_two_hand_overs_keeps_its_order_and_loses_nothing),
        cmocka_unit_test(test_a_sleeping_owner_is_woken),
        cmocka_unit_test(test_held_packets_go_to_the_owner_of_the_new_sa),
        cmocka_unit_test(test_everything_at_once),
        cmocka_unit_test(test_idle_workers_do_not_spin),
        cmocka_unit_test(test_threads_are_bound_where_they_are_told),
    };
    return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}
