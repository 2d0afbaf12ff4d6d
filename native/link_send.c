/* Sending on a link. A run of equal datagrams leaves in one message with UDP_SEGMENT; where the kernel refuses that, one by one, at
 * once.
 *
 * EMSGSIZE or EINVAL most often means that a datagram is longer than the path's MTU by now: then no runs of that length are sent
 * for a while. Only when the datagrams do fit, or the device behind reports EIO, and they leave one by one, is the offload itself
 * at fault, and given up: a route that says blackhole is EINVAL too. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include "link.h"

#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11 /* <linux/in6.h>, which cannot stand beside <netinet/in.h> */
#endif

enum {
    IPV4_UDP = 28, /* octets of outer headers */
    IPV6_UDP = 48,
};
#define DP_SEGMENT_RETRY UINT64_C(10000000000) /* ns until longer runs are tried again */

static socklen_t to_sockaddr(union dp_sockaddr *s, const struct dp_addr *a) {
    memset(s, 0, sizeof *s);
    if (a->family == 4) {
        s->v4.sin_family = AF_INET;
        s->v4.sin_port = htons(a->port);
        memcpy(&s->v4.sin_addr, a->ip, 4);
        return sizeof s->v4;
    }
    s->v6.sin6_family = AF_INET6;
    s->v6.sin6_port = htons(a->port);
    s->v6.sin6_scope_id = a->scope;
    memcpy(&s->v6.sin6_addr, a->ip, 16);
    return sizeof s->v6;
}

static void add_control(struct msghdr *m, uint8_t *control, int level, int type, const void *value, size_t octets) {
    struct cmsghdr *c = (struct cmsghdr *)(void *)(control + m->msg_controllen);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(octets);
    memcpy(CMSG_DATA(c), value, octets);
    m->msg_control = control;
    m->msg_controllen += CMSG_SPACE(octets);
}

static void write_control(struct msghdr *m, uint8_t *control, const struct dp_burst *b) {
    bool v4 = b->remote.family == 4;
    int tos = b->tos;
    if (tos != 0)
        add_control(m, control, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof tos);
    if (b->hop_limit != 0) {
        int hops = b->hop_limit;
        add_control(m, control, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_HOPLIMIT, &hops, sizeof hops);
    }
    if (b->flow_label != 0) {
        uint32_t label = htonl(b->flow_label);
        add_control(m, control, IPPROTO_IPV6, IPV6_FLOWINFO, &label, sizeof label);
    }
    if (b->packets > 1)
        add_control(m, control, IPPROTO_UDP, UDP_SEGMENT, &b->gso_size, sizeof b->gso_size);
}

static int descriptor_for(const struct dp_io *io, const struct dp_link *l, uint8_t df) {
    return l->fd_other >= 0 && df != l->receive_df ? l->fd_other : io->poll_fd;
}

static int send_messages(int fd, struct dp_messages *v, const struct dp_burst *b, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        v->iov[i] = (struct iovec){b[i].data, b[i].octets};
        v->message[i].msg_hdr = (struct msghdr){
            .msg_name = &v->address[i],
            .msg_namelen = to_sockaddr(&v->address[i], &b[i].remote),
            .msg_iov = &v->iov[i],
            .msg_iovlen = 1,
        };
        write_control(&v->message[i].msg_hdr, v->control[i], &b[i]);
    }
    int sent;
    do
        sent = sendmmsg(fd, v->message, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* The MTU of the path as the kernel knows it, which a socket tells only when it is connected; 0: unknown. `like` is routed alike.
 */
static uint32_t path_mtu(int like, const struct dp_burst *b) {
    union dp_sockaddr local, remote;
    struct dp_addr any_port = b->local;
    any_port.port = 0;
    int fd = socket(b->remote.family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), mtu = 0;
    uint32_t mark = 0;
    socklen_t octets = sizeof mark;
    if (fd < 0)
        return 0;
    bool known = getsockopt(like, SOL_SOCKET, SO_MARK, &mark, &octets) == 0 &&
                 (mark == 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0) &&
                 bind(fd, &local.any, to_sockaddr(&local, &any_port)) == 0 &&
                 connect(fd, &remote.any, to_sockaddr(&remote, &b->remote)) == 0 &&
                 (b->remote.family == 4 ? getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &octets)
                                        : getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &octets)) == 0;
    close(fd);
    return known && mtu > 0 ? (uint32_t)mtu : 0;
}

/* The kernel refused a run, and took its datagrams one by one or not: is the path or the offload at fault? */
static void learn(struct dp_io *io, struct dp_link *l, int fd, const struct dp_burst *b, int error, bool went_apart) {
    uint32_t headers = b->remote.family == 4 ? IPV4_UDP : IPV6_UDP;
    uint32_t mtu = error == EIO ? 0 : path_mtu(fd, b);
    if (mtu != 0 && b->gso_size + headers > mtu) {
        l->segment_max = mtu > headers ? mtu - headers : 0;
        l->segment_max_until = b->now + DP_SEGMENT_RETRY;
        return;
    }
    if (went_apart && error != ENOMEM)
        dp_io_give_up(io, DP_OFFLOAD_UDP_SEGMENT, error);
}

/* Whether the datagrams of a run may leave that the kernel refused whole. */
static bool may_leave_apart(int error) {
    return error == EMSGSIZE || error == EINVAL || error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT || error == ENOMEM;
}

/* Sends the datagrams of a run one by one. 1, or -errno of the first one refused: then the rest of the run is lost with it. */
static int send_apart(int fd, struct dp_messages *v, const struct dp_burst *run) {
    struct dp_burst one[DP_BURSTS];
    for (uint32_t at = 0; at < run->octets;) {
        unsigned n = 0;
        for (; n < DP_BURSTS && at < run->octets; n++) {
            uint32_t left = run->octets - at;
            one[n] = *run;
            one[n].data = run->data + at;
            one[n].octets = left < run->gso_size ? left : run->gso_size;
            one[n].packets = 1;
            at += one[n].octets;
        }
        for (unsigned done = 0; done < n;) {
            int sent = send_messages(fd, v, one + done, n - done);
            if (sent < 0)
                return sent;
            done += (unsigned)sent;
        }
    }
    return 1;
}

static bool apart(const struct dp_io *io, const struct dp_link *l, const struct dp_burst *b) {
    if (b->packets == 1)
        return false;
    return (atomic_load_explicit(&io->offloads, memory_order_relaxed) & DP_OFFLOAD_UDP_SEGMENT) == 0 ||
           (b->gso_size > l->segment_max && b->now < l->segment_max_until);
}

int dp_link_send(struct dp_io *io, const struct dp_burst *b, unsigned n) {
    struct dp_link *l = io->scratch;
    int fd = descriptor_for(io, l, b[0].df);
    if (apart(io, l, &b[0]))
        return send_apart(fd, &l->send, &b[0]);
    unsigned count = 1;
    while (count < n && descriptor_for(io, l, b[count].df) == fd && !apart(io, l, &b[count]))
        count++;
    int sent = send_messages(fd, &l->send, b, count);
    if (b[0].packets == 1 || sent >= 0 || !may_leave_apart(-sent))
        return sent;
    int left = send_apart(fd, &l->send, &b[0]);
    learn(io, l, fd, &b[0], -sent, left > 0);
    return left;
}

int dp_link_answer(int fd, const struct dp_addr *remote, const uint8_t *data, size_t octets) {
    union dp_sockaddr to;
    return sendto(fd, data, octets, MSG_DONTWAIT | MSG_NOSIGNAL, &to.any, to_sockaddr(&to, remote)) >= 0 ? 0 : -errno;
}
