/* The decision trees behind the policy snapshot: what policy_build.c and policy_forest.c make and policy_lookup.c walks.
 *
 * The rules of one interface and address family lie in one tree or a few (policy_forest.c). A cut divides a block of one dimension
 * into cells of equal size; block and cells are aligned powers of two, so that a shift and a mask lead to the child. A cell has the
 * rules that reach into it, less those that an earlier one hides there. A leaf's rules are tried in order; a sieve first narrows
 * many of them down by one mask for each dimension. A flow outside a block takes a wrong way and finds nothing: no rule of that
 * subtree holds it, and every rule is checked in full. Equal leaves, sieves and cuts are stored once. Small matters most here: a
 * look-up costs what its misses of the second-level cache cost. */
#ifndef DP_POLICY_TREE_H
#define DP_POLICY_TREE_H

#include "policy.h"

enum dp_dimension {
    DP_DIMENSION_LOCAL,
    DP_DIMENSION_REMOTE,
    DP_DIMENSION_LOCAL_PORT,
    DP_DIMENSION_REMOTE_PORT,
    DP_DIMENSION_PROTOCOL,
    DP_DIMENSIONS
};

struct dp_interval {
    dp_u128 low, high;
};
struct dp_region {
    struct dp_interval dimension[DP_DIMENSIONS];
};

/* A flow as cuts see it: local address, remote address, local port, remote port, protocol. An IPv6 address takes four words, each
 * beginning 32 bits behind the one before, so that any 32 bits of a dimension lie in one word. */
enum {
    DP_ADDRESS_WORDS_V4 = 1,
    DP_ADDRESS_WORDS_V6 = 4,
    DP_KEY_WORDS_MAX = 2 * DP_ADDRESS_WORDS_V6 + 3
};

/* Protocol and ports side by side, each with a zero bit above it, so that one subtraction compares all three. */
typedef uint64_t dp_upper;

#define DP_UPPER_GUARDS ((dp_upper)1 << 17 | (dp_upper)1 << 35 | (dp_upper)1 << 45)

static inline dp_upper dp_upper_pack(uint32_t local_port, uint32_t remote_port, uint32_t protocol) {
    return (dp_upper)local_port | (dp_upper)remote_port << 18 | (dp_upper)protocol << 36;
}

static inline bool dp_upper_within(dp_upper value, dp_upper low, dp_upper high) {
    return (((value | DP_UPPER_GUARDS) - low) & ((high | DP_UPPER_GUARDS) - value) & DP_UPPER_GUARDS) == DP_UPPER_GUARDS;
}

/* A rule as leaves see it. Span: high - low. Records are numbered in the order of the rules. */
struct dp_record_v4 {
    uint32_t low[2], span[2];
    dp_upper upper_low, upper_high;
};
struct dp_record_v6 {
    dp_u128 low[2], span[2];
    dp_upper upper_low, upper_high;
};

enum {
    DP_NODE_LEAF = 0,
    DP_CELL_BITS_MAX = 12, /* 1..12: a cut with 2^bits cells */
    DP_NODE_SIEVE = 15
};

/* The low four bits of `how` are the kind, as above.
 * Cut: `first` is the first of its children among the nodes; how >> 4 & 15 the word of the key, how >> 8 the shift in it (0..31).
 * Leaf: `first` is its first record in refs; how >> 4 their number.
 * Sieve: `first` is its first block in refs; DP_SIEVE_SHIFT says for each dimension above which bit its cells are numbered. */
struct dp_node {
    uint32_t first;
    uint32_t how;
};
#define DP_NODE_KIND(node) ((node).how & 15)

enum {
    DP_SIEVE_RULES = 64, /* in a block: one bit of a mask for each */
    DP_SIEVE_CELL_BITS = 4,
    DP_SIEVE_CELLS = 1 << DP_SIEVE_CELL_BITS
};

/* Where in `how` the shift of each dimension lies: seven bits for an address, four for ports and protocol. */
enum {
    DP_SIEVE_LOCAL = 4,
    DP_SIEVE_REMOTE = 11,
    DP_SIEVE_LOCAL_PORT = 18,
    DP_SIEVE_REMOTE_PORT = 22,
    DP_SIEVE_PROTOCOL = 26
};

struct dp_sieve {
    uint32_t rules;                                  /* in this block and those behind it */
    uint32_t mask[DP_DIMENSIONS][DP_SIEVE_CELLS][2]; /* 64 bits: which rules reach into the cell */
    uint32_t refs[];                                 /* records; DP_SIEVE_RULES of them when another block follows */
};
enum {
    DP_SIEVE_BLOCK_WORDS = sizeof(struct dp_sieve) / sizeof(uint32_t) + DP_SIEVE_RULES
};

/* policy_store.c: words in which equal runs are stored once. */
struct dp_store {
    uint32_t *words;
    uint32_t count, room;
    struct dp_store_slot *table;
    uint32_t slots, used;
};

/* The place of the run in words. UINT32_MAX: -ENOMEM. */
uint32_t dp_store_intern(struct dp_store *store, const uint32_t *words, uint32_t count);
/* Forgets what was stored from word `mark` on. 0 or -ENOMEM. */
int dp_store_truncate(struct dp_store *store, uint32_t mark);
/* Nothing more is interned: frees what only that needs. */
void dp_store_seal(struct dp_store *store);
void dp_store_free(struct dp_store *store);

struct dp_stores {
    struct dp_store nodes; /* struct dp_node as two words */
    struct dp_store refs;
};

/* policy_build.c: makes one tree of the records in `list` (`n` of them, rising, ≥ 1; the list is used up), whose regions are
 * regions[record]. About `budget` words are spent on it; sieves and leaves grow instead. `*cost` is an estimate of a look-up's
 * cost, in dependent memory accesses. 0 or -ENOMEM. */
int dp_tree_build(struct dp_stores *stores, const struct dp_region *regions, uint8_t family, uint32_t *list, uint32_t n,
                  uint64_t budget, struct dp_node *root, double *cost);

/* policy_forest.c: the trees of one interface and family, by rising `lowest`. */
enum {
    DP_TREES_MAX = 16
};
struct dp_tree {
    struct dp_node root;
    uint32_t lowest; /* record */
};
struct dp_forest {
    uint32_t count;
    struct dp_tree tree[DP_TREES_MAX];
};
int dp_forest_build(struct dp_stores *stores, const struct dp_region *regions, uint8_t family, const uint32_t *list, uint32_t n,
                    struct dp_forest *forest);

/* One interface and family in the snapshot. */
struct dp_forest_place {
    uint32_t first, count; /* among dp_policy.trees */
};

struct dp_given_rule { /* a rule as it was given, for the linear look-up */
    struct dp_box box;
    uint32_t interface;
};

enum {
    DP_V4 = 0,
    DP_V6 = 1
};

struct dp_policy {
    const struct dp_node *nodes;
    const uint32_t *refs;
    struct dp_record_v4 *v4;
    struct dp_record_v6 *v6;
    struct dp_decision *decisions[2]; /* of each record */
    struct dp_tree *trees;
    struct dp_forest_place (*places)[2]; /* of each interface */
    bool *shared;                        /* of each interface: its rules protect into more than one tunnel */
    bool *asks_ports;                    /* of each interface: a rule that does not discard has certain ports */
    uint32_t interfaces;
    bool discards;
    uint32_t count, records[2], tree_count;
    struct dp_given_rule *given;
    struct dp_stores stores;
};

#endif
