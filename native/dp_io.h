/* Interfaces and links, the two steps that read them, and the threads that only repeat those. */
#ifndef DP_DP_IO_H
#define DP_DP_IO_H

#include "dp_addresses.h"

/* Gives a TUN device (IFF_TUN, IFF_NO_PI) to `worker`. The descriptor is duplicated (close-on-exec) and made non-blocking. -EBUSY:
 * this worker has that interface already. */
int dp_tun_attach(struct dp *dp, uint32_t worker, uint32_t interface, int fd);
int dp_tun_detach(struct dp *dp, uint32_t worker, uint32_t interface);

/* A link: the outer sockets of one local address and encapsulation. `fd_receive` gets datagrams and sends those whose DF bit is
 * `receive_df` (enum dp_df, not COPY); `fd_other` sends the others (-1: none, everything leaves by fd_receive). Descriptors are
 * duplicated. Returns the link's index. -ENOSPC after 1024 links. */
int dp_link_attach(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, int fd_receive,
                   int receive_df, int fd_other);
int dp_link_detach(struct dp *dp, uint32_t worker, uint32_t link);

/* What the kernel can do for a device in bulk. Everything works without it, packet by packet. */
enum dp_offload {
    DP_OFFLOAD_TUN_CSUM = 1 << 0,       /* a packet's upper checksum may be left to us, and by us to the kernel */
    DP_OFFLOAD_TUN_TSO4 = 1 << 1,       /* TCP super-packets over IPv4 */
    DP_OFFLOAD_TUN_TSO6 = 1 << 2,       /* and IPv6 */
    DP_OFFLOAD_TUN_USO4 = 1 << 3,       /* UDP super-packets over IPv4 (Linux 6.2) */
    DP_OFFLOAD_TUN_USO6 = 1 << 4,       /* and IPv6 */
    DP_OFFLOAD_UDP_SEGMENT = 1 << 5,    /* one send of many equal datagrams to a peer */
    DP_OFFLOAD_UDP_GRO = 1 << 6,        /* one receive of many equal datagrams from a peer */
    DP_OFFLOAD_TUN_UDP_TUNNEL = 1 << 7, /* super-packets of TCP or UDP in a UDP tunnel: VXLAN, Geneve (Linux 6.17) */
    DP_OFFLOAD_ALL = 255,
};
/* What is on for a TUN interface (is_link 0) or a link: each is probed when a device is attached, and on if it can be; in-memory
 * doubles begin with none. UDP_SEGMENT goes off by itself when the kernel refuses what must fit (DP_PUNT_OFFLOAD). A mask of enum
 * dp_offload, or -ENOENT. */
int dp_offloads_read(const struct dp *dp, uint32_t worker, int is_link, uint32_t number);
/* What the kernel said it does and then did not, which stays off: a mask of enum dp_offload, or -ENOENT. */
int dp_offloads_given_up(const struct dp *dp, uint32_t worker, int is_link, uint32_t number);
/* Turns on what of `wanted` the device can do, and the rest off. What is on now, or -ENOENT. */
int dp_offloads_set(struct dp *dp, uint32_t worker, int is_link, uint32_t number, uint32_t wanted);

/* Moves up to `budget` packets from the TUN interfaces to the links (outbound), or back (inbound); the number moved or dropped,
 * which exceeds the budget by what a last burst of many packets holds. */
int dp_outbound_step(struct dp *dp, uint32_t worker, uint32_t budget, uint64_t now);
int dp_inbound_step(struct dp *dp, uint32_t worker, uint32_t budget, uint64_t now);

/* Starts the two threads of a worker (clock: CLOCK_BOOTTIME), of which one runs both steps while that is enough; stops them within
 * one step. -EALREADY, -errno of pthread_create. */
int dp_worker_start(struct dp *dp, uint32_t worker);
/* Binds each of the two threads to a CPU (-1: to none) when it is started; then -EINVAL if there is no such CPU for us. */
int dp_worker_pin(struct dp *dp, uint32_t worker, int outbound_cpu, int inbound_cpu);
int dp_worker_stop(struct dp *dp, uint32_t worker);

#endif
