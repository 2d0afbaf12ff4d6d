#include "ike_sas.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "epoch.h"
#include "keyed.h"
#include "mix.h"
#include "octets.h"

static uint64_t read_64(const uint8_t *octets) {
    return (uint64_t)dp_read_32(octets) << 32 | dp_read_32(octets + 4);
}

static _Atomic(struct dp_ike_sa *) *chain_of(const struct dp *dp, uint64_t own_spi) {
    return &dp->ike_sas.head[dp_mix(dp->flow_seed ^ own_spi) % DP_IKE_HEADS];
}

static struct dp_ike_sa *next_of(_Atomic(struct dp_ike_sa *) *at) {
    return atomic_load_explicit(at, memory_order_acquire);
}

/* Where the SA with this SPI hangs, or the end of its chain. */
static _Atomic(struct dp_ike_sa *) *place_of(const struct dp *dp, uint64_t own_spi) {
    _Atomic(struct dp_ike_sa *) *at = chain_of(dp, own_spi);
    for (struct dp_ike_sa *sa; (sa = next_of(at)) != NULL && sa->own_spi != own_spi;)
        at = &sa->next;
    return at;
}

/* ---- the control thread's */

static void ike_sa_free(struct dp *dp, void *thing) {
    struct dp_ike_sa *sa = thing;
    dp_keyed_free(dp->arena, sa->cipher, sa->context);
    explicit_bzero(sa, sizeof *sa);
    free(sa);
}

static int make(struct dp *dp, const struct dp_ike_sa_params *p, const uint8_t *keymat, size_t octets, struct dp_ike_sa **out) {
    struct dp_ike_sa *sa = calloc(1, sizeof *sa);
    if (sa == NULL)
        return -ENOMEM;
    sa->own_spi = read_64(p->own_spi);
    sa->peer_spi = read_64(p->peer_spi);
    sa->initiator = p->initiator != 0;
    sa->nat_port = p->nat_port != 0;
    sa->isakmp = p->isakmp != 0;
    int error = 0;
    if (octets != 0)
        error = dp_keyed_new(dp->arena, dp->config.provider, p->encr, p->integ, p->key_octets, keymat, octets, &sa->cipher,
                             &sa->context, sa->salt);
    if (error != 0)
        ike_sa_free(dp, sa);
    else
        *out = sa;
    return error;
}

/* What came for an SA before it changed is not new again. */
static void inherit(struct dp_ike_sa *sa, struct dp_ike_sa *old) {
    atomic_store_explicit(&sa->repeats, atomic_load_explicit(&old->repeats, memory_order_relaxed), memory_order_relaxed);
    for (unsigned i = 0; i < 2; i++)
        atomic_store_explicit(&sa->newest[i], atomic_load_explicit(&old->newest[i], memory_order_relaxed), memory_order_relaxed);
}

int dp_ike_sa_set(struct dp *dp, const struct dp_ike_sa_params *params, const uint8_t *keymat, size_t octets) {
    struct dp_ike_sa *sa;
    _Atomic(struct dp_ike_sa *) *at = place_of(dp, read_64(params->own_spi));
    struct dp_ike_sa *old = next_of(at);
    if (old == NULL && dp->ike_sas.count == DP_IKE_SAS)
        return -ENOSPC;
    int error = make(dp, params, keymat, octets, &sa);
    if (error != 0)
        return error;
    if (old != NULL)
        inherit(sa, old);
    atomic_store_explicit(&sa->next, old != NULL ? next_of(&old->next) : NULL, memory_order_relaxed);
    atomic_store_explicit(at, sa, memory_order_seq_cst);
    if (old != NULL)
        dp_epoch_retire(dp, ike_sa_free, old);
    else
        dp->ike_sas.count++;
    return 0;
}

int dp_ike_sa_remove(struct dp *dp, const uint8_t own_spi[8]) {
    _Atomic(struct dp_ike_sa *) *at = place_of(dp, read_64(own_spi));
    struct dp_ike_sa *old = next_of(at);
    if (old == NULL)
        return -ENOENT;
    atomic_store_explicit(at, next_of(&old->next), memory_order_seq_cst);
    dp_epoch_retire(dp, ike_sa_free, old);
    dp->ike_sas.count--;
    return 0;
}

int dp_ike_sas_init(struct dp *dp) {
    dp->ike_sas.head = calloc(DP_IKE_HEADS, sizeof *dp->ike_sas.head);
    return dp->ike_sas.head != NULL ? 0 : -ENOMEM;
}

void dp_ike_sas_finish(struct dp *dp) {
    for (unsigned i = 0; dp->ike_sas.head != NULL && i < DP_IKE_HEADS; i++)
        for (struct dp_ike_sa *sa = next_of(&dp->ike_sas.head[i]), *next; sa != NULL; sa = next) {
            next = next_of(&sa->next);
            ike_sa_free(dp, sa);
        }
    free(dp->ike_sas.head);
}

/* ---- the readers' */

static struct dp_ike_sa *sa_of(const struct dp *dp, const struct dp_ike_message *m, bool from_initiator) {
    uint64_t own = from_initiator ? m->spi_r : m->spi_i, peer = from_initiator ? m->spi_i : m->spi_r;
    struct dp_ike_sa *sa = next_of(place_of(dp, own));
    if (sa == NULL || sa->initiator == from_initiator || (sa->peer_spi != 0 && sa->peer_spi != peer))
        return NULL;
    return sa;
}

struct dp_ike_sa *dp_ike_sa_of(const struct dp *dp, const struct dp_ike_message *m) {
    return sa_of(dp, m, (m->flags & DP_IKE_INITIATOR) != 0);
}

struct dp_ike_sa *dp_ike_sa_of_v1(const struct dp *dp, const struct dp_ike_message *m) {
    struct dp_ike_sa *sa = sa_of(dp, m, true);
    return sa != NULL ? sa : sa_of(dp, m, false);
}

bool dp_ike_authentic(struct dp_ike_sa *sa, const struct dp_ike_message *m, uint8_t *scratch) {
    const struct dp_cipher *c = sa->cipher;
    uint32_t body = dp_ike_protected(m),
             least = c->salt_octets != 0 ? 1 : c->block_octets; /* the octet Pad Length is there always */
    if (body == 0 || m->octets < body + c->iv_octets + least + c->icv_octets)
        return false;
    uint32_t text = body + c->iv_octets, octets = m->octets - text - c->icv_octets;
    if (c->salt_octets == 0 && octets % c->block_octets != 0)
        return false;
    uint8_t nonce[DP_AEAD_SALT + DP_AEAD_IV], icv[DP_ICV_MAX];
    struct dp_crypt crypt = {.iv = m->start + body,
                             .aad = m->start,
                             .aad_octets = text, /* CBC with HMAC: header and IV */
                             .src = m->start + text,
                             .dst = scratch,
                             .octets = octets,
                             .icv = icv};
    memcpy(icv, m->start + text + octets, c->icv_octets);
    if (c->salt_octets != 0) { /* RFC 5282 §4, §5.1 */
        memcpy(nonce, sa->salt, DP_AEAD_SALT);
        memcpy(nonce + DP_AEAD_SALT, m->start + body, DP_AEAD_IV);
        crypt.iv = nonce;
        crypt.aad_octets = body;
    }
    bool holds = c->open(sa->context, &crypt) == 0;
    explicit_bzero(scratch, octets);
    return holds;
}
