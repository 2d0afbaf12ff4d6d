/* Makes one decision tree: hides, cuts, and where cutting no longer pays, leaves and sieves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy_tree.h"

enum {
    LEAF_RULES = 8,        /* not cut any further */
    LEAF_RULES_MAX = 16,   /* where no cut pays: above this a sieve */
    SIEVE_RULES_MAX = 128, /* above this also a poor cut beats a sieve */
    SPREAD = 4,            /* the most copies of a rule, on average, that one cut may make */
    HIDERS = 48,           /* earlier rules that are looked at to see whether they hide a later one */
    DEPTH_MAX = 24,
    CELLS_MAX = 1 << DP_CELL_BITS_MAX,
    NODE_WORDS = sizeof(struct dp_node) / sizeof(uint32_t)
};

struct cut {
    uint8_t dimension, bits;
    uint8_t shift;    /* of the dimension's value, to a cell's number */
    uint64_t refs;    /* rules of all runs of cells */
    double remaining; /* rules of a run, averaged over these refs */
};

struct builder {
    struct dp_stores *stores;
    const struct dp_region *regions;
    uint8_t family;
    bool failed;
    /* of the cut last surveyed */
    uint8_t starts[CELLS_MAX + 1]; /* whether a run of cells with the same rules begins here */
    int32_t change[CELLS_MAX + 1]; /* of the number of rules from the cell before */
};

struct branch { /* a node with the estimated cost of a look-up from it on */
    struct dp_node node;
    double cost;
};

static dp_u128 larger(dp_u128 a, dp_u128 b) {
    return a > b ? a : b;
}

static dp_u128 smaller(dp_u128 a, dp_u128 b) {
    return a < b ? a : b;
}

static struct dp_interval meet(struct dp_interval a, struct dp_interval b) {
    return (struct dp_interval){larger(a.low, b.low), smaller(a.high, b.high)};
}

static struct dp_interval reach_of(const struct builder *b, uint32_t record, int dimension, const struct dp_region *region) {
    return meet(b->regions[record].dimension[dimension], region->dimension[dimension]);
}

/* Whether `outer` holds all of `inner` that lies in `region`. */
static bool hides(const struct dp_region *outer, const struct dp_region *inner, const struct dp_region *region) {
    for (int d = 0; d < DP_DIMENSIONS; d++) {
        struct dp_interval part = meet(inner->dimension[d], region->dimension[d]);
        if (outer->dimension[d].low > part.low || outer->dimension[d].high < part.high)
            return false;
    }
    return true;
}

/* Drops rules that an earlier one hides in the region, and all behind one that fills it. The number left. */
static uint32_t drop_hidden(const struct builder *b, uint32_t *list, uint32_t n, const struct dp_region *region) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct dp_region *rule = &b->regions[list[i]];
        bool hidden = false;
        for (uint32_t k = 0; k < kept && k < HIDERS && !hidden; k++)
            hidden = hides(&b->regions[list[k]], rule, region);
        if (hidden)
            continue;
        list[kept++] = list[i];
        if (hides(rule, region, region))
            break;
    }
    return kept;
}

/* Shrinks the region to what the rules reach: outside it none holds a flow. */
static void shrink(const struct builder *b, const uint32_t *list, uint32_t n, struct dp_region *region) {
    for (int d = 0; d < DP_DIMENSIONS; d++) {
        struct dp_interval hull = b->regions[list[0]].dimension[d];
        for (uint32_t i = 1; i < n; i++) {
            hull.low = smaller(hull.low, b->regions[list[i]].dimension[d].low);
            hull.high = larger(hull.high, b->regions[list[i]].dimension[d].high);
        }
        region->dimension[d] = meet(region->dimension[d], hull);
    }
}

/* log2 of the smallest aligned block that holds the interval. */
static int block_bits(struct dp_interval in) {
    int bits = 0;
    while (bits < 128 && in.low >> bits != in.high >> bits)
        bits++;
    return bits;
}

struct cells {
    uint32_t first, last;
};

/* The cells into which an interval inside the block reaches. */
static struct cells cells_of(struct dp_interval in, int shift, int bits) {
    uint32_t mask = (1u << bits) - 1;
    return (struct cells){(uint32_t)(in.low >> shift) & mask, (uint32_t)(in.high >> shift) & mask};
}

/* Finds the runs of cells that have the same rules, and counts. A cell that a rule fills only in part begins and ends a run of its
 * own: in the full ones the rule may hide others. */
static void survey(struct builder *b, const uint32_t *list, uint32_t n, const struct dp_region *region, struct cut *cut) {
    uint32_t cells = 1u << cut->bits;
    dp_u128 inside = ((dp_u128)1 << cut->shift) - 1;
    memset(b->starts, 0, cells + 1);
    memset(b->change, 0, (cells + 1) * sizeof b->change[0]);
    b->starts[0] = 1;
    for (uint32_t i = 0; i < n; i++) {
        struct dp_interval reach = reach_of(b, list[i], cut->dimension, region);
        struct cells c = cells_of(reach, cut->shift, cut->bits);
        b->change[c.first]++;
        b->change[c.last + 1]--;
        b->starts[c.first] = b->starts[c.last + 1] = 1;
        if (reach.low & inside)
            b->starts[c.first + 1] = 1;
        if (~reach.high & inside)
            b->starts[c.last] = 1;
    }
    uint64_t refs = 0;
    double squares = 0;
    int32_t rules = 0;
    for (uint32_t c = 0; c < cells; c++) {
        rules += b->change[c];
        if (b->starts[c]) {
            refs += (uint32_t)rules;
            squares += (double)rules * rules;
        }
    }
    cut->refs = refs;
    cut->remaining = squares / (double)refs;
}

