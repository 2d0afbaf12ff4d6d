/* The IKE SAs of the control plane, by our own SPI: what tells a peer's message from a stranger's before anybody reads it.
 *
 * The control thread makes and removes them. Each has one reader, the gate (ike_gate.h) of the port that the peer's messages come
 * to, which alone uses its key and notes what came. */
#ifndef DP_IKE_SAS_H
#define DP_IKE_SAS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "aead.h"
#include "dp.h"
#include "esp_wire.h"
#include "ike_message.h"

struct dp;

struct dp_ike_sa {
    _Atomic(struct dp_ike_sa *) next;
    uint64_t own_spi, peer_spi; /* peer_spi 0: not known yet */
    bool initiator, nat_port;   /* we began it; its messages come to port 4500 */
    bool isakmp;                /* of IKEv1, its peer is authenticated */
    const struct dp_cipher *cipher;
    void *context; /* in the arena; NULL: the peer has not shown who it is */
    uint8_t salt[DP_AEAD_SALT];
    /* The reader's own. */
    _Atomic uint64_t repeats;   /* bucket of authentic messages that are not new, or of all */
    _Atomic uint64_t newest[2]; /* message ID of the newest authentic request, and response, plus one */
};

enum {
    DP_IKE_SAS = 65536,
    DP_IKE_HEADS = 16384, /* a power of two */
};

struct dp_ike_sas {
    _Atomic(struct dp_ike_sa *) *head; /* chains, by hash */
    uint32_t count;
};

int dp_ike_sas_init(struct dp *dp);
void dp_ike_sas_finish(struct dp *dp);

/* The IKE SA that a message is for, whose SPIs and direction it has; NULL: none. It stays for as long as the reader is online. */
struct dp_ike_sa *dp_ike_sa_of(const struct dp *dp, const struct dp_ike_message *m);
/* The same of IKEv1: by the responder's cookie, or the initiator's. */
struct dp_ike_sa *dp_ike_sa_of_v1(const struct dp *dp, const struct dp_ike_message *m);
/* Whether the ICV of a message for this SA, which has a key, holds. `scratch` has room for the message and is wiped. */
bool dp_ike_authentic(struct dp_ike_sa *sa, const struct dp_ike_message *m, uint8_t *scratch);

#endif
