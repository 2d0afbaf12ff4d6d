/* Many SAs at once: installed before, without key and state, and going on where others stopped. */
#include <errno.h>

#include "sa_record.h"
#include "two_planes.h"

enum {
    RECORD = 512, /* octets that one takes here, at the most */
};

static void test_many_go_on_where_they_waited(void **state) {
    enum {
        MANY = 20
    };
    struct dp **planes = *state;
    dp_sa_id from[2 * MANY], to[2 * MANY];
    static uint8_t records[2 * MANY * RECORD];
    int32_t errors[2 * MANY];
    size_t octets, room;
    struct dp_selector any = any_selector(4);
    uint8_t sealed[MANY][3][ROW];
    uint32_t lengths[MANY][3];
    for (unsigned i = 0; i < 2 * MANY; i++) {
        struct dp_sa_params p = plane_params(SPI + i / 2, 0, 4500);
        from[i] = plane_install(planes[0], i % 2, &p);
        assert_int_equal(dp_sa_install_waiting(planes[1], i % 2, &p, &any, 1, &to[i]), 0);
    }
    uint64_t in_use = keys_in_use(planes[1]);
    assert_int_equal(in_use, keys_in_use(planes[0])); /* what they will take */
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned k = 0; k < 2; k++)
            assert_int_equal(seal_packet(planes[0], from[2 * i + 1], sealed[i][k], &lengths[i][k]), DP_OK);
    assert_int_equal(open_packet(planes[0], sealed[3][1], lengths[3][1]), DP_OK);
    assert_int_equal(open_packet(planes[1], sealed[3][0], lengths[3][0]), DP_DROP_retired); /* it waits */
    assert_int_equal(seal_one(planes[1], to[1]), DP_DROP_retired);
    for (unsigned i = 0; i < 2 * MANY; i++) {
        assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, records, sizeof records, &octets), -EPERM); /* none alone */
        assert_int_equal(dp_sa_retire(planes[0], from[i]), 0);
    }
    assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, NULL, 0, &room), -ENOBUFS);
    assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, records, room - 1, &octets), -ENOBUFS);
    assert_int_equal(keys_in_use(planes[0]), in_use); /* none has left */
    assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, records, sizeof records, &octets), 0);
    assert_int_equal(octets, room);
    assert_int_equal(keys_in_use(planes[0]), 0);
    assert_int_equal(dp_sa_export_many(planes[0], from, 2 * MANY, records, sizeof records, &room), -EALREADY);
    assert_int_equal(dp_sa_go_on_many(planes[1], to, 2 * MANY, records, octets, errors), -EBUSY); /* devices are read */
    dp_receive_pause(planes[1]);
    assert_int_equal(dp_sa_go_on_many(planes[1], to, 2 * MANY, records, octets, errors), 0);
    for (unsigned i = 0; i < 2 * MANY; i++)
        assert_int_equal(errors[i], 0);
    assert_int_equal(keys_in_use(planes[1]), in_use);
    assert_int_equal(dp_receive_resume(planes[1]), 0);
    assert_int_equal(open_packet(planes[1], sealed[3][1], lengths[3][1]), DP_DROP_replay);
    assert_int_equal(open_packet(planes[1], sealed[3][0], lengths[3][0]), DP_OK);
    assert_int_equal(seal_packet(planes[1], to[7], sealed[3][2], &lengths[3][2]), DP_OK);
    assert_true(iv_of(sealed[3][2]) == 2);
    assert_int_equal(sealed[3][2][7], 3);
}

/* A record of the one SA that leaves. */
static size_t record_of(struct dp *dp, dp_sa_id id, uint8_t out[RECORD]) {
    size_t octets;
    assert_int_equal(dp_sa_retire(dp, id), 0);
    assert_int_equal(dp_sa_export_many(dp, &id, 1, out, RECORD, &octets), 0);
    return octets;
}

/* Why one SA does not go on. */
static int32_t refusal(struct dp *dp, dp_sa_id id, const uint8_t *record, size_t octets) {
    int32_t error = 0;
    int refused = dp_sa_go_on_many(dp, &id, 1, record, octets, &error);
    assert_int_equal(refused, error != 0);
    return error;
}

static void test_what_was_retired_never_goes_on_again(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(false);
    uint8_t record[RECORD];
    struct dp_selector any = any_selector(4);
    dp_sa_id out = plane_install(planes[0], DP_OUTBOUND, &p), waits;
    size_t octets = record_of(planes[0], out, record);
    for (unsigned i = 0; i < 2; i++)
        dp_receive_pause(planes[i]);
    assert_int_equal(refusal(planes[0], out, record, octets), -EPERM);
    assert_int_equal(seal_one(planes[0], out), DP_DROP_retired);
    assert_int_equal(dp_sa_install_waiting(planes[1], DP_OUTBOUND, &p, &any, 1, &waits), 0);
    assert_int_equal(dp_sa_may_leave(planes[1], waits), -EALREADY); /* it has no key to take along */
    assert_int_equal(refusal(planes[1], waits + (UINT64_C(1) << 32), record, octets), -ENOENT);
    assert_int_equal(refusal(planes[1], waits, record, octets), 0);
    assert_int_equal(refusal(planes[1], waits, record, octets), -EPERM);
    assert_int_equal(seal_one(planes[1], waits), DP_OK);
}

