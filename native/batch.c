/* Whole batches through one SA, for rigs and benchmarks: the loops' own functions on rows of a buffer. */
#include <errno.h>

#include "engine.h"
#include "esp.h"
#include "inbound.h"
#include "inner.h"
#include "sa.h"
#include "seal.h"

static bool loop_free(const struct dp_loop *loop) {
    return !loop->running;
}

/* One row of dp_seal_burst. */
static enum dp_drop seal_row(struct dp_loop *loop, struct dp_sa *sa, uint8_t *in, size_t octets, size_t in_stride, uint8_t *out,
                             size_t out_stride, uint32_t *out_octets, uint64_t now) {
    struct dp_inner inner;
    enum dp_drop reason = dp_inner_read(in, octets, DP_FLOW_OUTBOUND, &inner);
    if (reason != DP_OK)
        return reason;
    size_t sealed = dp_esp_sealed_octets(&sa->esp, inner.octets);
    size_t padded = sa->esp.tfc_octets > inner.octets ? sa->esp.tfc_octets : inner.octets;
    if (sealed > out_stride || padded + DP_ESP_TAILROOM > in_stride)
        return DP_DROP_too_big;
    reason = dp_seal_packet(loop, sa, in, inner.octets, inner.version, out, now);
    if (reason == DP_OK)
        *out_octets = (uint32_t)sealed;
    return reason;
}

int dp_seal_burst(struct dp *dp, dp_sa_id outbound, uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out,
                  uint32_t *out_octets, size_t out_stride, size_t n, uint8_t *reasons, uint64_t now) {
    int sealed = 0;
    for (size_t i = 0; i < n; i++) {
        struct dp_sa *sa = dp_sa_by_id(dp, outbound);
        if (sa == NULL || sa->direction != DP_OUTBOUND)
            return -ENOENT;
        struct dp_loop *loop = &dp->worker[sa->worker].outbound;
        if (!loop_free(loop))
            return -EBUSY;
        out_octets[i] = 0;
        enum dp_drop reason = in_octets[i] > in_stride ? DP_DROP_too_big
                                                       : seal_row(loop, sa, in + i * in_stride, in_octets[i], in_stride,
                                                                  out + i * out_stride, out_stride, &out_octets[i], now);
        reasons[i] = (uint8_t)reason;
        if (reason == DP_OK)
            sealed++;
        else
            dp_drop(loop, reason);
    }
    return sealed;
}

int dp_open_burst(struct dp *dp, const uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out, uint32_t *out_octets,
                  size_t out_stride, size_t n, uint8_t *reasons, uint64_t now) {
    struct dp_loop *loop = &dp->worker[0].inbound;
    if (!loop_free(loop))
        return -EBUSY;
    int opened = 0;
    for (size_t i = 0; i < n; i++) {
        struct dp_inbound_result r;
        enum dp_drop reason = DP_DROP_too_big;
        if (in_octets[i] <= in_stride && in_octets[i] <= out_stride)
            reason = dp_open_packet(loop, in + i * in_stride, in_octets[i], out + i * out_stride, now, &r);
        reasons[i] = (uint8_t)reason;
        out_octets[i] = reason == DP_OK ? r.inner.octets : 0;
        if (reason == DP_OK)
            opened++;
        else
            dp_drop(loop, reason);
    }
    return opened;
}
