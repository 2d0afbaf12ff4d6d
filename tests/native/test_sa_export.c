/* An SA leaves a data plane and goes on in another: numbers, IVs, window, counts, and that its source is over. */
#include <errno.h>
#include <pthread.h>

#include "sa_state.h"
#include "two_planes.h"

enum {
    QUEUE = 4096,
};

struct moved {
    struct dp_sa_state state;
    uint8_t keymat[DP_KEYMAT_ROOM];
    int octets;
};

static struct moved leave(struct dp *dp, dp_sa_id id) {
    struct moved m;
    assert_int_equal(dp_sa_retire(dp, id), 0);
    m.octets = dp_sa_export(dp, id, &m.state, m.keymat, sizeof m.keymat);
    assert_int_equal(m.octets, KEYMAT);
    return m;
}

static int try_arrive(struct dp *dp, unsigned direction, const struct dp_sa_params *p, const struct moved *m, dp_sa_id *id) {
    struct dp_selector any = any_selector(4);
    return dp_sa_import(dp, direction, p, m->keymat, (size_t)m->octets, &any, 1, &m->state, id);
}

static dp_sa_id go_on(struct dp *dp, unsigned direction, const struct dp_sa_params *p, const struct moved *m) {
    dp_sa_id id = 0;
    assert_int_equal(try_arrive(dp, direction, p, m, &id), 0);
    return id;
}

static void test_a_retired_sa_refuses_from_then_on(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id out = plane_install(dp, DP_OUTBOUND, &p), in = plane_install(dp, DP_INBOUND, &p);
    uint8_t first[ROW], second[ROW];
    uint32_t octets[2];
    assert_int_equal(seal_packet(dp, out, first, &octets[0]), DP_OK);
    assert_int_equal(seal_packet(dp, out, second, &octets[1]), DP_OK);
    assert_int_equal(open_packet(dp, first, octets[0]), DP_OK); /* the control */
    assert_int_equal(dp_sa_retire(dp, out), 0);
    assert_int_equal(dp_sa_retire(dp, in), 0);
    assert_int_equal(dp_sa_retire(dp, in), 0);
    assert_int_equal(seal_one(dp, out), DP_DROP_retired);
    assert_int_equal(open_packet(dp, second, octets[1]), DP_DROP_retired);
    struct dp_sa_info info;
    assert_int_equal(dp_sa_read(dp, out, &info), 0);
    assert_int_equal(info.drops[DP_DROP_retired], 1);
    assert_int_equal(info.flags, 0); /* nobody is asked to rekey it */
    assert_int_equal(dp_sa_read(dp, in, &info), 0);
    assert_int_equal(info.drops[DP_DROP_retired], 1);
    assert_int_equal(dp_sa_retire(dp, in + 1), -ENOENT);
}

static void test_an_export_is_of_a_retired_sa_once_and_wipes_its_key(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id out = plane_install(dp, DP_OUTBOUND, &p);
    const struct dp_sa *sa = dp_sa_by_id(dp, out);
    const uint8_t *keymat = sa->keymat;
    struct moved m;
    assert_int_equal(dp_sa_export(dp, out, &m.state, m.keymat, sizeof m.keymat), -EPERM);
    assert_int_equal(dp_sa_retire(dp, out), 0);
    assert_int_equal(dp_sa_export(dp, out, &m.state, m.keymat, KEYMAT - 1), -ENOBUFS);
    assert_int_equal(dp_sa_export(dp, out, &m.state, m.keymat, sizeof m.keymat), KEYMAT);
    uint8_t expected[KEYMAT], nothing[KEYMAT] = {0};
    memset(expected, SPI & 0xff, sizeof expected);
    assert_memory_equal(m.keymat, expected, KEYMAT);
    assert_memory_equal(keymat + sizeof(void *), nothing, KEYMAT - sizeof(void *)); /* what a free block begins with */
    assert_memory_equal(sa->esp.salt, nothing, DP_AEAD_SALT);
    assert_int_equal(keys_in_use(dp), 0);
    assert_int_equal(dp_sa_export(dp, out, &m.state, m.keymat, sizeof m.keymat), -EALREADY);
    assert_int_equal(seal_one(dp, out), DP_DROP_retired);
    assert_int_equal(dp_sa_remove(dp, out), 0);
    assert_int_equal(dp_reclaim(dp), 0);
    assert_int_equal(dp_sa_export(dp, out, &m.state, m.keymat, sizeof m.keymat), -ENOENT);
}

