/* What arrives beside the ESP of our SAs: IKE, and ESP that is nobody's here. Little of it reaches the control plane (ike_gate.h).
 */
#ifndef DP_STRANGERS_H
#define DP_STRANGERS_H

#include <stddef.h>
#include <stdint.h>

struct dp_burst;
struct dp_loop;

/* An IKE message, the non-ESP marker taken off; counted. */
void dp_strangers_ike(struct dp_loop *loop, const struct dp_burst *b, const uint8_t *message, size_t octets, uint64_t now);
/* ESP of an unknown SPI. */
void dp_strangers_esp(struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data, size_t octets, uint64_t now);

#endif
