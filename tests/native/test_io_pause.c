/* Devices that are left unread for a while: nothing is lost, nothing is read, and what was read is sent. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plane.h"

enum {
    QUEUE = 8192,
    TRIES = 10000000,
};

/* Two workers; the SA is the second one's, and both read: what the first reads is handed over. */
static int setup(void **state) {
    struct dp *dp = plane_new(2);
    struct dp_addr here = loopback(4500);
    struct dp_selector any = any_selector(4);
    uint32_t child;
    plane_protect(dp);
    for (uint32_t w = 0; w < 2; w++) {
        assert_int_equal(dp_mem_tun_attach(dp, w, w, QUEUE), 0);
        assert_int_equal(dp_mem_link_attach(dp, w, DP_ENCAPSULATION_UDP, &here, QUEUE), 0);
    }
    struct dp_sa_params p = plane_params(0x1001, 0, 4500);
    p.worker = 1;
    assert_int_equal(dp_child_add(dp, 0, &any, 1, &child), 0);
    assert_int_equal(dp_child_switch(dp, 0, child, plane_install(dp, DP_OUTBOUND, &p)), 0);
    *state = dp;
    return 0;
}

static int teardown(void **state) {
    dp_destroy(*state);
    return 0;
}

static void push(struct dp *dp, unsigned n) {
    uint8_t packet[PACKET];
    plane_packet(packet, 3);
    for (unsigned i = 0; i < n; i++)
        for (uint32_t w = 0; w < 2; w++)
            assert_int_equal(dp_mem_tun_push(dp, w, w, packet, PACKET), 0);
}

static unsigned pulled(struct dp *dp) {
    uint8_t data[2048];
    struct dp_mem_meta meta;
    unsigned count = 0;
    while (dp_mem_link_pull(dp, 1, 0, &meta, data, sizeof data) > 0)
        count++;
    return count;
}

static void until_idle(const struct dp *dp) {
    for (unsigned tries = 0; !dp_receive_idle(dp); tries++) {
        assert_true(tries < TRIES);
        sched_yield();
    }
}

static uint64_t sent(const struct dp *dp) {
    struct dp_counters c;
    dp_counters_read(dp, &c);
    return c.packets_out;
}

static void test_steps_read_nothing_while_it_is_paused(void **state) {
    struct dp *dp = *state;
    push(dp, 3);
    assert_int_equal(dp_receive_idle(dp), 0); /* it is not paused */
    dp_receive_pause(dp);
    assert_int_equal(dp_receive_idle(dp), 1);
    for (uint32_t w = 0; w < 2; w++)
        assert_int_equal(dp_outbound_step(dp, w, 256, START), 0);
    assert_int_equal(dp_receive_resume(dp), 0);
    assert_int_equal(dp_receive_idle(dp), 0);
    for (uint32_t w = 0; w < 2; w++)
        assert_true(dp_outbound_step(dp, w, 256, START) > 0);
    assert_int_equal(pulled(dp), 6);
}

static void test_it_is_not_idle_before_what_was_handed_over_is_sent(void **state) {
    struct dp *dp = *state;
    push(dp, 3);
    assert_int_equal(dp_outbound_step(dp, 0, 256, START), 3);
    dp_receive_pause(dp);
    assert_int_equal(dp_receive_idle(dp), 0);
    assert_int_equal(dp_outbound_step(dp, 1, 256, START), 3); /* those, and none of its own device */
    assert_int_equal(dp_receive_idle(dp), 1);
    assert_int_equal(pulled(dp), 3);
}

static void test_it_is_not_idle_in_the_middle_of_a_step(void **state) {
    struct dp *dp = *state;
    struct dp_loop *loop = &dp->worker[0].inbound;
    dp_epoch_online(&loop->epoch, &dp->epoch);
    dp_receive_pause(dp);
    assert_int_equal(dp_receive_idle(dp), 0);
    dp_epoch_offline(&loop->epoch);
    assert_int_equal(dp_receive_idle(dp), 1);
}

static void test_a_device_that_comes_meanwhile_waits_and_one_of_another_worker_stays_unread(void **state) {
    struct dp *dp = *state;
    uint8_t packet[PACKET];
    plane_packet(packet, 1);
    dp_receive_pause(dp);
    assert_int_equal(dp_tun_detach(dp, 1, 1), 0);
    assert_int_equal(dp_mem_tun_attach(dp, 1, 1, QUEUE), 0);
    assert_int_equal(dp_receive_off(dp, 0, 0, 0), 0);
    push(dp, 1);
    assert_int_equal(dp_outbound_step(dp, 1, 256, START), 0);
    assert_int_equal(dp_receive_resume(dp), 0);
    assert_int_equal(dp_outbound_step(dp, 1, 256, START), 1);
    assert_int_equal(dp_outbound_step(dp, 0, 256, START), 0);
}

