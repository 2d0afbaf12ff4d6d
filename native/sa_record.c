#include "sa_record.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
    WORD_BITS = 64,
    ALIGN = 8,
    ALWAYS = offsetof(struct dp_sa_state, path), /* octets of a state that each record has */
    DROP = 2 * sizeof(uint64_t),                 /* a reason and its count */
};

static_assert(sizeof(struct dp_sa_record) % ALIGN == 0 && ALWAYS % ALIGN == 0, "words lie as they do in memory");
static_assert(sizeof(struct dp_sa_record) == 8 && (int)ALIGN == 8 && (int)DROP == 16 && (int)WORD_BITS == 64,
              "what is changed of this, or of the order of a record's parts, makes another RECORD_ENCODING (moving.py)");

static size_t words_of(const struct dp_sa_state *s) {
    return s->window != 0 ? (size_t)s->window / WORD_BITS + 1 : 0;
}

static size_t octets_of(size_t words, size_t drops, size_t keymat_octets) {
    size_t octets = sizeof(struct dp_sa_record) + ALWAYS + words * sizeof(uint64_t) + drops * DROP + keymat_octets;
    return (octets + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static uint8_t *put(uint8_t *out, const void *what, size_t octets) {
    memcpy(out, what, octets);
    return out + octets;
}

static const uint8_t *get(void *what, const uint8_t *in, size_t octets) {
    memcpy(what, in, octets);
    return in + octets;
}

int dp_sa_record_write(const struct dp_sa_state *s, const uint8_t *keymat, size_t keymat_octets, uint8_t *out, size_t room) {
    struct dp_sa_record head = {.keymat_octets = (uint16_t)keymat_octets};
    if (keymat_octets > DP_KEYMAT_ROOM || words_of(s) > DP_WINDOW_WORDS)
        return -EINVAL;
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        head.drops += s->drops[r] != 0;
    head.octets = (uint32_t)octets_of(words_of(s), head.drops, keymat_octets);
    if (head.octets > room)
        return (int)head.octets;
    uint8_t *end = out + head.octets;
    out = put(out, &head, sizeof head);
    out = put(out, s, ALWAYS);
    out = put(out, s->words, words_of(s) * sizeof(uint64_t));
    for (uint64_t r = 0; r < DP_DROP_COUNT; r++) {
        if (s->drops[r] != 0) {
            out = put(out, &r, sizeof r);
            out = put(out, &s->drops[r], sizeof s->drops[r]);
        }
    }
    out = put(out, keymat, keymat_octets);
    memset(out, 0, (size_t)(end - out));
    return (int)head.octets;
}

size_t dp_sa_record_octets(const uint8_t *record, size_t left) {
    struct dp_sa_record head;
    if (left < sizeof head + ALWAYS)
        return 0;
    memcpy(&head, record, sizeof head);
    return head.octets >= sizeof head + ALWAYS && head.octets <= left && head.octets % ALIGN == 0 ? head.octets : 0;
}

bool dp_sa_record_read(const uint8_t *record, size_t octets, struct dp_sa_state *s, const uint8_t **keymat, size_t *keymat_octets) {
    struct dp_sa_record head;
    record = get(&head, record, sizeof head);
    memset(s, 0, sizeof *s);
    record = get(s, record, ALWAYS);
    if (words_of(s) > DP_WINDOW_WORDS || head.keymat_octets > DP_KEYMAT_ROOM ||
        octets != octets_of(words_of(s), head.drops, head.keymat_octets))
        return false;
    record = get(s->words, record, words_of(s) * sizeof(uint64_t));
    for (unsigned i = 0; i < head.drops; i++) {
        uint64_t reason;
        record = get(&reason, record, sizeof reason);
        if (reason >= DP_DROP_COUNT)
            return false;
        record = get(&s->drops[reason], record, sizeof s->drops[reason]);
    }
    *keymat = record;
    *keymat_octets = head.keymat_octets;
    return true;
}
