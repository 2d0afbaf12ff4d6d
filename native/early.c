#include "early.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mix.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif

enum {
    LINE = 64,
    CHUNKS = DP_EARLY_ALL / DP_EARLY_CHUNK,
    SPI_CHUNKS = DP_EARLY_SPI / DP_EARLY_CHUNK,
    HEADS = 4096,
    NONE = UINT16_MAX,
};

struct record {
    uint32_t take; /* octets from this record to the next, a multiple of LINE */
    struct dp_burst burst;
    _Alignas(LINE) uint8_t data[];
};
/* A TUN device's header takes more room than the ESP header leaves: of `now`, for which nobody asks once the packet is opened. */
static_assert(sizeof(struct dp_burst) - offsetof(struct dp_burst, now) >= DP_TUN_HEADROOM - DP_ESP_HEADER - DP_AEAD_IV &&
                  sizeof(struct record) == offsetof(struct record, burst) + sizeof(struct dp_burst),
              "what else is before a packet is left alone");
static_assert(sizeof(struct record) + (size_t)DP_IP_MAX + (size_t)DP_ESP_TAILROOM + 2 * LINE <= (size_t)DP_EARLY_CHUNK,
              "the longest datagram");

struct chunk {
    uint32_t used, packets;
    uint64_t newest; /* when its last packet came */
    _Alignas(LINE) uint8_t records[DP_EARLY_CHUNK - LINE];
};
static_assert(sizeof(struct chunk) == (size_t)DP_EARLY_CHUNK && CHUNKS < (int)NONE, "chunks lie one behind the other");

/* An SPI in a request of ours, or one whose SA is there and whose packets were not yet taken. */
struct expected {
    uint32_t spi, worker;
    struct dp_addr peer;
    uint16_t next;        /* of its hash, or of those that are free */
    uint16_t first, last; /* its chunks, in the order of arrival */
    uint16_t chunks;
    bool ready;
};

struct dp_early {
    pthread_mutex_t lock;
    _Atomic uint32_t count; /* of SPIs; without any nobody takes the lock */
    uint64_t seed;
    struct chunk *chunk;
    uint16_t after[CHUNKS]; /* the next chunk of the same SPI, or the next free one */
    uint16_t free_chunk, used_chunks;
    struct expected spi[DP_EARLY_SPIS];
    uint16_t head[HEADS], free_spi;
    _Atomic uint64_t dropped;
};

