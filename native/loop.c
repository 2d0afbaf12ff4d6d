#include "loop.h"

#include <errno.h>

#include "examples.h"
#include "handover.h"
#include "io_report.h"
#include "io_set.h"
#include "tap.h"

int dp_loop_visit(struct dp_loop *loop, const struct dp_io_set *set, uint32_t budget, uint64_t now,
                  int (*visit)(struct dp_loop *loop, struct dp_io *io, uint32_t budget, uint64_t now)) {
    uint32_t count = set != NULL ? set->count : 0, moved = 0;
    loop->more = false;
    for (uint32_t i = 0; i < count && moved < budget; i++) {
        struct dp_io *io = set->io[(loop->turn + i) % count];
        if (io == NULL || atomic_load_explicit(&io->failed, memory_order_relaxed) ||
            atomic_load_explicit(&io->unread, memory_order_acquire) != 0)
            continue;
        /* Only a thread has epoll to tell it who is ready; a rig's step looks at everything. */
        if (loop->running && !atomic_load_explicit(&io->ready, memory_order_acquire))
            continue;
        moved += (uint32_t)visit(loop, io, budget - moved, now);
        loop->more |= atomic_load_explicit(&io->ready, memory_order_relaxed);
    }
    loop->more |= moved >= budget; /* then some were not asked */
    loop->more |= dp_handover_waiting(loop);
    loop->turn++;
    return (int)moved;
}

static enum dp_drop send_failure(bool to_links, int error) {
    bool full = error == EAGAIN || error == ENOBUFS;
    if (!to_links)
        return full ? DP_DROP_tun_full : DP_DROP_tun_gone;
    if (full)
        return DP_DROP_send_full;
    return error == EMSGSIZE ? DP_DROP_too_big : DP_DROP_send_error;
}

void dp_loop_flush(struct dp_loop *loop, bool to_links, uint64_t now) {
    unsigned at = 0;
    if (loop->to_wake != 0)
        dp_handover_wake(loop);
    while (at < loop->out_count) {
        int sent = loop->out_io->ops->send(loop->out_io, &loop->out[at], loop->out_count - at);
        dp_io_report_offload(loop, loop->out_io, to_links, now);
        if (sent > 0) {
            struct dp_tap *tap = dp_tap_of(loop->dp);
            if (__builtin_expect(tap != NULL, 0) && to_links)
                dp_tap_sent(tap, loop, &loop->out[at], (unsigned)sent, now);
            at += (unsigned)sent;
            continue;
        }
        enum dp_drop reason = send_failure(to_links, -sent);
        dp_drop_unsent(loop, reason, &loop->out[at], to_links, to_links ? loop->out[at].interface : loop->out_io->number, now);
        if (reason == DP_DROP_send_error || reason == DP_DROP_tun_gone)
            dp_io_report(loop, loop->out_io, to_links, -sent, now);
        else if (reason == DP_DROP_too_big)
            dp_io_report_too_big(loop, loop->out_io, &loop->out[at], now);
        at++;
    }
    loop->out_count = 0;
    loop->built.used = 0;
}
