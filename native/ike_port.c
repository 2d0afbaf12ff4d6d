#include "ike_port.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "engine.h"
#include "ike_batch.h"
#include "link.h"
#include "punt.h"
#include "tap.h"

enum {
    BUDGET = 2048, /* datagrams of a socket, then the others have their turn */
    EVENTS = 16,
    LOOK_MS = 50, /* in a flood, whether it is over */
    WAKE = UINT16_MAX,
};

/* What one look at the sockets has found. */
struct look {
    uint32_t seen, kept; /* datagrams; of them, those that did not pass */
    uint32_t filled;     /* the fullest socket before it was read, of DP_IKE_FULL; 0 unless there is a flood */
    bool left;           /* a socket was not read to its end */
};

/* ---- one datagram, by its place in the batch */

/* Whether it passes, and if not whether it was dropped (`reason`) or answered. */
static bool judge(struct dp_ike_port *port, unsigned place, uint64_t now, enum dp_drop *reason) {
    struct dp_ike_gate *gate = &port->gate;
    size_t octets;
    const uint8_t *message = dp_ike_batch_message(port->batch, place, &octets);
    *reason = DP_OK;
    switch (dp_ike_judge(gate, dp_ike_batch_remote(port->batch, place), message, octets, now)) {
    case DP_IKE_PASS:
        return true;
    case DP_IKE_ANSWER:
        dp_ike_batch_answer(port->batch, place, gate->answer + DP_NON_ESP_MARKER);
        return false;
    case DP_IKE_FORGED:
        dp_add(&port->forged, 1);
        *reason = DP_DROP_ike_icv;
        return false;
    default:
        dp_add(&port->limited, 1);
        *reason = DP_DROP_ike_limited;
        return false;
    }
}

static void pass(struct dp_ike_port *port, uint32_t number, unsigned place, uint64_t now) {
    struct dp_punt punt = {
        .kind = DP_PUNT_IKE,
        .link = (uint16_t)number,
        .interface = UINT32_MAX,
        .now = now,
        .local = port->socket[number].local,
        .remote = *dp_ike_batch_remote(port->batch, place),
    };
    size_t octets;
    const uint8_t *message = dp_ike_batch_message(port->batch, place, &octets);
    if (!dp_punt_write(port->channel[0], &punt, message, octets))
        dp_add(&port->lost, 1);
}

/* What came, and what it is answered with. */
static void show(struct dp *dp, struct dp_tap *tap, uint32_t number, unsigned place, bool passes, enum dp_drop reason,
                 uint64_t now) {
    struct dp_ike_port *port = &dp->ike_port;
    const struct dp_addr *local = &port->socket[number].local;
    size_t octets;
    const uint8_t *message = dp_ike_batch_message(port->batch, place, &octets);
    const struct dp_addr *remote = dp_ike_batch_remote(port->batch, place);
    dp_tap_ike_received(tap, dp, local, remote, message, octets, reason, now);
    if (!passes && reason == DP_OK)
        dp_tap_ike_answered(tap, dp, local, remote, port->gate.answer + DP_NON_ESP_MARKER, DP_IKE_COOKIE_ANSWER, now);
}

/* Judges all of a batch, and passes on what is for the control plane. */
static void judge_all(struct dp *dp, uint32_t number, unsigned count, uint64_t now, struct look *look) {
    struct dp_ike_port *port = &dp->ike_port;
    for (unsigned i = 0; i < count; i++) {
        enum dp_drop reason;
        bool passes = judge(port, i, now, &reason);
        struct dp_tap *tap = dp_tap_of(dp);
        if (tap != NULL)
            show(dp, tap, number, i, passes, reason, now);
        if (passes)
            pass(port, number, i, now);
        else
            look->kept++;
    }
}

/* ---- one socket */

