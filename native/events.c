#include "events.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io_set.h"

enum {
    DP_EVENTS = 64,
};
/* Events carry a device's number, never its address: the device may be gone by the time the event is read. */
#define DP_EVENT_LINK (UINT64_C(1) << 32)
#define DP_EVENT_WAKE (UINT64_C(1) << 33)

int dp_loop_open_events(struct dp_loop *loop) {
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return loop->wake_fd < 0 || loop->epoll_fd < 0 ? -errno : 0;
}

void dp_loop_close_events(struct dp_loop *loop) {
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
}

static int add(int epoll_fd, int fd, uint64_t what) {
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = what};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0 ? 0 : -errno;
}

int dp_worker_open_events(struct dp_worker *w) {
    int error = add(w->outbound.epoll_fd, w->outbound.wake_fd, DP_EVENT_WAKE);
    return error == 0 ? add(w->outbound.epoll_fd, w->inbound.wake_fd, DP_EVENT_WAKE | DP_EVENT_LINK) : error;
}

static int set_of(const struct dp_worker *w, bool is_link) {
    return is_link && atomic_load_explicit(&w->apart, memory_order_relaxed) ? w->inbound.epoll_fd : w->outbound.epoll_fd;
}

int dp_loop_watch(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    if (io->poll_fd < 0)
        return 0;
    return add(set_of(&dp->worker[worker], is_link), io->poll_fd, io->number | (is_link ? DP_EVENT_LINK : 0));
}

void dp_loop_unwatch(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    if (io->poll_fd >= 0)
        (void)epoll_ctl(set_of(&dp->worker[worker], is_link), EPOLL_CTL_DEL, io->poll_fd, NULL);
}

static int move(int from, int to, int fd, uint64_t what) {
    int error = add(to, fd, what);
    if (error != 0 && error != -EEXIST) /* it is there when an earlier move failed half way */
        return error;
    (void)epoll_ctl(from, EPOLL_CTL_DEL, fd, NULL);
    return 0;
}

int dp_worker_move_links(struct dp_worker *w, bool apart) {
    int from = apart ? w->outbound.epoll_fd : w->inbound.epoll_fd, to = apart ? w->inbound.epoll_fd : w->outbound.epoll_fd;
    const struct dp_io_set *set = atomic_load_explicit(&w->links, memory_order_acquire);
    int error = move(from, to, w->inbound.wake_fd, DP_EVENT_WAKE | DP_EVENT_LINK);
    for (uint32_t i = 0; error == 0 && set != NULL && i < set->count; i++) {
        const struct dp_io *io = set->io[i];
        if (io == NULL || io->poll_fd < 0 || atomic_load_explicit(&io->unread, memory_order_relaxed) != 0)
            continue;
        error = move(from, to, io->poll_fd, io->number | DP_EVENT_LINK);
    }
    return error;
}

void dp_loop_wake(struct dp_loop *loop) {
    uint64_t one = 1;
    /* A full counter means that a wake-up is already on its way. */
    if (write(loop->wake_fd, &one, sizeof one) < 0)
        return;
}

static void mark(struct dp_loop *owner, struct dp_loop *loop, uint64_t what) {
    if ((what & DP_EVENT_WAKE) != 0) {
        uint64_t count;
        while (read(loop->wake_fd, &count, sizeof count) > 0)
            continue;
        loop->due = true;
        return;
    }
    struct dp_io *io = dp_io_get(loop->dp, loop->worker, loop->direction == DP_INBOUND, (uint32_t)what);
    if (io == NULL)
        return;
    if (atomic_load_explicit(&io->failed, memory_order_relaxed)) { /* else its error would wake us for ever */
        (void)epoll_ctl(owner->epoll_fd, EPOLL_CTL_DEL, io->poll_fd, NULL);
        return;
    }
    atomic_store_explicit(&io->ready, true, memory_order_relaxed);
    loop->due = true;
}

void dp_loop_wait(struct dp_loop *owner, int timeout) {
    struct epoll_event event[DP_EVENTS];
    int n = epoll_wait(owner->epoll_fd, event, DP_EVENTS, timeout);
    if (n <= 0)
        return;
    struct dp_worker *w = &owner->dp->worker[owner->worker];
    dp_epoch_online(&owner->epoch, &owner->dp->epoch);
    for (int i = 0; i < n; i++) {
        struct dp_loop *loop = (event[i].data.u64 & DP_EVENT_LINK) != 0 ? &w->inbound : &w->outbound;
        /* Links that are about to be moved show up once more in the set that they leave; whoever gets them sees them too. */
        if (loop == owner || !atomic_load_explicit(&w->apart, memory_order_acquire))
            mark(owner, loop, event[i].data.u64);
    }
    dp_epoch_offline(&owner->epoch);
}
