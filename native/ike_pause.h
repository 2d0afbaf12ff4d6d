/* How long the thread of port 500 sleeps between two looks at its sockets.
 *
 * Where few datagrams are kept back it does not, and a message is read when it comes. In a flood it lets datagrams wait, so as to
 * be woken seldom and read many at once: longer each time, as long as what had come meanwhile filled only a small part of the
 * buffer it waited in, so that no buffer overflows before a flood is several times what it was. */
#ifndef DP_IKE_PAUSE_H
#define DP_IKE_PAUSE_H

#include <stdint.h>

#include "bucket.h"

enum {
    DP_IKE_FEW = 500, /* datagrams a second that may be kept back without a pause, and so many at once */
    DP_IKE_FEW_AT_ONCE = 100,
    DP_IKE_PAUSE_FIRST = 1000000, /* ns */
    DP_IKE_PAUSE_MOST = 20000000,
    DP_IKE_FULL = 1024,              /* a buffer that is */
    DP_IKE_FILLED = DP_IKE_FULL / 8, /* that a pause is meant to let in at the most */
};

struct dp_ike_pause {
    uint64_t kept; /* bucket of what was kept back */
    uint64_t ns;   /* the last one; 0: there is no flood */
};

/* The next pause, ns, 0: none. `kept`: datagrams that did not pass since the last one; `filled`: how much of its buffer the fullest
 * socket had in it before it was read, of DP_IKE_FULL. */
uint64_t dp_ike_pause(struct dp_ike_pause *pause, uint32_t kept, uint32_t filled, uint64_t now);

#endif
