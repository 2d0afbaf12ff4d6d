#include "fragment_state.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    IPV4_ID = 4,
    IPV4_FIELD = 6, /* flags and fragment offset */
    IPV4_MORE = 0x2000,
    IPV4_OFFSET = 0x1fff,
    IPV6_FRAGMENT = 44,
    IPV6_AH = 51,
    IPV6_FRAGMENT_OCTETS = 8,
    IPV6_MORE = 1,
    IPV6_OFFSET = 0xfff8,
    UNIT = 8,
    DATAGRAM_MAX = 65535,
};

/* Octets of the least upper-layer header: a first fragment without all of it would leave flags or ports to a later one
 * (RFC 1858 §3, RFC 3128). */
static const uint8_t upper_header[256] = {
    [1] = 8, [6] = 20, [17] = 8, [33] = 12, [58] = 8, [132] = 12, [135] = 8, [136] = 8,
};

struct run {
    uint16_t from, to;
};

struct entry {
    uint64_t since; /* when the first fragment came */
    uint64_t order; /* among those of its set: a whole burst has one time */
    struct dp_flow flow;
    uint32_t place, id;
    uint32_t end;  /* octets of the whole, 0: the last fragment has not been seen */
    uint8_t count; /* of `run`; 0: the entry is free */
    bool refused;
    struct run run[DP_FRAGMENT_RUNS]; /* what is there: rising, none touches the next */
};

struct set {
    uint64_t made; /* entries so far */
    struct entry entry[DP_FRAGMENT_WAYS];
};

/* The locks lie apart, so that only entries in use become resident. */
struct dp_fragment_states {
    uint64_t seed;
    pthread_mutex_t lock[DP_FRAGMENT_SETS];
    struct set set[DP_FRAGMENT_SETS];
};

static void read_v4(const uint8_t *packet, const struct dp_inner *inner, struct dp_fragment *f) {
    uint16_t field = dp_read_16(packet + IPV4_FIELD);
    f->id = dp_read_16(packet + IPV4_ID);
    f->from = (uint32_t)(field & IPV4_OFFSET) * UNIT;
    f->to = f->from + inner->octets - inner->header;
    f->more = (field & IPV4_MORE) != 0;
    f->sound = true;
}

/* The extension headers were found whole by dp_inner_read. */
static void read_v6(const uint8_t *packet, const struct dp_inner *inner, struct dp_fragment *f) {
    uint8_t next = packet[6];
    size_t at = DP_IPV6_HEADER;
    while (next != IPV6_FRAGMENT && at + IPV6_FRAGMENT_OCTETS <= inner->octets) {
        size_t octets = next == IPV6_AH ? (packet[at + 1] + 2u) * 4 : (packet[at + 1] + 1u) * 8;
        next = packet[at];
        at += octets;
    }
    if (at + IPV6_FRAGMENT_OCTETS > inner->octets)
        return;
    uint16_t field = dp_read_16(packet + at + 2);
    f->id = dp_read_32(packet + at + 4);
    f->from = field & IPV6_OFFSET;
    f->to = f->from + (uint32_t)(inner->octets - at - IPV6_FRAGMENT_OCTETS);
    f->more = (field & IPV6_MORE) != 0;
    f->sound = packet[at] != IPV6_FRAGMENT; /* a fragment of a fragment hides which part it is */
}

void dp_fragment_read(const uint8_t *packet, const struct dp_inner *inner, uint32_t place, struct dp_fragment *f) {
    *f = (struct dp_fragment){.flow = inner->flow, .place = place};
    if (inner->version == 4)
        read_v4(packet, inner, f);
    else
        read_v6(packet, inner, f);
    f->sound = f->sound && f->to > f->from && f->to <= DATAGRAM_MAX && (!f->more || (f->to - f->from) % UNIT == 0);
    if (!inner->later_fragment)
        f->sound =
            f->sound && f->from == 0 && f->flow.protocol < 256 && inner->octets - inner->header >= upper_header[f->flow.protocol];
}

struct dp_fragment_states *dp_fragment_states_new(uint64_t seed) {
    struct dp_fragment_states *states = calloc(1, sizeof *states);
    if (states == NULL)
        return NULL;
    states->seed = seed;
    for (unsigned i = 0; i < DP_FRAGMENT_SETS; i++)
        pthread_mutex_init(&states->lock[i], NULL);
    return states;
}

void dp_fragment_states_free(struct dp_fragment_states *states) {
    for (unsigned i = 0; states != NULL && i < DP_FRAGMENT_SETS; i++)
        pthread_mutex_destroy(&states->lock[i]);
    free(states);
}

static uint64_t mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 32;
}

/* Where entries of these addresses are; locked. */
static struct set *set_of(struct dp_fragment_states *states, const struct dp_fragment *f) {
    uint64_t h = mix(states->seed, f->place);
    if (f->flow.family == 4)
        h = mix(h, (uint64_t)f->flow.address.v4[0] << 32 | f->flow.address.v4[1]);
    else
        for (int end = 0; end < 2; end++)
            h = mix(mix(h, (uint64_t)(f->flow.address.v6[end] >> 64)), (uint64_t)f->flow.address.v6[end]);
    size_t i = mix(h, 0) % DP_FRAGMENT_SETS;
    pthread_mutex_lock(&states->lock[i]);
    return &states->set[i];
}

static void unlock(struct dp_fragment_states *states, const struct set *set) {
    pthread_mutex_unlock(&states->lock[set - states->set]);
}

static bool over(const struct entry *e, uint64_t now) {
    return e->count == 0 || now - e->since >= DP_FRAGMENT_NS;
}

