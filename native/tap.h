/* What a capture sees: inner packets and outer datagrams as blocks of a pcapng file, in rings that the control thread empties.
 *
 * A tap is there while somebody captures. Without one a loop asks a single pointer, once for each burst or datagram, and nothing
 * here is called. With one it copies what it has, never waits, and counts what finds no room. Of an outer datagram the sockets show
 * no header: one is made of its addresses, ports, TOS and DF. Nothing here sees a key. */
#ifndef DP_TAP_H
#define DP_TAP_H

#include "engine.h"

struct dp_tap;

/* NULL: nobody captures. Stays while the loop's epoch does. */
static inline struct dp_tap *dp_tap_of(const struct dp *dp) {
    return atomic_load_explicit(&dp->tap, memory_order_acquire);
}

/* ---- the loops' end */

/* A packet or super-packet of a TUN interface that is about to be sealed. */
void dp_tap_outgoing(struct dp_tap *tap, struct dp_loop *loop, uint32_t tunnel, const struct dp_burst *b, uint64_t now);
/* `n` bursts of ESP that a link has taken; each datagram is one packet. */
void dp_tap_sent(struct dp_tap *tap, struct dp_loop *loop, const struct dp_burst *b, unsigned n, uint64_t now);
/* A datagram as it was received. What becomes of it is told by the next call: it is dropped, or was early, or neither. */
void dp_tap_received(struct dp_tap *tap, struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data, size_t octets,
                     uint64_t now);
/* The last one is not dropped. */
void dp_tap_done(struct dp_tap *tap, struct dp_loop *loop);
/* It will be received once more (early.h). */
void dp_tap_undo(struct dp_tap *tap, struct dp_loop *loop);
/* What a datagram was answered with at once, as it goes to the link; the datagram is not dropped. */
void dp_tap_answered(struct dp_tap *tap, struct dp_loop *loop, const struct dp_burst *b, const uint8_t *answer, size_t octets,
                     uint64_t now);
/* What the sender of a packet is told, as it goes to the TUN interface. */
void dp_tap_told(struct dp_tap *tap, struct dp_loop *loop, uint32_t interface, const uint8_t *packet, size_t octets, uint64_t now);
/* The packet that an inbound SA brought. */
void dp_tap_opened(struct dp_tap *tap, struct dp_loop *loop, const struct dp_sa *sa, const uint8_t *packet, size_t octets,
                   uint64_t now);

/* ---- what is dropped, by examples.c */

/* A packet or super-packet of a TUN interface. */
void dp_tap_drop_outgoing(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, uint32_t interface, const uint8_t *packet,
                          size_t octets, uint64_t now);
/* The datagram that was received last. */
void dp_tap_drop_received(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason);
/* Datagrams that were not looked at one by one. */
void dp_tap_drop_run(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, uint64_t now);
/* What an inbound SA brought. */
void dp_tap_drop_opened(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, const struct dp_sa *sa,
                        const uint8_t *packet, size_t octets, uint64_t now);
/* What a device did not take. */
void dp_tap_drop_unsent(struct dp_tap *tap, struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, bool to_links,
                        uint32_t interface, uint64_t now);

/* ---- IKE */

/* A message that came to port 500; DP_OK: it goes to the control thread. By the thread of that port. */
void dp_tap_ike_received(struct dp_tap *tap, struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote,
                         const uint8_t *message, size_t octets, enum dp_drop reason, uint64_t now);
/* A message that is about to leave by the port of `local`. By the control thread. */
void dp_tap_ike_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote, const uint8_t *message,
                     size_t octets);

/* A COOKIE answer, without the non-ESP marker, that is about to leave by port 500. By the thread of that port. */
void dp_tap_ike_answered(struct dp_tap *tap, struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote,
                         const uint8_t *answer, size_t octets, uint64_t now);
/* A NAT keepalive that is about to leave. By the control thread. */
void dp_tap_keepalive(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote);

/* Nobody runs a loop any more. */
void dp_tap_finish(struct dp *dp);

#endif
