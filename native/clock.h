/* The clock of the worker threads. Nothing else of the data plane reads one: `now` is an argument. */
#ifndef DP_CLOCK_H
#define DP_CLOCK_H

#include <stdint.h>

/* CLOCK_BOOTTIME, ns: it goes on while the host is suspended, as lifetimes do. */
uint64_t dp_boottime(void);

#endif
