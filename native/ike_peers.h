/* The addresses where the control plane expects a peer that speaks IKEv1, whose first message can bring no cookie back. */
#ifndef DP_IKE_PEERS_H
#define DP_IKE_PEERS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "dp.h"

struct dp;
struct dp_ike_peer;

enum {
    DP_IKE_PEERS = 65536,
    DP_IKE_PEER_HEADS = 4096,
};

struct dp_ike_peers {
    _Atomic(struct dp_ike_peer *) *head; /* chains, by hash */
    uint32_t count;
};

int dp_ike_peers_init(struct dp *dp);
void dp_ike_peers_finish(struct dp *dp);

bool dp_ike_is_peer(const struct dp *dp, const struct dp_addr *address);

#endif
