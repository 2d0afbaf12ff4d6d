/* The devices that a worker has, its TUN interfaces and its links apart: immutable sets, replaced as a whole. */
#ifndef DP_IO_SET_H
#define DP_IO_SET_H

#include "io.h"

struct dp;

/* By number, with holes. */
struct dp_io_set {
    uint32_t count;
    struct dp_io *io[];
};

/* NULL: there is no such device, or no such worker. */
struct dp_io *dp_io_get(const struct dp *dp, uint32_t worker, bool is_link, uint32_t number);
/* Puts a device (NULL: none) at `number`. By the control thread. 0 or -ENOMEM. */
int dp_io_set_put(struct dp *dp, uint32_t worker, bool is_link, uint32_t number, struct dp_io *io);
/* Closes every device, when no thread runs any more. */
void dp_io_finish(struct dp *dp);

#endif
