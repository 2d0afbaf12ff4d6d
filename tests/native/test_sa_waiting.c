/* Many SAs at once: installed before, without key and state, and going on where others stopped. */
#include <errno.h>

#include "two_planes.h"

enum {
    QUEUE = 4096,
};

static void test_many_go_on_where_they_waited(void **state) {
    enum {
        MANY = 20
    };
    struct dp **planes = *state;
    dp_sa_id from[2 * MANY], to[2 * MANY];
    static struct dp_sa_record records[2 * MANY];
    struct dp_selector any = any_selector(4);
    uint8_t sealed[MANY][3][ROW];
    uint32_t octets[MANY][3];
    size_t done;
    for (unsigned i = 0; i < 2 * MANY; i++) {
        struct dp_sa_params p = plane_params(SPI + i / 2, 0, 4500);
        from[i] = plane_install(planes[0], i % 2, &p);
        assert_int_equal(dp_sa_install_waiting(planes[1], i % 2, &p, &any, 1, &to[i]), 0);
    }
    assert_int_equal(keys_in_use(planes[1]), 0);
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned k = 0; k < 2; k++)
            assert_int_equal(seal_packet(planes[0], from[2 * i + 1], sealed[i][k], &octets[i][k]), DP_OK);
    assert_int_equal(open_packet(planes[0], sealed[3][1], octets[3][1]), DP_OK);
    assert_int_equal(open_packet(planes[1], sealed[3][0], octets[3][0]), DP_DROP_retired); /* it waits */
    assert_int_equal(seal_one(planes[1], to[1]), DP_DROP_retired);
    for (unsigned i = 0; i < 2 * MANY; i++) {
        assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, records), -EPERM); /* none leaves alone */
        assert_int_equal(dp_sa_retire(planes[0], from[i]), 0);
    }
    assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, records), 0);
    assert_int_equal(keys_in_use(planes[0]), 0);
    assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, records), -EALREADY);
    assert_int_equal(dp_sa_go_on_many(planes[1], to, 2 * MANY, records, &done), -EBUSY); /* devices are read */
    dp_receive_pause(planes[1]);
    assert_int_equal(dp_sa_go_on_many(planes[1], to, 2 * MANY, records, &done), 0);
    assert_int_equal(done, 2 * MANY);
    assert_int_equal(dp_receive_resume(planes[1]), 0);
    assert_int_equal(open_packet(planes[1], sealed[3][1], octets[3][1]), DP_DROP_replay);
    assert_int_equal(open_packet(planes[1], sealed[3][0], octets[3][0]), DP_OK);
    assert_int_equal(seal_packet(planes[1], to[7], sealed[3][2], &octets[3][2]), DP_OK);
    assert_true(iv_of(sealed[3][2]) == 2);
    assert_int_equal(sealed[3][2][7], 3);
}

static void test_what_was_retired_never_goes_on_again(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(false);
    static struct dp_sa_record record;
    struct dp_selector any = any_selector(4);
    dp_sa_id out = plane_install(planes[0], DP_OUTBOUND, &p), waits;
    size_t done;
    assert_int_equal(dp_sa_retire(planes[0], out), 0);
    assert_int_equal(dp_sa_export_many(planes[0], &out, 1, &record), 0);
    for (unsigned i = 0; i < 2; i++)
        dp_receive_pause(planes[i]);
    assert_int_equal(dp_sa_go_on_many(planes[0], &out, 1, &record, &done), -EPERM);
    assert_int_equal(seal_one(planes[0], out), DP_DROP_retired);
    assert_int_equal(dp_sa_install_waiting(planes[1], DP_OUTBOUND, &p, &any, 1, &waits), 0);
    struct dp_sa_record wrong = record;
    wrong.keymat_octets = KEYMAT - 1;
    assert_int_equal(dp_sa_go_on_many(planes[1], &waits, 1, &wrong, &done), -EINVAL);
    wrong = record;
    wrong.state.sequence = UINT64_C(1) << 32;
    assert_int_equal(dp_sa_go_on_many(planes[1], &waits, 1, &wrong, &done), -EINVAL);
    assert_int_equal(dp_sa_go_on_many(planes[1], &waits, 1, &record, &done), 0);
    assert_int_equal(dp_sa_go_on_many(planes[1], &waits, 1, &record, &done), -EPERM);
    assert_int_equal(seal_one(planes[1], waits), DP_OK);
}

static void test_one_that_is_named_twice_leaves_nothing(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id in = plane_install(dp, DP_INBOUND, &p), out = plane_install(dp, DP_OUTBOUND, &p);
    dp_sa_id twice[] = {in, out, in};
    static struct dp_sa_record records[3], nothing[3];
    assert_int_equal(dp_sa_may_leave(dp, out), -EPERM);
    assert_int_equal(dp_sa_retire(dp, in), 0);
    assert_int_equal(dp_sa_retire(dp, out), 0);
    assert_int_equal(dp_sa_export_many(dp, twice, 3, records), -EINVAL);
    assert_memory_equal(records, nothing, sizeof records);
    assert_int_equal(dp_sa_may_leave(dp, out), 0);
    assert_int_equal(dp_sa_export_many(dp, twice, 2, records), 0); /* the control */
    assert_int_equal(dp_sa_may_leave(dp, out), -EALREADY);
    assert_int_equal(dp_sa_may_leave(dp, out + (UINT64_C(1) << 32)), -ENOENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_go_on_where_they_waited, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_what_was_retired_never_goes_on_again, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_one_that_is_named_twice_leaves_nothing, two_planes, end_two_planes),
    };
    return cmocka_run_group_tests_name("sa_waiting", tests, NULL, NULL);
}
