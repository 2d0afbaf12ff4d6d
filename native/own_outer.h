/* Our own outer packets, known again when they come out of a TUN interface: the second line behind the mark.
 *
 * The sockets' mark keeps what we send out of the tunnels. Where somebody takes it away (a firewall rule that sets marks), the
 * kernel routes our ESP into the tunnel interface, and sealing it once more would make one packet into a stream without end. Ours
 * is what has both our outer addresses and an SPI of ours: that of an outbound SA, or those of an IKE message that we sent. IPsec
 * of other hosts and programs has other SPIs, and passes. Nothing here blocks or takes memory on the packet's path. */
#ifndef DP_OWN_OUTER_H
#define DP_OWN_OUTER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "dp.h"
#include "esp_wire.h"
#include "flow.h"
#include "offload.h"

struct dp_inner;
struct dp_loop;

enum {
    DP_OWN_MESSAGES = 4096, /* a power of two */
    DP_OWN_FRAGMENTS = 16,
};

/* What each packet of ours is known by is hashed with a secret to 64 bits: addresses, and the SPI or the two of IKE. */
struct dp_own_outer {
    _Atomic(struct dp_own_spis *) spis; /* of the outbound SAs; grown by replacing it */
    _Atomic uint64_t *messages;         /* DP_OWN_MESSAGES, of IKE; a newer one takes its place by chance */
};

/* First fragments of ours that came back lately, by what their later ones, which show no SPI, have in common with them. */
struct dp_own_fragments {
    uint64_t key[DP_OWN_FRAGMENTS], at[DP_OWN_FRAGMENTS];
    unsigned next;
};

int dp_own_outer_init(struct dp *dp);
void dp_own_outer_finish(struct dp *dp);

/* An outbound SA that sends by this path comes, or goes. Each as often as the other. -ENOMEM. */
int dp_own_outer_add(struct dp *dp, uint32_t spi, const struct dp_path *path);
void dp_own_outer_remove(struct dp *dp, uint32_t spi, const struct dp_path *path);

/* Whether it is worth asking dp_own_outer_came_back: no other flow can be ours. */
static inline bool dp_own_outer_looks(const struct dp_flow *flow) {
    if (flow->protocol != DP_PROTOCOL_UDP)
        return flow->protocol == DP_PROTOCOL_ESP;
    uint32_t port = flow->port[DP_LOCAL];
    return port == DP_NAT_PORT || port == DP_IKE_PORT || port == DP_PORT_OPAQUE;
}

/* Whether this packet of a TUN interface, or the run of equal packets it stands for, is one that we sent. By the loop's thread. */
bool dp_own_outer_came_back(struct dp_loop *loop, const uint8_t *packet, const struct dp_inner *inner, uint64_t now);

#endif
