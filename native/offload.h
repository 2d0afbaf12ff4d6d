/* What the kernel's headers of Linux 6.1 do not name yet, and what the wire says of packets that offloads touch. */
#ifndef DP_OFFLOAD_H
#define DP_OFFLOAD_H

#include <linux/virtio_net.h>

/* <linux/virtio_net.h>, <linux/if_tun.h> of Linux 6.2. */
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* Of Linux 6.17: super-packets in a UDP tunnel, and those whose outer UDP checksum is not zero. */
#ifndef VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4
#define VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM 8
#define VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 0x20 /* the outer one's */
#define VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6 0x40
#endif
#ifndef TUN_F_UDP_TUNNEL_GSO
#define TUN_F_UDP_TUNNEL_GSO 0x080
#define TUN_F_UDP_TUNNEL_GSO_CSUM 0x100
#endif
#define DP_GSO_UDP_TUNNEL (VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 | VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6)

enum {
    DP_PROTOCOL_TCP = 6,
    DP_PROTOCOL_UDP = 17,

    DP_TCP_HEADER_MIN = 20, /* RFC 9293 §3.1; what follows are offsets into the header */
    DP_TCP_SEQUENCE = 4,
    DP_TCP_ACKNOWLEDGMENT = 8,
    DP_TCP_OFFSET = 12,
    DP_TCP_FLAGS = 13,
    DP_TCP_WINDOW = 14,
    DP_TCP_CHECKSUM = 16,
    DP_TCP_URGENT = 18,

    DP_TCP_FIN = 0x01,
    DP_TCP_PSH = 0x08,
    DP_TCP_ACK = 0x10,
    DP_TCP_ECE = 0x40,
    DP_TCP_CWR = 0x80,

    DP_UDP_HEADER = 8, /* RFC 768 */
    DP_UDP_LENGTH = 4,
    DP_UDP_CHECKSUM = 6,

    DP_IPV4_LENGTH = 2, /* RFC 791 §3.1 */
    DP_IPV4_ID = 4,
    DP_IPV4_CHECKSUM = 10,
    DP_IPV6_LENGTH = 4, /* RFC 8200 §3 */
};

#endif
