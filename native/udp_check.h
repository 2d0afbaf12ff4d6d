/* Does UDP_SEGMENT do what it says? Some kernels were released in which it mangles runs of equal datagrams. */
#ifndef DP_UDP_CHECK_H
#define DP_UDP_CHECK_H

#include <stdbool.h>

/* Whether this kernel delivers what UDP_SEGMENT sends, octet by octet; tried once, over the loopback interface. True where it
 * cannot be tried. */
bool dp_udp_segment_works(void);

#endif