int dp_early_open(struct dp *dp) {
    struct dp_early *e = calloc(1, sizeof *e);
    if (e == NULL)
        return -ENOMEM;
    e->chunk = mmap(NULL, DP_EARLY_ALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (e->chunk == MAP_FAILED || pthread_mutex_init(&e->lock, NULL) != 0) {
        if (e->chunk != MAP_FAILED)
            munmap(e->chunk, DP_EARLY_ALL);
        free(e);
        return -ENOMEM;
    }
    /* Packets are opened here. */
    (void)madvise(e->chunk, DP_EARLY_ALL, MADV_DONTDUMP);
    e->seed = dp->flow_seed;
    for (uint16_t i = 0; i < CHUNKS; i++)
        e->after[i] = i + 1 < CHUNKS ? (uint16_t)(i + 1) : NONE;
    for (uint16_t i = 0; i < DP_EARLY_SPIS; i++)
        e->spi[i].next = i + 1 < DP_EARLY_SPIS ? (uint16_t)(i + 1) : NONE;
    memset(e->head, 0xff, sizeof e->head);
    dp->early = e;
    return 0;
}

void dp_early_close(struct dp *dp) {
    struct dp_early *e = dp->early;
    if (e == NULL)
        return;
    pthread_mutex_destroy(&e->lock);
    munmap(e->chunk, DP_EARLY_ALL);
    free(e);
}

/* ---- with the lock held */

static uint16_t *head_of(struct dp_early *e, uint32_t spi) {
    return &e->head[dp_mix(e->seed ^ spi) % HEADS];
}

static struct expected *find(struct dp_early *e, uint32_t spi) {
    for (uint16_t i = *head_of(e, spi); i != NONE; i = e->spi[i].next)
        if (e->spi[i].spi == spi)
            return &e->spi[i];
    return NULL;
}

/* Takes the SPI out; its chunks are the caller's. */
static uint16_t take_out(struct dp_early *e, struct expected *x) {
    uint16_t index = (uint16_t)(x - e->spi), *link = head_of(e, x->spi);
    while (*link != index)
        link = &e->spi[*link].next;
    *link = x->next;
    x->next = e->free_spi;
    e->free_spi = index;
    atomic_fetch_sub_explicit(&e->count, 1, memory_order_relaxed);
    return x->first;
}

/* Locked memory goes back from Linux 5.18 on; before it stays, and is used again. */
static void give_memory_back(struct dp_early *e) {
    if (madvise(e->chunk, DP_EARLY_ALL, MADV_DONTNEED_LOCKED) != 0)
        (void)madvise(e->chunk, DP_EARLY_ALL, MADV_DONTNEED);
}

/* Wipes a chunk, which may hold what was opened in it; the next one. When none is in use, the memory goes back to the kernel. */
static uint16_t give_back(struct dp_early *e, uint16_t i) {
    uint16_t next = e->after[i];
    struct chunk *c = &e->chunk[i];
    explicit_bzero(c, offsetof(struct chunk, records) + c->used);
    e->after[i] = e->free_chunk;
    e->free_chunk = i;
    if (--e->used_chunks == 0)
        give_memory_back(e);
    return next;
}

static void count_dropped(struct dp_early *e, uint64_t packets) {
    atomic_fetch_add_explicit(&e->dropped, packets, memory_order_relaxed);
}

static bool expired(uint64_t came, uint64_t now) {
    return now > came && now - came >= DP_EARLY_NS;
}

static void drop_first(struct dp_early *e, struct expected *x) {
    count_dropped(e, e->chunk[x->first].packets);
    x->first = give_back(e, x->first);
    x->chunks--;
}

/* A further chunk, if this SPI may have one: while there are many, each has its part of them. */
static struct chunk *more(struct dp_early *e, struct expected *x) {
    uint32_t part = CHUNKS / atomic_load_explicit(&e->count, memory_order_relaxed);
    uint32_t most = part == 0 ? 1 : part < SPI_CHUNKS ? part : SPI_CHUNKS;
    uint16_t i = e->free_chunk;
    if (x->chunks >= most || i == NONE)
        return NULL;
    e->free_chunk = e->after[i];
    e->used_chunks++;
    e->after[i] = NONE;
    if (x->first == NONE)
        x->first = i;
    else
        e->after[x->last] = i;
    x->last = i;
    x->chunks++;
    e->chunk[i].used = e->chunk[i].packets = 0;
    return &e->chunk[i];
}

static bool store(struct dp_early *e, struct expected *x, const struct dp_burst *b, const uint8_t *data, uint32_t octets,
                  uint64_t now) {
    uint32_t take = (uint32_t)(sizeof(struct record) + octets + DP_ESP_TAILROOM + LINE - 1) & ~(uint32_t)(LINE - 1);
    if (octets > DP_IP_MAX)
        return false;
    while (x->first != NONE && expired(e->chunk[x->first].newest, now))
        drop_first(e, x);
    struct chunk *c = x->first != NONE ? &e->chunk[x->last] : NULL;
    if (c == NULL || sizeof c->records - c->used < take)
        c = more(e, x);
    if (c == NULL)
        return false;
    struct record *r = (struct record *)(void *)(c->records + c->used);
    r->take = take;
    r->burst = *b;
    r->burst.data = r->data;
    r->burst.octets = octets;
    r->burst.packets = 1;
    r->burst.gso_size = 0;
    r->burst.handed = true;
    r->burst.now = now;
    memcpy(r->data, data, octets);
    c->used += take;
    c->packets++;
    c->newest = now;
    return true;
}

/* ESP in UDP comes from the port that IKE is spoken with, IP protocol 50 has none. */
static bool from_peer(const struct expected *x, const struct dp_burst *b) {
    struct dp_addr peer = x->peer;
    if (b->encapsulation != DP_ENCAPSULATION_UDP)
        peer.port = b->remote.port;
    return memcmp(&peer, &b->remote, sizeof peer) == 0;
}

/* ---- by the control thread */

int dp_early_begin(struct dp *dp, uint32_t spi, const struct dp_addr *peer) {
    struct dp_early *e = dp->early;
    int error = 0;
    pthread_mutex_lock(&e->lock);
    struct expected *x = find(e, spi);
    uint16_t i = e->free_spi;
    if (x != NULL) {
        x->peer = *peer;
    } else if (i == NONE) {
        error = -ENOSPC;
    } else {
        uint16_t *head = head_of(e, spi);
        x = &e->spi[i];
        e->free_spi = x->next;
        *x = (struct expected){.spi = spi, .peer = *peer, .next = *head, .first = NONE};
        *head = i;
        atomic_fetch_add_explicit(&e->count, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&e->lock);
    return error;
}

void dp_early_forget(struct dp *dp, uint32_t spi) {
    struct dp_early *e = dp->early;
    if (atomic_load_explicit(&e->count, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&e->lock);
    struct expected *x = find(e, spi);
    if (x != NULL && !x->ready) {
        while (x->first != NONE)
            drop_first(e, x);
        (void)take_out(e, x);
    }
    pthread_mutex_unlock(&e->lock);
}

bool dp_early_ready(struct dp *dp, uint32_t spi, uint32_t worker) {
    struct dp_early *e = dp->early;
    if (atomic_load_explicit(&e->count, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&e->lock);
    struct expected *x = find(e, spi);
    bool some = x != NULL && x->first != NONE;
    if (some && !x->ready) {
        x->ready = true;
        x->worker = worker;
        atomic_fetch_add_explicit(&dp->worker[worker].inbound.early_ready, 1, memory_order_relaxed);
    } else if (x != NULL && !some) {
        (void)take_out(e, x);
    }
    pthread_mutex_unlock(&e->lock);
    return some;
}

void dp_early_show(struct dp *dp, void (*show)(void *to, uint32_t spi, const struct dp_burst *b), void *to) {
    struct dp_early *e = dp->early;
    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < HEADS; i++)
        for (uint16_t j = e->head[i]; j != NONE; j = e->spi[j].next)
            for (uint16_t k = e->spi[j].first; k != NONE; k = e->after[k])
                for (uint32_t at = 0; at < e->chunk[k].used;) {
                    const struct record *r = (const struct record *)(const void *)(e->chunk[k].records + at);
                    at += r->take;
                    show(to, e->spi[j].spi, &r->burst);
                }
    pthread_mutex_unlock(&e->lock);
}

int dp_early_restore(struct dp *dp, uint32_t spi, const struct dp_burst *b) {
    struct dp_early *e = dp->early;
    int error = -ENOENT;
    pthread_mutex_lock(&e->lock);
    struct expected *x = find(e, spi);
    if (x != NULL)
        error = store(e, x, b, b->data, b->octets, b->now) ? 0 : -ENOSPC;
    pthread_mutex_unlock(&e->lock);
    return error;
}

uint64_t dp_early_dropped(const struct dp *dp) {
    return atomic_load_explicit(&dp->early->dropped, memory_order_relaxed);
}

/* ---- by an inbound loop */

enum dp_early_answer dp_early_keep(struct dp_loop *loop, const struct dp_burst *b, const uint8_t *data, uint32_t octets,
                                   uint64_t now) {
    struct dp_early *e = loop->dp->early;
    if (atomic_load_explicit(&e->count, memory_order_relaxed) == 0)
        return DP_EARLY_STRANGE;
    uint32_t spi = (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
    enum dp_early_answer answer = DP_EARLY_STRANGE;
    pthread_mutex_lock(&e->lock);
    struct expected *x = find(e, spi);
    if (x != NULL && from_peer(x, b))
        answer = store(e, x, b, data, octets, now) ? DP_EARLY_KEPT : DP_EARLY_FULL;
    pthread_mutex_unlock(&e->lock);
    return answer;
}

/* The chunks of an SPI whose SA this loop has got; NONE: there is no such SPI any more. */
static uint16_t next_ready(struct dp_loop *loop) {
    struct dp_early *e = loop->dp->early;
    uint16_t first = NONE;
    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < HEADS && first == NONE; i++)
        for (uint16_t j = e->head[i]; j != NONE && first == NONE; j = e->spi[j].next)
            if (e->spi[j].ready && e->spi[j].worker == loop->worker)
                first = take_out(e, &e->spi[j]);
    if (first != NONE)
        atomic_fetch_sub_explicit(&loop->early_ready, 1, memory_order_relaxed);
    pthread_mutex_unlock(&e->lock);
    return first;
}

static void take_chunk(struct dp_loop *loop, struct chunk *c, uint64_t now,
                       void (*take)(struct dp_loop *loop, const struct dp_burst *b, uint64_t now)) {
    for (uint32_t at = 0; at < c->used;) {
        const struct record *r = (const struct record *)(const void *)(c->records + at);
        at += r->take;
        if (expired(r->burst.now, now))
            count_dropped(loop->dp->early, 1);
        else
            take(loop, &r->burst, now);
    }
}

void dp_early_take(struct dp_loop *loop, uint64_t now, void (*take)(struct dp_loop *loop, const struct dp_burst *b, uint64_t now),
                   void (*finish)(struct dp_loop *loop, uint64_t now)) {
    struct dp_early *e = loop->dp->early;
    loop->early_taking = true;
    for (uint16_t i = next_ready(loop); i != NONE; i = next_ready(loop)) {
        for (uint16_t j = i; j != NONE; j = e->after[j])
            take_chunk(loop, &e->chunk[j], now, take);
        finish(loop, now);
        pthread_mutex_lock(&e->lock);
        while (i != NONE)
            i = give_back(e, i);
        pthread_mutex_unlock(&e->lock);
    }
    loop->early_taking = false;
}
