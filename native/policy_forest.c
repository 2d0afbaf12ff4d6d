/* Decides into how many trees the rules of one interface and family go.
 *
 * One tree is the fastest unless rules that are narrow in one dimension and wide in another meet rules of which the opposite is
 * true: then every cut copies half of them. Parted by where they are wide, each part cuts well. Several ways are tried, by
 * estimate. */
#include <errno.h>
#include <stdlib.h>

#include "policy_tree.h"

enum {
    WORDS_PER_RULE = 16, /* budget of a tree */
    WORDS_LEAST = 4096,
    ALONE = 64, /* rules that are always one tree */
};

/* Rules are parted by whether they take up at least a 2^fraction-th of the hull in each of the dimensions. */
static const struct parting {
    uint8_t dimensions; /* a set of 1 << enum dp_dimension */
    uint8_t fraction;
} partings[] = {
    {0, 0},
    {1 << DP_DIMENSION_LOCAL | 1 << DP_DIMENSION_REMOTE, 1},
    {1 << DP_DIMENSION_LOCAL | 1 << DP_DIMENSION_REMOTE | 1 << DP_DIMENSION_LOCAL_PORT | 1 << DP_DIMENSION_REMOTE_PORT, 4},
};
enum {
    PARTINGS = sizeof partings / sizeof partings[0]
};

static const double good_cost = 12;            /* of a look-up: no other way is tried */
static const double tree_cost = 3;             /* of each further tree */
static const double cached_words = 512 * 1024; /* what a second-level cache holds of the trees */

struct planting {
    struct dp_stores *stores;
    const struct dp_region *regions;
    uint8_t family;
    const uint32_t *list;
    uint32_t n;
    struct dp_region hull;
    uint32_t *part; /* room for n records */
};

static void find_hull(struct planting *p) {
    p->hull = p->regions[p->list[0]];
    for (uint32_t i = 1; i < p->n; i++)
        for (int d = 0; d < DP_DIMENSIONS; d++) {
            struct dp_interval in = p->regions[p->list[i]].dimension[d], *hull = &p->hull.dimension[d];
            hull->low = in.low < hull->low ? in.low : hull->low;
            hull->high = in.high > hull->high ? in.high : hull->high;
        }
}

/* The set of dimensions in which the rule is wide. */
static unsigned wide_in(const struct planting *p, const struct parting *parting, uint32_t record) {
    unsigned wide = 0;
    for (int d = 0; d < DP_DIMENSIONS; d++) {
        struct dp_interval in = p->regions[record].dimension[d], hull = p->hull.dimension[d];
        if (parting->dimensions >> d & 1 && in.high - in.low >= (hull.high - hull.low) >> parting->fraction)
            wide |= 1u << d;
    }
    return wide;
}

/* Keeps the trees in the order of their first rules, so that a look-up may stop at the first that begins behind what it has found.
 */
static void insert(struct dp_forest *forest, struct dp_tree tree) {
    uint32_t at = forest->count++;
    for (; at > 0 && forest->tree[at - 1].lowest > tree.lowest; at--)
        forest->tree[at] = forest->tree[at - 1];
    forest->tree[at] = tree;
}

/* Builds the trees of one parting, and estimates what a look-up costs. 0 or -ENOMEM. */
static int plant(struct planting *p, const struct parting *parting, struct dp_forest *forest, double *cost) {
    uint32_t before = p->stores->nodes.count + p->stores->refs.count;
    *cost = 0;
    forest->count = 0;
    for (unsigned wide = 0; wide <= parting->dimensions; wide++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < p->n; i++)
            if (wide_in(p, parting, p->list[i]) == wide)
                p->part[n++] = p->list[i];
        if (n == 0)
            continue;
        struct dp_tree tree = {.lowest = p->part[0]};
        double one;
        int result = dp_tree_build(p->stores, p->regions, p->family, p->part, n, (uint64_t)WORDS_PER_RULE * n + WORDS_LEAST,
                                   &tree.root, &one);
        if (result != 0)
            return result;
        *cost += tree_cost + one;
        insert(forest, tree);
    }
    *cost *= 1 + (p->stores->nodes.count + p->stores->refs.count - before) / cached_words;
    return 0;
}

/* The cheapest parting, by building and discarding them all but for a first that is good. */
static int choose(struct planting *p, struct dp_forest *forest, size_t *best) {
    double least = 0;
    *best = 0;
    for (size_t i = 0; i < PARTINGS; i++) {
        uint32_t nodes = p->stores->nodes.count, refs = p->stores->refs.count;
        double cost;
        int result = plant(p, &partings[i], forest, &cost);
        if (result == 0)
            result = dp_store_truncate(&p->stores->nodes, nodes);
        if (result == 0)
            result = dp_store_truncate(&p->stores->refs, refs);
        if (result != 0)
            return result;
        if (i == 0 || cost < least) {
            *best = i;
            least = cost;
        }
        if (least <= good_cost)
            break;
    }
    return 0;
}

int dp_forest_build(struct dp_stores *stores, const struct dp_region *regions, uint8_t family, const uint32_t *list, uint32_t n,
                    struct dp_forest *forest) {
    struct planting p = {.stores = stores, .regions = regions, .family = family, .list = list, .n = n};
    size_t best = 0;
    double cost;
    p.part = malloc(n * sizeof p.part[0]);
    if (p.part == NULL)
        return -ENOMEM;
    find_hull(&p);
    int result = n > ALONE ? choose(&p, forest, &best) : 0;
    if (result == 0)
        result = plant(&p, &partings[best], forest, &cost);
    free(p.part);
    return result;
}
