/* Many SAs change hands in the little time that nobody forwards: the one side exports them at once; at the other they are there
 * already, and wait for key and state. */
#include <errno.h>
#include <string.h>

#include "engine.h"
#include "keyed.h"
#include "sa_export.h"
#include "sa_state.h"

/* Whether all can leave, each named once: so that none leaves alone. */
static int can_leave(const struct dp *dp, const dp_sa_id *ids, size_t n) {
    int error = 0;
    size_t looked_at = 0;
    for (; error == 0 && looked_at < n; looked_at++) {
        struct dp_sa *sa = dp_sa_by_id(dp, ids[looked_at]);
        error = dp_sa_can_leave(dp, sa, DP_KEYMAT_ROOM);
        if (error != 0)
            break;
        error = sa->named ? -EINVAL : 0;
        sa->named = true;
    }
    for (size_t i = 0; i < looked_at; i++)
        dp_sa_by_id(dp, ids[i])->named = false;
    return error;
}

int dp_sa_export_many(struct dp *dp, const dp_sa_id *ids, size_t n, struct dp_sa_record *out) {
    int error = can_leave(dp, ids, n);
    for (size_t i = 0; error == 0 && i < n; i++) {
        int octets = dp_sa_export(dp, ids[i], &out[i].state, out[i].keymat, sizeof out[i].keymat);
        out[i].keymat_octets = octets > 0 ? (uint32_t)octets : 0;
        error = octets < 0 ? octets : 0;
    }
    return error;
}

static int go_on(struct dp *dp, dp_sa_id id, const struct dp_sa_record *r) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    if (sa == NULL)
        return -ENOENT;
    if (!sa->waits)
        return -EPERM;
    if (r->keymat_octets > sizeof r->keymat || !dp_sa_state_valid(sa->direction, sa->esp.esn, &r->state))
        return -EINVAL;
    int error = dp_sa_set_key(dp, sa, r->keymat, r->keymat_octets);
    if (error != 0) { /* it waits on, without a key */
        dp_keyed_free(dp->arena, sa->esp.cipher, sa->esp.context);
        sa->esp.context = NULL;
        explicit_bzero(sa->esp.salt, sizeof sa->esp.salt);
        return error;
    }
    sa->waits = false;
    dp_sa_state_load(sa, &r->state);
    atomic_fetch_and_explicit(&sa->generation, ~(uint32_t)DP_SA_RETIRED, memory_order_release);
    return 0;
}

int dp_sa_go_on_many(struct dp *dp, const dp_sa_id *ids, size_t n, const struct dp_sa_record *records, size_t *done) {
    int error = dp_receive_idle(dp) ? 0 : -EBUSY;
    *done = 0;
    for (; error == 0 && *done < n; *done += error == 0)
        error = go_on(dp, ids[*done], &records[*done]);
    return error;
}
