/* Epochs: nothing is freed that a loop may hold, and everything else is. The test plays the loops by marking them online itself. */
#include "plane.h"

static unsigned freed;

static void count_free(struct dp *dp, void *thing) {
    (void)dp;
    assert_non_null(thing);
    freed++;
}

static int setup(void **state) {
    *state = plane_new(2);
    freed = 0;
    return 0;
}

static int teardown(void **state) {
    dp_destroy(*state);
    return 0;
}

static int things[4];

static void online(struct dp *dp, struct dp_loop *loop) {
    dp_epoch_online(&loop->epoch, &dp->epoch);
}

static void offline(struct dp_loop *loop) {
    dp_epoch_offline(&loop->epoch);
}

static void test_with_every_loop_offline_it_is_freed_at_once(void **state) {
    struct dp *dp = *state;
    dp_epoch_retire(dp, count_free, &things[0]);
    assert_int_equal(freed, 0);
    assert_int_equal(dp_epoch_reclaim(dp), 0);
    assert_int_equal(freed, 1);
    assert_int_equal(dp_epoch_reclaim(dp), 0);
    assert_int_equal(freed, 1);
}

static void test_any_loop_that_was_online_before_keeps_it(void **state) {
    struct dp *dp = *state;
    struct dp_loop *loops[] = {&dp->worker[0].inbound, &dp->worker[0].outbound, &dp->worker[1].inbound, &dp->worker[1].outbound};
    for (size_t i = 0; i < 4; i++) {
        freed = 0;
        online(dp, loops[i]);
        dp_epoch_retire(dp, count_free, &things[0]);
        for (unsigned again = 0; again < 3; again++)
            assert_int_equal(dp_epoch_reclaim(dp), 1);
        assert_int_equal(freed, 0);
        offline(loops[i]);
        assert_int_equal(dp_epoch_reclaim(dp), 0);
        assert_int_equal(freed, 1);
    }
}

static void test_a_loop_that_came_later_does_not_keep_it(void **state) {
    struct dp *dp = *state;
    dp_epoch_retire(dp, count_free, &things[0]);
    online(dp, &dp->worker[0].inbound);
    assert_int_equal(dp_epoch_reclaim(dp), 0);
    assert_int_equal(freed, 1);
    offline(&dp->worker[0].inbound);
}

static void test_one_step_later_is_late_enough(void **state) {
    struct dp *dp = *state;
    struct dp_loop *loop = &dp->worker[1].outbound;
    online(dp, loop);
    dp_epoch_retire(dp, count_free, &things[0]);
    offline(loop);
    online(dp, loop);
    assert_int_equal(dp_epoch_reclaim(dp), 0);
    assert_int_equal(freed, 1);
    offline(loop);
}

static void test_older_things_go_while_newer_ones_wait(void **state) {
    struct dp *dp = *state;
    struct dp_loop *early = &dp->worker[0].inbound, *late = &dp->worker[0].outbound;
    online(dp, early);
    dp_epoch_retire(dp, count_free, &things[0]);
    online(dp, late);
    dp_epoch_retire(dp, count_free, &things[1]);
    dp_epoch_retire(dp, count_free, &things[2]);
    assert_int_equal(dp_epoch_reclaim(dp), 3);
    offline(early);
    assert_int_equal(dp_epoch_reclaim(dp), 2);
    assert_int_equal(freed, 1);
    offline(late);
    assert_int_equal(dp_epoch_reclaim(dp), 0);
    assert_int_equal(freed, 3);
}

static void test_loops_pass_when_each_has_let_go_since(void **state) {
    struct dp *dp = *state;
    struct dp_loop *loop = &dp->worker[1].inbound;
    for (unsigned again = 0; again < 3; again++)
        assert_int_equal(dp_loops_pass(dp), 1);
    online(dp, loop);
    assert_int_equal(dp_loops_pass(dp), 1); /* it came online since */
    for (unsigned again = 0; again < 3; again++)
        assert_int_equal(dp_loops_pass(dp), 0);
    offline(loop);
    online(dp, loop); /* the next step */
    assert_int_equal(dp_loops_pass(dp), 1);
    assert_int_equal(dp_loops_pass(dp), 0);
    offline(loop);
    assert_int_equal(dp_loops_pass(dp), 1);
}

static void test_nothing_retired_is_nothing_to_free(void **state) {
    dp_epoch_retire(*state, count_free, NULL);
    assert_int_equal(dp_epoch_reclaim(*state), 0);
    assert_int_equal(freed, 0);
}

static void test_the_end_of_a_plane_frees_what_waits(void **state) {
    (void)state;
    struct dp *dp = plane_new(1);
    online(dp, &dp->worker[0].inbound);
    dp_epoch_retire(dp, count_free, &things[0]);
    offline(&dp->worker[0].inbound);
    freed = 0;
    dp_destroy(dp);
    assert_int_equal(freed, 1);
}

/* What the interface retires, one after the other, under a loop that is online: SAs with their keys, and what else changes. */
static void test_sas_policies_children_paths_and_devices_wait_for_the_loops(void **state) {
    struct dp *dp = *state;
    struct dp_selector any = any_selector(4);
    struct dp_addr here = loopback(4500);
    uint32_t child;
    plane_protect(dp);
    assert_int_equal(dp_child_add(dp, 0, &any, 1, &child), 0);
    assert_int_equal(dp_mem_tun_attach(dp, 0, 0, 4), 0);
    assert_int_equal(dp_mem_link_attach(dp, 0, DP_ENCAPSULATION_UDP, &here, 4), 0);
    struct dp_sa_params params = plane_params(0x1001, 0, 4500);
    dp_sa_id in = plane_install(dp, DP_INBOUND, &params), out = plane_install(dp, DP_OUTBOUND, &params);
    assert_int_equal(dp_child_switch(dp, 0, child, out), 0);
    assert_int_equal(dp_reclaim(dp), 0);
    uint64_t keys = keys_in_use(dp);
    assert_true(keys > 0);

    struct dp_loop *loop = &dp->worker[1].inbound;
    online(dp, loop);
    plane_protect(dp);
    assert_int_equal(dp_sa_set_path(dp, out, &params.path), 0);
    assert_int_equal(dp_sa_remove(dp, in), 0);
    assert_int_equal(dp_sa_remove(dp, out), 0);
    assert_int_equal(dp_child_remove(dp, 0, child), 0);
    assert_int_equal(dp_tun_detach(dp, 0, 0), 0);
    assert_int_equal(dp_link_detach(dp, 0, 0), 0);
    assert_true(dp_reclaim(dp) >= 7);
    assert_int_equal(keys_in_use(dp), keys);
    offline(loop);
    assert_int_equal(dp_reclaim(dp), 0);
    assert_int_equal(keys_in_use(dp), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_with_every_loop_offline_it_is_freed_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_loop_that_was_online_before_keeps_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_loop_that_came_later_does_not_keep_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_step_later_is_late_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older_things_go_while_newer_ones_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loops_pass_when_each_has_let_go_since, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_retired_is_nothing_to_free, setup, teardown),
        cmocka_unit_test(test_the_end_of_a_plane_frees_what_waits),
        cmocka_unit_test_setup_teardown(test_sas_policies_children_paths_and_devices_wait_for_the_loops, setup, teardown),
    };
    return cmocka_run_group_tests_name("epoch", tests, NULL, NULL);
}