/* Reads a batch. Whether more may wait. */
static bool read_some(struct dp *dp, uint32_t number, uint64_t now, struct look *look) {
    struct dp_ike_port *port = &dp->ike_port;
    int fd = port->socket[number].fd, got = fd >= 0 ? dp_ike_batch_receive(port->batch, fd) : -EAGAIN;
    if (got == -EAGAIN)
        return false;
    if (got < 0) { /* an ICMP message about something that was sent; anybody may have made it */
        look->seen++;
        look->kept++;
        return true;
    }
    for (unsigned i = 0; i < (unsigned)got; i++)
        dp_ike_expect(&port->gate, dp_ike_batch_remote(port->batch, i));
    dp_epoch_online(&port->epoch, &dp->epoch);
    judge_all(dp, number, (unsigned)got, now, look);
    dp_epoch_offline(&port->epoch);
    dp_ike_batch_send(port->batch, fd);
    look->seen += (uint32_t)got;
    return got == DP_IKE_BATCH;
}

/* Reads what waits at a socket. */
static void visit(struct dp *dp, uint32_t number, uint64_t now, struct look *look) {
    struct dp_ike_port *port = &dp->ike_port;
    uint32_t most = look->seen + BUDGET;
    for (bool more = true, first = true; more; first = false) {
        pthread_mutex_lock(&port->lock);
        if (first && port->pause.ns != 0 && port->socket[number].fd >= 0) {
            uint32_t filled = dp_ike_batch_filled(port->socket[number].fd);
            look->filled = look->filled < filled ? filled : look->filled;
        }
        more = read_some(dp, number, now, look);
        pthread_mutex_unlock(&port->lock);
        look->left |= more && look->seen >= most;
        more = more && look->seen < most;
    }
}

int dp_ike_port_step(struct dp *dp, uint64_t now) {
    struct look look = {0};
    for (uint32_t i = 0; i < dp->ike_port.count; i++)
        visit(dp, i, now, &look);
    return (int)look.seen;
}

/* ---- the thread */

/* What the kernel has not even let wait. */
static uint32_t dropped_before(struct dp_ike_port *port) {
    uint32_t dropped = dp_ike_filter_dropped(&port->filter);
    dp_add(&port->limited, dropped);
    return dropped;
}

/* In a pause no more of those that ask for the first time are to wait than the gate may let have anything after it. */
static void let_wait(struct dp *dp, uint64_t pause) {
    const struct dp_config *c = &dp->config;
    if (pause != 0 && c->begin_rate != 0)
        dp_ike_filter_after(&dp->ike_port.filter, (uint32_t)((c->begin_rate + c->cookie_first_rate) * pause / DP_SECOND) + 1);
    else
        dp_ike_filter_end(&dp->ike_port.filter);
}

static void *run(void *argument) {
    struct dp *dp = argument;
    struct dp_ike_port *port = &dp->ike_port;
    while (!atomic_load_explicit(&port->stop, memory_order_acquire)) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(port->epoll_fd, events, EVENTS, port->pause.ns != 0 ? LOOK_MS : -1);
        struct look look = {.kept = dropped_before(port)};
        uint64_t now = dp_boottime();
        for (int i = 0; i < count; i++)
            if (events[i].data.u32 != WAKE)
                visit(dp, events[i].data.u32, now, &look);
        struct timespec pause = {.tv_nsec = (long)dp_ike_pause(&port->pause, look.kept, look.filled, now)};
        let_wait(dp, (uint64_t)pause.tv_nsec);
        if (pause.tv_nsec != 0 && !look.left)
            (void)nanosleep(&pause, NULL);
    }
    dp_ike_filter_end(&port->filter);
    (void)dropped_before(port);
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
    if (dp->random.seeded)
        return -EPERM;
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
    dp_ike_filter_attach(&port->filter, mine);
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
    dp_ike_filter_detach(&port->filter, port->socket[number].fd);
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
    port->batch = dp_ike_batch_new();
    pthread_mutex_init(&port->lock, NULL);
    port->filter = (struct dp_ike_filter){.map = -1, .program = -1};
    port->made = true;
    if (port->epoll_fd < 0 || port->wake_fd < 0 || !dp_punt_pair(port->channel))
        return -errno;
    int error = watch(port, port->wake_fd, WAKE);
    if (error == 0)
        error = port->batch != NULL ? dp_ike_gate_open(&port->gate, dp, false, true) : -ENOMEM;
    if (error == 0)
        (void)dp_ike_filter_open(&port->filter, port->gate.asked);
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
    dp_ike_batch_free(port->batch);
    pthread_mutex_destroy(&port->lock);
    dp_ike_gate_close(&port->gate);
    dp_ike_filter_close(&port->filter);
}
