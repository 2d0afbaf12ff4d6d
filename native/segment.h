/* A burst from a TUN device → its packets, one after the other, in place.
 *
 *     [ headers ][ payload 0 | payload 1 | payload 2 ]       the super-packet as it was read
 *                      [ headers ][ payload 1 ]              its second packet
 *
 * Each packet's headers are written into the octets just before its payload: the packet before it has been sealed already, so its
 * octets are no longer needed. Sealing a packet overwrites DP_ESP_TAILROOM octets behind it, where the next payload begins; they
 * are put back before the next packet is made.
 *
 * What is cut may lie in a UDP tunnel (VXLAN, RFC 7348; Geneve, RFC 8926; one level): then each packet has the outer headers too,
 * and all that stands between them and the inner IP header, which nobody here reads. No I/O. */
#ifndef DP_SEGMENT_H
#define DP_SEGMENT_H

#include "inner.h"
#include "io.h"

enum {
    DP_SEGMENT_HEADERS_MAX = 512, /* octets of all headers of a super-packet: 252 may be Geneve's options */
};

/* An IP header that each packet of a super-packet has. */
struct dp_segment_ip {
    uint8_t version;
    uint16_t at;  /* octets before it */
    uint16_t id;  /* IPv4: of the first packet */
    uint32_t sum; /* IPv4: of what is the same in every packet */
};

struct dp_segments {
    uint32_t count;       /* packets */
    uint32_t octets_all;  /* of all packets together, headers included */
    uint32_t octets_most; /* of the longest packet */

    /* The rest belongs to dp_segments_next. */
    uint8_t *packet;                         /* the super-packet, then what is left of it */
    uint32_t next, payload, gso_size;        /* payload: octets not yet handed out */
    uint16_t checksum_start, checksum_field; /* of a single packet; 0: its checksum is there */
    uint16_t upper, headers;                 /* octets before the upper header, before the payload */
    uint32_t tcp_sequence;
    uint8_t tcp_flags;
    bool udp;
    struct dp_segment_ip ip;
    uint32_t upper_sum; /* of what is the same in every packet */

    /* Of a UDP tunnel. */
    uint16_t outer_upper; /* octets before its UDP header; 0: there is no tunnel */
    bool outer_checksum;  /* that is not just copied */
    struct dp_segment_ip outer;
    uint32_t outer_sum; /* of what is the same in every packet, for the UDP checksum */

    uint8_t header[DP_SEGMENT_HEADERS_MAX];
    uint8_t saved[DP_ESP_TAILROOM];
};

/* Takes a burst whose `data` passed dp_inner_read; behind the `octets` of the inner header lie DP_ESP_TAILROOM writable ones. The
 * fields of the offload header are only believed where they agree with the packet itself; its hdr_len is never read, nor where it
 * says that the UDP header of a tunnel begins. The packet is not touched before it is handed out. DP_OK, DP_DROP_offload_kind,
 * DP_DROP_offload_fields. */
enum dp_drop dp_segments_begin(struct dp_segments *s, const struct dp_burst *b, const struct dp_inner *inner);

/* Makes the payloads of a TCP super-packet that is in no UDP tunnel smaller, before the first packet is handed out, so that no
 * packet exceeds `octets`: TCP does not mind where its stream is cut. false: it is none, or its headers alone leave no room. */
bool dp_segments_limit(struct dp_segments *s, uint32_t octets);

/* The same for a TCP segment over IPv6 that came as one packet, which no ICMP message is to make shorter. false: it is none of data
 * alone, has extension headers, or its checksum is wrong. */
bool dp_segments_split(struct dp_segments *s, const struct dp_burst *b, const struct dp_inner *inner, uint32_t octets);

/* The next packet and its octets; NULL after the last. It is whole until the next call, and so are the DP_ESP_TAILROOM octets
 * behind it, which the caller may overwrite. */
uint8_t *dp_segments_next(struct dp_segments *s, uint32_t *octets);

#endif