/* The cut that leaves the fewest rules, within the budget. false: none helps. */
static bool choose(struct builder *b, const uint32_t *list, uint32_t n, const struct dp_region *region, uint64_t budget,
                   struct cut *best) {
    bool found = false;
    best->remaining = 0.97 * n;
    for (uint8_t d = 0; d < DP_DIMENSIONS; d++) {
        int block = block_bits(region->dimension[d]);
        for (uint8_t bits = 1; bits <= DP_CELL_BITS_MAX && bits <= block && 1u << bits <= 2 * n + 2; bits++) {
            struct cut cut = {.dimension = d, .bits = bits, .shift = (uint8_t)(block - bits)};
            survey(b, list, n, region, &cut);
            if (cut.refs > SPREAD * (uint64_t)n + 16 || cut.refs + ((uint64_t)NODE_WORDS << bits) > budget)
                break;
            if (cut.remaining < best->remaining) {
                *best = cut;
                found = true;
            }
        }
    }
    return found;
}

static struct branch leaf(struct builder *b, const uint32_t *list, uint32_t n) {
    uint32_t first = dp_store_intern(&b->stores->refs, list, n);
    b->failed |= first == UINT32_MAX;
    return (struct branch){{first, DP_NODE_LEAF | n << 4}, n == 0 ? 0 : 1 + 0.5 * n};
}

static struct branch sieve(struct builder *b, const uint32_t *list, uint32_t n, const struct dp_region *region) {
    static const uint8_t place[DP_DIMENSIONS] = {DP_SIEVE_LOCAL, DP_SIEVE_REMOTE, DP_SIEVE_LOCAL_PORT, DP_SIEVE_REMOTE_PORT,
                                                 DP_SIEVE_PROTOCOL};
    uint32_t blocks = (n + DP_SIEVE_RULES - 1) / DP_SIEVE_RULES;
    uint32_t words = blocks * DP_SIEVE_BLOCK_WORDS - (blocks * DP_SIEVE_RULES - n);
    struct branch out = {{0, DP_NODE_SIEVE}, 4 + 2.0 * blocks};
    uint32_t *buffer = calloc(words, sizeof buffer[0]);
    if (buffer == NULL) {
        b->failed = true;
        return out;
    }
    uint8_t shift[DP_DIMENSIONS];
    for (int d = 0; d < DP_DIMENSIONS; d++) {
        int block = block_bits(region->dimension[d]);
        shift[d] = (uint8_t)(block > DP_SIEVE_CELL_BITS ? block - DP_SIEVE_CELL_BITS : 0);
        out.node.how |= (uint32_t)shift[d] << place[d];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bit = i % DP_SIEVE_RULES;
        struct dp_sieve *block = (struct dp_sieve *)(buffer + i / DP_SIEVE_RULES * DP_SIEVE_BLOCK_WORDS);
        if (bit == 0)
            block->rules = n - i;
        block->refs[bit] = list[i];
        for (int d = 0; d < DP_DIMENSIONS; d++) {
            struct cells reach = cells_of(reach_of(b, list[i], d, region), shift[d], DP_SIEVE_CELL_BITS);
            for (uint32_t c = reach.first; c <= reach.last; c++) {
                uint64_t mask;
                memcpy(&mask, block->mask[d][c], sizeof mask);
                mask |= (uint64_t)1 << bit;
                memcpy(block->mask[d][c], &mask, sizeof mask);
            }
        }
    }
    out.node.first = dp_store_intern(&b->stores->refs, buffer, words);
    b->failed |= out.node.first == UINT32_MAX;
    free(buffer);
    return out;
}

static struct branch build(struct builder *b, uint32_t *list, uint32_t n, struct dp_region region, uint64_t budget, int depth);

/* What divide() works on. */
struct division {
    uint32_t *run;  /* of each cell */
    uint32_t *ends; /* of each run: where its rules end in lists */
    uint32_t *lists;
    struct dp_node *children;
};

static bool division_begin(struct division *v, const struct cut *cut) {
    size_t cells = (size_t)1 << cut->bits;
    *v = (struct division){malloc(cells * sizeof *v->run), malloc(cells * sizeof *v->ends),
                           malloc((cut->refs + 1) * sizeof *v->lists), malloc(cells * sizeof *v->children)};
    return v->run != NULL && v->ends != NULL && v->lists != NULL && v->children != NULL;
}

static void division_end(struct division *v) {
    free(v->run);
    free(v->ends);
    free(v->lists);
    free(v->children);
}

