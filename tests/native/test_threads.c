/* Both loops as threads, over queues in memory, a loopback UDP socket and a socket pair that stands for a TUN device, while the
 * main thread does all that a control plane does. ThreadSanitizer and AddressSanitizer watch. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "plane.h"

enum {
    QUEUE = 256,
    ROUNDS = 300,
    MEMORY_TUN = 0,
    SOCKET_TUN = 1,
};

struct site {
    struct dp *dp;
    int host[2]; /* the TUN device's end, and the host's */
    int outer;   /* UDP socket whose datagrams come back to itself */
    uint16_t port;
    uint32_t memory_link, udp_link, child;
    dp_sa_id in, out;
    uint32_t spi;
};

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void open_outer(struct site *s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t octets = sizeof a;
    s->outer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(s->outer >= 0);
    assert_int_equal(bind(s->outer, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(s->outer, (struct sockaddr *)&a, &octets), 0);
    s->port = ntohs(a.sin_port);
}

/* New keys, make before break: receive, then send, then drop what was before. `link` is where they send from now on. */
static void rekey(struct site *s, uint32_t link) {
    dp_sa_id old_in = s->in, old_out = s->out;
    assert_int_equal(dp_spi_allocate(s->dp, 0xab000000 + (s->spi << 12), &s->spi), 0);
    struct dp_sa_params params = plane_params(s->spi, link, s->port);
    params.interface = MEMORY_TUN;
    params.soft_packets = 3;
    s->in = plane_install(s->dp, DP_INBOUND, &params);
    s->out = plane_install(s->dp, DP_OUTBOUND, &params);
    assert_int_equal(dp_child_switch(s->dp, 0, s->child, s->out), 0);
    if (old_in != 0) {
        assert_int_equal(dp_sa_remove(s->dp, old_out), 0);
        assert_int_equal(dp_sa_remove(s->dp, old_in), 0);
    }
}

static int setup(void **state) {
    static struct site site;
    struct site *s = &site;
    memset(s, 0, sizeof *s);
    s->dp = plane_new(1);
    plane_protect(s->dp);
    open_outer(s);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s->host), 0);
    struct dp_addr here = loopback(s->port);
    assert_int_equal(dp_mem_tun_attach(s->dp, 0, MEMORY_TUN, QUEUE), 0);
    assert_int_equal(dp_tun_attach(s->dp, 0, SOCKET_TUN, s->host[0]), 0);
    s->memory_link = (uint32_t)dp_mem_link_attach(s->dp, 0, DP_ENCAPSULATION_UDP, &here, QUEUE);
    s->udp_link = (uint32_t)dp_link_attach(s->dp, 0, DP_ENCAPSULATION_UDP, &here, s->outer, DP_DF_SET, -1);
    assert_int_equal(s->udp_link, 1);
    struct dp_selector any = any_selector(4);
    assert_int_equal(dp_child_add(s->dp, 0, &any, 1, &s->child), 0);
    rekey(s, s->udp_link);
    *state = s;
    return 0;
}

/* The inbound loop changes hands whenever it may, as no load would have it. */
static int setup_restless(void **state) {
    int error = setup(state);
    struct site *s = *state;
    struct dp_sharing *sharing = &s->dp->worker[0].sharing;
    sharing->part_window = sharing->join_window = 0;
    sharing->part_busy = sharing->part_share = 0;
    return error;
}

static int teardown(void **state) {
    struct site *s = *state;
    dp_destroy(s->dp);
    close(s->host[0]);
    close(s->host[1]);
    close(s->outer);
    return 0;
}

/* Packets from both hosts; a full queue is fine. */
static void send_some(struct site *s, uint8_t mark) {
    uint8_t packet[PACKET];
    plane_packet(packet, mark);
    for (unsigned i = 0; i < 8; i++) {
        int error = dp_mem_tun_push(s->dp, 0, MEMORY_TUN, packet, PACKET);
        assert_true(error == 0 || error == -ENOBUFS || error == -ENOENT);
        (void)send(s->host[1], packet, PACKET, MSG_DONTWAIT);
    }
}

