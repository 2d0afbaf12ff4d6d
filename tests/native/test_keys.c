/* The key arena: aligned, zeroed, wiped, locked, left out of dumps and of forked children. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keys.h"
#include "unit.h"

static int setup(void **state) {
    *state = dp_arena_create();
    return *state ? 0 : -1;
}

static int teardown(void **state) {
    dp_arena_destroy(*state);
    return 0;
}

static void assert_zero(const uint8_t *block, size_t octets) {
    for (size_t i = 0; i < octets; i++)
        assert_int_equal(block[i], 0);
}

static void test_blocks_are_aligned_zeroed_and_apart(void **state) {
    static const size_t sizes[] = {1, 63, 64, 65, 1008, 1104, 16384};
    uint8_t *before = NULL;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        uint8_t *block = dp_arena_alloc(*state, sizes[i]);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        assert_zero(block, sizes[i]);
        memset(block, 0xa5, sizes[i]);
        assert_true(!before || block >= before + sizes[i - 1]);
        before = block;
    }
}

static void test_sizes_out_of_range_get_nothing(void **state) {
    assert_null(dp_arena_alloc(*state, 0));
    assert_null(dp_arena_alloc(*state, 16385));
    struct dp_arena_info info;
    dp_arena_info(*state, &info);
    assert_int_equal(info.in_use, 0);
}

/* Blocks stay mapped after they are freed, so the test can look: nothing of the key is left but the free list's link. */
static void test_a_freed_block_is_wiped(void **state) {
    uint8_t *block = dp_arena_alloc(*state, 1008);
    memset(block, 0xa5, 1008);
    dp_arena_free(*state, block, 1008);
    assert_zero(block + sizeof(void *), 1008 - sizeof(void *));
}

static void test_freed_blocks_are_given_again_zeroed(void **state) {
    uint8_t *first = dp_arena_alloc(*state, 1008);
    uint8_t *second = dp_arena_alloc(*state, 1008);
    memset(first, 0xa5, 1008);
    memset(second, 0x5a, 1008);
    dp_arena_free(*state, first, 1008);
    dp_arena_free(*state, second, 1008);
    uint8_t *again = dp_arena_alloc(*state, 1000);
    assert_ptr_equal(again, second);
    assert_zero(again, 1000);
    again = dp_arena_alloc(*state, 1024);
    assert_ptr_equal(again, first);
    assert_zero(again, 1024);
}

static void test_it_grows_and_accounts(void **state) {
    enum {
        BLOCKS = 600,
        OCTETS = 1024
    };
    static uint8_t *blocks[BLOCKS];
    struct dp_arena_info start, full, end;
    dp_arena_info(*state, &start);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = dp_arena_alloc(*state, OCTETS - (size_t)(i % 3));
        assert_non_null(blocks[i]);
        memset(blocks[i], i, OCTETS - (size_t)(i % 3));
    }
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(blocks[i][OCTETS - 3], (uint8_t)i);
    dp_arena_info(*state, &full);
    assert_int_equal(full.in_use, BLOCKS * OCTETS);
    assert_true(full.octets > start.octets && full.octets >= full.in_use);
    for (int i = 0; i < BLOCKS; i++)
        dp_arena_free(*state, blocks[i], OCTETS - (size_t)(i % 3));
    dp_arena_info(*state, &end);
    assert_int_equal(end.in_use, 0);
    assert_int_equal(end.octets, full.octets);
}

/* VmFlags of the mapping that holds `address` in /proc/self/smaps. */
static void mapping_flags(const void *address, char *flags, size_t octets) {
    FILE *smaps = fopen("/proc/self/smaps", "r");
    assert_non_null(smaps);
    char line[512];
    int inside = 0;
    flags[0] = '\0';
    while (fgets(line, sizeof(line), smaps)) {
        uintptr_t low, high;
        if (sscanf(line, "%lx-%lx ", &low, &high) == 2)
            inside = (uintptr_t)address >= low && (uintptr_t)address < high;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(flags, octets, "%s", line + 8);
    }
    fclose(smaps);
}

static void test_the_kernel_confirms_locked_undumped_wiped_on_fork(void **state) {
    struct dp_arena_info info;
    dp_arena_info(*state, &info);
    char flags[512];
    mapping_flags(dp_arena_alloc(*state, 64), flags, sizeof(flags));
#ifndef DP_SANITIZED /* the sanitizers turn mlock into a no-op that succeeds */
    assert_int_equal(info.locked, strstr(flags, " lo") != NULL);
#endif
    assert_true(info.undumped && strstr(flags, " dd"));
    assert_true(info.wiped_on_fork && strstr(flags, " wf"));
}

static void test_a_forked_child_finds_zeros(void **state) {
    uint8_t *block = dp_arena_alloc(*state, 64);
    memset(block, 0xa5, 64);
    pid_t child = fork();
    if (child == 0) {
        int seen = 0;
        for (int i = 0; i < 64; i++)
            seen |= block[i];
        _exit(seen == 0 ? 0 : 1);
    }
    assert_true(child > 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(block[0], 0xa5);
}

static void test_destroying_nothing_is_allowed(void **state) {
    (void)state;
    dp_arena_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_blocks_are_aligned_zeroed_and_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes_out_of_range_get_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_freed_block_is_wiped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_freed_blocks_are_given_again_zeroed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_grows_and_accounts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_kernel_confirms_locked_undumped_wiped_on_fork, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_forked_child_finds_zeros, setup, teardown),
        cmocka_unit_test(test_destroying_nothing_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