static void test_the_state_of_a_cloned_machine_is_not_exported(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    struct dp_sa_params p = params_of(false);
    dp_sa_id out = plane_install(dp, DP_OUTBOUND, &p), in = plane_install(dp, DP_INBOUND, &p);
    struct moved m;
    assert_int_equal(dp_sa_reserve(dp, out, 100), 0);
    dp_sa_expire_all(dp);
    assert_int_equal(seal_one(dp, out), DP_DROP_guest_cloned);
    assert_int_equal(dp_sa_snapshot(dp, out, 1, &m.state, m.keymat, sizeof m.keymat), -EKEYEXPIRED);
    assert_int_equal(dp_sa_retire(dp, in), 0);
    assert_int_equal(dp_sa_export(dp, in, &m.state, m.keymat, sizeof m.keymat), -EKEYEXPIRED);
}

/* Near the end of each half of an extended number, and of the only half that others have. */
static void test_no_number_and_no_iv_comes_twice(void **state) {
    static const struct {
        bool esn;
        uint64_t used;
    } rows[] = {{false, 0}, {false, UINT32_MAX - 5}, {true, 0}, {true, UINT32_MAX - 5}, {true, UINT64_MAX - 5}};
    struct dp **planes = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dp_sa_params p = params_of(rows[i].esn);
        p.sequence = rows[i].used;
        p.iv = 1000 * i;
        uint64_t end = rows[i].esn ? UINT64_MAX : UINT32_MAX;
        dp_sa_id id = plane_install(planes[0], DP_OUTBOUND, &p);
        for (uint64_t n = 1; n <= 8; n++) {
            uint8_t sealed[ROW];
            uint32_t octets;
            struct moved m = leave(planes[(n - 1) % 2], id);
            assert_true(m.state.sequence == rows[i].used + n - 1);
            id = go_on(planes[n % 2], DP_OUTBOUND, &p, &m);
            assert_int_equal(seal_packet(planes[n % 2], id, sealed, &octets), DP_OK);
            assert_true(iv_of(sealed) == p.iv + n - 1);
            uint32_t low;
            memcpy(&low, sealed + 4, sizeof low);
            assert_int_equal(__builtin_bswap32(low), (uint32_t)(rows[i].used + n));
            if (rows[i].used + n == end) { /* refused, not begun anew */
                m = leave(planes[n % 2], id);
                id = go_on(planes[(n + 1) % 2], DP_OUTBOUND, &p, &m);
                assert_int_equal(seal_one(planes[(n + 1) % 2], id), DP_DROP_sequence_exhausted);
                break;
            }
        }
    }
}

/* Two windows are fed the same numbers; one of them moves now and then, also into one of another size. */
static void test_a_window_moves_whole(void **state) {
    (void)state;
    uint64_t seed = 42;
    static uint64_t rings[3][DP_WINDOW_WORDS], words[DP_WINDOW_WORDS];
    for (uint32_t window = DP_REPLAY_WINDOW_MIN; window <= DP_REPLAY_WINDOW_MAX; window *= 2) {
        struct dp_replay stays, moves;
        memset(rings, 0, sizeof rings);
        dp_replay_init(&stays, window, rings[0]);
        dp_replay_init(&moves, window, rings[1]);
        uint64_t at = 1;
        for (unsigned i = 0; i < 4000; i++) {
            if (i % 97 == 96) {
                uint64_t highest = moves.highest;
                dp_replay_save(&moves, words);
                memset(rings[1], 0, sizeof rings[1]);
                dp_replay_init(&moves, window, rings[1]);
                dp_replay_load(&moves, highest, words, moves.words);
            }
            at += unit_draw(&seed) % (i % 500 == 0 ? 3 * window : 3);
            uint64_t back = unit_draw(&seed) % (window + 8), sequence = at > back ? at - back : at;
            assert_int_equal(dp_replay_commit(&moves, sequence), dp_replay_commit(&stays, sequence));
            assert_true(moves.highest == stays.highest);
        }
    }
}

static void test_a_window_of_another_size_opens_nothing_twice(void **state) {
    (void)state;
    static uint64_t rings[2][DP_WINDOW_WORDS], words[DP_WINDOW_WORDS];
    for (uint32_t from = 64; from <= 1024; from *= 2)
        for (uint32_t to = 64; to <= 1024; to *= 2) {
            struct dp_replay before, after;
            memset(rings, 0, sizeof rings);
            dp_replay_init(&before, from, rings[0]);
            dp_replay_init(&after, to, rings[1]);
            for (uint64_t n = 1; n <= 2000; n += 3)
                assert_int_equal(dp_replay_commit(&before, n), DP_OK);
            dp_replay_save(&before, words);
            dp_replay_load(&after, before.highest, words, before.words);
            uint32_t both = from < to ? from : to;
            for (uint64_t n = 1; n <= before.highest; n++) {
                bool was_new = dp_replay_check(&before, n) == DP_OK, is_new = dp_replay_check(&after, n) == DP_OK;
                assert_true(!is_new || n % 3 != 1);                           /* received before */
                assert_true(before.highest - n >= both || is_new == was_new); /* and nothing more is lost */
            }
            assert_int_equal(dp_replay_commit(&after, before.highest + 1), DP_OK);
        }
}

