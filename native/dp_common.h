/* What every header of the interface has: fixed-width integers, and the name of a data plane. */
#ifndef DP_DP_COMMON_H
#define DP_DP_COMMON_H

#ifndef DP_CFFI
#include <stddef.h>
#include <stdint.h>
#endif

struct dp; /* one data plane: tables, channels, workers */

#endif