/* Gives every run of cells the list of its rules. */
static void distribute(struct builder *b, struct division *v, const uint32_t *list, uint32_t n, const struct dp_region *region,
                       struct cut *cut) {
    survey(b, list, n, region, cut);
    int32_t rules = 0;
    uint32_t at = 0, runs = 0;
    for (uint32_t c = 0; c < 1u << cut->bits; c++) {
        rules += b->change[c];
        if (b->starts[c]) {
            v->ends[runs++] = at;
            at += (uint32_t)rules;
        }
        v->run[c] = runs - 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct cells reach = cells_of(reach_of(b, list[i], cut->dimension, region), cut->shift, cut->bits);
        for (uint32_t r = v->run[reach.first]; r <= v->run[reach.last]; r++)
            v->lists[v->ends[r]++] = list[i];
    }
}

/* Every run of cells becomes one child, whose budget goes by its rules. The average of the children's costs goes by them too. */
static double build_children(struct builder *b, struct division *v, const struct dp_region *region, const struct cut *cut,
                             uint64_t budget, int depth) {
    const uint32_t cells = 1u << cut->bits;
    const dp_u128 first = region->dimension[cut->dimension].low >> cut->shift >> cut->bits << cut->bits; /* number of cell 0 */
    double cost = 0;
    uint32_t at = 0;
    for (uint32_t c = 0; c < cells && !b->failed;) {
        uint32_t from = c, run = v->run[c], n = v->ends[run] - at;
        while (c < cells && v->run[c] == run)
            c++;
        struct dp_region part = *region;
        struct dp_interval reach = {(first + from) << cut->shift, ((first + c) << cut->shift) - 1};
        part.dimension[cut->dimension] = meet(region->dimension[cut->dimension], reach);
        struct branch child = build(b, v->lists + at, n, part, budget * n / cut->refs, depth);
        cost += child.cost * n / (double)cut->refs;
        for (uint32_t i = from; i < c; i++)
            v->children[i] = child.node;
        at = v->ends[run];
    }
    return cost;
}

static uint32_t key_word(uint8_t family, const struct cut *cut) {
    uint32_t address = family == 6 ? DP_ADDRESS_WORDS_V6 : DP_ADDRESS_WORDS_V4;
    uint32_t first =
        cut->dimension <= DP_DIMENSION_REMOTE ? cut->dimension * address : 2 * address + cut->dimension - DP_DIMENSION_LOCAL_PORT;
    return first + cut->shift / 32;
}

static struct branch divide(struct builder *b, const uint32_t *list, uint32_t n, const struct dp_region *region, struct cut *cut,
                            uint64_t budget, int depth) {
    struct branch out = {0};
    struct division v;
    if (division_begin(&v, cut)) {
        distribute(b, &v, list, n, region, cut);
        out.cost = 1 + build_children(b, &v, region, cut, budget - ((uint64_t)NODE_WORDS << cut->bits), depth + 1);
    } else {
        b->failed = true;
    }
    if (!b->failed) {
        uint32_t word = dp_store_intern(&b->stores->nodes, (const uint32_t *)v.children, (uint32_t)NODE_WORDS << cut->bits);
        b->failed = word == UINT32_MAX;
        out.node.first = word / NODE_WORDS;
        out.node.how = cut->bits | key_word(b->family, cut) << 4 | cut->shift % 32u << 8;
    }
    division_end(&v);
    return out;
}

/* Few rules are cut only where that parts them well: a sieve does not copy them. */
static bool pays(const struct cut *cut, uint32_t n) {
    return n > SIEVE_RULES_MAX || (2 * cut->refs <= 3 * (uint64_t)n && 4 * cut->remaining <= n);
}

static struct branch build(struct builder *b, uint32_t *list, uint32_t n, struct dp_region region, uint64_t budget, int depth) {
    struct cut cut;
    n = drop_hidden(b, list, n, &region);
    if (n <= LEAF_RULES)
        return leaf(b, list, n);
    shrink(b, list, n, &region);
    if (depth < DEPTH_MAX && choose(b, list, n, &region, budget, &cut) && pays(&cut, n))
        return divide(b, list, n, &region, &cut, budget, depth);
    return n <= LEAF_RULES_MAX ? leaf(b, list, n) : sieve(b, list, n, &region);
}

int dp_tree_build(struct dp_stores *stores, const struct dp_region *regions, uint8_t family, uint32_t *list, uint32_t n,
                  uint64_t budget, struct dp_node *root, double *cost) {
    static const struct dp_interval port = {0, DP_PORT_OPAQUE}, protocol = {0, DP_PROTOCOL_OPAQUE};
    const struct dp_interval address = {0, family == 6 ? ~(dp_u128)0 : UINT32_MAX};
    const struct dp_region everything = {{address, address, port, port, protocol}};
    struct builder *b = malloc(sizeof *b);
    if (b == NULL)
        return -ENOMEM;
    b->stores = stores;
    b->regions = regions;
    b->family = family;
    b->failed = false;
    struct branch top = build(b, list, n, everything, budget, 0);
    *root = top.node;
    *cost = top.cost;
    int result = b->failed ? -ENOMEM : 0;
    free(b);
    return result;
}
