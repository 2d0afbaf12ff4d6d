/* The outer sockets of one local address as a burst interface: UDP (RFC 3948) or IP protocol 50, IPv4 or IPv6.
 *
 * Linux has no per-datagram DF on IPv4, so a link may have two sockets: the receiving one sends what wants its DF setting, the
 * other one the rest. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "esp_wire.h"
#include "link.h"
#include "udp_check.h"

static_assert((int)DP_ESP_HEADROOM + (int)DP_IP_MAX + (int)DP_ESP_TAILROOM <= (int)DP_RECEIVE_STRIDE, "the longest burst");

#define LINK (DP_OFFLOAD_UDP_SEGMENT | DP_OFFLOAD_UDP_GRO)

void dp_from_sockaddr(struct dp_addr *a, const union dp_sockaddr *s) {
    memset(a, 0, sizeof *a);
    if (s->any.sa_family == AF_INET) {
        a->family = 4;
        a->port = ntohs(s->v4.sin_port);
        memcpy(a->ip, &s->v4.sin_addr, 4);
    } else {
        a->family = 6;
        a->port = ntohs(s->v6.sin6_port);
        a->scope = s->v6.sin6_scope_id;
        memcpy(a->ip, &s->v6.sin6_addr, 16);
    }
}

/* What the kernel tells beside a datagram: TOS, the local address, the interface, the size of each where it brings several. false:
 * it does not say that size, or one that cannot be, so that nobody can tell them apart. */
static bool read_control(struct dp_burst *b, struct msghdr *m) {
    bool sized = (m->msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            b->tos = *CMSG_DATA(c);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int tclass;
            memcpy(&tclass, CMSG_DATA(c), sizeof tclass);
            b->tos = (uint8_t)tclass;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            b->ifindex = (uint32_t)info.ipi_ifindex;
            memcpy(b->local.ip, &info.ipi_addr, 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            b->ifindex = info.ipi6_ifindex;
            memcpy(b->local.ip, &info.ipi6_addr, 16);
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            sized &= size > 0 && size <= DP_IP_MAX;
            b->gso_size = sized ? (uint16_t)size : 0;
        }
    }
    return sized;
}

