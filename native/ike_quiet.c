#include "ike_quiet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "epoch.h"

struct dp_ike_quiet {
    size_t count;
    struct dp_range range[]; /* in order */
};

static int compare(const struct dp_range *range, uint8_t family, const uint8_t ip[16]) {
    if (range->family != family)
        return range->family < family ? -1 : 1;
    if (memcmp(range->high, ip, 16) < 0)
        return -1;
    return memcmp(range->low, ip, 16) > 0;
}

bool dp_ike_is_quiet(const struct dp *dp, const struct dp_addr *address) {
    const struct dp_ike_quiet *quiet = atomic_load_explicit(&dp->ike_quiet, memory_order_acquire);
    uint8_t ip[16] = {0};
    memcpy(ip, address->ip, address->family == 4 ? 4 : 16);
    size_t low = 0, high = quiet != NULL ? quiet->count : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(&quiet->range[middle], address->family, ip);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static void quiet_free(struct dp *dp, void *thing) {
    (void)dp;
    free(thing);
}

int dp_ike_quiet_set(struct dp *dp, const struct dp_range *ranges, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (compare(&ranges[i - 1], ranges[i].family, ranges[i].low) >= 0)
            return -EINVAL;
    struct dp_ike_quiet *quiet = malloc(sizeof *quiet + count * sizeof quiet->range[0]);
    if (quiet == NULL)
        return -ENOMEM;
    quiet->count = count;
    for (size_t i = 0; i < count; i++)
        quiet->range[i] = ranges[i];
    struct dp_ike_quiet *old = atomic_exchange_explicit(&dp->ike_quiet, quiet, memory_order_seq_cst);
    if (old != NULL)
        dp_epoch_retire(dp, quiet_free, old);
    return 0;
}

void dp_ike_quiet_finish(struct dp *dp) {
    free(atomic_load_explicit(&dp->ike_quiet, memory_order_relaxed));
}
