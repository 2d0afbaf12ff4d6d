/* IKE, as far as the data plane knows it: what it sends, whose messages reach the control plane, whoever floods. */
#ifndef DP_DP_IKE_H
#define DP_DP_IKE_H

#include "dp_addresses.h"

/* An IKE message (without the non-ESP marker, `octets` long) is about to be sent from `local` to `remote`: should it come out of a
 * TUN interface, it is ours and is dropped (own_outer), as ESP of our outbound SAs is. The last 4096 messages are known. */
void dp_ike_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote, const uint8_t *message, size_t octets);
/* So is a NAT keepalive, which a capture shows. */
void dp_keepalive_sent(struct dp *dp, const struct dp_addr *local, const struct dp_addr *remote);

/* One as the control plane has it, by its own SPI. */
struct dp_ike_sa_params {
    uint8_t own_spi[8], peer_spi[8]; /* peer_spi 0: not known yet */
    uint8_t initiator;               /* we are the original initiator */
    uint8_t nat_port;                /* the peer's messages come to port 4500, else to port 500 */
    uint8_t isakmp;                  /* of IKEv1, and the peer is authenticated: its messages are known by their cookies alone */
    uint16_t encr, integ, key_octets;
};
/* An IKE SA is there from now on, or as it is now. `keymat`: what the peer's messages are protected with: encryption key, salt
 * (AEAD), integrity key; `octets` 0: the peer has not shown who it is. Where a key is given, messages whose ICV does not hold go no
 * further (ike_icv), and no count of anything keeps one back that is authentic and new; the caller wipes its own copy. -ENOSPC
 * beyond 65,536; -ENOTSUP: no provider for the suite; -EINVAL: another length of key; -ENOMEM. */
int dp_ike_sa_set(struct dp *dp, const struct dp_ike_sa_params *params, const uint8_t *keymat, size_t octets);
/* -ENOENT. */
int dp_ike_sa_remove(struct dp *dp, const uint8_t own_spi[8]);

/* The secret (32 octets) that cookies follow from; those of an earlier one are good no more. -EINVAL: no cookie_seconds. */
int dp_ike_cookie_secret(struct dp *dp, const uint8_t *secret, size_t octets);

struct dp_range {
    uint8_t family; /* 4 or 6 */
    uint8_t pad[7];
    uint8_t low[16], high[16]; /* inclusive; IPv4 in the first four, the others zero */
};
/* Where no COOKIE answer goes: ranges in order (IPv4 first) that do not meet. -EINVAL, -ENOMEM. */
int dp_ike_quiet_set(struct dp *dp, const struct dp_range *ranges, size_t count);

/* A peer that speaks IKEv1 is expected at an address, whatever its port: ikev1_rate is its own. -ENOSPC beyond 65,536, -ENOMEM. */
int dp_ike_peer_add(struct dp *dp, const struct dp_addr *address);
/* -ENOENT. */
int dp_ike_peer_remove(struct dp *dp, const struct dp_addr *address);

/* The sockets of port 500, one for each local address: read by a thread of their own, which writes what the control plane is to see
 * into a channel, as records of kind IKE with the socket's number as `link`. The descriptor is duplicated. The number, -errno,
 * -ENOSPC beyond 1024. */
int dp_ike_port_add(struct dp *dp, int fd, const struct dp_addr *local);
/* -ENOENT. */
int dp_ike_port_remove(struct dp *dp, uint32_t number);
/* The channel's non-blocking descriptor, as dp_punt_fd. */
int dp_ike_port_fd(const struct dp *dp);
/* Starts the thread and ends it. -EALREADY, -errno. */
int dp_ike_port_start(struct dp *dp);
void dp_ike_port_stop(struct dp *dp);
/* What the thread repeats, for rigs: one look at each socket. Datagrams that were read. */
int dp_ike_port_step(struct dp *dp, uint64_t now);

#endif
