/* What receiving and sending of a link share. */
#ifndef DP_LINK_H
#define DP_LINK_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "io.h"

enum {
    DP_CONTROL_ROOM = 128,
    /* Not a multiple of a page: 64 buffers that begin at the same offset would fight for the same cache sets. */
    DP_RECEIVE_STRIDE = DP_PACKET_ROOM + 1088,
    DP_RECEIVE_BURSTS = 32,
};

union dp_sockaddr {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct dp_messages {
    struct mmsghdr message[DP_BURSTS];
    struct iovec iov[DP_BURSTS];
    union dp_sockaddr address[DP_BURSTS];
    _Alignas(struct cmsghdr) uint8_t control[DP_BURSTS][DP_CONTROL_ROOM];
};

struct dp_link {
    int fd_other;
    uint8_t receive_df;
    struct dp_messages receive, send; /* each used by one loop only */
    /* Of the sending loop: the path took no longer datagrams in one send, and until when that is believed. */
    uint32_t segment_max;
    uint64_t segment_max_until;
};

/* link_send.c */
int dp_link_send(struct dp_io *io, const struct dp_burst *b, unsigned n);
/* udp_check.c: whether this kernel delivers what UDP_SEGMENT sends, octet by octet; tried once, over the loopback interface. True
 * where it cannot be tried. */
bool dp_udp_segment_works(void);

#endif
