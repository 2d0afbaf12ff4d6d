/* Words in which equal runs are stored once: what makes the trees of overlapping rules small. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy_tree.h"

/* Open addressing with linear probing, at most half full. */
struct dp_store_slot {
    uint32_t first, count; /* count 0: free */
};

enum {
    SLOTS_MIN = 256
};

static uint32_t hash(const uint32_t *words, uint32_t count) {
    uint64_t h = count;
    for (uint32_t i = 0; i < count; i++) {
        h = (h ^ words[i]) * 0x9e3779b97f4a7c15;
        h ^= h >> 29;
    }
    return (uint32_t)(h ^ h >> 32);
}

static struct dp_store_slot *find(const struct dp_store *s, const uint32_t *words, uint32_t count) {
    for (uint32_t at = hash(words, count);; at++) {
        struct dp_store_slot *slot = &s->table[at & (s->slots - 1)];
        if (slot->count == 0 || (slot->count == count && memcmp(s->words + slot->first, words, count * sizeof words[0]) == 0))
            return slot;
    }
}

/* A new table with the runs that begin below `mark`. */
static bool rehash(struct dp_store *s, uint32_t slots, uint32_t mark) {
    struct dp_store old = *s;
    s->table = calloc(slots, sizeof s->table[0]);
    if (s->table == NULL) {
        *s = old;
        return false;
    }
    s->slots = slots;
    s->used = 0;
    for (uint32_t i = 0; i < old.slots; i++)
        if (old.table[i].count != 0 && old.table[i].first < mark) {
            *find(s, s->words + old.table[i].first, old.table[i].count) = old.table[i];
            s->used++;
        }
    free(old.table);
    return true;
}

static bool make_room(struct dp_store *s, uint32_t count) {
    if (count <= s->room - s->count)
        return true;
    uint64_t room = (uint64_t)s->room + s->room / 2 + count;
    uint32_t *words = room < UINT32_MAX ? realloc(s->words, room * sizeof words[0]) : NULL;
    if (words == NULL)
        return false;
    s->words = words;
    s->room = (uint32_t)room;
    return true;
}

uint32_t dp_store_intern(struct dp_store *s, const uint32_t *words, uint32_t count) {
    if (count == 0)
        return 0;
    if (2 * s->used >= s->slots && !rehash(s, s->slots == 0 ? SLOTS_MIN : 2 * s->slots, s->count))
        return UINT32_MAX;
    struct dp_store_slot *slot = find(s, words, count);
    if (slot->count != 0)
        return slot->first;
    if (!make_room(s, count))
        return UINT32_MAX;
    memcpy(s->words + s->count, words, count * sizeof words[0]);
    *slot = (struct dp_store_slot){s->count, count};
    s->used++;
    s->count += count;
    return slot->first;
}

int dp_store_truncate(struct dp_store *s, uint32_t mark) {
    if (s->slots != 0 && !rehash(s, s->slots, mark))
        return -ENOMEM;
    s->count = mark;
    return 0;
}

void dp_store_seal(struct dp_store *s) {
    free(s->table);
    s->table = NULL;
    s->slots = s->used = 0;
    uint32_t *words = realloc(s->words, (s->count > 0 ? s->count : 1) * sizeof words[0]);
    if (words != NULL) {
        s->words = words;
        s->room = s->count;
    }
}

void dp_store_free(struct dp_store *s) {
    free(s->table);
    free(s->words);
    *s = (struct dp_store){0};
}
