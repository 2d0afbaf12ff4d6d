/* Reports to the control plane of what happens to a device. */
#ifndef DP_IO_REPORT_H
#define DP_IO_REPORT_H

#include "io.h"

struct dp_loop;

/* A device failed; once a second at the most. `now` of the loop. */
void dp_io_report(struct dp_loop *loop, struct dp_io *io, bool is_link, int error, uint64_t now);
/* The host sends no datagram as long as b's by this link; 100 times a second at the most, for whichever peers come first. */
void dp_io_report_too_big(struct dp_loop *loop, struct dp_io *io, const struct dp_burst *b, uint64_t now);
/* Whether a device does without an offload from now on, once. */
void dp_io_report_offload(struct dp_loop *loop, struct dp_io *io, bool is_link, uint64_t now);

#endif
