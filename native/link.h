/* A link: the outer sockets of one local address and encapsulation as a burst interface; link_io.c receives, link_send.c sends. */
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

/* Descriptors are duplicated; see dp_link_attach. `on`: they are another process's too, and this is on (dp_link_inherit); NULL:
 * what there is is turned on. NULL with errno. */
struct dp_io *dp_link_open(uint32_t link, unsigned encapsulation, const struct dp_addr *local, int fd_receive, int receive_df,
                           int fd_other, const uint32_t *on);
/* One datagram from a socket of ours, whole or not at all. 0 or -errno. */
int dp_link_answer(int fd, const struct dp_addr *remote, const uint8_t *data, size_t octets);
void dp_from_sockaddr(struct dp_addr *a, const union dp_sockaddr *s);
int dp_link_send(struct dp_io *io, const struct dp_burst *b, unsigned n);

#endif
