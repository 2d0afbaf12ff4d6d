/* Devices come and go, and what the control thread asks of those that are there. */
#ifndef DP_IO_ATTACH_H
#define DP_IO_ATTACH_H

#include "io.h"

struct dp;

/* Takes `io` over: on failure it is closed. 0, -EBUSY (the number is taken), or -errno. */
int dp_io_add(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io);
/* The lowest number that no link of the worker has, or -ENOSPC. */
int dp_io_free_link(const struct dp *dp, uint32_t worker);

#endif
