/* Packets → super-packets for a TUN device, without moving an octet: a super-packet is the list of its pieces, the first packet
 * whole and the payloads of those that follow it, each where it was decrypted.
 *
 * What goes out is what came in: cut again at gso_size (by us, or by the kernel behind the TUN device), every packet has the octets
 * it had when it arrived. So a packet joins only the latest one of its own flow, and only when its headers are what cutting would
 * make them: adjacent sequence number and IPv4 ID, all else equal, no longer than those before it, checksums right and in the form
 * that is computed. PSH or a shorter payload ends the run. Whatever cannot join stays itself, in its place.
 *
 * UDP without a checksum joins nothing: cutting would give it one. But what is in a UDP tunnel (VXLAN, RFC 7348; Geneve, RFC 8926;
 * one level, Ethernet with IP in it) joins by its own headers, those of the tunnel being alike, its checksum zero in all or right
 * in all. No I/O. */
#ifndef DP_COALESCE_H
#define DP_COALESCE_H

#include <sys/uio.h>

#include "inner.h"
#include "io.h"

enum {
    DP_PIECES = 64, /* packets in a super-packet at the most */
};

/* IP and what is above it. */
struct dp_layer {
    uint8_t version, protocol;
    uint16_t ip, upper; /* octets before the IP header, before the upper one */
    uint16_t next_id;   /* IPv4 */
    uint32_t ends_sum;  /* once verified: of addresses and protocol, as the pseudo-header has them */
};

struct dp_super {
    struct iovec piece[DP_PIECES];
    uint16_t pieces;
    bool open;                /* more may join */
    bool verified;            /* the first packet's checksums were right */
    uint8_t gso_type;         /* 0: this packet can never be part of a super-packet */
    struct dp_layer outer;    /* of the packet, by which its flow is known */
    struct dp_layer cut;      /* whose payload is cut: the same, or of the packet in a UDP tunnel */
    uint16_t headers;         /* octets before the payload */
    uint32_t payload, octets; /* of the first packet's payload; of all */
    uint32_t next_sequence;
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
