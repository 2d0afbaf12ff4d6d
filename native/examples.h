/* The last packets that were dropped, for each reason: what a person is shown beside a counter that rises.
 *
 * Only what is dropped comes here, and only a few of them a second are looked at, so a flood costs no more than its counter. Of a
 * packet nothing is kept but addresses, protocol, ports, SPI and where it was. One loop writes, the control thread reads. */
#ifndef DP_EXAMPLES_H
#define DP_EXAMPLES_H

#include "engine.h"

enum {
    DP_EXAMPLES_A_SECOND = DP_EXAMPLES, /* of one reason that a loop looks at; as many at once */
};

struct dp_examples;
/* For one loop. NULL: no memory. */
struct dp_examples *dp_examples_new(void);
void dp_examples_free(struct dp_examples *examples);

/* Each counts as dp_drop_packets does, and remembers: */
/* `n` packets on their way out of a TUN interface, of which the first begins at `packet`. */
void dp_drop_outgoing(struct dp_loop *loop, enum dp_drop reason, uint32_t interface, const uint8_t *packet, size_t octets,
                      uint32_t n, uint64_t now);
/* A burst of a TUN interface. */
void dp_drop_burst(struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, uint64_t now);
/* Datagrams as they were received; `spi` 0: no ESP. `sa`: to which they belong, or NULL. */
void dp_drop_datagrams(struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, uint32_t spi, const struct dp_sa *sa,
                       uint32_t n, uint64_t now);
/* The packet that an inbound SA brought. */
void dp_drop_opened(struct dp_loop *loop, enum dp_drop reason, const struct dp_sa *sa, const uint8_t *packet, size_t octets,
                    uint64_t now);
/* What a device did not take: ESP to a link, or packets to a TUN interface. */
void dp_drop_unsent(struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, bool to_links, uint32_t interface,
                    uint64_t now);

#endif
