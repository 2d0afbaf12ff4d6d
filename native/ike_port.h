/* IKE without encapsulation: the sockets of port 500, read by a thread of their own through a gate of their own.
 *
 * So neither the control plane nor the loops that carry ESP take part in a flood there, and however long the control plane is busy,
 * the sockets' queues do not overflow. In a flood the thread reads and answers many datagrams by one system call (ike_batch.h), and
 * sleeps in between (ike_pause.h). What passes goes to the control plane by a channel like those of punt.h. */
#ifndef DP_IKE_PORT_H
#define DP_IKE_PORT_H

#include <pthread.h>

#include "epoch.h"
#include "ike_filter.h"
#include "ike_gate.h"
#include "ike_pause.h"

enum {
    DP_IKE_SOCKETS = 1024, /* local addresses */
};

struct dp_ike_batch;

struct dp_ike_socket {
    int fd; /* -1: none */
    struct dp_addr local;
};

struct dp_ike_port {
    struct dp_ike_gate gate;
    struct dp_epoch_reader epoch;
    _Atomic uint64_t limited, forged, lost; /* datagrams */
    int channel[2];                         /* the thread's end, the control plane's end */
    int epoll_fd, wake_fd;
    struct dp_ike_batch *batch; /* those just received */
    struct dp_ike_pause pause;
    struct dp_ike_filter filter;
    pthread_mutex_t lock; /* of the sockets: the thread has it while it reads a batch of one */
    struct dp_ike_socket socket[DP_IKE_SOCKETS];
    uint32_t count; /* those from here on were never used */
    pthread_t thread;
    bool made, running;
    _Atomic bool stop;
};

int dp_ike_port_open(struct dp *dp);
void dp_ike_port_close(struct dp *dp);

#endif