/* Whatever left by the memory link comes in there again; what came out of the TUN is counted. */
static unsigned receive_some(struct site *s) {
    uint8_t data[2048];
    struct dp_mem_meta meta;
    int octets;
    unsigned count = 0;
    while ((octets = dp_mem_link_pull(s->dp, 0, s->memory_link, &meta, data, sizeof data)) > 0) {
        struct dp_mem_meta back = {.local = meta.remote, .remote = meta.local};
        (void)dp_mem_link_push(s->dp, 0, s->memory_link, &back, data, (size_t)octets);
    }
    while (dp_mem_tun_pull(s->dp, 0, MEMORY_TUN, data, sizeof data) > 0)
        count++;
    return count;
}

static void drain_punts(struct site *s) {
    uint8_t record[65536 + 256];
    for (unsigned channel = 0; channel < 2; channel++)
        while (recv(dp_punt_fd(s->dp, channel), record, sizeof record, MSG_DONTWAIT) > 0)
            continue;
    (void)dp_tunnel_take_acquire(s->dp, 0);
}

static void read_everything(struct site *s) {
    struct dp_counters counters;
    struct dp_sa_info info;
    struct dp_sa_condition found[4];
    struct dp_example examples[2 * DP_EXAMPLES];
    uint64_t cursor = 0;
    dp_counters_read(s->dp, &counters);
    for (unsigned reason = 0; reason < DP_DROP_COUNT; reason++)
        for (int i = dp_examples_read(s->dp, reason, examples, 2 * DP_EXAMPLES); i-- > 0;)
            assert_int_equal(examples[i].reason, reason); /* no half of another one */
    assert_int_equal(dp_sa_read(s->dp, s->in, &info), 0);
    assert_int_equal(dp_sa_read(s->dp, s->out, &info), 0);
    do
        assert_true(dp_sa_scan(s->dp, found, 4, &cursor) >= 0);
    while (cursor != 0);
    assert_int_equal(dp_sa_clear(s->dp, s->out, DP_SA_SOFT_LIMIT), 0);
}

/* A stranger's datagrams, to the real socket. */
static void disturb(struct site *s, unsigned round) {
    static const uint8_t ike[8] = {0, 0, 0, 0, 1, 2, 3, 4}, keepalive[1] = {0xff}, junk[40] = {9, 9, 9, 9, 1};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const uint8_t *data[3] = {ike, keepalive, junk};
    const size_t octets[3] = {sizeof ike, sizeof keepalive, sizeof junk};
    (void)sendto(s->outer, data[round % 3], octets[round % 3], MSG_DONTWAIT, (struct sockaddr *)&a, sizeof a);
}

static void replug(struct site *s, unsigned round) {
    struct dp_addr here = loopback(s->port);
    switch (round % 3) {
    case 0:
        assert_int_equal(dp_tun_detach(s->dp, 0, SOCKET_TUN), 0);
        assert_int_equal(dp_tun_attach(s->dp, 0, SOCKET_TUN, s->host[0]), 0);
        break;
    case 1:
        assert_int_equal(dp_link_detach(s->dp, 0, s->udp_link), 0);
        assert_int_equal(dp_link_attach(s->dp, 0, DP_ENCAPSULATION_UDP, &here, s->outer, DP_DF_SET, -1), s->udp_link);
        break;
    default:
        assert_int_equal(dp_tun_detach(s->dp, 0, MEMORY_TUN), 0);
        assert_int_equal(dp_mem_tun_attach(s->dp, 0, MEMORY_TUN, QUEUE), 0);
    }
}

static void test_everything_at_once_under_traffic(void **state) {
    struct site *s = *state;
    unsigned arrived = 0;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + 3 * SECOND / 2;
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    for (unsigned round = 0; round < ROUNDS && clock_ns(CLOCK_MONOTONIC) < end; round++) {
        send_some(s, (uint8_t)round);
        arrived += receive_some(s);
        if (round % 3 == 0)
            rekey(s, round % 2 != 0 ? s->memory_link : s->udp_link);
        if (round % 5 == 0)
            plane_protect(s->dp);
        if (round % 7 == 0)
            replug(s, round / 7);
        if (round % 11 == 0) {
            struct dp_sa_params params = plane_params(s->spi, s->udp_link, s->port);
            assert_int_equal(dp_sa_set_path(s->dp, s->out, &params.path), 0);
        }
        if (round % 50 == 49)
            dp_sa_expire_all(s->dp);
        disturb(s, round);
        read_everything(s);
        drain_punts(s);
        (void)dp_reclaim(s->dp);
        sched_yield();
    }
    rekey(s, s->udp_link);
    while (arrived == 0 && clock_ns(CLOCK_MONOTONIC) < end + 5 * SECOND) {
        send_some(s, 1);
        arrived += receive_some(s);
    }
    assert_true(arrived > 0);
    assert_int_equal(dp_worker_stop(s->dp, 0), 0);
    assert_int_equal(dp_sa_remove(s->dp, s->in), 0);
    assert_int_equal(dp_sa_remove(s->dp, s->out), 0);
    assert_int_equal(dp_reclaim(s->dp), 0);
    assert_int_equal(keys_in_use(s->dp), 0);
}

