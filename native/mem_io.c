/* The in-memory double of a TUN device or a link: two bounded queues. A mutex, because a rig may push while a loop thread pops. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

struct packet {
    struct packet *next;
    struct dp_mem_meta meta;
    size_t octets;
    uint8_t data[];
};

struct queue {
    struct packet *oldest, *newest;
    uint32_t count;
};

struct mem {
    pthread_mutex_t lock;
    uint32_t limit;
    struct queue in, out; /* to the loops; from them */
};

/* 0, -ENOBUFS, -ENOMEM. */
static int put(struct mem *m, struct queue *q, const struct dp_mem_meta *meta, const uint8_t *data, size_t octets) {
    struct packet *p = malloc(sizeof *p + octets);
    if (p == NULL)
        return -ENOMEM;
    *p = (struct packet){.meta = *meta, .octets = octets};
    memcpy(p->data, data, octets);
    pthread_mutex_lock(&m->lock);
    bool full = q->count >= m->limit;
    if (!full) {
        if (q->newest != NULL)
            q->newest->next = p;
        else
            q->oldest = p;
        q->newest = p;
        q->count++;
    }
    pthread_mutex_unlock(&m->lock);
    if (full)
        free(p);
    return full ? -ENOBUFS : 0;
}

/* The oldest packet, if it fits `capacity`; NULL with *error 0 (empty) or -EMSGSIZE. */
static struct packet *take(struct mem *m, struct queue *q, size_t capacity, int *error) {
    pthread_mutex_lock(&m->lock);
    struct packet *p = q->oldest;
    *error = p != NULL && p->octets > capacity ? -EMSGSIZE : 0;
    if (p != NULL && *error == 0) {
        q->oldest = p->next;
        if (q->oldest == NULL)
            q->newest = NULL;
        q->count--;
    } else {
        p = NULL;
    }
    pthread_mutex_unlock(&m->lock);
    return p;
}

static int mem_receive(struct dp_io *io, struct dp_area *area, struct dp_burst *b, unsigned n) {
    struct mem *m = io->scratch;
    unsigned i = 0;
    for (; i < n && area->octets - area->used >= DP_PACKET_ROOM; i++) {
        int error;
        struct packet *p = take(m, &m->in, DP_IP_MAX, &error);
        if (p == NULL)
            break;
        b[i] = (struct dp_burst){
            .octets = (uint32_t)p->octets,
            .data = dp_area_take(area, p->octets + DP_ESP_TAILROOM),
            .tos = p->meta.tos,
            .df = p->meta.df,
            .encapsulation = io->encapsulation,
            .interface = io->number,
            .link = io->number,
            .local = p->meta.local,
            .remote = p->meta.remote,
        };
        memcpy(b[i].data, p->data, p->octets);
        free(p);
    }
    return (int)i;
}

static int mem_send(struct dp_io *io, const struct dp_burst *b, unsigned n) {
    struct mem *m = io->scratch;
    for (unsigned i = 0; i < n; i++) {
        struct dp_mem_meta meta = {.local = b[i].local, .remote = b[i].remote, .tos = b[i].tos, .df = b[i].df};
        int error = put(m, &m->out, &meta, b[i].data, b[i].octets);
        if (error != 0)
            return i != 0 ? (int)i : error;
    }
    return (int)n;
}

static void mem_close(struct dp_io *io) {
    struct mem *m = io->scratch;
    int error;
    struct packet *p;
    while ((p = take(m, &m->in, SIZE_MAX, &error)) != NULL)
        free(p);
    while ((p = take(m, &m->out, SIZE_MAX, &error)) != NULL)
        free(p);
    pthread_mutex_destroy(&m->lock);
}

static const struct dp_io_ops mem_ops = {.receive = mem_receive, .send = mem_send, .close = mem_close};

struct dp_io *dp_mem_open(uint32_t number, unsigned encapsulation, const struct dp_addr *local, uint32_t packets) {
    struct dp_io *io = calloc(1, sizeof *io);
    struct mem *m = calloc(1, sizeof *m);
    if (io == NULL || m == NULL) {
        free(io);
        free(m);
        errno = ENOMEM;
        return NULL;
    }
    pthread_mutex_init(&m->lock, NULL);
    m->limit = packets;
    io->ops = &mem_ops;
    io->number = number;
    io->encapsulation = (uint8_t)encapsulation;
    io->poll_fd = -1;
    io->scratch = m;
    if (local != NULL)
        io->local = *local;
    return io;
}

static struct mem *find(const struct dp *dp, uint32_t worker, bool is_link, uint32_t number, struct dp_io **io) {
    *io = dp_io_get(dp, worker, is_link, number);
    return *io != NULL && (*io)->ops == &mem_ops ? (*io)->scratch : NULL;
}

static int push(struct dp *dp, uint32_t worker, bool is_link, uint32_t number, const struct dp_mem_meta *meta, const uint8_t *data,
                size_t octets) {
    struct dp_io *io;
    struct mem *m = find(dp, worker, is_link, number, &io);
    if (m == NULL)
        return -ENOENT;
    if (octets > DP_IP_MAX)
        return -EMSGSIZE;
    int error = put(m, &m->in, meta, data, octets);
    atomic_store_explicit(&io->ready, true, memory_order_release);
    dp_loop_wake(is_link ? &dp->worker[worker].inbound : &dp->worker[worker].outbound);
    return error;
}

static int pull(struct dp *dp, uint32_t worker, bool is_link, uint32_t number, struct dp_mem_meta *meta, uint8_t *data,
                size_t capacity) {
    struct dp_io *io;
    struct mem *m = find(dp, worker, is_link, number, &io);
    if (m == NULL)
        return -ENOENT;
    int error;
    struct packet *p = take(m, &m->out, capacity, &error);
    if (p == NULL)
        return error;
    int octets = (int)p->octets;
    if (meta != NULL)
        *meta = p->meta;
    memcpy(data, p->data, p->octets);
    free(p);
    return octets;
}

int dp_mem_tun_push(struct dp *dp, uint32_t worker, uint32_t interface, const uint8_t *data, size_t octets) {
    const struct dp_mem_meta none = {0};
    return push(dp, worker, false, interface, &none, data, octets);
}

int dp_mem_tun_pull(struct dp *dp, uint32_t worker, uint32_t interface, uint8_t *data, size_t capacity) {
    return pull(dp, worker, false, interface, NULL, data, capacity);
}

int dp_mem_link_push(struct dp *dp, uint32_t worker, uint32_t link, const struct dp_mem_meta *meta, const uint8_t *data,
                     size_t octets) {
    return push(dp, worker, true, link, meta, data, octets);
}

int dp_mem_link_pull(struct dp *dp, uint32_t worker, uint32_t link, struct dp_mem_meta *meta, uint8_t *data, size_t capacity) {
    return pull(dp, worker, true, link, meta, data, capacity);
}
