/* An SA that goes on promises not to go beyond a bound, so that another may go on behind it; and what a loop is in the middle of
 * when it is retired or bounded. */
#include <errno.h>

#include "seal.h"
#include "two_planes.h"

static int snapshot(struct dp *dp, dp_sa_id id, uint32_t most, struct dp_sa_state *state, uint8_t *keymat) {
    return dp_sa_snapshot(dp, id, most, state, keymat, DP_KEYMAT_ROOM);
}

static void test_nothing_is_sealed_above_what_is_reserved(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id out = plane_install(dp, DP_OUTBOUND, &p);
    struct rows sealed;
    assert_int_equal(dp_sa_reserve(dp, out, 0), -ERANGE);
    assert_int_equal(dp_sa_reserve(dp, out, UINT64_C(1) << 32), -ERANGE);
    assert_int_equal(dp_sa_reserve(dp, out, 3), 0);
    assert_int_equal(dp_sa_reserve(dp, out, 2), -EINVAL);
    seal_rows(dp, out, 5, &sealed);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(sealed.reason[i], i < 3 ? DP_OK : DP_DROP_unreserved);
    struct dp_sa_info info;
    assert_int_equal(dp_sa_read(dp, out, &info), 0);
    assert_int_equal(info.drops[DP_DROP_unreserved], 2);
    assert_int_equal(info.flags, 0); /* it is not at its end */
    assert_int_equal(dp_sa_reserve(dp, out, 4), 0);
    assert_int_equal(seal_one(dp, out), DP_OK);
    assert_int_equal(seal_one(dp, out), DP_DROP_unreserved);
    assert_int_equal(dp_sa_publish(dp, out, 9), -ENOENT);
    assert_int_equal(dp_sa_retire(dp, out), 0);
    assert_int_equal(dp_sa_reserve(dp, out, 9), -EKEYREVOKED);
}

static void test_at_its_very_end_a_reserve_is_no_excuse(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    for (int esn = 0; esn < 2; esn++) {
        struct dp_sa_params p = params_of(esn != 0);
        uint64_t end = esn ? UINT64_MAX : UINT32_MAX;
        p.sequence = end - 2;
        dp_sa_id out = plane_install(dp, DP_OUTBOUND, &p);
        assert_int_equal(dp_sa_reserve(dp, out, end), 0);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(seal_one(dp, out), i < 2 ? DP_OK : DP_DROP_sequence_exhausted);
    }
}

static void test_nothing_is_opened_above_what_is_published(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(true);
    dp_sa_id out = plane_install(dp, DP_OUTBOUND, &p), in = plane_install(dp, DP_INBOUND, &p);
    struct rows sealed;
    seal_rows(dp, out, 8, &sealed);
    assert_int_equal(open_row(dp, &sealed, 1), DP_OK);
    assert_int_equal(dp_sa_publish(dp, in, 5), 0);
    assert_int_equal(open_row(dp, &sealed, 5), DP_DROP_unpublished);
    assert_int_equal(open_row(dp, &sealed, 4), DP_OK);
    assert_int_equal(open_row(dp, &sealed, 4), DP_DROP_replay);
    assert_int_equal(open_row(dp, &sealed, 0), DP_OK); /* below, the window is what it was */
    assert_int_equal(dp_sa_publish(dp, in, 6), 0);
    assert_int_equal(open_row(dp, &sealed, 5), DP_OK); /* it had left no trace */
    assert_int_equal(open_row(dp, &sealed, 6), DP_DROP_unpublished);
    assert_int_equal(dp_sa_reserve(dp, in, 9), -ENOENT);
}

