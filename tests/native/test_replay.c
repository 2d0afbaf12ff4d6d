/* Anti-replay: the numbered table, then sweeps forward and back. */
#include "replay.h"

#include <stdio.h>
#include <string.h>

#include "unit.h"

struct step {
    unsigned number;
    uint32_t window;
    bool esn;
    uint32_t low;
    uint64_t inferred;
    enum dp_drop verdict;
};

static const struct step steps[] = {
#define VERDICT_ok DP_OK
#define VERDICT_replay DP_DROP_replay
#define VERDICT_too_old DP_DROP_too_old
#define STEP(number, window, esn, low, inferred, verdict) {number, window, esn, low, inferred, VERDICT_##verdict},
#include "../vectors/replay.txt"
#undef STEP
};

struct window {
    struct dp_replay r;
    uint64_t ring[DP_REPLAY_WINDOW_MAX / 64 + 1];
};

static void start(struct window *w, uint32_t octets) {
    memset(w->ring, 0, sizeof(w->ring));
    dp_replay_init(&w->r, octets, w->ring);
}

static void test_the_table(void **state) {
    (void)state;
    static struct window w;
    unsigned number = 0;
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        const struct step *step = &steps[i];
        if (step->number != number) {
            number = step->number;
            start(&w, step->window);
        }
        uint64_t inferred = dp_replay_infer(&w.r, step->low, step->esn);
        enum dp_drop checked = dp_replay_check(&w.r, inferred);
        enum dp_drop committed = dp_replay_commit(&w.r, inferred);
        if (inferred != step->inferred || checked != step->verdict || committed != step->verdict)
            fail_msg("case %u, %08x: inferred %016lx, checked %d, committed %d", number, step->low, inferred, checked, committed);
    }
}

static void test_windows_out_of_range_have_no_ring(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 1, 32, 63, 65, 96, 1000, 8191, 16384, UINT32_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(dp_replay_octets(bad[i]), 0);
    for (uint32_t window = DP_REPLAY_WINDOW_MIN; window <= DP_REPLAY_WINDOW_MAX; window *= 2)
        assert_int_equal(dp_replay_octets(window), (window / 64 + 1) * 8);
}

static void test_a_check_changes_nothing(void **state) {
    (void)state;
    static struct window w, before;
    start(&w, 64);
    assert_int_equal(dp_replay_commit(&w.r, 1000), DP_OK);
    before = w;
    static const uint64_t numbers[] = {0, 1, 936, 937, 999, 1000, 1001, 5000, UINT64_MAX};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        dp_replay_check(&w.r, numbers[i]);
    assert_memory_equal(&w, &before, sizeof(w));
}

/* The decision can change between check and commit: the same packet twice in one burst. */
static void test_a_commit_decides_again(void **state) {
    (void)state;
    static struct window w;
    start(&w, 64);
    assert_int_equal(dp_replay_check(&w.r, 7), DP_OK);
    assert_int_equal(dp_replay_check(&w.r, 7), DP_OK);
    assert_int_equal(dp_replay_commit(&w.r, 7), DP_OK);
    assert_int_equal(dp_replay_commit(&w.r, 7), DP_DROP_replay);
    assert_int_equal(dp_replay_check(&w.r, 8), DP_OK);
    assert_int_equal(dp_replay_commit(&w.r, 1000), DP_OK);
    assert_int_equal(dp_replay_commit(&w.r, 8), DP_DROP_too_old);
    assert_int_equal(w.r.highest, 1000);
}

static void sweep_forward(uint32_t window, uint64_t first, uint64_t stride) {
    static struct window w;
    start(&w, window);
    for (uint64_t i = 0; i < 3 * (uint64_t)window; i++) {
        uint64_t number = first + i * stride;
        assert_int_equal(dp_replay_commit(&w.r, number), DP_OK);
        assert_int_equal(dp_replay_commit(&w.r, number), DP_DROP_replay);
        assert_int_equal(w.r.highest, number);
    }
}

static void sweep_back(uint32_t window, uint64_t highest) {
    static struct window w;
    start(&w, window);
    assert_int_equal(dp_replay_commit(&w.r, highest - window - 3), DP_OK);
    assert_int_equal(dp_replay_commit(&w.r, highest), DP_OK);
    for (uint64_t back = 1; back < window; back++)
        assert_int_equal(dp_replay_commit(&w.r, highest - back), DP_OK);
    for (uint64_t back = 0; back < window; back++)
        assert_int_equal(dp_replay_check(&w.r, highest - back), DP_DROP_replay);
    assert_int_equal(dp_replay_check(&w.r, highest - window), DP_DROP_too_old);
    assert_int_equal(dp_replay_check(&w.r, highest + 1), DP_OK);
}

