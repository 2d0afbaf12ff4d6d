#include "ike_pause.h"

static bool many(struct dp_ike_pause *pause, uint32_t kept, uint64_t now) {
    const struct dp_rate few = dp_rate_of(DP_IKE_FEW, DP_IKE_FEW_AT_ONCE);
    while (kept > 0 && dp_bucket_take(&few, &pause->kept, now))
        kept--;
    return kept > 0;
}

uint64_t dp_ike_pause(struct dp_ike_pause *pause, uint32_t kept, uint32_t filled, uint64_t now) {
    if (!many(pause, kept, now))
        return pause->ns = 0;
    uint64_t longest = pause->ns * 2;
    if (filled * 2 > DP_IKE_FILLED)
        longest = pause->ns * DP_IKE_FILLED / filled;
    if (longest < DP_IKE_PAUSE_FIRST)
        longest = DP_IKE_PAUSE_FIRST;
    return pause->ns = longest < DP_IKE_PAUSE_MOST ? longest : DP_IKE_PAUSE_MOST;
}
