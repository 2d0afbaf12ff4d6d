#include "examples.h"

#include <errno.h>
#include <string.h>

#include "esp_wire.h"
#include "inner.h"
#include "sa.h"
#include "tap.h"

enum {
    PROTOCOL_UDP = 17,
    PROTOCOL_ESP = 50,
    WORDS = sizeof(struct dp_example) / sizeof(uint64_t),
};
#define SECOND UINT64_C(1000000000)
#define INTERVAL (SECOND / DP_EXAMPLES_A_SECOND)
static_assert(sizeof(struct dp_example) % sizeof(uint64_t) == 0, "it is kept as words");
static_assert(DP_DROP_COUNT <= UINT8_MAX, "dp_example.reason holds every reason");

struct slot {
    _Atomic uint32_t version; /* 0: nothing yet; odd while it is written */
    _Atomic uint64_t words[WORDS];
};

/* Of one reason. */
struct ring {
    uint64_t since; /* from which on its tokens have run in, as in punt.c */
    uint32_t next;  /* the oldest slot */
    struct slot slot[DP_EXAMPLES];
};

struct dp_examples {
    struct ring ring[DP_DROP_COUNT];
};

struct dp_examples *dp_examples_new(void) {
    return calloc(1, sizeof(struct dp_examples));
}

void dp_examples_free(struct dp_examples *examples) {
    free(examples);
}

/* ---- the loop's end */

/* Whether another packet of this reason may be looked at now. */
static bool wanted(struct ring *ring, uint64_t now) {
    uint64_t later = now + SECOND;
    if (ring->since < now)
        ring->since = now;
    if (later - ring->since < INTERVAL)
        return false;
    ring->since += INTERVAL;
    return true;
}

static void load(const struct slot *slot, struct dp_example *example) {
    uint64_t words[WORDS];
    for (int i = 0; i < WORDS; i++)
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    memcpy(example, words, sizeof *example);
}

static void store(struct slot *slot, const struct dp_example *example) {
    uint64_t words[WORDS];
    memcpy(words, example, sizeof words);
    uint32_t version = atomic_load_explicit(&slot->version, memory_order_relaxed);
    atomic_store_explicit(&slot->version, version + 1, memory_order_relaxed);
    for (int i = 0; i < WORDS; i++)
        atomic_store_explicit(&slot->words[i], words[i], memory_order_release);
    atomic_store_explicit(&slot->version, version + 2, memory_order_release);
}

/* Keeps the example: one of the same flow becomes younger, so that a stream leaves the others where they are. */
static void add(struct ring *ring, const struct dp_example *example) {
    const size_t what = offsetof(struct dp_example, source);
    for (uint32_t i = 0; i < DP_EXAMPLES; i++) {
        struct dp_example known;
        load(&ring->slot[i], &known);
        if (memcmp((const uint8_t *)&known + what, (const uint8_t *)example + what, sizeof known - what) != 0)
            continue;
        store(&ring->slot[i], example);
        return;
    }
    store(&ring->slot[ring->next], example);
    ring->next = (ring->next + 1) % DP_EXAMPLES;
}

/* Counts; the ring of the reason when an example of it is wanted, else NULL. */
static struct ring *count(struct dp_loop *loop, enum dp_drop reason, uint32_t n, uint64_t now) {
    dp_drop_packets(loop, reason, n);
    struct ring *ring = &loop->examples->ring[reason];
    return wanted(ring, now) ? ring : NULL;
}

static struct dp_example begin(const struct dp_loop *loop, enum dp_drop reason, uint64_t now) {
    return (struct dp_example){
        .now = now,
        .source_port = DP_PORT_OPAQUE,
        .destination_port = DP_PORT_OPAQUE,
        .interface = UINT32_MAX,
        .tunnel = UINT32_MAX,
        .protocol = DP_PROTOCOL_OPAQUE,
        .reason = (uint8_t)reason,
        .direction = loop->direction,
    };
}

/* What an IP packet shows: all of it when it is sound, else what its fixed header says, if it has one. */
static void read_packet(struct dp_example *e, const uint8_t *packet, size_t octets) {
    struct dp_inner inner;
    bool sound = dp_inner_read(packet, octets, DP_FLOW_OUTBOUND, &inner) == DP_OK;
    uint8_t version = octets != 0 ? packet[0] >> 4 : 0;
    if (version == 4 && octets >= DP_IPV4_HEADER_MIN) {
        memcpy(e->source, packet + 12, 4);
        memcpy(e->destination, packet + 16, 4);
        e->protocol = packet[9];
    } else if (version == 6 && octets >= DP_IPV6_HEADER) {
        memcpy(e->source, packet + 8, 16);
        memcpy(e->destination, packet + 24, 16);
        e->protocol = packet[6];
    } else {
        return;
    }
    e->family = version;
    if (!sound)
        return;
    e->protocol = inner.flow.protocol;
    e->source_port = inner.flow.port[DP_LOCAL];
    e->destination_port = inner.flow.port[DP_REMOTE];
}

