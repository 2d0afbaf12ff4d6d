/* The SA table: names, slots, scans in pieces, and that a removed SA's key is gone. */
#include <errno.h>

#include "plane.h"
#include "sa_peer.h"

static int setup(void **state) {
    *state = plane_new(1);
    return 0;
}

static int teardown(void **state) {
    dp_destroy(*state);
    return 0;
}

static void test_lookup_by_spi_is_exact(void **state) {
    struct dp *dp = *state;
    struct dp_sa_params params = plane_params(0x12345678, 0, 0);
    plane_install(dp, DP_INBOUND, &params);
    assert_non_null(dp_sa_by_spi(&dp->sas, 0x12345678));
    static const uint32_t others[] = {0, 0x78, 0x12345679, 0x22345678, 0x12345578, 0xffffff78};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_null(dp_sa_by_spi(&dp->sas, others[i]));
}

static void test_a_name_is_never_given_again(void **state) {
    struct dp *dp = *state;
    enum {
        NAMES = 200
    };
    dp_sa_id names[NAMES];
    for (unsigned i = 0; i < NAMES; i++) {
        struct dp_sa_params params = plane_params(0x1001, 0, 0);
        names[i] = plane_install(dp, i % 2 != 0 ? DP_INBOUND : DP_OUTBOUND, &params);
        assert_true(names[i] != 0);
        for (unsigned j = 0; j < i; j++) {
            assert_true(names[j] != names[i]);
            assert_null(dp_sa_by_id(dp, names[j]));
        }
        assert_int_equal(dp_sa_by_id(dp, names[i])->id, names[i]);
        assert_int_equal(dp_sa_remove(dp, names[i]), 0);
        assert_int_equal(dp_sa_remove(dp, names[i]), -ENOENT);
    }
    assert_int_equal(dp_reclaim(dp), 0);
    assert_int_equal(keys_in_use(dp), 0);
}

static void test_a_scan_in_pieces_finds_each_condition_once(void **state) {
    struct dp *dp = *state;
    uint32_t raised = 0;
    for (uint32_t i = 0; i < 40; i++) {
        struct dp_sa_params params = plane_params(0x1000 + i, 0, 0);
        dp_sa_id id = plane_install(dp, i % 2 != 0 ? DP_INBOUND : DP_OUTBOUND, &params);
        if (i % 3 == 0) {
            atomic_store(&dp_sa_by_id(dp, id)->flags, DP_SA_SOFT_LIMIT);
            raised++;
        }
    }
    for (size_t piece = 1; piece <= 64; piece *= 2) {
        struct dp_sa_condition found[64];
        uint64_t cursor = 0;
        uint32_t count = 0, seen = 0;
        do {
            int n = dp_sa_scan(dp, found, piece, &cursor);
            assert_in_range(n, 0, piece);
            for (int i = 0; i < n; i++)
                seen |= found[i].flags;
            count += (uint32_t)n;
        } while (cursor != 0);
        assert_int_equal(count, raised);
        assert_int_equal(seen, DP_SA_SOFT_LIMIT);
    }
}

/* Whether the octets are anywhere in the memory that holds keys now. */
static bool holds(const void *memory, size_t octets, uint8_t value, size_t run) {
    const uint8_t *p = memory;
    for (size_t i = 0, length = 0; i < octets; i++) {
        length = p[i] == value ? length + 1 : 0;
        if (length == run)
            return true;
    }
    return false;
}

/* The encryption key of ChaCha20-Poly1305 lies in its context as it is, so that it can be looked for. */
static void test_a_removed_sas_key_is_wiped_when_it_is_reclaimed(void **state) {
    struct dp *dp = *state;
    struct dp_sa_params params = plane_params(0x10a7, 0, 0);
    uint8_t keymat[36];
    memset(keymat, 0xa7, sizeof keymat);
    params.encr = DP_ENCR_CHACHA20_POLY1305;
    params.key_octets = 32;
    struct dp_selector any = any_selector(4);
    dp_sa_id id;
    assert_int_equal(dp_sa_install(dp, DP_INBOUND, &params, keymat, sizeof keymat, &any, 1, &id), 0);
    const struct dp_sa *sa = dp_sa_by_id(dp, id);
    const void *context = sa->esp.context;
    size_t octets = sa->esp.cipher->context_octets;
    bool found = holds(context, octets, 0xa7, 32) || strcmp(sa->esp.cipher->provider, "intel-ipsec-mb") != 0;
    assert_true(found); /* the control: it was there */
    assert_int_equal(dp_sa_remove(dp, id), 0);
    assert_int_equal(dp_reclaim(dp), 0);
    assert_false(holds(context, octets, 0xa7, 4));
    assert_int_equal(keys_in_use(dp), 0);
}

static void test_a_peers_address_is_read_as_it_was_written(void **state) {
    struct dp *dp = *state;
    struct dp_sa_params params = plane_params(0x1001, 0, 4500);
    dp_sa_id id = plane_install(dp, DP_INBOUND, &params);
    struct dp_sa_info info;
    assert_int_equal(dp_sa_read(dp, id, &info), 0);
    assert_memory_equal(&info.peer, &params.path.remote, sizeof info.peer);
    struct dp_addr moved = {.family = 6, .port = 9, .scope = 3, .ip = {0xfe, 0x80, [15] = 1}};
    dp_sa_set_peer(dp_sa_by_id(dp, id), &moved);
    assert_int_equal(dp_sa_read(dp, id, &info), 0);
    assert_memory_equal(&info.peer, &moved, sizeof moved);
}

static void test_a_table_larger_than_any_growth_step(void **state) {
    struct dp *dp = *state;
    enum {
        SAS = 3000
    };
    static dp_sa_id names[SAS];
    struct dp_sa_params params = plane_params(0x1001, 0, 0);
    for (unsigned i = 0; i < SAS; i++)
        names[i] = plane_install(dp, DP_OUTBOUND, &params);
    for (unsigned i = 0; i < SAS; i++)
        assert_int_equal(dp_sa_by_id(dp, names[i])->id, names[i]);
    for (unsigned i = SAS; i-- > 0;)
        assert_int_equal(dp_sa_remove(dp, names[i]), 0);
    assert_int_equal(dp_reclaim(dp), 0);
    assert_int_equal(keys_in_use(dp), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lookup_by_spi_is_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_name_is_never_given_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_scan_in_pieces_finds_each_condition_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_removed_sas_key_is_wiped_when_it_is_reclaimed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_peers_address_is_read_as_it_was_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_table_larger_than_any_growth_step, setup, teardown),
    };
    return cmocka_run_group_tests_name("sa", tests, NULL, NULL);
}
