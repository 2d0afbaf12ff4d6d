/* A packet as a block of a pcapng file: what it holds, and the outer header that the sockets do not show. */
#ifndef DP_TAP_BLOCK_H
#define DP_TAP_BLOCK_H

#include <sys/uio.h>

#include "dp.h"
#include "tap_ring.h"

enum {
    DP_TAP_KEY_OUTER =
        0, /* of the interface in the file, while a block lies in its ring; of a TUN interface one more than its number */
    DP_TAP_INBOUND = 1, /* as pcapng's epb_flags have it */
    DP_TAP_OUTBOUND = 2,
};

struct dp_tap {
    struct dp_tap_config config;
    uint32_t interfaces; /* of the data plane */
    uint32_t rings;
    uint32_t *id;             /* by key: the number of the interface in the file; UINT32_MAX: it has none yet */
    _Atomic uint64_t *missed; /* by key */
    uint64_t *taken;          /* by key */
    struct dp_addr peer[DP_TAP_PEERS];
    struct dp_tap_ring ring[];
};

struct dp_tap_packet {
    uint32_t key, flag;
    uint64_t now;
    const struct iovec *part; /* one behind the other */
    size_t parts;
};

/* A datagram on the wire: from where to where, and what was seen or asked for of its header. */
struct dp_tap_datagram {
    const struct dp_addr *source, *destination;
    bool udp;
    bool marker; /* the non-ESP marker belongs before `data`, and is not there */
    uint8_t tos, hop_limit;
    bool df;
    uint32_t flow_label;
    const uint8_t *data;
    size_t octets;
};

/* Begins a block in a ring; what was not ended before is. */
void dp_tap_begin(struct dp_tap *tap, struct dp_tap_ring *ring, const struct dp_tap_packet *p);
/* The same of a datagram. */
void dp_tap_begin_outer(struct dp_tap *tap, struct dp_tap_ring *ring, const struct dp_tap_datagram *d, uint32_t flag, uint64_t now);
/* Ends it, if there is one, as that of a packet which was dropped or, with DP_OK, was not. */
void dp_tap_end(struct dp_tap_ring *ring, enum dp_drop reason);

#endif
