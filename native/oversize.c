#include "oversize.h"

#include "child.h"
#include "fragment_follow.h"
#include "io_set.h"
#include "mss.h"
#include "punt.h"
#include "segment.h"
#include "tap.h"
#include "too_big.h"

enum {
    IPV6_MTU_MIN = 1280, /* RFC 8200 §5: no IPv6 sender can be made to use less */
};

/* Writes the ICMP message to the TUN device that the packet came from, unless its sender has had too many lately. */
static void tell_sender(struct dp_loop *loop, const struct dp_burst *b, const struct dp_inner *inner, uint32_t mtu, uint64_t now) {
    const struct dp_io_set *tuns = atomic_load_explicit(&loop->dp->worker[loop->worker].tuns, memory_order_acquire);
    struct dp_io *io = tuns != NULL && b->interface < tuns->count ? tuns->io[b->interface] : NULL;
    struct dp_addr source = {.family = inner->version};
    uint8_t room[DP_TUN_HEADROOM + DP_TOO_BIG_MAX], *message = room + DP_TUN_HEADROOM;
    if (inner->version == 4)
        memcpy(source.ip, b->data + 12, 4);
    else
        memcpy(source.ip, b->data + 8, 16);
    size_t octets = io != NULL ? dp_too_big_make(message, b->data, inner, mtu) : 0;
    if (octets == 0 || !dp_punt_allowed(loop->limiter, &source, now))
        return;
    struct iovec piece = {message, octets};
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (tap != NULL)
        dp_tap_told(tap, loop, b->interface, message, octets, now);
    const struct dp_burst out = {.data = message, .octets = (uint32_t)octets, .packets = 1, .piece = &piece};
    (void)io->ops->send(io, &out, 1); /* a full queue: the next packet asks again */
}

enum dp_drop dp_oversize(struct dp_loop *loop, const struct dp_sa *sa, const struct dp_burst *b, const struct dp_inner *inner,
                         struct dp_segments *s, uint8_t *df, uint32_t *limit, uint64_t now) {
    struct dp_tunnel_settings settings = dp_tunnel_settings_of(&loop->dp->tunnel[sa->tunnel]);
    uint16_t mss = inner->version == 4 ? settings.mss4 : settings.mss6;
    *limit = 0;
    if (mss != 0)
        (void)dp_mss_clamp(b->data, inner, mss, b->needs_checksum);
    if (settings.mtu == 0 || s->octets_most <= settings.mtu)
        return DP_OK;
    uint32_t mtu = inner->version == 6 && settings.mtu < IPV6_MTU_MIN ? IPV6_MTU_MIN : settings.mtu;
    if (s->octets_most > mtu && !dp_segments_limit(s, mtu)) {
        bool ports = dp_fragment_shows_too_little(loop->dp, sa, &inner->flow);
        /* Told, a sender of IPv6 would send fragments from then on, which the peer may discard; of a later fragment it hears
         * nothing, since it looks for the ports that the quoted one does not show. */
        bool untold = (ports || sa->opaque) && inner->version == 6;
        if (inner->dont_fragment && !untold) {
            tell_sender(loop, b, inner, mtu, now);
            return DP_DROP_mtu;
        }
        if (untold)
            (void)dp_segments_split(s, b, inner, mtu);
        else if (!settings.fragment_after && (!ports || sa->fragments_also)) {
            *limit = mtu;
            return DP_OK;
        }
    }
    if (s->octets_most > settings.mtu) /* what may be fragmented, or IPv6 that no sender could make shorter */
        *df = DP_DF_CLEAR;
    return DP_OK;
}