static void test_a_packet_wakes_idle_loops_by_every_device(void **state) {
    struct site *s = *state;
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    const uint32_t links[] = {s->memory_link, s->udp_link};
    for (size_t i = 0; i < 4; i++) {
        rekey(s, links[i % 2]);
        uint8_t packet[PACKET];
        plane_packet(packet, (uint8_t)i);
        if (i < 2)
            assert_int_equal(dp_mem_tun_push(s->dp, 0, MEMORY_TUN, packet, PACKET), 0);
        else
            assert_int_equal(send(s->host[1], packet, PACKET, 0), PACKET);
        uint64_t end = clock_ns(CLOCK_MONOTONIC) + 10 * SECOND;
        while (receive_some(s) == 0)
            assert_true(clock_ns(CLOCK_MONOTONIC) < end);
    }
    assert_int_equal(dp_worker_stop(s->dp, 0), 0);
}

static bool apart(const struct site *s) {
    return atomic_load_explicit(&s->dp->worker[0].apart, memory_order_acquire);
}

/* Sends until the inbound loop is where it is wanted, or for ten seconds. */
static void send_until(struct site *s, bool wanted) {
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + 10 * SECOND;
    while (apart(s) != wanted) {
        assert_true(clock_ns(CLOCK_MONOTONIC) < end);
        send_some(s, 1);
        receive_some(s);
    }
}

static void test_the_inbound_loop_changes_threads_and_back(void **state) {
    struct site *s = *state;
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    for (unsigned i = 0; i < 50; i++) {
        send_until(s, true);
        send_until(s, false);
    }
    unsigned arrived = 0;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + 10 * SECOND;
    while (arrived < 100) {
        assert_true(clock_ns(CLOCK_MONOTONIC) < end);
        send_some(s, 1);
        arrived += receive_some(s);
    }
    assert_int_equal(dp_worker_stop(s->dp, 0), 0);
}

/* Packets that are sent when all is quiet come through, again and again: not only what a device had when it was first looked at. */
static void expect_arrivals(struct site *s) {
    const struct timespec settle = {.tv_nsec = 5000000};
    for (unsigned i = 0; i < 3; i++) {
        nanosleep(&settle, NULL);
        while (receive_some(s) != 0)
            continue;
        uint64_t end = clock_ns(CLOCK_MONOTONIC) + 10 * SECOND;
        send_some(s, (uint8_t)i);
        while (receive_some(s) == 0)
            assert_true(clock_ns(CLOCK_MONOTONIC) < end);
    }
}

/* Links are where the thread that runs the loop looks: those that were there, and those that come meanwhile. */
static void test_links_follow_the_loop(void **state) {
    struct site *s = *state;
    struct dp_addr here = loopback(s->port);
    s->dp->worker[0].sharing.join_window = UINT64_MAX; /* never back */
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    send_until(s, true);
    expect_arrivals(s);
    assert_int_equal(dp_link_detach(s->dp, 0, s->udp_link), 0);
    assert_int_equal(dp_link_attach(s->dp, 0, DP_ENCAPSULATION_UDP, &here, s->outer, DP_DF_SET, -1), s->udp_link);
    rekey(s, s->udp_link);
    expect_arrivals(s);
    assert_true(apart(s));
    assert_int_equal(dp_worker_stop(s->dp, 0), 0);
    assert_false(apart(s)); /* and the next start hears the link again */
    s->dp->worker[0].sharing.part_window = UINT64_MAX;
    test_a_packet_wakes_idle_loops_by_every_device(state);
    assert_false(apart(s));
}

static uint64_t thread_ns(const struct dp_loop *loop) {
    clockid_t id;
    assert_int_equal(pthread_getcpuclockid(loop->thread, &id), 0);
    return clock_ns(id);
}