/* Of one datagram: the protocol is part of that over IPv4 alone. */
static bool same(const struct entry *e, const struct dp_fragment *f) {
    if (e->id != f->id || e->place != f->place || e->flow.family != f->flow.family)
        return false;
    if (f->flow.family == 4)
        return e->flow.protocol == f->flow.protocol && e->flow.address.v4[0] == f->flow.address.v4[0] &&
               e->flow.address.v4[1] == f->flow.address.v4[1];
    return e->flow.address.v6[0] == f->flow.address.v6[0] && e->flow.address.v6[1] == f->flow.address.v6[1];
}

static struct entry *find(struct set *set, const struct dp_fragment *f, uint64_t now) {
    for (unsigned i = 0; i < DP_FRAGMENT_WAYS; i++)
        if (!over(&set->entry[i], now) && same(&set->entry[i], f))
            return &set->entry[i];
    return NULL;
}

/* A free entry, else the oldest. */
static struct entry *take(struct set *set, uint64_t now) {
    struct entry *oldest = &set->entry[0];
    for (unsigned i = 0; i < DP_FRAGMENT_WAYS; i++) {
        struct entry *e = &set->entry[i];
        if (over(e, now))
            return e;
        if (e->order < oldest->order)
            oldest = e;
    }
    return oldest;
}

static void remove_run(struct entry *e, unsigned i) {
    e->count--;
    memmove(&e->run[i], &e->run[i + 1], (e->count - i) * sizeof e->run[0]);
}

/* Adds the fragment to what is there. false: it overlaps, or there are too many holes. */
static bool add_run(struct entry *e, uint16_t from, uint16_t to) {
    unsigned i = 0;
    while (i < e->count && e->run[i].to < from)
        i++;
    bool touches_before = i < e->count && e->run[i].to == from;
    unsigned after = i + touches_before;
    if (after < e->count && e->run[after].from < to)
        return false;
    bool touches_after = after < e->count && e->run[after].from == to;
    if (touches_before) {
        e->run[i].to = touches_after ? e->run[after].to : to;
        if (touches_after)
            remove_run(e, after);
    } else if (touches_after) {
        e->run[after].from = from;
    } else {
        if (e->count == DP_FRAGMENT_RUNS)
            return false;
        memmove(&e->run[i + 1], &e->run[i], (e->count - i) * sizeof e->run[0]);
        e->run[i] = (struct run){from, to};
        e->count++;
    }
    return true;
}

static bool within(const struct entry *e, const struct dp_fragment *f) {
    if (e->end != 0)
        return f->more ? f->to < e->end : f->to == e->end;
    return f->more || f->to >= e->run[e->count - 1].to;
}

static bool first_came(const struct entry *e) {
    return e->run[0].from == 0;
}

static bool whole(const struct entry *e) {
    return e->end != 0 && e->count == 1 && first_came(e) && e->run[0].to == e->end;
}

/* The first that is seen of its datagram. */
static void begin(struct set *set, const struct dp_fragment *f, uint64_t now) {
    *take(set, now) = (struct entry){
        .since = now,
        .order = set->made++,
        .flow = f->flow,
        .place = f->place,
        .id = f->id,
        .end = f->more ? 0 : f->to,
        .count = 1,
        .run = {{(uint16_t)f->from, (uint16_t)f->to}},
    };
}

/* One more of a datagram. DP_OK or DP_DROP_fragment_refused. */
static enum dp_drop add(struct entry *e, const struct dp_fragment *f) {
    if (e->refused || !f->sound || !within(e, f) || !add_run(e, (uint16_t)f->from, (uint16_t)f->to)) {
        e->refused = true;
        return DP_DROP_fragment_refused;
    }
    if (!f->more)
        e->end = f->to;
    if (whole(e))
        e->count = 0;
    return DP_OK;
}

enum dp_drop dp_fragment_first(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now) {
    struct set *set = set_of(states, f);
    struct entry *e = find(set, f, now);
    enum dp_drop reason = f->sound ? DP_OK : DP_DROP_fragment_refused;
    if (e != NULL) {
        e->refused = e->refused || first_came(e) || e->flow.protocol != f->flow.protocol;
        reason = add(e, f);
        e->flow = f->flow;
    } else if (f->sound) {
        begin(set, f, now);
    }
    unlock(states, set);
    return reason;
}

bool dp_fragment_known(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now, struct dp_flow *flow) {
    struct set *set = set_of(states, f);
    const struct entry *e = find(set, f, now);
    bool known = e != NULL && first_came(e);
    if (known)
        *flow = e->flow;
    unlock(states, set);
    return known;
}

enum dp_drop dp_fragment_later(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now) {
    struct set *set = set_of(states, f);
    struct entry *e = find(set, f, now);
    enum dp_drop reason = e != NULL && first_came(e) ? add(e, f) : DP_DROP_fragment_ports;
    unlock(states, set);
    return reason;
}

enum dp_drop dp_fragment_alone(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now) {
    bool in_header = f->flow.protocol > UINT8_MAX || f->from < upper_header[f->flow.protocol];
    struct set *set = set_of(states, f);
    struct entry *e = find(set, f, now);
    enum dp_drop reason = f->sound && !in_header ? DP_OK : DP_DROP_fragment_refused;
    if (e != NULL) {
        e->refused = e->refused || in_header || e->flow.protocol != f->flow.protocol;
        reason = add(e, f);
    } else if (reason == DP_OK) {
        begin(set, f, now);
    }
    unlock(states, set);
    return reason;
}
