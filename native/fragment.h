/* An IPv4 packet → its fragments (RFC 791 §3.2), one after the other, in place.
 *
 * As in segment.h: each fragment's header is written into the octets just before its payload, which belong to a fragment that has
 * been sealed already, and the DP_ESP_TAILROOM octets behind a fragment that sealing overwrites are put back. No I/O. */
#ifndef DP_FRAGMENT_H
#define DP_FRAGMENT_H

#include "inner.h"

enum {
    DP_IPV4_HEADER_MAX = 60,
    DP_IPV4_MTU_MIN = 68, /* RFC 791 §3.2: what every module must forward unfragmented */
};

struct dp_fragments {
    /* All of it belongs to dp_fragments_next. */
    uint8_t *payload;                   /* of the next fragment */
    uint32_t left, room;                /* octets of payload not yet handed out; that a fragment takes */
    uint16_t offset;                    /* of the next fragment, in units of eight octets */
    bool first, more;                   /* more: the packet itself was not the last fragment */
    uint8_t header[DP_IPV4_HEADER_MAX]; /* of the next fragment */
    uint8_t later[DP_IPV4_HEADER_MAX];  /* of all but the first: options that are not copied are gone */
    uint16_t header_octets, later_octets;
    uint8_t saved[DP_ESP_TAILROOM];
};

/* Takes an IPv4 packet that passed dp_inner_read, without regard to its DF bit, to be cut into fragments of `mtu` octets at the
 * most. false: `mtu` is below DP_IPV4_MTU_MIN. */
bool dp_fragments_begin(struct dp_fragments *f, uint8_t *packet, const struct dp_inner *inner, uint32_t mtu);

/* The next fragment and its octets; NULL after the last. It is whole until the next call, as are the DP_ESP_TAILROOM octets behind
 * it, which the caller may overwrite. */
uint8_t *dp_fragments_next(struct dp_fragments *f, uint32_t *octets);

#endif
