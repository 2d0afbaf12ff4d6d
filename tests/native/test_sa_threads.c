/* What is exported while a thread uses the SA: after the last packet that it sealed, or opened. ThreadSanitizer watches. */
#include <errno.h>
#include <sched.h>

#include "two_planes.h"

enum {
    QUEUE = 8192,
    TRIES = 10000000,
    BATCHES = 8,
};

/* Everything that left by the link: how many packets, and the highest number. */
static uint64_t pulled(struct dp *dp, uint64_t *highest) {
    uint8_t data[2048];
    struct dp_mem_meta meta;
    uint64_t count = 0;
    while (dp_mem_link_pull(dp, 0, 0, &meta, data, sizeof data) > 0) {
        uint64_t number = sequence_of(data);
        *highest = number > *highest ? number : *highest;
        count++;
    }
    return count;
}

static void push(struct dp *dp, unsigned n) {
    uint8_t packet[PACKET];
    plane_packet(packet, 3);
    for (unsigned i = 0; i < n; i++)
        (void)dp_mem_tun_push(dp, 0, 0, packet, PACKET);
}

static int export_soon(struct dp *dp, dp_sa_id id, struct dp_sa_state *exported, uint8_t *keymat) {
    int result = -EAGAIN;
    assert_int_equal(dp_sa_retire(dp, id), 0);
    for (unsigned tries = 0; result == -EAGAIN && tries < TRIES; tries++)
        result = dp_sa_export(dp, id, exported, keymat, DP_KEYMAT_ROOM);
    return result;
}

static void test_the_number_exported_is_after_the_last_one_sealed_by_a_thread(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_addr here = loopback(4500);
    struct dp_selector any = any_selector(4);
    struct dp_sa_state exported;
    uint8_t keymat[DP_KEYMAT_ROOM];
    uint32_t child;
    uint64_t sealed_in_all = 0;
    plane_protect(dp);
    assert_int_equal(dp_mem_tun_attach(dp, 0, 0, QUEUE), 0);
    assert_int_equal(dp_mem_link_attach(dp, 0, DP_ENCAPSULATION_UDP, &here, QUEUE), 0);
    assert_int_equal(dp_child_add(dp, 0, &any, 1, &child), 0);
    assert_int_equal(dp_worker_start(dp, 0), 0);
    for (unsigned round = 0; round < 40; round++) {
        struct dp_sa_params p = params_of(round % 2 != 0);
        dp_sa_id id = plane_install(dp, DP_OUTBOUND, &p);
        assert_int_equal(dp_child_switch(dp, 0, child, id), 0);
        push(dp, 50 + 20 * (round % 16));
        for (unsigned i = 0; i < round * 5; i++)
            sched_yield();
        assert_int_equal(export_soon(dp, id, &exported, keymat), KEYMAT);
        uint64_t highest = 0, count = pulled(dp, &highest);
        assert_int_equal(count, exported.sequence);
        assert_int_equal(highest, exported.sequence);
        assert_int_equal(count, exported.packets);
        sealed_in_all += count;
        push(dp, 10);
        assert_int_equal(dp_sa_remove(dp, id), 0);
    }
    assert_int_equal(dp_worker_stop(dp, 0), 0);
    assert_true(sealed_in_all > 0);
}

static unsigned pulled_plain(struct dp *dp) {
    uint8_t plain[2048];
    unsigned count = 0;
    while (dp_mem_tun_pull(dp, 0, 0, plain, sizeof plain) > 0)
        count++;
    return count;
}

/* How many of all packets a successor opens. */
static unsigned opened_there(struct dp *dp, const struct dp_sa_params *p, const struct dp_sa_state *state, const uint8_t *keymat,
                             const struct rows *sealed) {
    unsigned count = 0;
    dp_sa_id id = arrive(dp, DP_INBOUND, p, state, keymat);
    for (unsigned b = 0; b < BATCHES; b++)
        for (unsigned i = 0; i < ROWS; i++)
            count += open_row(dp, &sealed[b], i) == DP_OK;
    assert_int_equal(dp_sa_remove(dp, id), 0);
    assert_int_equal(dp_reclaim(dp), 0);
    return count;
}

static void push_all(struct dp *dp, const struct rows *sealed) {
    struct dp_mem_meta meta = {.local = loopback(4500), .remote = loopback(4500)};
    for (unsigned b = 0; b < BATCHES; b++)
        for (unsigned i = 0; i < ROWS; i++)
            assert_int_equal(dp_mem_link_push(dp, 0, 0, &meta, sealed[b].data[i], sealed[b].octets[i]), 0);
}

/* All packets so far were opened or dropped: none of them is there for the next round. */
static void until_seen(const struct dp *dp, uint64_t all) {
    struct dp_counters c;
    for (unsigned tries = 0; tries < TRIES; tries++) {
        dp_counters_read(dp, &c);
        if (c.packets_in + c.drops[DP_DROP_retired] == all)
            return;
        sched_yield();
    }
    fail();
}

/* Each is opened by the source, in its thread, or by its successor, and by no other. */
static void test_the_window_exported_is_after_the_last_packet_opened_by_a_thread(void **state) {
    static struct rows sealed[BATCHES];
    struct dp **planes = *state, *dp = planes[0];
    struct dp_addr here = loopback(4500);
    struct dp_sa_params p = params_of(true);
    struct dp_sa_state exported;
    uint8_t keymat[DP_KEYMAT_ROOM];
    dp_sa_id out = plane_install(dp, DP_OUTBOUND, &p);
    for (unsigned b = 0; b < BATCHES; b++)
        seal_rows(dp, out, ROWS, &sealed[b]);
    assert_int_equal(dp_mem_tun_attach(dp, 0, 0, QUEUE), 0);
    assert_int_equal(dp_mem_link_attach(dp, 0, DP_ENCAPSULATION_UDP, &here, QUEUE), 0);
    assert_int_equal(dp_worker_start(dp, 0), 0);
    for (unsigned round = 1; round <= 20; round++) {
        dp_sa_id in = plane_install(dp, DP_INBOUND, &p);
        push_all(dp, sealed);
        for (unsigned i = 0; i < round * 5; i++)
            sched_yield();
        assert_int_equal(export_soon(dp, in, &exported, keymat), KEYMAT);
        unsigned opened = pulled_plain(dp);
        assert_int_equal(exported.packets, opened);
        assert_int_equal(opened_there(planes[1], &p, &exported, keymat, sealed), BATCHES * ROWS - opened);
        until_seen(dp, (uint64_t)round * BATCHES * ROWS);
        assert_int_equal(pulled_plain(dp), 0);
        assert_int_equal(dp_sa_remove(dp, in), 0);
    }
    assert_int_equal(dp_worker_stop(dp, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_number_exported_is_after_the_last_one_sealed_by_a_thread, two_planes,
                                        end_two_planes),
        cmocka_unit_test_setup_teardown(test_the_window_exported_is_after_the_last_packet_opened_by_a_thread, two_planes,
                                        end_two_planes),
    };
    return cmocka_run_group_tests_name("sa_threads", tests, NULL, NULL);
}