static void test_one_that_cannot_be_taken_waits_on_and_the_others_go_on(void **state) {
    enum {
        THREE = 3
    };
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(false);
    struct dp_selector any = any_selector(4);
    struct dp_sa_state states[THREE];
    uint8_t keymat[THREE][KEYMAT], records[THREE * RECORD];
    dp_sa_id waits[THREE];
    int32_t errors[THREE];
    dp_receive_pause(planes[1]);
    for (unsigned i = 0; i < THREE; i++) {
        dp_sa_id id = plane_install(planes[0], DP_OUTBOUND, &p);
        assert_int_equal(dp_sa_retire(planes[0], id), 0);
        assert_int_equal(dp_sa_export(planes[0], id, &states[i], keymat[i], KEYMAT), KEYMAT);
        assert_int_equal(dp_sa_install_waiting(planes[1], DP_OUTBOUND, &p, &any, 1, &waits[i]), 0);
    }
    const dp_sa_id last = waits[2];
    /* Each in turn has what it cannot have: numbers beyond its end, a key that its suite does not take, or both. */
    for (unsigned wrong = 1; wrong <= 3; wrong++) {
        size_t octets = 0, short_by = wrong & 1;
        struct dp_sa_state bad = states[1];
        bad.sequence = (wrong & 2) != 0 ? UINT64_C(1) << 32 : bad.sequence;
        octets += (size_t)dp_sa_record_write(&states[0], keymat[0], KEYMAT, records, RECORD);
        octets += (size_t)dp_sa_record_write(&bad, keymat[1], KEYMAT - short_by, records + octets, RECORD);
        octets += (size_t)dp_sa_record_write(&states[2], keymat[2], KEYMAT, records + octets, RECORD);
        assert_int_equal(dp_sa_go_on_many(planes[1], waits, THREE, records, octets, errors), 1);
        assert_int_equal(errors[0], 0);
        assert_int_equal(errors[1], -EINVAL);
        assert_int_equal(errors[2], 0);
        waits[0] = waits[2] = 0; /* the next time their records are nobody's */
    }
    assert_int_equal(seal_one(planes[1], last), DP_OK);
    assert_int_equal(seal_one(planes[1], waits[1]), DP_DROP_retired);
    size_t octets = (size_t)dp_sa_record_write(&states[1], keymat[1], KEYMAT, records, RECORD);
    assert_int_equal(refusal(planes[1], waits[1], records, octets), 0); /* it waited on */
    assert_int_equal(seal_one(planes[1], waits[1]), DP_OK);
}

static void test_octets_that_are_no_records_are_refused_as_a_whole(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(false);
    struct dp_selector any = any_selector(4);
    uint8_t records[2 * RECORD];
    dp_sa_id from[2], to[2];
    int32_t errors[3] = {0};
    size_t octets;
    for (unsigned i = 0; i < 2; i++) {
        from[i] = plane_install(planes[0], i, &p);
        assert_int_equal(dp_sa_install_waiting(planes[1], i, &p, &any, 1, &to[i]), 0);
    }
    assert_int_equal(dp_sa_retire_many(planes[0], from, 2), 0);
    assert_int_equal(dp_sa_export_many(planes[0], from, 2, records, sizeof records, &octets), 0);
    dp_receive_pause(planes[1]);
    memset(records + octets, 0, sizeof records - octets);
    for (size_t cut = 0; cut < octets; cut++) {
        /* What is announced is not there: a copy of its own, so that reading beyond it is noticed. */
        uint8_t *some = test_malloc(cut + 1);
        memcpy(some, records, cut);
        assert_int_equal(dp_sa_go_on_many(planes[1], to, 2, some, cut, errors), -EINVAL);
        test_free(some);
    }
    assert_int_equal(dp_sa_go_on_many(planes[1], to, 2, records, octets + 8, errors), -EINVAL);
    assert_int_equal(dp_sa_go_on_many(planes[1], to, 1, records, octets, errors), -EINVAL);
    for (unsigned i = 0; i < sizeof(uint32_t); i++) { /* the length of the first */
        uint8_t was = records[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            records[i] = (uint8_t)(was ^ 1u << bit);
            assert_int_equal(dp_sa_go_on_many(planes[1], to, 2, records, octets, errors), -EINVAL);
        }
        records[i] = was;
    }
    assert_int_equal(dp_sa_go_on_many(planes[1], to, 2, records, octets, errors), 0); /* the control */
}

