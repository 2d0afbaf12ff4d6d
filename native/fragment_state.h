/* Stateful fragment checking (RFC 4301 §7.3): of a datagram in fragments only the first shows ports, so where a selector asks for
 * them the later ones may follow a first fragment that was let through, and nothing else may. Where an SA of their own carries the
 * later ones (§7.2) they go without it, but overlap nothing either.
 *
 * What is remembered is bounded in number and in time; who sends many datagrams at once displaces its own. A lock for each set of
 * entries: fragments of one datagram may be read by two workers. No I/O. */
#ifndef DP_FRAGMENT_STATE_H
#define DP_FRAGMENT_STATE_H

#include "inner.h"

enum {
    DP_FRAGMENT_SETS = 128, /* entries of the same two addresses lie in one set */
    DP_FRAGMENT_WAYS = 16,  /* entries in a set */
    DP_FRAGMENT_RUNS = 8,   /* separate runs of octets that a datagram may have arrived in so far */
};
#define DP_FRAGMENT_NS UINT64_C(15000000000) /* how long a first fragment is remembered: RFC 791 §3.2 begins with 15 s */

/* One fragment of a datagram. */
struct dp_fragment {
    struct dp_flow flow; /* its own: a later one has OPAQUE ports */
    uint32_t place;      /* where it came in: TUN interface, or tunnel */
    uint32_t id;         /* RFC 791 §3.1, RFC 8200 §4.5 */
    uint32_t from, to;   /* octets of the datagram's fragmentable part that it holds */
    bool more;           /* it is not the last one */
    bool sound;          /* it could be one: octets in units of eight, within a datagram, upper-layer header whole in the first */
};

/* Reads a packet that passed dp_inner_read and is a fragment (`inner->fragment`). */
void dp_fragment_read(const uint8_t *packet, const struct dp_inner *inner, uint32_t place, struct dp_fragment *f);

struct dp_fragment_states;
/* `seed`: so that nobody can choose whose set he fills. NULL: -ENOMEM. */
struct dp_fragment_states *dp_fragment_states_new(uint64_t seed);
void dp_fragment_states_free(struct dp_fragment_states *states);

/* The datagram's first fragment is let through: later ones may follow. DP_OK, or DP_DROP_fragment_refused: it is not sound, or
 * overlaps what was there of the same datagram (or is not of the protocol that those claimed which went alone). */
enum dp_drop dp_fragment_first(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now);
/* Whether the first fragment of the datagram that this one belongs to was let through, and its flow. */
bool dp_fragment_known(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now, struct dp_flow *flow);
/* A later fragment follows: DP_OK, DP_DROP_fragment_ports (no first one is known), or DP_DROP_fragment_refused, after which nothing
 * follows any more (RFC 5722 §4): it is not sound, overlaps another or goes beyond the last one. */
enum dp_drop dp_fragment_later(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now);
/* A later fragment goes by an SA of its own, be its first one known or not: DP_OK, or DP_DROP_fragment_refused, after which nothing
 * follows any more: as above, or it lies in the transport header (RFC 4301 §7.2), or claims another protocol than its first. */
enum dp_drop dp_fragment_alone(struct dp_fragment_states *states, const struct dp_fragment *f, uint64_t now);

#endif
