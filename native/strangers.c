#include "strangers.h"

#include "engine.h"
#include "examples.h"
#include "io_set.h"
#include "link.h"
#include "octets.h"
#include "punt.h"
#include "tap.h"

static void punt(struct dp_loop *loop, unsigned kind, const struct dp_burst *b, const uint8_t *data, size_t octets, uint64_t now) {
    struct dp_punt record = {
        .kind = (uint16_t)kind,
        .link = (uint16_t)b->link,
        .spi = kind == DP_PUNT_UNKNOWN_SPI ? dp_read_32(data) : 0,
        .interface = UINT32_MAX,
        .now = now,
        .local = b->local,
        .remote = b->remote,
    };
    if (!dp_punt_send(loop, DP_CHANNEL_STRANGER, &record, data, octets) && kind == DP_PUNT_IKE)
        dp_drop_datagrams(loop, DP_DROP_punt_full, b, 0, NULL, 1, now);
}

void dp_strangers_esp(struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data, size_t octets, uint64_t now) {
    if (dp_ike_stranger(&loop->gate, &b->remote, now))
        punt(loop, DP_PUNT_UNKNOWN_SPI, b, data, octets < DP_PUNT_INNER_MAX ? octets : DP_PUNT_INNER_MAX, now);
    else
        dp_add(&loop->punts_limited, 1);
}

/* Somebody is asked to show that he receives where he says he is. It leaves by the socket that his request came to. */
static void answer(struct dp_loop *loop, const struct dp_burst *b, uint64_t now) {
    struct dp_io *io = dp_io_get(loop->dp, loop->worker, true, b->link);
    struct dp_ike_gate *gate = &loop->gate;
    if (io == NULL)
        return;
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (tap != NULL)
        dp_tap_answered(tap, loop, b, gate->answer, sizeof gate->answer, now);
    if (io->poll_fd >= 0) {
        (void)dp_link_answer(io->poll_fd, &b->remote, gate->answer, sizeof gate->answer);
        return;
    }
    struct dp_burst out = {.data = gate->answer, .octets = sizeof gate->answer, .packets = 1, .df = DP_DF_SET};
    out.local = b->local;
    out.remote = b->remote;
    (void)io->ops->send(io, &out, 1);
}

void dp_strangers_ike(struct dp_loop *loop, const struct dp_burst *b, const uint8_t *message, size_t octets, uint64_t now) {
    dp_add(&loop->ike, 1);
    switch (dp_ike_judge(&loop->gate, &b->remote, message, octets, now)) {
    case DP_IKE_PASS:
        punt(loop, DP_PUNT_IKE, b, message, octets, now);
        break;
    case DP_IKE_ANSWER:
        answer(loop, b, now);
        break;
    case DP_IKE_LIMITED:
        dp_add(&loop->punts_limited, 1);
        dp_drop_datagrams(loop, DP_DROP_ike_limited, b, 0, NULL, 1, now);
        break;
    case DP_IKE_FORGED:
        dp_drop_datagrams(loop, DP_DROP_ike_icv, b, 0, NULL, 1, now);
        break;
    }
}
