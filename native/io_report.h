/* Reports to the control plane of what happens to a device. */
#ifndef DP_IO_REPORT_H
#define DP_IO_REPORT_H

#include "io.h"

struct dp_loop;

/* A device failed; once a second at the most. `now` of the loop. */
void dp_io_report(struct dp_loop *loop, struct dp_io *io, bool is_link, int error, uint64_t now);
/* A device does without an offload from now on. */
void dp_io_report_offload(struct dp_loop *loop, const struct dp_io *io, bool is_link, int error, uint64_t now);

#endif