static void test_sweeps_forward(void **state) {
    (void)state;
    static const uint64_t firsts[] = {1, 63, 64, UINT64_C(0xffffffff) - 100, UINT64_C(0x1fffffff0)};
    static const uint64_t strides[] = {1, 3, 63, 64, 65, 1000};
    for (uint32_t window = DP_REPLAY_WINDOW_MIN; window <= DP_REPLAY_WINDOW_MAX; window *= 2)
        for (size_t f = 0; f < sizeof(firsts) / sizeof(*firsts); f++)
            for (size_t s = 0; s < sizeof(strides) / sizeof(*strides); s++)
                sweep_forward(window, firsts[f], strides[s]);
}

static void test_sweeps_back_from_every_bit_of_a_word(void **state) {
    (void)state;
    static const uint64_t bases[] = {20000, UINT64_C(0x100000000) - 32, UINT64_C(0xffffffffffffff00)};
    for (uint32_t window = DP_REPLAY_WINDOW_MIN; window <= DP_REPLAY_WINDOW_MAX; window *= 2)
        for (size_t b = 0; b < sizeof(bases) / sizeof(*bases); b++)
            for (uint64_t bit = 0; bit < 64; bit++)
                sweep_back(window, bases[b] + bit);
}

/* Odd numbers forward, then each even one that the window still holds: words of the ring come round without what they held. */
static void test_every_other_number_then_the_rest(void **state) {
    (void)state;
    static struct window w;
    for (uint32_t window = DP_REPLAY_WINDOW_MIN; window <= DP_REPLAY_WINDOW_MAX; window *= 2) {
        start(&w, window);
        for (uint64_t number = 1; number < 5 * (uint64_t)window; number += 2) {
            assert_int_equal(dp_replay_commit(&w.r, number), DP_OK);
            if (number > window)
                assert_int_equal(dp_replay_commit(&w.r, number - window + 1), DP_OK);
        }
    }
}

/* Every number of 2^32 - 300 .. 2^32 + 300 as the highest, every low half within the window: the true number comes back. */
static void test_inference_gives_back_every_number_in_the_window(void **state) {
    (void)state;
    static struct window w;
    for (uint32_t window = 64; window <= 256; window *= 2)
        for (uint64_t highest = UINT64_C(0x300000000) - 300; highest <= UINT64_C(0x300000000) + 300; highest++) {
            start(&w, window);
            assert_int_equal(dp_replay_commit(&w.r, highest), DP_OK);
            for (uint64_t back = 0; back < window; back++)
                assert_int_equal(dp_replay_infer(&w.r, (uint32_t)(highest - back), true), highest - back);
            assert_int_equal(dp_replay_infer(&w.r, (uint32_t)(highest + 1), true), highest + 1);
            assert_int_equal(dp_replay_infer(&w.r, (uint32_t)(highest + (UINT32_MAX - window)), true),
                             highest + (UINT32_MAX - window));
        }
}

/* At the very end the next subspace does not exist: the number comes out small, and is too old. */
static void test_inference_at_the_end_of_all_numbers(void **state) {
    (void)state;
    static struct window w;
    start(&w, 64);
    assert_int_equal(dp_replay_commit(&w.r, UINT64_MAX), DP_OK);
    assert_int_equal(dp_replay_check(&w.r, dp_replay_infer(&w.r, 5, true)), DP_DROP_too_old);
    assert_int_equal(dp_replay_check(&w.r, dp_replay_infer(&w.r, UINT32_MAX, true)), DP_DROP_replay);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table),
        cmocka_unit_test(test_windows_out_of_range_have_no_ring),
        cmocka_unit_test(test_a_check_changes_nothing),
        cmocka_unit_test(test_a_commit_decides_again),
        cmocka_unit_test(test_sweeps_forward),
        cmocka_unit_test(test_sweeps_back_from_every_bit_of_a_word),
        cmocka_unit_test(test_every_other_number_then_the_rest),
        cmocka_unit_test(test_inference_gives_back_every_number_in_the_window),
        cmocka_unit_test(test_inference_at_the_end_of_all_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
