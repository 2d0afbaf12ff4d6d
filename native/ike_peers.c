#include "ike_peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "epoch.h"
#include "mix.h"

struct dp_ike_peer {
    _Atomic(struct dp_ike_peer *) next;
    uint8_t family, ip[16];
};

static struct dp_ike_peer *next_of(_Atomic(struct dp_ike_peer *) *at) {
    return atomic_load_explicit(at, memory_order_acquire);
}

static size_t octets_of(uint8_t family) {
    return family == 4 ? 4 : 16;
}

/* Where the peer at this address hangs, or the end of its chain. */
static _Atomic(struct dp_ike_peer *) *place_of(const struct dp *dp, const struct dp_addr *address) {
    uint64_t part[2] = {0};
    memcpy(part, address->ip, octets_of(address->family));
    uint64_t hash = dp_mix(dp_mix(dp->flow_seed ^ part[0]) ^ part[1]) + address->family;
    _Atomic(struct dp_ike_peer *) *at = &dp->ike_peers.head[hash % DP_IKE_PEER_HEADS];
    for (struct dp_ike_peer *peer; (peer = next_of(at)) != NULL; at = &peer->next)
        if (peer->family == address->family && memcmp(peer->ip, address->ip, octets_of(peer->family)) == 0)
            break;
    return at;
}

bool dp_ike_is_peer(const struct dp *dp, const struct dp_addr *address) {
    return next_of(place_of(dp, address)) != NULL;
}

static void peer_free(struct dp *dp, void *thing) {
    (void)dp;
    free(thing);
}

int dp_ike_peer_add(struct dp *dp, const struct dp_addr *address) {
    _Atomic(struct dp_ike_peer *) *at = place_of(dp, address);
    if (next_of(at) != NULL)
        return 0;
    if (dp->ike_peers.count == DP_IKE_PEERS)
        return -ENOSPC;
    struct dp_ike_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return -ENOMEM;
    peer->family = address->family;
    memcpy(peer->ip, address->ip, octets_of(address->family));
    atomic_store_explicit(at, peer, memory_order_seq_cst);
    dp->ike_peers.count++;
    return 0;
}

int dp_ike_peer_remove(struct dp *dp, const struct dp_addr *address) {
    _Atomic(struct dp_ike_peer *) *at = place_of(dp, address);
    struct dp_ike_peer *old = next_of(at);
    if (old == NULL)
        return -ENOENT;
    atomic_store_explicit(at, next_of(&old->next), memory_order_seq_cst);
    dp_epoch_retire(dp, peer_free, old);
    dp->ike_peers.count--;
    return 0;
}

int dp_ike_peers_init(struct dp *dp) {
    dp->ike_peers.head = calloc(DP_IKE_PEER_HEADS, sizeof *dp->ike_peers.head);
    return dp->ike_peers.head != NULL ? 0 : -ENOMEM;
}

void dp_ike_peers_finish(struct dp *dp) {
    for (unsigned i = 0; dp->ike_peers.head != NULL && i < DP_IKE_PEER_HEADS; i++)
        for (struct dp_ike_peer *peer = next_of(&dp->ike_peers.head[i]), *next; peer != NULL; peer = next) {
            next = next_of(&peer->next);
            free(peer);
        }
    free(dp->ike_peers.head);
}