/* The deterministic form of a burst in another thread: the loop is online, the SA has admitted it. */
static void test_a_burst_under_way_is_sealed_to_its_end_and_counted(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id id = plane_install(dp, DP_OUTBOUND, &p);
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    struct dp_loop *loop = &dp->worker[0].outbound;
    struct dp_sa_state exported;
    uint8_t keymat[DP_KEYMAT_ROOM], packet[ROW], out[ROW];
    dp_epoch_online(&loop->epoch, &dp->epoch);
    assert_true(dp_seal_begin(loop, sa, 3, 3 * PACKET, START));
    assert_int_equal(dp_sa_retire(dp, id), 0);
    assert_int_equal(dp_sa_export(dp, id, &exported, keymat, sizeof keymat), -EAGAIN);
    for (unsigned i = 0; i < 3; i++) {
        plane_packet(packet, 1);
        assert_int_equal(dp_seal_next(sa, packet, PACKET, 4, out), DP_OK);
        assert_int_equal(dp_sa_export(dp, id, &exported, keymat, sizeof keymat), -EAGAIN);
    }
    dp_seal_end(loop, sa, 3, 3 * PACKET, START);
    assert_false(dp_seal_begin(loop, sa, 1, PACKET, START));
    dp_epoch_offline(&loop->epoch);
    dp_epoch_online(&loop->epoch, &dp->epoch); /* the next step is none of ours */
    assert_int_equal(dp_sa_export(dp, id, &exported, keymat, sizeof keymat), KEYMAT);
    dp_epoch_offline(&loop->epoch);
    assert_int_equal(exported.sequence, 3);
    assert_int_equal(exported.packets, 3);
}

