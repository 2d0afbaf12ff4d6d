#include "ike_port.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "engine.h"
#include "link.h"
#include "punt.h"

enum {
    BUDGET = 2048,       /* datagrams of a socket, then the others have their turn */
    PAUSE_NS = 10000000, /* while any are kept back: a flood does not wake the thread for each of its datagrams */
    EVENTS = 16,
    WAKE = UINT16_MAX,
};

/* ---- one datagram */

static bool judge(struct dp_ike_port *port, int fd, const struct dp_addr *remote, size_t octets, uint64_t now) {
    struct dp_ike_gate *gate = &port->gate;
    switch (dp_ike_judge(gate, remote, port->message, octets, now)) {
    case DP_IKE_PASS:
        return true;
    case DP_IKE_ANSWER:
        (void)dp_link_answer(fd, remote, gate->answer + DP_NON_ESP_MARKER, DP_IKE_COOKIE_ANSWER);
        return false;
    case DP_IKE_FORGED:
        dp_add(&port->forged, 1);
        return false;
    default:
        dp_add(&port->limited, 1);
        return false;
    }
}

/* Whether it passed. */
static bool received(struct dp_ike_port *port, uint32_t number, const union dp_sockaddr *from, size_t octets, uint64_t now) {
    const struct dp_ike_socket *s = &port->socket[number];
    struct dp_punt punt = {.kind = DP_PUNT_IKE, .link = (uint16_t)number, .interface = UINT32_MAX, .now = now, .local = s->local};
    dp_from_sockaddr(&punt.remote, from);
    if (!judge(port, s->fd, &punt.remote, octets, now))
        return false;
    if (!dp_punt_write(port->channel[0], &punt, port->message, octets))
        dp_add(&port->lost, 1);
    return true;
}

/* Reads what waits at a socket; how many datagrams, and through `kept` how many of them did not pass. */
static uint32_t visit(struct dp *dp, uint32_t number, uint64_t now, uint32_t *kept) {
    struct dp_ike_port *port = &dp->ike_port;
    uint32_t seen = 0;
    pthread_mutex_lock(&port->lock);
    dp_epoch_online(&port->epoch, &dp->epoch);
    while (port->socket[number].fd >= 0 && seen < BUDGET) {
        union dp_sockaddr from;
        socklen_t room = sizeof from;
        ssize_t got = recvfrom(port->socket[number].fd, port->message, DP_IP_MAX, MSG_DONTWAIT, &from.any, &room);
        if (got < 0 && errno == EAGAIN)
            break;
        seen++; /* an error is an ICMP message about something that was sent; anybody may have made it */
        *kept += got < 0 || !received(port, number, &from, (size_t)got, now);
    }
    dp_epoch_offline(&port->epoch);
    pthread_mutex_unlock(&port->lock);
    return seen;
}

int dp_ike_port_step(struct dp *dp, uint64_t now) {
    uint32_t seen = 0, kept = 0;
    for (uint32_t i = 0; i < dp->ike_port.count; i++)
        seen += visit(dp, i, now, &kept);
    return (int)seen;
}

/* ---- the thread */

static void *run(void *argument) {
    struct dp *dp = argument;
    struct dp_ike_port *port = &dp->ike_port;
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    while (!atomic_load_explicit(&port->stop, memory_order_acquire)) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(port->epoll_fd, events, EVENTS, -1);
        uint32_t kept = 0;
        for (int i = 0; i < count; i++)
            if (events[i].data.u32 != WAKE)
                (void)visit(dp, events[i].data.u32, dp_boottime(), &kept);
        if (kept != 0)
            (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

int dp_ike_port_start(struct dp *dp) {
    struct dp_ike_port *port = &dp->ike_port;
    if (port->running)
        return -EALREADY;
    sigset_t all, before;
    atomic_store_explicit(&port->stop, false, memory_order_relaxed);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the control thread's */
    int error = pthread_create(&port->thread, NULL, run, dp);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    port->running = error == 0;
    if (port->running)
        (void)pthread_setname_np(port->thread, "ike-port");
    return -error;
}

void dp_ike_port_stop(struct dp *dp) {
    struct dp_ike_port *port = &dp->ike_port;
    const uint64_t one = 1;
    if (!port->running)
        return;
    atomic_store_explicit(&port->stop, true, memory_order_release);
    (void)!write(port->wake_fd, &one, sizeof one);
    pthread_join(port->thread, NULL);
    uint64_t taken;
    (void)!read(port->wake_fd, &taken, sizeof taken);
    port->running = false;
}

/* ---- sockets */

static int watch(struct dp_ike_port *port, int fd, uint32_t what) {
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = what};
    return epoll_ctl(port->epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0 ? 0 : -errno;
}

int dp_ike_port_add(struct dp *dp, int fd, const struct dp_addr *local) {
    struct dp_ike_port *port = &dp->ike_port;
    uint32_t number = 0;
    while (number < port->count && port->socket[number].fd >= 0)
        number++;
    if (number == DP_IKE_SOCKETS)
        return -ENOSPC;
    int mine = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (mine < 0)
        return -errno;
    pthread_mutex_lock(&port->lock);
    port->socket[number] = (struct dp_ike_socket){mine, *local};
    pthread_mutex_unlock(&port->lock);
    port->count = number < port->count ? port->count : number + 1;
    int error = watch(port, mine, number);
    if (error != 0)
        (void)dp_ike_port_remove(dp, number);
    return error != 0 ? error : (int)number;
}

int dp_ike_port_remove(struct dp *dp, uint32_t number) {
    struct dp_ike_port *port = &dp->ike_port;
    if (number >= port->count || port->socket[number].fd < 0)
        return -ENOENT;
    pthread_mutex_lock(&port->lock);
    (void)epoll_ctl(port->epoll_fd, EPOLL_CTL_DEL, port->socket[number].fd, NULL); /* duplicates of it may live on */
    close(port->socket[number].fd);
    port->socket[number].fd = -1;
    pthread_mutex_unlock(&port->lock);
    return 0;
}

int dp_ike_port_fd(const struct dp *dp) {
    return dp->ike_port.channel[1];
}

/* ---- life */

int dp_ike_port_open(struct dp *dp) {
    struct dp_ike_port *port = &dp->ike_port;
    port->channel[0] = port->channel[1] = -1;
    port->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    port->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    port->message = malloc(DP_IP_MAX);
    pthread_mutex_init(&port->lock, NULL);
    port->made = true;
    if (port->epoll_fd < 0 || port->wake_fd < 0 || !dp_punt_pair(port->channel))
        return -errno;
    int error = watch(port, port->wake_fd, WAKE);
    if (error == 0)
        error = port->message != NULL ? dp_ike_gate_open(&port->gate, dp, false, true) : -ENOMEM;
    return error;
}

void dp_ike_port_close(struct dp *dp) {
    struct dp_ike_port *port = &dp->ike_port;
    if (!port->made)
        return;
    for (uint32_t i = 0; i < port->count; i++)
        (void)dp_ike_port_remove(dp, i);
    for (unsigned end = 0; end < 2; end++)
        if (port->channel[end] >= 0)
            close(port->channel[end]);
    if (port->wake_fd >= 0)
        close(port->wake_fd);
    if (port->epoll_fd >= 0)
        close(port->epoll_fd);
    free(port->message);
    pthread_mutex_destroy(&port->lock);
    dp_ike_gate_close(&port->gate);
}
