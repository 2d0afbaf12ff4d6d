#include "io_report.h"

#include "engine.h"
#include "punt.h"

#define DP_REPORT_INTERVAL UINT64_C(1000000000) /* ns between two reports of one failing device */

void dp_io_report(struct dp_loop *loop, struct dp_io *io, bool is_link, int error, uint64_t now) {
    uint64_t before = atomic_load_explicit(&io->reported, memory_order_relaxed);
    if (before != 0 && now - before < DP_REPORT_INTERVAL)
        return;
    atomic_store_explicit(&io->reported, now, memory_order_relaxed);
    struct dp_punt punt = {
        .kind = DP_PUNT_IO_ERROR,
        .link = is_link ? (uint16_t)io->number : UINT16_MAX,
        .interface = is_link ? UINT32_MAX : io->number,
        .error = error,
        .now = now,
        .local = io->local,
    };
    (void)dp_punt_send(loop, DP_CHANNEL_TRUSTED, &punt, NULL, 0);
}

void dp_io_report_offload(struct dp_loop *loop, const struct dp_io *io, bool is_link, int error, uint64_t now) {
    struct dp_punt punt = {
        .kind = DP_PUNT_OFFLOAD,
        .link = is_link ? (uint16_t)io->number : UINT16_MAX,
        .interface = is_link ? UINT32_MAX : io->number,
        .flags = atomic_load_explicit(&io->offloads, memory_order_relaxed),
        .error = error,
        .now = now,
        .local = io->local,
    };
    (void)dp_punt_send(loop, DP_CHANNEL_TRUSTED, &punt, NULL, 0);
}
