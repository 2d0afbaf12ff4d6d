/* The devices a worker has: immutable sets, replaced as a whole. */
#include <errno.h>
#include <stdlib.h>

#include "engine.h"

enum {
    DP_LINKS_MAX = 1024
};
#define DP_REPORT_INTERVAL UINT64_C(1000000000) /* ns between two reports of one failing device */

static _Atomic(struct dp_io_set *) *set_of(const struct dp *dp, uint32_t worker, bool is_link) {
    return is_link ? &dp->worker[worker].links : &dp->worker[worker].tuns;
}

struct dp_io *dp_io_get(const struct dp *dp, uint32_t worker, bool is_link, uint32_t number) {
    if (worker >= dp->config.workers)
        return NULL;
    const struct dp_io_set *set = atomic_load_explicit(set_of(dp, worker, is_link), memory_order_acquire);
    return set != NULL && number < set->count ? set->io[number] : NULL;
}

static void free_set(struct dp *dp, void *thing) {
    (void)dp;
    free(thing);
}

static void free_io(struct dp *dp, void *thing) {
    (void)dp;
    struct dp_io *io = thing;
    io->ops->close(io);
    free(io->scratch);
    free(io);
}

/* A copy of the set with `io` (NULL: nothing) at `number`. */
static struct dp_io_set *copy_set(const struct dp_io_set *old, uint32_t number, struct dp_io *io) {
    uint32_t count = old != NULL && old->count > number ? old->count : number + 1;
    struct dp_io_set *set = calloc(1, sizeof *set + count * sizeof set->io[0]);
    if (set == NULL)
        return NULL;
    set->count = count;
    for (uint32_t i = 0; old != NULL && i < old->count; i++)
        set->io[i] = old->io[i];
    set->io[number] = io;
    return set;
}

static int replace(struct dp *dp, uint32_t worker, bool is_link, uint32_t number, struct dp_io *io) {
    _Atomic(struct dp_io_set *) *at = set_of(dp, worker, is_link);
    struct dp_io_set *set = copy_set(atomic_load_explicit(at, memory_order_relaxed), number, io);
    if (set == NULL)
        return -ENOMEM;
    dp_epoch_retire(dp, free_set, atomic_exchange_explicit(at, set, memory_order_seq_cst));
    return 0;
}

/* Takes `io` over: on failure it is closed. */
int dp_io_add(struct dp *dp, uint32_t worker, bool is_link, struct dp_io *io) {
    struct dp_worker *w = &dp->worker[worker];
    pthread_mutex_lock(&w->lock);
    int error = dp_io_get(dp, worker, is_link, io->number) != NULL ? -EBUSY : dp_loop_watch(dp, worker, is_link, io);
    if (error == 0)
        error = replace(dp, worker, is_link, io->number, io);
    pthread_mutex_unlock(&w->lock);
    if (error != 0)
        free_io(dp, io);
    return error;
}

int dp_io_remove(struct dp *dp, uint32_t worker, bool is_link, uint32_t number) {
    struct dp_io *io = dp_io_get(dp, worker, is_link, number);
    if (io == NULL)
        return -ENOENT;
    struct dp_worker *w = &dp->worker[worker];
    pthread_mutex_lock(&w->lock);
    int error = replace(dp, worker, is_link, number, NULL);
    if (error == 0)
        dp_loop_unwatch(dp, worker, is_link, io);
    pthread_mutex_unlock(&w->lock);
    if (error == 0)
        dp_epoch_retire(dp, free_io, io);
    return error;
}

void dp_io_finish(struct dp *dp) {
    for (uint32_t w = 0; w < dp->config.workers; w++) {
        for (int is_link = 0; is_link < 2; is_link++) {
            struct dp_io_set *set = atomic_load_explicit(set_of(dp, w, is_link), memory_order_relaxed);
            for (uint32_t i = 0; set != NULL && i < set->count; i++)
                if (set->io[i] != NULL)
                    free_io(dp, set->io[i]);
            free(set);
        }
    }
}

/* The lowest number not in use, or -ENOSPC. */
static int free_link(const struct dp *dp, uint32_t worker) {
    for (uint32_t i = 0; i < DP_LINKS_MAX; i++)
        if (dp_io_get(dp, worker, true, i) == NULL)
            return (int)i;
    return -ENOSPC;
}

