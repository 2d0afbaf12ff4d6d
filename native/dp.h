/* The data plane as Python sees it: the only header it sees, which is all of those below.
 *
 * Conventions. Integers are in host order, addresses in network order. Octets unless a unit is named. Times are nanoseconds of one
 * monotonic clock that the caller owns (`now`); nothing here reads a clock but the worker threads of dp_worker_start. Functions
 * return 0 or a count, or -errno; those that move packets return a count and tell the reason for each packet that was dropped.
 * One control thread calls everything but dp_outbound_step and dp_inbound_step, each of which belongs to one thread at a time. */
#ifndef DP_H
#define DP_H

#include "dp_addresses.h"
#include "dp_child.h"
#include "dp_ike.h"
#include "dp_io.h"
#include "dp_move.h"
#include "dp_plane.h"
#include "dp_policy.h"
#include "dp_report.h"
#include "dp_rig.h"
#include "dp_sa.h"
#include "dp_tap.h"

#endif
