/* Datagrams of one socket of port 500, received by one system call and answered by another. */
#ifndef DP_IKE_BATCH_H
#define DP_IKE_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "dp.h"
#include "ike_message.h"

enum {
    DP_IKE_BATCH = 64,
};

struct dp_ike_batch;

/* NULL: no memory. What room no datagram was received into takes no memory. */
struct dp_ike_batch *dp_ike_batch_new(void);
void dp_ike_batch_free(struct dp_ike_batch *batch);

/* Receives what waits, DP_IKE_BATCH datagrams at the most. How many; -errno, -EAGAIN where none does. */
int dp_ike_batch_receive(struct dp_ike_batch *batch, int fd);
/* One of those, whole, and who sent it. */
const uint8_t *dp_ike_batch_message(const struct dp_ike_batch *batch, unsigned number, size_t *octets);
const struct dp_addr *dp_ike_batch_remote(const struct dp_ike_batch *batch, unsigned number);

/* Notes the answer to the sender of one of those; once for each. */
void dp_ike_batch_answer(struct dp_ike_batch *batch, unsigned number, const uint8_t answer[DP_IKE_COOKIE_ANSWER]);
/* Sends what was noted. What the kernel does not take at once is lost. */
void dp_ike_batch_send(struct dp_ike_batch *batch, int fd);

/* How much of a socket's receive buffer is full, in 1/1024. */
uint32_t dp_ike_batch_filled(int fd);

#endif
