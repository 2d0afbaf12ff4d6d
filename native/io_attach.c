#include "io_attach.h"

#include <errno.h>

#include "engine.h"
#include "epoch.h"
#include "events.h"
#include "io_set.h"
#include "link.h"
#include "tun_io.h"

enum {
    DP_LINKS_MAX = 1024
};

static void free_io(struct dp *dp, void *thing) {
    (void)dp;
    dp_io_close(thing);
}

int dp_io_add(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    struct dp_worker *w = &dp->worker[worker];
    pthread_mutex_lock(&w->lock);
    int error = dp_io_get(dp, worker, is_link, io->number) != NULL ? -EBUSY : 0;
    if (dp->paused)
        atomic_store_explicit(&io->unread, DP_UNREAD_PAUSED, memory_order_relaxed);
    else if (error == 0)
        error = dp_loop_watch(dp, worker, is_link, io);
    if (error == 0)
        error = dp_io_set_put(dp, worker, is_link, io->number, io);
    pthread_mutex_unlock(&w->lock);
    if (error != 0)
        dp_io_close(io);
    return error;
}

int dp_io_free_link(const struct dp *dp, uint32_t worker) {
    for (uint32_t i = 0; i < DP_LINKS_MAX; i++)
        if (dp_io_get(dp, worker, true, i) == NULL)
            return (int)i;
    return -ENOSPC;
}

static int detach(struct dp *dp, uint32_t worker, bool is_link, uint32_t number) {
    struct dp_io *io = dp_io_get(dp, worker, is_link, number);
    if (io == NULL)
        return -ENOENT;
    struct dp_worker *w = &dp->worker[worker];
    pthread_mutex_lock(&w->lock);
    int error = dp_io_set_put(dp, worker, is_link, number, NULL);
    if (error == 0)
        dp_loop_unwatch(dp, worker, is_link, io);
    pthread_mutex_unlock(&w->lock);
    if (error == 0)
        dp_epoch_retire(dp, free_io, io);
    return error;
}

static int attach_tun(struct dp *dp, uint32_t worker, uint32_t interface, int fd, const uint32_t *on) {
    if (worker >= dp->config.workers || interface >= dp->config.interfaces)
        return -EINVAL;
    if (dp->random.seeded)
        return -EPERM;
    struct dp_io *io = dp_tun_open(interface, fd, on);
    return io != NULL ? dp_io_add(dp, worker, false, io) : -errno;
}

int dp_tun_attach(struct dp *dp, uint32_t worker, uint32_t interface, int fd) {
    return attach_tun(dp, worker, interface, fd, NULL);
}

int dp_tun_inherit(struct dp *dp, uint32_t worker, uint32_t interface, int fd, uint32_t on) {
    return attach_tun(dp, worker, interface, fd, &on);
}

int dp_tun_detach(struct dp *dp, uint32_t worker, uint32_t interface) {
    return detach(dp, worker, false, interface);
}

static int attach_link(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, int fd_receive,
                       int receive_df, int fd_other, const uint32_t *on) {
    if (worker >= dp->config.workers || encapsulation > DP_ENCAPSULATION_UDP || (local->family != 4 && local->family != 6))
        return -EINVAL;
    if (dp->random.seeded)
        return -EPERM;
    int number = dp_io_free_link(dp, worker);
    if (number < 0)
        return number;
    struct dp_io *io = dp_link_open((uint32_t)number, encapsulation, local, fd_receive, receive_df, fd_other, on);
    int error = io != NULL ? dp_io_add(dp, worker, true, io) : -errno;
    return error != 0 ? error : number;
}

int dp_link_attach(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, int fd_receive,
                   int receive_df, int fd_other) {
    return attach_link(dp, worker, encapsulation, local, fd_receive, receive_df, fd_other, NULL);
}

int dp_link_inherit(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, int fd_receive,
                    int receive_df, int fd_other, uint32_t on) {
    return attach_link(dp, worker, encapsulation, local, fd_receive, receive_df, fd_other, &on);
}

int dp_link_detach(struct dp *dp, uint32_t worker, uint32_t link) {
    return detach(dp, worker, true, link);
}

int dp_receive_off(struct dp *dp, uint32_t worker, int is_link, uint32_t number) {
    struct dp_io *io = dp_io_get(dp, worker, is_link != 0, number);
    if (io == NULL)
        return -ENOENT;
    struct dp_worker *w = &dp->worker[worker];
    pthread_mutex_lock(&w->lock);
    dp_loop_unwatch(dp, worker, is_link != 0, io);
    atomic_fetch_or_explicit(&io->unread, DP_UNREAD_OTHER, memory_order_relaxed);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int dp_offloads_read(const struct dp *dp, uint32_t worker, int is_link, uint32_t number) {
    const struct dp_io *io = dp_io_get(dp, worker, is_link != 0, number);
    return io != NULL ? (int)atomic_load_explicit(&io->offloads, memory_order_relaxed) : -ENOENT;
}

int dp_offloads_given_up(const struct dp *dp, uint32_t worker, int is_link, uint32_t number) {
    const struct dp_io *io = dp_io_get(dp, worker, is_link != 0, number);
    return io != NULL ? (int)atomic_load_explicit(&io->given_up, memory_order_relaxed) : -ENOENT;
}

int dp_offloads_set(struct dp *dp, uint32_t worker, int is_link, uint32_t number, uint32_t wanted) {
    struct dp_io *io = dp_io_get(dp, worker, is_link != 0, number);
    return io != NULL ? dp_io_offload(io, wanted) : -ENOENT;
}
