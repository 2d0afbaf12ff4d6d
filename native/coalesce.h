/* Packets → super-packets for a TUN device, without moving an octet: a super-packet is the list of its pieces, the first packet
 * whole and the payloads of those that follow it, each where it was decrypted.
 *
 * What goes out is what came in: cut again at gso_size (by us, or by the kernel behind the TUN device), every packet has the octets
 * it had when it arrived. So a packet joins only the latest one of its own flow, and only when its headers are what cutting would
 * make them: adjacent sequence number and IPv4 ID, all else equal, no longer than those before it, checksums right and in the form
 * that is computed. PSH or a shorter payload ends the run. Whatever cannot join stays itself, in its place. No I/O. */
#ifndef DP_COALESCE_H
#define DP_COALESCE_H

#include <sys/uio.h>

#include "inner.h"
#include "io.h"

enum {
    DP_PIECES = 64, /* packets in a super-packet at the most */
};

struct dp_super {
    struct iovec piece[DP_PIECES];
    uint16_t pieces;
    bool open;     /* more may join */
    bool verified; /* the first packet's checksums were right */
    uint8_t version, protocol;
    uint8_t gso_type;         /* 0: this packet can never be part of a super-packet */
    uint16_t upper, headers;  /* octets before the upper header, before the payload */
    uint32_t payload, octets; /* of the first packet's payload; of all */
    uint32_t ends_sum;        /* once verified: of addresses and protocol, as the pseudo-header has them */
    uint32_t next_sequence;
    uint16_t next_id;
};

/* The super-packets of one burst, in the order of their first packets. Set `count` to 0 to begin. */
struct dp_coalescer {
    unsigned count; /* ≤ DP_BURSTS */
    uint32_t tag[DP_BURSTS];
    struct dp_super super[DP_BURSTS];
};

/* Adds a packet that passed dp_inner_read; it stays where it is. `kinds`: enum dp_offload, what the TUN device takes. `count` must
 * be below DP_BURSTS. */
void dp_coalesce_add(struct dp_coalescer *c, uint8_t *packet, const struct dp_inner *inner, uint32_t kinds);

/* Writes the headers of super-packet `i`, of which `count` are there, and describes it for the device. */
void dp_coalesce_finish(struct dp_coalescer *c, unsigned i, struct dp_burst *b);

#endif