static void test_a_bound_that_a_burst_has_passed_holds_only_when_it_is_raised(void **state) {
    struct dp **planes = *state, *dp = planes[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id id = plane_install(dp, DP_OUTBOUND, &p);
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    struct dp_loop *loop = &dp->worker[0].outbound;
    struct dp_sa_state state_of;
    uint8_t keymat[DP_KEYMAT_ROOM], packet[ROW], out[ROW];
    assert_int_equal(snapshot(dp, id, 1, &state_of, keymat), -EPERM);
    dp_epoch_online(&loop->epoch, &dp->epoch);
    assert_true(dp_seal_begin(loop, sa, 5, 5 * PACKET, START));
    assert_int_equal(dp_sa_reserve(dp, id, 2), -EAGAIN);
    assert_int_equal(snapshot(dp, id, 1, &state_of, keymat), -EAGAIN);
    for (unsigned i = 0; i < 5; i++) {
        plane_packet(packet, 1);
        assert_int_equal(dp_seal_next(sa, packet, PACKET, 4, out), DP_OK);
    }
    dp_seal_end(loop, sa, 5, 5 * PACKET, START);
    dp_epoch_offline(&loop->epoch);
    assert_int_equal(dp_sa_reserve(dp, id, 2), -ERANGE);
    assert_int_equal(snapshot(dp, id, 1, &state_of, keymat), -ERANGE);
    assert_int_equal(seal_one(dp, id), DP_DROP_unreserved); /* no number below the bound is left, whatever the subtraction says */
    assert_int_equal(dp_sa_reserve(dp, id, 8), 0);
    assert_int_equal(seal_one(dp, id), DP_OK);
    assert_int_equal(snapshot(dp, id, 1, &state_of, keymat), KEYMAT);
    assert_int_equal(state_of.sequence, 8);
}

/* Source and successor, with every number that the one may use and the first that the other does. */
static void test_a_successor_begins_behind_the_reserve(void **state) {
    struct dp **planes = *state;
    for (int esn = 0; esn < 2; esn++) {
        struct dp_sa_params p = params_of(esn != 0);
        p.iv = 500;
        p.sequence = UINT32_MAX - 40; /* with extended numbers the reserve reaches into the next half */
        dp_sa_id from = plane_install(planes[0], DP_OUTBOUND, &p);
        struct rows before, reserved, after;
        struct dp_sa_state state_of;
        uint8_t keymat[DP_KEYMAT_ROOM];
        uint64_t bound = esn ? p.sequence + 60 : UINT32_MAX;
        seal_rows(planes[0], from, 10, &before);
        assert_int_equal(dp_sa_reserve(planes[0], from, bound), 0);
        assert_int_equal(snapshot(planes[0], from, 1500, &state_of, keymat), KEYMAT);
        dp_sa_id to = arrive(planes[1], DP_OUTBOUND, &p, &state_of, keymat);
        seal_rows(planes[0], from, ROWS, &reserved);
        seal_rows(planes[1], to, 5, &after);
        unsigned left = (unsigned)(bound - p.sequence - 10);
        for (unsigned i = 0; i < ROWS; i++)
            assert_int_equal(reserved.reason[i], i < left ? DP_OK : esn ? DP_DROP_unreserved : DP_DROP_sequence_exhausted);
        assert_int_equal(sequence_of(reserved.data[left - 1]), (uint32_t)bound);
        assert_int_equal(iv_of(reserved.data[left - 1]) & UINT32_MAX, 500 + 10 + left - 1); /* the low half of the IV */
        assert_true(state_of.packets >= bound - p.sequence);
        assert_int_equal(state_of.octets, 10 * PACKET + left * 1500);
        if (!esn) { /* nothing is left for it: refused, not begun anew */
            assert_int_equal(after.reason[0], DP_DROP_sequence_exhausted);
            continue;
        }
        assert_int_equal(after.reason[0], DP_OK);
        assert_int_equal(sequence_of(after.data[0]), (uint32_t)(bound + 1));
        assert_int_equal(iv_of(after.data[0]) & UINT32_MAX, 500 + 10 + left);
    }
}

static void test_a_successor_opens_above_the_bound_alone(void **state) {
    struct dp **planes = *state;
    for (int esn = 0; esn < 2; esn++) {
        struct dp_sa_params p = params_of(esn != 0);
        p.sequence = esn ? UINT32_MAX - 20 : 100; /* the bound lies in the next half */
        p.replay_window = 64;
        dp_sa_id out = plane_install(planes[0], DP_OUTBOUND, &p), in = plane_install(planes[0], DP_INBOUND, &p);
        struct rows sealed;
        struct dp_sa_state state_of;
        uint8_t keymat[DP_KEYMAT_ROOM];
        seal_rows(planes[0], out, ROWS, &sealed);
        for (unsigned i = 0; i < 10; i++)
            assert_int_equal(open_row(planes[0], &sealed, i), DP_OK);
        uint64_t bound = p.sequence + 32;
        assert_int_equal(dp_sa_publish(planes[0], in, bound), 0);
        assert_int_equal(snapshot(planes[0], in, 1500, &state_of, keymat), KEYMAT);
        dp_sa_id to = arrive(planes[1], DP_INBOUND, &p, &state_of, keymat);
        for (unsigned i = 0; i < ROWS; i++) { /* what the one may open, the other may not */
            assert_int_equal(open_row(planes[1], &sealed, i) == DP_OK, i >= 32);
            assert_int_equal(open_row(planes[0], &sealed, i) == DP_OK, i >= 10 && i < 32);
        }
        assert_true(state_of.packets >= 32 + 64);
        assert_true(state_of.octets >= 10 * PACKET + (22 + 64) * 1500);
        assert_int_equal(dp_sa_remove(planes[0], in), 0);
        assert_int_equal(dp_sa_remove(planes[1], to), 0);
        (void)(dp_reclaim(planes[0]) + dp_reclaim(planes[1]));
    }
}

static void test_what_is_counted_stops_at_the_top(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(true);
    dp_sa_id out = plane_install(planes[0], DP_OUTBOUND, &p);
    struct dp_sa_state state_of;
    uint8_t keymat[DP_KEYMAT_ROOM];
    p.hard_octets = 1 << 20;
    assert_int_equal(seal_one(planes[0], out), DP_OK);
    assert_int_equal(dp_sa_reserve(planes[0], out, UINT64_MAX - 1), 0);
    assert_int_equal(snapshot(planes[0], out, 65535, &state_of, keymat), KEYMAT);
    assert_true(state_of.octets == UINT64_MAX);
    state_of.octets = (1 << 20) - 10;
    out = arrive(planes[1], DP_OUTBOUND, &p, &state_of, keymat);
    assert_int_equal(seal_one(planes[1], out), DP_DROP_hard_limit);
}

static void test_a_bound_moves_with_an_sa_that_is_exported_whole(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(true);
    dp_sa_id id[2] = {plane_install(planes[0], DP_INBOUND, &p), plane_install(planes[0], DP_OUTBOUND, &p)};
    struct dp_sa_state state_of;
    uint8_t keymat[DP_KEYMAT_ROOM];
    struct rows sealed;
    assert_int_equal(dp_sa_publish(planes[0], id[0], 2), 0);
    assert_int_equal(dp_sa_reserve(planes[0], id[1], 4), 0);
    for (unsigned direction = 0; direction < 2; direction++) {
        assert_int_equal(dp_sa_retire(planes[0], id[direction]), 0);
        assert_int_equal(dp_sa_export(planes[0], id[direction], &state_of, keymat, sizeof keymat), KEYMAT);
        id[direction] = arrive(planes[1], direction, &p, &state_of, keymat);
    }
    seal_rows(planes[1], id[1], 5, &sealed);
    assert_int_equal(sealed.reason[3], DP_OK);
    assert_int_equal(sealed.reason[4], DP_DROP_unreserved);
    assert_int_equal(open_row(planes[1], &sealed, 1), DP_OK);
    assert_int_equal(open_row(planes[1], &sealed, 2), DP_DROP_unpublished);
    assert_int_equal(dp_sa_publish(planes[1], id[0], 1), -EINVAL);
}

/* It was set too late, and the SA is retired before a higher one is. */
static void test_an_sa_that_is_beyond_its_bound_moves_and_waits_for_a_higher_one(void **state) {
    struct dp **planes = *state;
    for (int esn = 0; esn < 2; esn++) {
        struct dp_sa_params p = params_of(esn != 0);
        dp_sa_id id[2] = {plane_install(planes[0], DP_INBOUND, &p), plane_install(planes[0], DP_OUTBOUND, &p)};
        dp_sa_id from = id[0];
        struct dp_sa_state state_of;
        uint8_t keymat[DP_KEYMAT_ROOM];
        struct rows before, sealed;
        seal_rows(planes[0], id[1], 5, &before);
        assert_int_equal(open_row(planes[0], &before, 4), DP_OK);
        assert_int_equal(dp_sa_publish(planes[0], id[0], 2), -ERANGE);
        assert_int_equal(dp_sa_reserve(planes[0], id[1], 3), -ERANGE);
        for (unsigned direction = 0; direction < 2; direction++) {
            assert_int_equal(dp_sa_retire(planes[0], id[direction]), 0);
            assert_int_equal(dp_sa_export(planes[0], id[direction], &state_of, keymat, sizeof keymat), KEYMAT);
            id[direction] = arrive(planes[1], direction, &p, &state_of, keymat);
        }
        assert_int_equal(seal_one(planes[1], id[1]), DP_DROP_unreserved);
        assert_int_equal(snapshot(planes[1], id[1], 1, &state_of, keymat), -ERANGE);
        assert_int_equal(dp_sa_reserve(planes[1], id[1], 7), 0);
        seal_rows(planes[1], id[1], 3, &sealed);
        assert_int_equal(sequence_of(sealed.data[0]), 6);
        assert_int_equal(sealed.reason[2], DP_DROP_unreserved);
        assert_int_equal(open_row(planes[1], &sealed, 0), DP_DROP_unpublished);
        assert_int_equal(open_row(planes[1], &before, 4), DP_DROP_replay);
        assert_int_equal(open_row(planes[1], &before, 3), DP_OK); /* below, the window is what it was */
        assert_int_equal(dp_sa_publish(planes[1], id[0], 6), 0);
        assert_int_equal(open_row(planes[1], &sealed, 0), DP_OK);
        assert_int_equal(dp_sa_remove(planes[0], from), 0);
        assert_int_equal(dp_sa_remove(planes[1], id[0]), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_sealed_above_what_is_reserved, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_at_its_very_end_a_reserve_is_no_excuse, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_nothing_is_opened_above_what_is_published, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_a_burst_under_way_is_sealed_to_its_end_and_counted, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_a_bound_that_a_burst_has_passed_holds_only_when_it_is_raised, two_planes,
                                        end_two_planes),
        cmocka_unit_test_setup_teardown(test_a_successor_begins_behind_the_reserve, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_a_successor_opens_above_the_bound_alone, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_what_is_counted_stops_at_the_top, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_a_bound_moves_with_an_sa_that_is_exported_whole, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_an_sa_that_is_beyond_its_bound_moves_and_waits_for_a_higher_one, two_planes,
                                        end_two_planes),
    };
    return cmocka_run_group_tests_name("sa_bound", tests, NULL, NULL);
}
