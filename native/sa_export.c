/* An SA leaves this data plane: whole, when it is retired, or in part, as far as it promised not to go beyond a bound.
 *
 * Retiring is one store into what each packet is checked against anyway. A loop that had admitted a burst before may seal it to its
 * end; an epoch tells when that is over, and only then is the sequence number read. Nobody waits: the caller asks again. */
#include <errno.h>
#include <string.h>

#include "engine.h"
#include "keyed.h"
#include "keys.h"
#include "sa_export.h"
#include "sa_state.h"

static bool retired(const struct dp_sa *sa) {
    return (atomic_load_explicit(&sa->generation, memory_order_relaxed) & DP_SA_RETIRED) != 0;
}

/* Of another machine, perhaps: its nonces may have been used there. */
static bool cloned(const struct dp *dp, const struct dp_sa *sa) {
    uint32_t generation = atomic_load_explicit(&sa->generation, memory_order_relaxed) & ~(uint32_t)DP_SA_RETIRED;
    return generation != atomic_load_explicit(&dp->generation, memory_order_relaxed);
}

int dp_sa_retire(struct dp *dp, dp_sa_id id) {
    return dp_sa_retire_many(dp, &id, 1);
}

int dp_sa_retire_many(struct dp *dp, const dp_sa_id *ids, size_t n) {
    int error = 0;
    for (size_t i = 0; i < n; i++) {
        struct dp_sa *sa = dp_sa_by_id(dp, ids[i]);
        if (sa == NULL)
            error = -ENOENT;
        else if (!retired(sa)) {
            atomic_fetch_or_explicit(&sa->generation, DP_SA_RETIRED, memory_order_seq_cst);
            sa->settled = dp_epoch_mark(dp);
        }
    }
    return error;
}

void dp_sa_wipe_key(struct dp *dp, struct dp_sa *sa) {
    dp_keyed_free(dp->arena, sa->esp.cipher, sa->esp.context);
    sa->esp.context = NULL;
    dp_arena_free(dp->arena, sa->keymat, sa->keymat_octets);
    sa->keymat = NULL;
    explicit_bzero(sa->esp.salt, sizeof sa->esp.salt);
}

int dp_sa_can_leave(const struct dp *dp, const struct dp_sa *sa, size_t room) {
    if (sa == NULL)
        return -ENOENT;
    if (!retired(sa))
        return -EPERM;
    if (sa->keymat == NULL || sa->waits)
        return -EALREADY;
    if (cloned(dp, sa))
        return -EKEYEXPIRED;
    if (room < sa->keymat_octets)
        return -ENOBUFS;
    return dp_epoch_passed(dp, sa->settled) ? 0 : -EAGAIN;
}

int dp_sa_may_leave(const struct dp *dp, dp_sa_id id) {
    return dp_sa_can_leave(dp, dp_sa_by_id(dp, id), DP_KEYMAT_ROOM);
}

int dp_sa_export(struct dp *dp, dp_sa_id id, struct dp_sa_state *state, uint8_t *keymat, size_t room) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    int error = dp_sa_can_leave(dp, sa, room);
    if (error != 0)
        return error;
    int octets = (int)sa->keymat_octets;
    dp_sa_state_save(sa, state);
    memcpy(keymat, sa->keymat, sa->keymat_octets);
    dp_sa_wipe_key(dp, sa);
    return octets;
}

static int set_bound(struct dp *dp, struct dp_sa *sa, _Atomic uint64_t *limit, uint64_t bound) {
    if (retired(sa))
        return -EKEYREVOKED;
    if (bound == 0 || bound > sa->sequence_end)
        return -ERANGE;
    if (bound < sa->bound)
        return -EINVAL;
    bool first = sa->bound == 0;
    sa->bound = bound;
    atomic_store_explicit(limit, bound, memory_order_seq_cst);
    if (first) /* a loop may go beyond it until it has let go of the burst that it has now */
        sa->settled = dp_epoch_mark(dp);
    if (!dp_epoch_passed(dp, sa->settled))
        return -EAGAIN;
    return atomic_load_explicit(&sa->sequence_shown, memory_order_relaxed) <= bound ? 0 : -ERANGE;
}

int dp_sa_reserve(struct dp *dp, dp_sa_id id, uint64_t bound) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    return sa != NULL && sa->direction == DP_OUTBOUND ? set_bound(dp, sa, &sa->sequence_last, bound) : -ENOENT;
}

int dp_sa_publish(struct dp *dp, dp_sa_id id, uint64_t bound) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    return sa != NULL && sa->direction == DP_INBOUND ? set_bound(dp, sa, &sa->replay.limit, bound) : -ENOENT;
}

int dp_sa_snapshot(struct dp *dp, dp_sa_id id, uint32_t most, struct dp_sa_state *state, uint8_t *keymat, size_t room) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    if (sa == NULL)
        return -ENOENT;
    if (sa->bound == 0)
        return -EPERM;
    if (retired(sa))
        return -EKEYREVOKED;
    if (cloned(dp, sa))
        return -EKEYEXPIRED;
    if (room < sa->keymat_octets)
        return -ENOBUFS;
    if (!dp_epoch_passed(dp, sa->settled))
        return -EAGAIN;
    if (atomic_load_explicit(&sa->sequence_shown, memory_order_relaxed) > sa->bound)
        return -ERANGE;
    dp_sa_state_save_bound(sa, most, state);
    memcpy(keymat, sa->keymat, sa->keymat_octets);
    return (int)sa->keymat_octets;
}
