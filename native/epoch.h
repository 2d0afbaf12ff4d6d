/* Epochs: when may something that a loop might still be using be freed?
 *
 * A loop marks itself online with the current epoch before it loads any shared pointer and offline when it has let go of all of
 * them (at the end of a step, before it blocks). The control thread takes a pointer out of sight, then retires it with the next
 * epoch; it is freed once every loop is offline or has come online since. Nobody waits for anybody. */
#ifndef DP_EPOCH_H
#define DP_EPOCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct dp;

struct dp_epoch_reader {
    _Alignas(64) _Atomic uint64_t seen; /* 0: offline */
};

struct dp_retired_thing {
    struct dp_retired_thing *next;
    uint64_t epoch;
    void (*free)(struct dp *dp, void *thing);
    void *thing;
};

struct dp_epoch {
    _Alignas(64) _Atomic uint64_t now; /* ≥ 1 */
    struct dp_retired_thing *oldest, *newest;
    unsigned waiting;
    uint64_t asked; /* by dp_loops_pass; 0: nobody has */
};

/* ThreadSanitizer does not know fences. A read-modify-write of one variable by everybody orders no less; it only costs more. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DP_FENCE_BY_VARIABLE 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(DP_FENCE_BY_VARIABLE)
extern _Atomic unsigned dp_epoch_fence_variable;
static inline void dp_epoch_fence(void) {
    atomic_fetch_add_explicit(&dp_epoch_fence_variable, 1, memory_order_acq_rel);
}
#else
static inline void dp_epoch_fence(void) {
    atomic_thread_fence(memory_order_seq_cst);
}
#endif

static inline void dp_epoch_online(struct dp_epoch_reader *r, struct dp_epoch *e) {
    atomic_store_explicit(&r->seen, atomic_load_explicit(&e->now, memory_order_acquire), memory_order_release);
    /* Pairs with the fence in dp_epoch_retire: either it sees this reader online, or this reader sees the new pointers. */
    dp_epoch_fence();
}

static inline void dp_epoch_offline(struct dp_epoch_reader *r) {
    atomic_store_explicit(&r->seen, 0, memory_order_release);
}

void dp_epoch_init(struct dp_epoch *e);
/* Frees `thing` by `free_thing` when no reader can hold it; at once when memory for the list is short and no reader is online, else
 * it is leaked rather than freed too early. The pointer is already out of sight. */
void dp_epoch_retire(struct dp *dp, void (*free_thing)(struct dp *dp, void *thing), void *thing);
/* For whoever took something away from the loops, and frees nothing: the epoch for dp_epoch_passed. */
uint64_t dp_epoch_mark(struct dp *dp);
/* Whether each loop has let go of all that it held before that mark; what it did until then is to be seen. */
bool dp_epoch_passed(const struct dp *dp, uint64_t mark);
/* Frees what can be freed; the number that still waits. */
unsigned dp_epoch_reclaim(struct dp *dp);

#endif