static void test_under_threads_everything_read_is_sent_and_nothing_is_lost(void **state) {
    struct dp *dp = *state;
    unsigned pushed = 0, arrived = 0;
    for (uint32_t w = 0; w < 2; w++)
        assert_int_equal(dp_worker_start(dp, w), 0);
    for (unsigned round = 0; round < 30; round++) {
        push(dp, 100);
        pushed += 200;
        for (unsigned i = 0; i < round; i++)
            sched_yield();
        dp_receive_pause(dp);
        until_idle(dp);
        uint64_t before = sent(dp);
        arrived += pulled(dp);
        assert_int_equal(arrived, before); /* not one is between reading and sending */
        push(dp, 5);
        pushed += 10;
        for (unsigned i = 0; i < 20; i++)
            sched_yield();
        assert_int_equal(sent(dp), before);
        assert_int_equal(dp_receive_resume(dp), 0);
    }
    for (unsigned tries = 0; arrived < pushed; tries++) {
        assert_true(tries < TRIES);
        arrived += pulled(dp);
        sched_yield();
    }
    for (uint32_t w = 0; w < 2; w++)
        assert_int_equal(dp_worker_stop(dp, w), 0);
    assert_int_equal(arrived, pushed);
}

static void test_real_descriptors_are_left_in_the_kernel_and_read_again(void **state) {
    struct dp *dp = *state;
    int host[2];
    uint8_t packet[PACKET], seen[PACKET];
    plane_packet(packet, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, host), 0);
    assert_int_equal(dp_tun_detach(dp, 1, 1), 0);
    assert_int_equal(dp_tun_inherit(dp, 1, 1, host[0], DP_OFFLOAD_TUN_CSUM), -EINVAL); /* it has no header */
    assert_int_equal(dp_tun_inherit(dp, 1, 1, host[0], DP_OFFLOAD_UDP_GRO), -EINVAL);
    assert_int_equal(dp_tun_inherit(dp, 1, 1, host[0], 0), 0);
    assert_int_equal(dp_worker_start(dp, 1), 0);
    dp_receive_pause(dp);
    until_idle(dp);
    assert_int_equal(send(host[1], packet, PACKET, 0), PACKET);
    for (unsigned i = 0; i < 50; i++)
        sched_yield();
    assert_int_equal(recv(host[0], seen, PACKET, MSG_PEEK | MSG_DONTWAIT), PACKET); /* whoever has the descriptor gets it */
    assert_int_equal(dp_receive_resume(dp), 0);
    unsigned arrived = 0;
    for (unsigned tries = 0; arrived < 1; tries++) {
        assert_true(tries < TRIES);
        arrived += pulled(dp);
        sched_yield();
    }
    assert_int_equal(dp_worker_stop(dp, 1), 0);
    close(host[0]);
    close(host[1]);
}

static void test_counts_of_another_plane_are_added(void **state) {
    struct dp *dp = *state;
    struct dp_counters c, all;
    struct dp_tunnel_traffic t = {.packets_in = 5, .octets_out = 7, .last_in = 9};
    uint64_t drops[DP_DROP_COUNT] = {[DP_DROP_icv] = 3};
    memset(&c, 0, sizeof c);
    uint64_t *each = (uint64_t *)&c;
    for (size_t i = 1; i < sizeof c / sizeof *each; i++) /* no packet is dropped for DP_OK */
        each[i] = i;
    assert_int_equal(dp_counters_import(dp, 0, &c), 0);
    dp_counters_read(dp, &all);
    assert_memory_equal(&all, &c, sizeof c);
    assert_int_equal(dp_tunnel_import(dp, 4, &t, drops), -EINVAL);
    assert_int_equal(dp_tunnel_import(dp, 3, &t, drops), 0);
    assert_int_equal(dp_tunnel_import(dp, 3, &t, drops), 0);
    assert_int_equal(dp_tunnel_read(dp, 3, NULL, 0, &t, drops), 0);
    assert_int_equal(t.packets_in, 10);
    assert_int_equal(t.octets_out, 14);
    assert_int_equal(t.last_in, 9);
    assert_int_equal(drops[DP_DROP_icv], 6);
    assert_int_equal(dp_worker_start(dp, 0), 0);
    assert_int_equal(dp_counters_import(dp, 0, &c), -EBUSY);
    assert_int_equal(dp_worker_stop(dp, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_steps_read_nothing_while_it_is_paused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_is_not_idle_before_what_was_handed_over_is_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_is_not_idle_in_the_middle_of_a_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_device_that_comes_meanwhile_waits_and_one_of_another_worker_stays_unread, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_under_threads_everything_read_is_sent_and_nothing_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_real_descriptors_are_left_in_the_kernel_and_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counts_of_another_plane_are_added, setup, teardown),
    };
    return cmocka_run_group_tests_name("io_pause", tests, NULL, NULL);
}
