/* What protects the process's memory as a whole from being read by others, and from swap. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dp.h"

static pid_t locked_by; /* a forked child inherits no lock */

int dp_process_protect(void) {
    const struct rlimit none = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return -errno;
    return 0;
}

int dp_process_lock(void) {
    /* Each page when it is touched: of a thread's stack, of a ring, of a library most never is. */
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        return -errno;
    locked_by = getpid();
    return 0;
}

int dp_process_is_locked(void) {
    return locked_by == getpid();
}
