/* What both loops do with the bursts they have built. */
#include <errno.h>

#include "engine.h"

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
        int given_up = atomic_exchange_explicit(&loop->out_io->offload_error, 0, memory_order_relaxed);
        if (given_up != 0)
            dp_io_report_offload(loop, loop->out_io, to_links, given_up, now);
        if (sent > 0) {
            at += (unsigned)sent;
            continue;
        }
        enum dp_drop reason = send_failure(to_links, -sent);
        dp_drop_packets(loop, reason, loop->out[at].packets);
        if (reason == DP_DROP_send_error || reason == DP_DROP_tun_gone)
            dp_io_report(loop, loop->out_io, to_links, -sent, now);
        at++;
    }
    loop->out_count = 0;
    loop->built.used = 0;
}
