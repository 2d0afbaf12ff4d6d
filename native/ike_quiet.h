/* Addresses that get no answer from here: somebody there would get it beside the tunnel that protects them. */
#ifndef DP_IKE_QUIET_H
#define DP_IKE_QUIET_H

#include <stdbool.h>

#include "dp.h"

struct dp;

bool dp_ike_is_quiet(const struct dp *dp, const struct dp_addr *address);
void dp_ike_quiet_finish(struct dp *dp);

#endif
