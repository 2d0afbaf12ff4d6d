/* An outbound SA: its life, its sequence numbers, its counters (RFC 4301 §4.4.2.1, RFC 4303 §3.3.3). */
#ifndef DP_SEAL_H
#define DP_SEAL_H

#include "engine.h"

/* Why an SA whose generation is not the machine's is dead: DP_DROP_retired or DP_DROP_guest_cloned. */
enum dp_drop dp_sa_dead(const struct dp_sa *sa);
/* Raises sticky flags of an SA and punts those that are new. */
void dp_sa_raise(struct dp_loop *loop, struct dp_sa *sa, uint32_t flags, uint64_t now);
/* A burst: whether the SA may send all `n` packets, `octets` together; each sealed, with the next sequence number; those that were
 * sealed counted. When it may not send them all, nothing is noted: each packet is then asked for by itself. */
bool dp_seal_begin(struct dp_loop *loop, struct dp_sa *sa, uint32_t n, size_t octets, uint64_t now);
enum dp_drop dp_seal_next(struct dp_sa *sa, uint8_t *inner, size_t octets, uint8_t version, uint8_t *out);
void dp_seal_end(struct dp_loop *loop, struct dp_sa *sa, uint32_t n, size_t octets, uint64_t now);
/* The three for one packet by itself. A refusal counts, and raises its flag. */
enum dp_drop dp_seal_packet(struct dp_loop *loop, struct dp_sa *sa, uint8_t *inner, size_t octets, uint8_t version, uint8_t *out,
                            uint64_t now);

#endif
