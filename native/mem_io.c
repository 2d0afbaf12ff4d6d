/* The in-memory double of a TUN device or a link: two bounded queues. A mutex, because a rig may push while a loop thread pops. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "events.h"
#include "io_attach.h"
#include "io_set.h"

struct packet {
    struct packet *next;
    struct dp_mem_meta meta;       /* of a link */
    struct dp_mem_offload offload; /* of a TUN device */
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

static struct packet *packet_new(size_t octets) {
    struct packet *p = malloc(sizeof *p + octets);
    if (p != NULL)
        *p = (struct packet){.octets = octets};
    return p;
}

static void free_all(struct packet *p) {
    while (p != NULL) {
        struct packet *next = p->next;
        free(p);
        p = next;
    }
}

/* Appends a chain of `n` packets, all or none. 0, -ENOBUFS. */
static int put(struct mem *m, struct queue *q, struct packet *oldest, struct packet *newest, uint32_t n) {
    pthread_mutex_lock(&m->lock);
    bool full = q->count + n > m->limit;
    if (!full) {
        if (q->newest != NULL)
            q->newest->next = oldest;
        else
            q->oldest = oldest;
        q->newest = newest;
        q->count += n;
    }
    pthread_mutex_unlock(&m->lock);
    if (full)
        free_all(oldest);
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
            .data = dp_area_take(area, DP_ESP_HEADROOM + p->octets + DP_ESP_TAILROOM) + DP_ESP_HEADROOM,
            .gso_size = p->meta.gso_size,
            .gso_type = p->offload.gso_type,
            .needs_checksum = p->offload.needs_checksum,
            .checksum_start = p->offload.checksum_start,
            .checksum_offset = p->offload.checksum_offset,
            .network = p->offload.network,
            .tunnel_checksum = p->offload.tunnel_checksum,
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

/* A packet for a TUN device, its pieces in one. */
static int send_whole(struct mem *m, const struct dp_burst *b) {
    struct packet *p = packet_new(b->octets);
    if (p == NULL)
        return -ENOMEM;
    p->offload = (struct dp_mem_offload){
        .gso_type = b->gso_type,
        .needs_checksum = b->needs_checksum,
        .gso_size = b->gso_size,
        .checksum_start = b->checksum_start,
        .checksum_offset = b->checksum_offset,
        .network = b->network,
        .tunnel_checksum = b->tunnel_checksum,
    };
    size_t at = 0;
    for (unsigned i = 0; i < b->packets; at += b->piece[i++].iov_len)
        memcpy(p->data + at, b->piece[i].iov_base, b->piece[i].iov_len);
    return put(m, &m->out, p, p, 1);
}

/* A run of datagrams, each by itself as it would arrive. */
static int send_datagrams(struct mem *m, const struct dp_burst *b) {
    struct packet *oldest = NULL, **end = &oldest, *newest = NULL;
    for (uint32_t at = 0; at < b->octets;) {
        uint32_t octets = b->packets > 1 && b->gso_size < b->octets - at ? b->gso_size : b->octets - at;
        newest = packet_new(octets);
        if (newest == NULL) {
            free_all(oldest);
            return -ENOMEM;
        }
        newest->meta = (struct dp_mem_meta){.local = b->local,
                                            .remote = b->remote,
                                            .tos = b->tos,
                                            .df = b->df,
                                            .hop_limit = b->hop_limit,
                                            .flow_label = b->flow_label};
        memcpy(newest->data, b->data + at, octets);
        *end = newest;
        end = &newest->next;
        at += octets;
    }
    return put(m, &m->out, oldest, newest, b->packets);
}

static int mem_send(struct dp_io *io, const struct dp_burst *b, unsigned n) {
    struct mem *m = io->scratch;
    for (unsigned i = 0; i < n; i++) {
        int error = b[i].piece != NULL ? send_whole(m, &b[i]) : send_datagrams(m, &b[i]);
        if (error != 0)
            return i != 0 ? (int)i : error;
    }
    return (int)n;
}

static uint32_t mem_offload(struct dp_io *io, uint32_t wanted) {
    (void)io;
    return wanted & DP_OFFLOAD_ALL;
}

static void mem_close(struct dp_io *io) {
    struct mem *m = io->scratch;
    free_all(m->in.oldest);
    free_all(m->out.oldest);
    pthread_mutex_destroy(&m->lock);
}

static const struct dp_io_ops mem_ops = {.receive = mem_receive, .send = mem_send, .offload = mem_offload, .close = mem_close};

static struct dp_io *mem_open(uint32_t number, unsigned encapsulation, const struct dp_addr *local, uint32_t packets) {
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

int dp_mem_tun_attach(struct dp *dp, uint32_t worker, uint32_t interface, uint32_t packets) {
    if (worker >= dp->config.workers || interface >= dp->config.interfaces || packets == 0)
        return -EINVAL;
    struct dp_io *io = mem_open(interface, 0, NULL, packets);
    return io != NULL ? dp_io_add(dp, worker, false, io) : -errno;
}

int dp_mem_link_attach(struct dp *dp, uint32_t worker, unsigned encapsulation, const struct dp_addr *local, uint32_t packets) {
    if (worker >= dp->config.workers || encapsulation > DP_ENCAPSULATION_UDP || packets == 0)
        return -EINVAL;
    int number = dp_io_free_link(dp, worker);
    if (number < 0)
        return number;
    struct dp_io *io = mem_open((uint32_t)number, encapsulation, local, packets);
    int error = io != NULL ? dp_io_add(dp, worker, true, io) : -errno;
    return error != 0 ? error : number;
}

static struct mem *find(const struct dp *dp, uint32_t worker, bool is_link, uint32_t number, struct dp_io **io) {
    *io = dp_io_get(dp, worker, is_link, number);
    return *io != NULL && (*io)->ops == &mem_ops ? (*io)->scratch : NULL;
}

static int push(struct dp *dp, uint32_t worker, bool is_link, uint32_t number, const struct dp_mem_meta *meta,
                const struct dp_mem_offload *offload, const uint8_t *data, size_t octets) {
    struct dp_io *io;
    struct mem *m = find(dp, worker, is_link, number, &io);
    if (m == NULL)
        return -ENOENT;
    if (octets > DP_IP_MAX)
        return -EMSGSIZE;
    struct packet *p = packet_new(octets);
    if (p == NULL)
        return -ENOMEM;
    p->meta = *meta;
    p->offload = *offload;
    memcpy(p->data, data, octets);
    int error = put(m, &m->in, p, p, 1);
    atomic_store_explicit(&io->ready, true, memory_order_release);
    dp_loop_wake(is_link ? &dp->worker[worker].inbound : &dp->worker[worker].outbound);
    return error;
}

static int pull(struct dp *dp, uint32_t worker, bool is_link, uint32_t number, struct dp_mem_meta *meta,
                struct dp_mem_offload *offload, uint8_t *data, size_t capacity) {
    struct dp_io *io;
    struct mem *m = find(dp, worker, is_link, number, &io);
    if (m == NULL)
        return -ENOENT;
    int error;
    struct packet *p = take(m, &m->out, capacity, &error);
    if (p == NULL)
        return error;
    int octets = (int)p->octets;
    *meta = p->meta;
    *offload = p->offload;
    memcpy(data, p->data, p->octets);
    free(p);
    return octets;
}

int dp_mem_tun_push_super(struct dp *dp, uint32_t worker, uint32_t interface, const struct dp_mem_offload *offload,
                          const uint8_t *data, size_t octets) {
    const struct dp_mem_meta meta = {.gso_size = offload->gso_size};
    return push(dp, worker, false, interface, &meta, offload, data, octets);
}

int dp_mem_tun_push(struct dp *dp, uint32_t worker, uint32_t interface, const uint8_t *data, size_t octets) {
    const struct dp_mem_offload none = {0};
    return dp_mem_tun_push_super(dp, worker, interface, &none, data, octets);
}

int dp_mem_tun_pull_super(struct dp *dp, uint32_t worker, uint32_t interface, struct dp_mem_offload *offload, uint8_t *data,
                          size_t capacity) {
    struct dp_mem_meta meta;
    return pull(dp, worker, false, interface, &meta, offload, data, capacity);
}

int dp_mem_tun_pull(struct dp *dp, uint32_t worker, uint32_t interface, uint8_t *data, size_t capacity) {
    struct dp_mem_offload none;
    return dp_mem_tun_pull_super(dp, worker, interface, &none, data, capacity);
}

int dp_mem_link_push(struct dp *dp, uint32_t worker, uint32_t link, const struct dp_mem_meta *meta, const uint8_t *data,
                     size_t octets) {
    const struct dp_mem_offload none = {0};
    return push(dp, worker, true, link, meta, &none, data, octets);
}

int dp_mem_link_pull(struct dp *dp, uint32_t worker, uint32_t link, struct dp_mem_meta *meta, uint8_t *data, size_t capacity) {
    struct dp_mem_offload none;
    return pull(dp, worker, true, link, meta, &none, data, capacity);
}
