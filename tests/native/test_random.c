#include <errno.h>
#include <string.h>

#include "plane.h"
#include "random.h"

static void test_a_seed_gives_the_same_numbers_and_the_system_others(void **state) {
    (void)state;
    struct dp_random first = {true, 7}, second = {true, 7}, other = {true, 8}, none = {false, 7};
    uint64_t a, b;
    for (int i = 0; i < 1000; i++) {
        assert_true(dp_random_next(&first, &a) && dp_random_next(&second, &b));
        assert_int_equal(a, b);
        assert_true(dp_random_next(&other, &b));
        assert_int_not_equal(a, b);
        assert_true(dp_random_next(&none, &b));
        assert_int_not_equal(a, b);
    }
}

/* An SA of a plane: whether its IVs follow from each other. */
static bool ivs_follow(uint8_t seeded, uint16_t encr) {
    struct dp_config config = {
        .sa_slots = 256, .tunnels = 4, .interfaces = 4, .workers = 1, .stranger_rate = 10, .stranger_burst = 100, .seeded = seeded};
    struct dp *dp = NULL;
    assert_int_equal(dp_create(&config, &dp), 0);
    struct dp_sa_params p = plane_params(0x1001, 0, 4500);
    static const uint8_t keymat[DP_KEYMAT_MAX];
    struct dp_selector any = any_selector(4);
    p.encr = encr;
    p.integ = encr == DP_ENCR_AES_CBC ? DP_INTEG_HMAC_SHA2_256_128 : DP_INTEG_NONE;
    dp_sa_id id;
    assert_int_equal(dp_sa_install(dp, DP_OUTBOUND, &p, keymat, encr == DP_ENCR_AES_CBC ? 16 + 32 : KEYMAT, &any, 1, &id), 0);
    bool follow = dp_sa_by_id(dp, id)->esp.seeded;
    dp_destroy(dp);
    return follow;
}

static void test_only_in_a_plane_with_a_seed_ivs_follow_from_each_other(void **state) {
    (void)state;
    assert_false(ivs_follow(0, DP_ENCR_AES_CBC));
    assert_true(ivs_follow(1, DP_ENCR_AES_CBC));
    assert_false(ivs_follow(1, DP_ENCR_AES_GCM_16)); /* which counts, as ever */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_seed_gives_the_same_numbers_and_the_system_others),
        cmocka_unit_test(test_only_in_a_plane_with_a_seed_ivs_follow_from_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
