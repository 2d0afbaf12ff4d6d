/* What protects the process's memory as a whole from being read by others. */
#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "dp.h"

int dp_process_protect(void) {
    const struct rlimit none = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return -errno;
    return 0;
}