static void test_damaged_words_let_nothing_above_the_highest_count(void **state) {
    (void)state;
    uint64_t ring[2] = {0}, words[2] = {UINT64_MAX, 0};
    struct dp_replay r;
    dp_replay_init(&r, 64, ring);
    dp_replay_load(&r, 70, words, 2);
    assert_int_equal(dp_replay_check(&r, 70), DP_DROP_replay);
    assert_int_equal(dp_replay_commit(&r, 72), DP_OK);
    assert_int_equal(dp_replay_commit(&r, 71), DP_OK);
}

static void test_counts_and_limits_go_on(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(true);
    p.hard_packets = 5;
    p.soft_octets = 3 * PACKET;
    dp_sa_id out = plane_install(planes[0], DP_OUTBOUND, &p);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(seal_one(planes[0], out), DP_OK);
    struct moved m = leave(planes[0], out);
    out = go_on(planes[1], DP_OUTBOUND, &p, &m);
    struct dp_sa_info info;
    assert_int_equal(dp_sa_read(planes[1], out, &info), 0);
    assert_int_equal(info.packets, 3);
    assert_int_equal(info.octets, 3 * PACKET);
    assert_int_equal(info.sequence, 3);
    assert_int_equal(info.first_use, START);
    assert_int_equal(info.last_use, START);
    assert_int_equal(info.flags, DP_SA_SOFT_LIMIT);
    assert_int_equal(seal_one(planes[1], out), DP_OK);
    assert_int_equal(seal_one(planes[1], out), DP_OK);
    assert_int_equal(seal_one(planes[1], out), DP_DROP_hard_limit);
}

static void test_a_state_that_cannot_be_is_refused(void **state) {
    struct dp **planes = *state;
    struct dp_sa_params p = params_of(false);
    p.iv = 77;
    dp_sa_id out = plane_install(planes[0], DP_OUTBOUND, &p), in = plane_install(planes[0], DP_INBOUND, &p), id;
    const struct moved good[2] = {leave(planes[0], in), leave(planes[0], out)};
    for (unsigned direction = 0; direction < 2; direction++)
        for (unsigned i = 0; i < 5; i++) {
            struct moved m = good[direction];
            switch (i) {
            case 0:
                m.state.sequence = UINT64_C(1) << 32; /* no extended numbers */
                break;
            case 1:
                m.state.bound = UINT64_C(1) << 32;
                break;
            case 2:
                m.state.flags = 1u << 31;
                break;
            case 3:
                m.state.last_drop = DP_DROP_COUNT;
                break;
            default:
                m.state.window = 100;
            }
            assert_int_equal(try_arrive(planes[1], direction, &p, &m, &id), -EINVAL);
        }
    assert_int_equal(keys_in_use(planes[1]), 0);
    assert_int_equal(try_arrive(planes[1], DP_INBOUND, &p, &good[0], &id), 0);
    assert_int_equal(try_arrive(planes[1], DP_OUTBOUND, &p, &good[1], &id), 0);
}

static void test_an_spi_that_was_named_elsewhere_is_claimed(void **state) {
    struct dp *dp = ((struct dp **)*state)[0];
    uint32_t given;
    assert_int_equal(dp_spi_claim(dp, 255), -EINVAL);
    assert_int_equal(dp_spi_claim(dp, 0x1207), 0);
    assert_int_equal(dp_spi_claim(dp, 0x1307), -EEXIST);
    for (unsigned i = 0; i < 255; i++) {
        assert_int_equal(dp_spi_allocate(dp, 0, &given), 0);
        assert_int_not_equal(given & 255, 7);
    }
    assert_int_equal(dp_spi_allocate(dp, 0, &given), -ENOSPC);
    struct dp_sa_params p = plane_params(0x1207, 0, 4500);
    plane_install(dp, DP_INBOUND, &p);
    assert_int_equal(dp_spi_claim(dp, 0x1207), -EEXIST);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_retired_sa_refuses_from_then_on, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_an_export_is_of_a_retired_sa_once_and_wipes_its_key, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_the_state_of_a_cloned_machine_is_not_exported, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_no_number_and_no_iv_comes_twice, two_planes, end_two_planes),
        cmocka_unit_test(test_a_window_moves_whole),
        cmocka_unit_test(test_a_window_of_another_size_opens_nothing_twice),
        cmocka_unit_test(test_damaged_words_let_nothing_above_the_highest_count),
        cmocka_unit_test_setup_teardown(test_counts_and_limits_go_on, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_a_state_that_cannot_be_is_refused, two_planes, end_two_planes),
        cmocka_unit_test_setup_teardown(test_an_spi_that_was_named_elsewhere_is_claimed, two_planes, end_two_planes),
    };
    return cmocka_run_group_tests_name("sa_export", tests, NULL, NULL);
}