static void test_one_thread_runs_both_loops_while_that_is_enough(void **state) {
    struct site *s = *state;
    unsigned arrived = 0;
    s->dp->worker[0].sharing.part_share = 1001; /* however slow the sanitizer makes it */
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    struct timespec settle = {.tv_nsec = 5000000};
    uint64_t before, end = clock_ns(CLOCK_MONOTONIC) + 10 * SECOND;
    do { /* until it sleeps, however late it is started */
        assert_true(clock_ns(CLOCK_MONOTONIC) < end);
        before = thread_ns(&s->dp->worker[0].inbound);
        nanosleep(&settle, NULL);
    } while (before == 0 || thread_ns(&s->dp->worker[0].inbound) != before);
    while (arrived < 100) {
        assert_true(clock_ns(CLOCK_MONOTONIC) < end);
        send_some(s, 1);
        arrived += receive_some(s);
    }
    assert_int_equal(thread_ns(&s->dp->worker[0].inbound), before);
    assert_false(apart(s));
    assert_int_equal(dp_worker_stop(s->dp, 0), 0);
}

static void test_idle_threads_do_not_spin(void **state) {
    struct site *s = *state;
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    send_some(s, 1); /* after traffic, not only before the first */
    while (receive_some(s) == 0)
        continue;
    struct timespec settle = {.tv_nsec = 20000000}, wait = {.tv_nsec = 50000000};
    nanosleep(&settle, NULL);
    uint64_t before = thread_ns(&s->dp->worker[0].inbound) + thread_ns(&s->dp->worker[0].outbound);
    nanosleep(&wait, NULL);
    uint64_t spent = thread_ns(&s->dp->worker[0].inbound) + thread_ns(&s->dp->worker[0].outbound) - before;
    assert_int_equal(dp_worker_stop(s->dp, 0), 0);
    assert_in_range(spent, 0, 2000000);
}

static void test_a_device_that_failed_does_not_keep_its_loop_awake(void **state) {
    struct site *s = *state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(dp_tun_attach(s->dp, 0, 2, ends[1]), 0); /* cannot be read, like a TUN that was deleted */
    close(ends[0]);                                           /* and epoll reports its error for ever */
    close(ends[1]);
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    struct timespec wait = {.tv_nsec = 40000000};
    nanosleep(&wait, NULL);
    uint64_t before = thread_ns(&s->dp->worker[0].outbound);
    nanosleep(&wait, NULL);
    uint64_t spent = thread_ns(&s->dp->worker[0].outbound) - before;
    assert_int_equal(dp_worker_stop(s->dp, 0), 0);
    assert_in_range(spent, 0, 2000000);
}

static void test_a_stop_is_clean_under_traffic_and_can_be_started_again(void **state) {
    struct site *s = *state;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(dp_worker_start(s->dp, 0), 0);
        assert_int_equal(dp_worker_start(s->dp, 0), -EALREADY);
        for (unsigned j = 0; j < 5; j++)
            send_some(s, (uint8_t)i);
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        assert_int_equal(dp_worker_stop(s->dp, 0), 0);
        assert_true(clock_ns(CLOCK_MONOTONIC) - before < SECOND);
        assert_int_equal(dp_worker_stop(s->dp, 0), 0);
        assert_int_equal(dp_reclaim(s->dp), 0);
        receive_some(s);
    }
    assert_int_equal(dp_worker_start(s->dp, 1), -EINVAL);
    assert_int_equal(dp_worker_stop(s->dp, 1), -EINVAL);
}

static void test_a_plane_may_end_with_its_threads_running(void **state) {
    struct site *s = *state;
    assert_int_equal(dp_worker_start(s->dp, 0), 0);
    send_some(s, 1); /* teardown destroys it */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_everything_at_once_under_traffic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_packet_wakes_idle_loops_by_every_device, setup, teardown),
        cmocka_unit_test_setup_teardown(test_everything_at_once_under_traffic, setup_restless, teardown),
        cmocka_unit_test_setup_teardown(test_the_inbound_loop_changes_threads_and_back, setup_restless, teardown),
        cmocka_unit_test_setup_teardown(test_links_follow_the_loop, setup_restless, teardown),
        cmocka_unit_test_setup_teardown(test_one_thread_runs_both_loops_while_that_is_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_threads_do_not_spin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_device_that_failed_does_not_keep_its_loop_awake, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stop_is_clean_under_traffic_and_can_be_started_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_plane_may_end_with_its_threads_running, setup, teardown),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
