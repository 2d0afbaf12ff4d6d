/* IKE without encapsulation, on port 500: read by the control thread, but through a gate of its own. */
#ifndef DP_IKE_PORT_H
#define DP_IKE_PORT_H

#include "ike_gate.h"

struct dp_ike_port {
    struct dp_ike_gate gate;
    _Atomic uint64_t limited, forged; /* datagrams */
};

int dp_ike_port_open(struct dp *dp);
void dp_ike_port_close(struct dp *dp);

#endif