/* Whatever its inside says, nothing is read or written beyond it (under the sanitizers). */
static void test_a_record_with_any_octet_changed_is_taken_or_refused(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(true);
    struct dp_selector any = any_selector(4);
    uint8_t record[RECORD];
    dp_sa_id in = plane_install(planes[0], DP_INBOUND, &p), waits;
    size_t octets = record_of(planes[0], in, record), taken = 0;
    dp_receive_pause(planes[1]);
    for (size_t at = sizeof(uint32_t); at < octets; at++) {
        uint8_t *changed = test_malloc(octets);
        memcpy(changed, record, octets);
        changed[at] ^= 0xff;
        assert_int_equal(dp_sa_install_waiting(planes[1], DP_INBOUND, &p, &any, 1, &waits), 0);
        int32_t error = refusal(planes[1], waits, changed, octets);
        assert_true(error == 0 || error == -EINVAL);
        taken += error == 0;
        test_free(changed);
        assert_int_equal(dp_sa_remove(planes[1], waits), 0);
    }
    assert_true(taken > 0 && taken < octets);
    (void)dp_reclaim(planes[1]);
    assert_int_equal(keys_in_use(planes[1]), 0);
}

static void test_a_record_is_what_was_written(void **state) {
    (void)state;
    struct dp_sa_state all = {.sequence = 9, .window = 128, .last_drop = DP_DROP_replay, .segment = 5}, found;
    uint8_t key[DP_KEYMAT_ROOM], record[sizeof all + sizeof key + 16 * DP_DROP_COUNT];
    const uint8_t *keymat;
    size_t keymat_octets;
    memset(key, 0x5a, sizeof key);
    all.drops[DP_DROP_replay] = 3;
    all.drops[DP_DROP_COUNT - 1] = UINT64_MAX;
    for (unsigned i = 0; i < 3; i++)
        all.words[i] = i + 1;
    all.peer.family = 6;
    for (size_t octets = 0; octets <= sizeof key; octets++) {
        int written = dp_sa_record_write(&all, key, octets, record, sizeof record);
        assert_true(written > 0 && written % 8 == 0);
        assert_int_equal(dp_sa_record_write(&all, key, octets, NULL, 0), written);
        assert_int_equal(dp_sa_record_octets(record, (size_t)written), written);
        assert_true(dp_sa_record_read(record, (size_t)written, &found, &keymat, &keymat_octets));
        assert_memory_equal(&found, &all, sizeof all);
        assert_int_equal(keymat_octets, octets);
        assert_memory_equal(keymat, key, octets);
    }
    const size_t reason_at = sizeof(struct dp_sa_record) + offsetof(struct dp_sa_state, path) + 3 * sizeof(uint64_t);
    size_t octets = (size_t)dp_sa_record_write(&all, key, sizeof key, record, sizeof record);
    uint64_t reason = DP_DROP_COUNT; /* one that there is not */
    memcpy(record + reason_at, &reason, sizeof reason);
    assert_false(dp_sa_record_read(record, octets, &found, &keymat, &keymat_octets));
    assert_int_equal(dp_sa_record_write(&all, key, sizeof key + 1, record, sizeof record), -EINVAL);
    all.window = UINT32_MAX;
    assert_int_equal(dp_sa_record_write(&all, key, 1, record, sizeof record), -EINVAL);
}

static void test_one_that_is_named_twice_leaves_nothing(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id in = plane_install(dp, DP_INBOUND, &p), out = plane_install(dp, DP_OUTBOUND, &p);
    dp_sa_id twice[] = {in, out, in};
    static uint8_t records[3 * RECORD], nothing[3 * RECORD];
    size_t octets;
    assert_int_equal(dp_sa_may_leave(dp, out), -EPERM);
    assert_int_equal(dp_sa_retire(dp, in), 0);
    assert_int_equal(dp_sa_retire(dp, out), 0);
    assert_int_equal(dp_sa_export_many(dp, twice, 3, records, sizeof records, &octets), -EINVAL);
    assert_memory_equal(records, nothing, sizeof records);
    assert_int_equal(dp_sa_may_leave(dp, out), 0);
    assert_int_equal(dp_sa_export_many(dp, twice, 2, records, sizeof records, &octets), 0); /* the control */
    assert_int_equal(dp_sa_may_leave(dp, out), -EALREADY);
    assert_int_equal(dp_sa_may_leave(dp, out + (UINT64_C(1) << 32)), -ENOENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_go_on_where_they_waited, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_one_that_cannot_be_taken_waits_on_and_the_others_go_on, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_octets_that_are_no_records_are_refused_as_a_whole, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_a_record_with_any_octet_changed_is_taken_or_refused, two_planes, end_two_planes),
        cmocka_unit_test(test_a_record_is_what_was_written),
        cmocka_unit_test_setup_teardown(test_what_was_retired_never_goes_on_again, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_one_that_is_named_twice_leaves_nothing, two_planes, end_two_planes),
    };
    return cmocka_run_group_tests_name("sa_waiting", tests, NULL, NULL);
}
