#include "tun_io.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "inner.h"
#include "offload.h"
#include "segment.h"

enum {
    DP_READ_ROOM = 64,        /* octets before a packet that is read, which so begins on a cache line */
    DP_READ_OCTETS = 1 << 17, /* one receive call ends when it has so many: what is sealed next should still be in the cache */
};

/* What lies in front of each packet: <linux/virtio_net.h>, struct virtio_net_hdr_v1_hash_tunnel of Linux 6.17. */
struct vnet_header {
    struct virtio_net_hdr_mrg_rxbuf hdr;
    uint16_t hash[4];
    uint16_t outer_th_offset, inner_nh_offset; /* little-endian */
};
static_assert(sizeof(struct vnet_header) == (size_t)DP_TUN_HEADROOM, "nothing longer is asked for");

static_assert((int)DP_READ_ROOM >= (int)DP_TUN_HEADROOM, "the header fits before what is read, too");

struct tun {
    uint32_t vnet_header; /* octets, 0: none */
    /* Of the sending loop: octets by which the kernel is told that the UDP header of a tunnel begins too late. Linux 6.17 counts an
     * Ethernet header that a TUN device does not have; it finds the right place by itself when the packet is routed. */
    uint16_t excess;
};

/* What an offload is in TUNSETOFFLOAD; none goes without the checksum. TSO of packets with congestion marks comes along:
 * segmentation knows what to do with CWR. */
static const struct {
    uint32_t offload, flag;
} flags[] = {
    {DP_OFFLOAD_TUN_CSUM, TUN_F_CSUM},
    {DP_OFFLOAD_TUN_TSO4, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN},
    {DP_OFFLOAD_TUN_TSO6, TUN_F_CSUM | TUN_F_TSO6 | TUN_F_TSO_ECN},
    {DP_OFFLOAD_TUN_USO4, TUN_F_CSUM | TUN_F_USO4},
    {DP_OFFLOAD_TUN_USO6, TUN_F_CSUM | TUN_F_USO6},
    {DP_OFFLOAD_TUN_UDP_TUNNEL, TUN_F_CSUM | TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM},
};
#define TSO (DP_OFFLOAD_TUN_CSUM | DP_OFFLOAD_TUN_TSO4 | DP_OFFLOAD_TUN_TSO6)
#define USO (DP_OFFLOAD_TUN_USO4 | DP_OFFLOAD_TUN_USO6)
#define TUNNEL DP_OFFLOAD_TUN_UDP_TUNNEL
#define ALL (TSO | USO | TUNNEL)

static bool set_offloads(const struct dp_io *io, uint32_t wanted) {
    unsigned long set = 0;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if ((wanted & flags[i].offload) != 0)
            set |= flags[i].flag;
    return ioctl(io->poll_fd, TUNSETOFFLOAD, set) == 0;
}

/* Nothing goes without the checksum. Linux takes USO from 6.2 on, and only both together; what is in a UDP tunnel from 6.17 on, and
 * only beside what is in none. A set that is refused changes nothing. */
static uint32_t tun_offload(struct dp_io *io, uint32_t wanted) {
    const struct tun *t = io->scratch;
    if (t->vnet_header == 0)
        return 0;
    wanted &= ALL;
    if ((wanted & USO) != USO)
        wanted &= ~(uint32_t)USO;
    if (t->vnet_header < sizeof(struct vnet_header) || (wanted & (ALL & ~(TUNNEL | DP_OFFLOAD_TUN_CSUM))) == 0)
        wanted &= ~(uint32_t)TUNNEL;
    if (wanted != 0)
        wanted |= DP_OFFLOAD_TUN_CSUM;
    const uint32_t tries[] = {wanted, wanted & (TSO | USO), wanted & TSO, wanted & DP_OFFLOAD_TUN_CSUM, 0};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++)
        if (set_offloads(io, tries[i]))
            return tries[i];
    return 0;
}