static uint32_t port_of(const struct dp_addr *address, uint8_t encapsulation) {
    return encapsulation == DP_ENCAPSULATION_UDP ? address->port : DP_PORT_OPAQUE;
}

static void set_outer(struct dp_example *e, const struct dp_addr *source, const struct dp_addr *destination,
                      uint8_t encapsulation) {
    e->outer = 1;
    e->protocol = encapsulation == DP_ENCAPSULATION_UDP ? PROTOCOL_UDP : PROTOCOL_ESP;
    if (source->family == 0 || source->family != destination->family)
        return;
    e->family = source->family;
    memcpy(e->source, source->ip, sizeof e->source);
    memcpy(e->destination, destination->ip, sizeof e->destination);
    e->source_port = port_of(source, encapsulation);
    e->destination_port = port_of(destination, encapsulation);
}

void dp_drop_outgoing(struct dp_loop *loop, enum dp_drop reason, uint32_t interface, const uint8_t *packet, size_t octets,
                      uint32_t n, uint64_t now) {
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (tap != NULL)
        dp_tap_drop_outgoing(tap, loop, reason, interface, packet, octets, now);
    struct ring *ring = count(loop, reason, n, now);
    if (ring == NULL)
        return;
    struct dp_example e = begin(loop, reason, now);
    e.interface = interface;
    read_packet(&e, packet, octets);
    add(ring, &e);
}

void dp_drop_burst(struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, uint64_t now) {
    dp_drop_outgoing(loop, reason, b->interface, b->data, b->octets, b->packets, now);
}

void dp_drop_datagrams(struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, uint32_t spi, const struct dp_sa *sa,
                       uint32_t n, uint64_t now) {
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (tap != NULL)
        dp_tap_drop_received(tap, loop, reason);
    struct ring *ring = count(loop, reason, n, now);
    if (ring == NULL)
        return;
    struct dp_example e = begin(loop, reason, now);
    e.spi = spi;
    if (sa != NULL) {
        e.interface = sa->interface;
        e.tunnel = sa->tunnel;
    }
    set_outer(&e, &b->remote, &b->local, b->encapsulation);
    add(ring, &e);
}

void dp_drop_opened(struct dp_loop *loop, enum dp_drop reason, const struct dp_sa *sa, const uint8_t *packet, size_t octets,
                    uint64_t now) {
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (tap != NULL)
        dp_tap_drop_opened(tap, loop, reason, sa, packet, octets, now);
    struct ring *ring = count(loop, reason, 1, now);
    if (ring == NULL)
        return;
    struct dp_example e = begin(loop, reason, now);
    e.interface = sa->interface;
    e.tunnel = sa->tunnel;
    e.spi = sa->esp.spi;
    read_packet(&e, packet, octets);
    add(ring, &e);
}

void dp_drop_unsent(struct dp_loop *loop, enum dp_drop reason, const struct dp_burst *b, bool to_links, uint32_t interface,
                    uint64_t now) {
    struct dp_tap *tap = dp_tap_of(loop->dp);
    if (tap != NULL)
        dp_tap_drop_unsent(tap, loop, reason, b, to_links, interface, now);
    struct ring *ring = count(loop, reason, b->packets, now);
    if (ring == NULL)
        return;
    struct dp_example e = begin(loop, reason, now);
    e.interface = interface;
    if (to_links) {
        e.spi = b->octets >= DP_ESP_HEADER ? dp_read_32(b->data) : 0;
        set_outer(&e, &b->local, &b->remote, b->encapsulation);
    } else if (b->piece != NULL) {
        read_packet(&e, b->piece[0].iov_base, b->piece[0].iov_len);
    } else {
        read_packet(&e, b->data, b->octets);
    }
    add(ring, &e);
}

/* ---- the control thread's end */

static bool read_slot(const struct slot *slot, struct dp_example *example) {
    uint32_t before, after;
    do {
        before = atomic_load_explicit(&slot->version, memory_order_acquire);
        load(slot, example);
        after = atomic_load_explicit(&slot->version, memory_order_relaxed);
    } while (before != after || (before & 1) != 0);
    return before != 0;
}

int dp_examples_read(const struct dp *dp, unsigned reason, struct dp_example *out, size_t n) {
    if (reason >= DP_DROP_COUNT)
        return -EINVAL;
    size_t found = 0;
    for (uint32_t w = 0; w < dp->config.workers; w++) {
        const struct dp_loop *loops[] = {&dp->worker[w].outbound, &dp->worker[w].inbound};
        for (size_t i = 0; i < 2 * DP_EXAMPLES && found < n; i++)
            if (read_slot(&loops[i / DP_EXAMPLES]->examples->ring[reason].slot[i % DP_EXAMPLES], &out[found]))
                found++;
    }
    return (int)found;
}
