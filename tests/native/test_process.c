/* Memory that is locked as a whole: which of it, and of which process. */
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dp.h"

enum {
    LARGE = 64 << 20
}; /* octets */

/* Of the mapping that holds an address: octets that are resident, and whether it is locked. */
struct mapping {
    size_t resident;
    bool locked;
};

static struct mapping mapping_of(const void *address) {
    struct mapping found = {0};
    FILE *smaps = fopen("/proc/self/smaps", "r");
    assert_non_null(smaps);
    char line[512];
    bool inside = false;
    while (fgets(line, sizeof line, smaps)) {
        uintptr_t low, high;
        size_t kib;
        if (sscanf(line, "%lx-%lx ", &low, &high) == 2)
            inside = (uintptr_t)address >= low && (uintptr_t)address < high;
        else if (inside && sscanf(line, "Rss: %zu kB", &kib) == 1)
            found.resident = kib * 1024;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found.locked = strstr(line, " lo") != NULL;
    }
    fclose(smaps);
    return found;
}

/* CAP_IPC_LOCK, as root has it, or no limit. The sanitizers turn mlockall into a no-op that succeeds. */
static bool may_lock(void) {
#ifdef DP_SANITIZED
    return false;
#else
    struct rlimit limit;
    char line[128];
    unsigned long long effective = 0;
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (fgets(line, sizeof line, status))
        (void)sscanf(line, "CapEff: %llx", &effective);
    fclose(status);
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    return limit.rlim_cur == RLIM_INFINITY || (effective >> 14 & 1) != 0;
#endif
}

/* In a child, so that the other tests have memory that is not locked. */
static void in_child(void (*test)(void)) {
    pid_t child = fork();
    if (child == 0) {
        test();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Failed assertions of cmocka's would go on in the parent's list of tests. */
static void expect(bool holds, int line) {
    if (!holds) {
        fprintf(stderr, "%s:%d does not hold\n", __FILE__, line);
        _exit(1);
    }
}
#define EXPECT(holds) expect(holds, __LINE__)

static void lock_and_look(void) {
    static uint8_t before[4096] = {1};
    EXPECT(!dp_process_is_locked());
    bool locked = dp_process_lock() == 0;
    EXPECT(dp_process_is_locked() == locked);
    if (!may_lock())
        return;
    EXPECT(locked && mapping_of(before).locked);
    uint8_t *later = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(later != MAP_FAILED);
    later[0] = 1;
    struct mapping found = mapping_of(later);
    EXPECT(found.locked && found.resident != 0 && found.resident < LARGE / 4);
}

static void test_what_is_there_is_locked_and_what_comes_later_as_it_is_touched(void **state) {
    (void)state;
    in_child(lock_and_look);
}

static void lock_and_fork(void) {
    bool locked = dp_process_lock() == 0;
    pid_t child = fork();
    if (child == 0)
        _exit(dp_process_is_locked());
    int status;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT(dp_process_is_locked() == locked);
}

static void test_a_forked_child_inherits_no_lock_and_says_so(void **state) {
    (void)state;
    in_child(lock_and_fork);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_there_is_locked_and_what_comes_later_as_it_is_touched),
        cmocka_unit_test(test_a_forked_child_inherits_no_lock_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
