#include "io_report.h"

#include <errno.h>

#include "engine.h"
#include "punt.h"

#define DP_REPORT_INTERVAL UINT64_C(1000000000) /* ns between two reports of one failing device */
#define DP_TOO_BIG_INTERVAL UINT64_C(10000000)  /* ns between two datagrams of one link that are reported as too big */

enum {
    IPV4_HEADER = 20, /* octets */
    IPV6_HEADER = 40,
    UDP_HEADER = 8,
};

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

void dp_io_report_too_big(struct dp_loop *loop, struct dp_io *io, const struct dp_burst *b, uint64_t now) {
    uint64_t before = atomic_load_explicit(&io->refused, memory_order_relaxed);
    if (before != 0 && now - before < DP_TOO_BIG_INTERVAL)
        return;
    atomic_store_explicit(&io->refused, now, memory_order_relaxed);
    uint32_t headers =
        (b->remote.family == 4 ? IPV4_HEADER : IPV6_HEADER) + (io->encapsulation == DP_ENCAPSULATION_UDP ? UDP_HEADER : 0);
    struct dp_punt punt = {
        .kind = DP_PUNT_TOO_BIG,
        .link = (uint16_t)io->number,
        .interface = UINT32_MAX,
        .flags = (b->packets > 1 ? b->gso_size : b->octets) + headers,
        .error = EMSGSIZE,
        .now = now,
        .local = io->local,
        .remote = b->remote,
    };
    (void)dp_punt_send(loop, DP_CHANNEL_TRUSTED, &punt, NULL, 0);
}

void dp_io_report_offload(struct dp_loop *loop, struct dp_io *io, bool is_link, uint64_t now) {
    if (__builtin_expect(atomic_load_explicit(&io->offload_error, memory_order_relaxed) == 0, 1))
        return;
    int error = atomic_exchange_explicit(&io->offload_error, 0, memory_order_relaxed);
    if (error == 0) /* the other loop was first */
        return;
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
