/* A TUN device as a burst interface: one packet or super-packet a read, one a write.
 *
 * With IFF_VNET_HDR each carries a virtio header, without which no offload works. It lies in the octets just before the packet: one
 * buffer costs the kernel less than a list of two. Which packets arrive as super-packets is asked for by TUNSETOFFLOAD; those
 * written need no asking, but a kernel that cannot take the one kind cannot make it either. */
#ifndef DP_TUN_IO_H
#define DP_TUN_IO_H

#include "io.h"

/* The descriptor is duplicated. `on`: it is another process's too, and this is on (dp_tun_inherit); NULL: what there is is turned
 * on. NULL with errno. */
struct dp_io *dp_tun_open(uint32_t interface, int fd, const uint32_t *on);

#endif