static void set_joining(const struct dp_io *io, int on) {
    const struct dp_link *l = io->scratch;
    (void)setsockopt(io->poll_fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    if (l->fd_other >= 0)
        (void)setsockopt(l->fd_other, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
}

/* Only the kernel writes control data, so no stranger brings this about. */
static void give_up_joining(struct dp_io *io) {
    if ((atomic_load_explicit(&io->offloads, memory_order_relaxed) & DP_OFFLOAD_UDP_GRO) == 0)
        return;
    set_joining(io, 0);
    dp_io_give_up(io, DP_OFFLOAD_UDP_GRO, EBADMSG);
}

/* A raw IPv4 socket delivers the IP header too. false: it is not whole. */
static bool strip_ipv4(struct dp_burst *b) {
    if (b->octets < sizeof(struct iphdr))
        return false;
    uint32_t header = (b->data[0] & 15u) * 4;
    if (header < sizeof(struct iphdr) || header > b->octets)
        return false;
    b->tos = b->data[1];
    b->data += header;
    b->octets -= header;
    return true;
}

static int receive_vector(struct dp_io *io, struct dp_messages *v, struct dp_area *area, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        v->iov[i] = (struct iovec){area->base + area->used + (size_t)i * DP_RECEIVE_STRIDE + DP_ESP_HEADROOM, DP_IP_MAX};
        v->message[i].msg_hdr = (struct msghdr){
            .msg_name = &v->address[i],
            .msg_namelen = sizeof v->address[i],
            .msg_iov = &v->iov[i],
            .msg_iovlen = 1,
            .msg_control = v->control[i],
            .msg_controllen = DP_CONTROL_ROOM,
        };
    }
    int got;
    do
        got = recvmmsg(io->poll_fd, v->message, n, MSG_DONTWAIT, NULL);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static int link_receive(struct dp_io *io, struct dp_area *area, struct dp_burst *b, unsigned n) {
    struct dp_link *l = io->scratch;
    size_t room = (area->octets - area->used) / DP_RECEIVE_STRIDE;
    n = n < DP_RECEIVE_BURSTS ? n : DP_RECEIVE_BURSTS;
    n = n < room ? n : (unsigned)room;
    int got = receive_vector(io, &l->receive, area, n);
    if (got < (int)n && (got >= 0 || got == -EAGAIN))
        atomic_store_explicit(&io->ready, false, memory_order_relaxed);
    if (got < 0)
        return got == -EAGAIN ? 0 : got;
    area->used += (size_t)got * DP_RECEIVE_STRIDE;
    for (int i = 0; i < got; i++) {
        struct dp_burst *k = &b[i];
        *k = (struct dp_burst){
            .data = l->receive.iov[i].iov_base,
            .octets = l->receive.message[i].msg_len,
            .encapsulation = io->encapsulation,
            .link = io->number,
            .local = io->local,
        };
        dp_from_sockaddr(&k->remote, &l->receive.address[i]);
        if (!read_control(k, &l->receive.message[i].msg_hdr))
            give_up_joining(io);
        if (io->encapsulation == DP_ENCAPSULATION_ESP) {
            k->remote.port = 0; /* a raw IPv6 socket names the protocol there */
            if (k->remote.family == 4 && !strip_ipv4(k))
                k->octets = 0; /* a runt: the step counts it */
        }
    }
    return got;
}

static uint32_t link_offload(struct dp_io *io, uint32_t wanted) {
    const struct dp_link *l = io->scratch;
    if (io->encapsulation != DP_ENCAPSULATION_UDP)
        return 0;
    int gro = (wanted & DP_OFFLOAD_UDP_GRO) != 0, none = 0;
    uint32_t on = 0;
    if (setsockopt(io->poll_fd, IPPROTO_UDP, UDP_GRO, &gro, sizeof gro) == 0 && gro != 0)
        on |= DP_OFFLOAD_UDP_GRO;
    /* Of sockets that share a port the kernel asks any one whether to join datagrams, not the one that gets them. */
    if (l->fd_other >= 0)
        (void)setsockopt(l->fd_other, IPPROTO_UDP, UDP_GRO, &gro, sizeof gro);
    /* Never for the whole socket: IKE is sent on it too. Setting none shows whether the kernel knows the option. */
    if ((wanted & DP_OFFLOAD_UDP_SEGMENT) != 0 && setsockopt(io->poll_fd, IPPROTO_UDP, UDP_SEGMENT, &none, sizeof none) == 0 &&
        dp_udp_segment_works())
        on |= DP_OFFLOAD_UDP_SEGMENT;
    return on;
}

/* Not every kernel tells whether datagrams are joined; else what was carried is believed. Nothing but `status` depends on it. */
static bool inherit(struct dp_io *io, uint32_t on) {
    int gro = 0;
    socklen_t octets = sizeof gro;
    if ((on & ~(uint32_t)LINK) != 0 || (on != 0 && io->encapsulation != DP_ENCAPSULATION_UDP))
        return false;
    if (io->encapsulation == DP_ENCAPSULATION_UDP && getsockopt(io->poll_fd, IPPROTO_UDP, UDP_GRO, &gro, &octets) == 0)
        on = (on & ~(uint32_t)DP_OFFLOAD_UDP_GRO) | (gro != 0 ? DP_OFFLOAD_UDP_GRO : 0);
    atomic_store_explicit(&io->offloads, on, memory_order_relaxed);
    return true;
}

static void link_close(struct dp_io *io) {
    const struct dp_link *l = io->scratch;
    if (io->poll_fd >= 0)
        close(io->poll_fd);
    if (l->fd_other >= 0)
        close(l->fd_other);
}

static const struct dp_io_ops link_ops = {
    .receive = link_receive, .send = dp_link_send, .offload = link_offload, .close = link_close};

struct dp_io *dp_link_open(uint32_t number, unsigned encapsulation, const struct dp_addr *local, int fd_receive, int receive_df,
                           int fd_other, const uint32_t *on) {
    struct dp_io *io = calloc(1, sizeof *io);
    struct dp_link *l = calloc(1, sizeof *l);
    if (io == NULL || l == NULL) {
        free(io);
        free(l);
        errno = ENOMEM;
        return NULL;
    }
    io->ops = &link_ops;
    io->number = number;
    io->encapsulation = (uint8_t)encapsulation;
    io->local = *local;
    io->scratch = l;
    l->receive_df = (uint8_t)receive_df;
    io->poll_fd = fcntl(fd_receive, F_DUPFD_CLOEXEC, 0);
    l->fd_other = fd_other >= 0 ? fcntl(fd_other, F_DUPFD_CLOEXEC, 0) : -1;
    bool have = io->poll_fd >= 0 && (fd_other < 0 || l->fd_other >= 0);
    if (!have || (on != NULL && !inherit(io, *on))) {
        int error = have ? EINVAL : errno;
        link_close(io);
        free(l);
        free(io);
        errno = error;
        return NULL;
    }
    if (on == NULL)
        (void)dp_io_offload(io, DP_OFFLOAD_ALL);
    atomic_store_explicit(&io->ready, true, memory_order_relaxed);
    return io;
}