static void read_header(const struct tun *t, struct dp_burst *b, const uint8_t *at) {
    struct virtio_net_hdr h;
    memcpy(&h, at, sizeof h);
    b->gso_type = h.gso_type;
    b->gso_size = h.gso_size;
    b->needs_checksum = (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0;
    b->checksum_start = h.csum_start;
    b->checksum_offset = h.csum_offset;
    if ((h.gso_type & DP_GSO_UDP_TUNNEL) == 0 || t->vnet_header < sizeof(struct vnet_header))
        return;
    uint16_t network;
    memcpy(&network, at + offsetof(struct vnet_header, inner_nh_offset), sizeof network);
    b->network = le16toh(network);
    b->tunnel_checksum = (h.flags & VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM) != 0;
}

/* Octets of the packet that lies at `data` then, the header before it; -errno. */
static ssize_t read_packet(const struct dp_io *io, uint8_t *data) {
    const struct tun *t = io->scratch;
    ssize_t octets;
    do
        octets = read(io->poll_fd, data - t->vnet_header, t->vnet_header + DP_IP_MAX);
    while (octets < 0 && errno == EINTR);
    if (octets < 0)
        return -errno;
    return octets > (ssize_t)t->vnet_header ? octets - (ssize_t)t->vnet_header : 0;
}

static int tun_receive(struct dp_io *io, struct dp_area *area, struct dp_burst *b, unsigned n) {
    const struct tun *t = io->scratch;
    unsigned i = 0;
    while (i < n && area->used < DP_READ_OCTETS && area->octets - area->used >= DP_PACKET_ROOM) {
        uint8_t *data = area->base + area->used + DP_READ_ROOM;
        ssize_t octets = read_packet(io, data);
        if (octets < 0) {
            if (octets == -EAGAIN)
                atomic_store_explicit(&io->ready, false, memory_order_relaxed);
            return i != 0 || octets == -EAGAIN ? (int)i : (int)octets;
        }
        (void)dp_area_take(area, DP_READ_ROOM + (size_t)octets + DP_ESP_TAILROOM);
        b[i] = (struct dp_burst){
            .data = data,
            .octets = (uint32_t)octets,
            .interface = io->number,
        };
        if (t->vnet_header != 0)
            read_header(t, &b[i], data - t->vnet_header);
        i++;
    }
    return (int)i;
}

static void write_header(const struct tun *t, uint8_t *at, const struct dp_burst *b) {
    struct virtio_net_hdr h = {
        .flags = b->needs_checksum ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
        .gso_type = b->gso_type,
        .hdr_len = b->headers,
        .gso_size = b->gso_size,
        .csum_start = b->checksum_start,
        .csum_offset = b->checksum_offset,
    };
    if (t->vnet_header == 0)
        return;
    memset(at, 0, t->vnet_header); /* it may be longer than the part we know */
    if ((b->gso_type & DP_GSO_UDP_TUNNEL) != 0 && t->vnet_header >= sizeof(struct vnet_header)) {
        bool v4 = (b->gso_type & VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4) != 0;
        uint16_t transport = htole16((uint16_t)((v4 ? DP_IPV4_HEADER_MIN : DP_IPV6_HEADER) + t->excess));
        uint16_t network = htole16(b->network);
        memcpy(at + offsetof(struct vnet_header, outer_th_offset), &transport, sizeof transport);
        memcpy(at + offsetof(struct vnet_header, inner_nh_offset), &network, sizeof network);
        if (b->tunnel_checksum)
            h.flags |= VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM;
    }
    memcpy(at, &h, sizeof h);
}

static ssize_t write_burst(const struct dp_io *io, const struct dp_burst *b) {
    const struct tun *t = io->scratch;
    const struct iovec first = b->piece[0];
    const struct iovec begun = {(uint8_t *)first.iov_base - t->vnet_header, first.iov_len + t->vnet_header};
    write_header(t, begun.iov_base, b);
    if (b->packets == 1)
        return write(io->poll_fd, begun.iov_base, begun.iov_len);
    b->piece[0] = begun;
    ssize_t octets = writev(io->poll_fd, b->piece, (int)b->packets);
    b->piece[0] = first; /* it may be written again */
    return octets;
}

/* Writes a super-packet as single packets, which are made in `whole`, with DP_TUN_HEADROOM octets before it. 0 or -errno. */
static int write_cut_in(struct dp_io *io, const struct dp_burst *b, uint8_t *whole) {
    struct dp_burst one = *b;
    struct dp_segments s;
    struct dp_inner inner;
    one.data = whole;
    for (unsigned i = 0, at = 0; i < b->packets; at += (unsigned)b->piece[i++].iov_len)
        memcpy(whole + at, b->piece[i].iov_base, b->piece[i].iov_len);
    if (dp_inner_read(one.data, one.octets, DP_FLOW_INBOUND, &inner) != DP_OK || dp_segments_begin(&s, &one, &inner) != DP_OK)
        return -EINVAL;
    struct iovec piece;
    one = (struct dp_burst){.piece = &piece, .packets = 1};
    uint32_t octets;
    for (uint8_t *packet; (packet = dp_segments_next(&s, &octets)) != NULL;) {
        piece = (struct iovec){packet, octets};
        if (write_burst(io, &one) < 0)
            return -errno;
    }
    return 0;
}

/* It happens once in a device's life, so the memory is not kept for it. */
static int write_cut(struct dp_io *io, const struct dp_burst *b) {
    uint8_t *whole = malloc(DP_TUN_HEADROOM + DP_PACKET_ROOM);
    int error = whole != NULL ? write_cut_in(io, b, whole + DP_TUN_HEADROOM) : -ENOMEM;
    free(whole);
    return error;
}

/* The packets of a refused super-packet go one by one. Where the device takes those, `error` was of the offload and not of the
 * device. One in a UDP tunnel says nothing of the others, and a kernel that is short of memory nothing of either. 0 or -errno. */
static int write_apart(struct dp_io *io, const struct dp_burst *b, int error) {
    bool tunnel = (b->gso_type & DP_GSO_UDP_TUNNEL) != 0, passing = error == ENOMEM || error == ENOBUFS;
    int apart = write_cut(io, b);
    if (apart == 0 && !passing)
        dp_io_give_up(io, tunnel ? TUNNEL : ALL, error);
    return apart;
}

/* Some kernels refuse super-packets although they accepted the offload. 0 or -errno. */
static int write_refused(struct dp_io *io, const struct dp_burst *b, int error) {
    struct tun *t = io->scratch;
    if (error == EINVAL && (b->gso_type & DP_GSO_UDP_TUNNEL) != 0 && t->excess == 0) {
        t->excess = ETH_HLEN;
        if (write_burst(io, b) >= 0)
            return 0;
        t->excess = 0;
        error = errno;
    }
    return write_apart(io, b, error);
}

/* Whether the packets of a super-packet may get through that did not: not where the device has no room, or is gone. */
static bool may_go_apart(int error) {
    return error != EAGAIN && error != EINTR && error != EBADFD && error != EBADF;
}

static int tun_send(struct dp_io *io, const struct dp_burst *b, unsigned n) {
    for (unsigned i = 0; i < n;) {
        int error = write_burst(io, &b[i]) >= 0 ? 0 : -errno;
        if (error != 0 && b[i].gso_type != VIRTIO_NET_HDR_GSO_NONE && may_go_apart(-error))
            error = write_refused(io, &b[i], -error);
        if (error == 0)
            i++;
        else if (error != -EINTR)
            return i != 0 ? (int)i : error;
    }
    return (int)n;
}

static void tun_close(struct dp_io *io) {
    close(io->poll_fd);
}

static const struct dp_io_ops tun_ops = {.receive = tun_receive, .send = tun_send, .offload = tun_offload, .close = tun_close};

/* Octets of virtio header that the device was made with. -errno. */
static int find_vnet_header(int fd, uint32_t *octets) {
    struct ifreq request = {0};
    int size = 0;
    *octets = 0;
    if (ioctl(fd, TUNGETIFF, &request) != 0)
        return errno == ENOTTY || errno == EINVAL ? 0 : -errno;
    if ((request.ifr_flags & IFF_VNET_HDR) == 0)
        return 0;
    if (ioctl(fd, TUNGETVNETHDRSZ, &size) != 0)
        return -errno;
    if (size < (int)sizeof(struct virtio_net_hdr) || size > DP_TUN_HEADROOM) /* somebody chose another (TUNSETVNETHDRSZ) */
        return -EINVAL;
    *octets = (uint32_t)size;
    return 0;
}

/* Only the native order of the header is understood; a device is asked to change it by TUNSETVNETBE or TUNSETVNETLE alone. */
static int prepare(struct dp_io *io, int fd) {
    struct tun *t = io->scratch;
    int error = find_vnet_header(fd, &t->vnet_header);
    if (error != 0)
        return error;
    io->poll_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (io->poll_fd < 0)
        return -errno;
    if (fcntl(io->poll_fd, F_SETFL, fcntl(io->poll_fd, F_GETFL) | O_NONBLOCK) != 0) {
        error = -errno;
        close(io->poll_fd);
    }
    return error;
}

/* A header with room for what is in UDP tunnels, where the kernel knows of it. It is the device's, not the descriptor's: nobody
 * else may read the device yet with a shorter one. */
static void widen(struct dp_io *io) {
    struct tun *t = io->scratch;
    const int size = sizeof(struct vnet_header);
    if (t->vnet_header == sizeof(struct virtio_net_hdr) && set_offloads(io, ALL) && ioctl(io->poll_fd, TUNSETVNETHDRSZ, &size) == 0)
        t->vnet_header = (uint32_t)size;
}

/* The kernel tells the header of a device, and not which offloads it was asked for. */
static bool inherit(struct dp_io *io, uint32_t on) {
    const struct tun *t = io->scratch;
    if ((on & ~(uint32_t)ALL) != 0 || (on != 0 && t->vnet_header == 0) ||
        ((on & TUNNEL) != 0 && t->vnet_header < sizeof(struct vnet_header)))
        return false;
    atomic_store_explicit(&io->offloads, on, memory_order_relaxed);
    return true;
}

struct dp_io *dp_tun_open(uint32_t interface, int fd, const uint32_t *on) {
    struct dp_io *io = calloc(1, sizeof *io);
    struct tun *t = calloc(1, sizeof *t);
    int error = io != NULL && t != NULL ? 0 : -ENOMEM;
    if (error == 0) {
        io->ops = &tun_ops;
        io->number = interface;
        io->scratch = t;
        error = prepare(io, fd);
    }
    if (error == 0 && on != NULL && !inherit(io, *on)) {
        tun_close(io);
        error = -EINVAL;
    }
    if (error != 0) {
        free(t);
        free(io);
        errno = -error;
        return NULL;
    }
    if (on == NULL) {
        widen(io);
        (void)dp_io_offload(io, DP_OFFLOAD_ALL);
    }
    atomic_store_explicit(&io->ready, true, memory_order_relaxed);
    return io;
}