int dp_tun_attach(struct dp *dp, uint32_t worker, uint32_t interface, int fd) {
    if (worker >= dp->config.workers || interface >= dp->config.interfaces)
        return -EINVAL;
    struct dp_io *io = dp_tun_open(interface, fd);
    return io != NULL ? dp_io_add(dp, worker, false, io) : -errno;
}

int dp_tun_detach(struct dp *dp, uint32_t worker, uint32_t interface) {
    return dp_io_remove(dp, worker, false, interface);
}

static int add_link(struct dp *dp, uint32_t worker, struct dp_io *io) {
    if (io == NULL)
        return -errno;
    uint32_t number = io->number;
    int error = dp_io_add(dp, worker, true, io);
    return error != 0 ? error : (int)number;
}

int dp_link_attach(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, int fd_receive,
                   int receive_df, int fd_other) {
    if (worker >= dp->config.workers || encapsulation > DP_ENCAPSULATION_UDP || (local->family != 4 && local->family != 6))
        return -EINVAL;
    int number = free_link(dp, worker);
    if (number < 0)
        return number;
    return add_link(dp, worker, dp_link_open((uint32_t)number, encapsulation, local, fd_receive, receive_df, fd_other));
}

int dp_link_detach(struct dp *dp, uint32_t worker, uint32_t link) {
    return dp_io_remove(dp, worker, true, link);
}

int dp_receive_off(struct dp *dp, uint32_t worker, int is_link, uint32_t number) {
    struct dp_io *io = dp_io_get(dp, worker, is_link != 0, number);
    if (io == NULL)
        return -ENOENT;
    struct dp_worker *w = &dp->worker[worker];
    pthread_mutex_lock(&w->lock);
    dp_loop_unwatch(dp, worker, is_link != 0, io);
    atomic_store_explicit(&io->send_only, true, memory_order_relaxed);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int dp_mem_tun_attach(struct dp *dp, uint32_t worker, uint32_t interface, uint32_t packets) {
    if (worker >= dp->config.workers || interface >= dp->config.interfaces || packets == 0)
        return -EINVAL;
    struct dp_io *io = dp_mem_open(interface, 0, NULL, packets);
    return io != NULL ? dp_io_add(dp, worker, false, io) : -errno;
}

int dp_mem_link_attach(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, uint32_t packets) {
    if (worker >= dp->config.workers || encapsulation > DP_ENCAPSULATION_UDP || packets == 0)
        return -EINVAL;
    int number = free_link(dp, worker);
    return number < 0 ? number : add_link(dp, worker, dp_mem_open((uint32_t)number, encapsulation, local, packets));
}

void dp_io_report(struct dp_loop *loop, struct dp_io *io, bool is_link, int error, uint64_t now) {
    uint64_t before = atomic_load_explicit(&io->reported, memory_order_relaxed);
    if (before != 0 && now - before < DP_REPORT_INTERVAL)
        return;
    atomic_store_explicit(&io->reported, now, memory_order_relaxed);
    struct dp_punt punt = {
        .kind = DP_PUNT_IO_ERROR,
        .link = is_link ? (uint16_t)io->number : UINT16_MAX,
        .interface = is_link ? UINT32_MAX : io->number,
        .error = error,
        .now = now,
        .local = io->local,
    };
    (void)dp_punt_send(loop, DP_CHANNEL_TRUSTED, &punt, NULL, 0);
}

void dp_io_report_offload(struct dp_loop *loop, const struct dp_io *io, bool is_link, int error, uint64_t now) {
    struct dp_punt punt = {
        .kind = DP_PUNT_OFFLOAD,
        .link = is_link ? (uint16_t)io->number : UINT16_MAX,
        .interface = is_link ? UINT32_MAX : io->number,
        .flags = atomic_load_explicit(&io->offloads, memory_order_relaxed),
        .error = error,
        .now = now,
        .local = io->local,
    };
    (void)dp_punt_send(loop, DP_CHANNEL_TRUSTED, &punt, NULL, 0);
}

int dp_offloads_read(const struct dp *dp, uint32_t worker, int is_link, uint32_t number) {
    const struct dp_io *io = dp_io_get(dp, worker, is_link != 0, number);
    return io != NULL ? (int)atomic_load_explicit(&io->offloads, memory_order_relaxed) : -ENOENT;
}

int dp_offloads_set(struct dp *dp, uint32_t worker, int is_link, uint32_t number, uint32_t wanted) {
    struct dp_io *io = dp_io_get(dp, worker, is_link != 0, number);
    return io != NULL ? dp_io_offload(io, wanted) : -ENOENT;
}
