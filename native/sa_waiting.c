/* Many SAs change hands in the little time that nobody forwards: the one side exports them at once; at the other they are there
 * already, and wait for key and state. */
#include <errno.h>

#include "engine.h"
#include "sa_export.h"
#include "sa_record.h"
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

/* What an SA that may leave has, at `out`. */
static size_t write_record(const struct dp_sa *sa, uint8_t *out, size_t room) {
    struct dp_sa_state state;
    dp_sa_state_save(sa, &state);
    return (size_t)dp_sa_record_write(&state, sa->keymat, sa->keymat_octets, out, room);
}

int dp_sa_export_many(struct dp *dp, const dp_sa_id *ids, size_t n, uint8_t *out, size_t room, size_t *octets) {
    int error = can_leave(dp, ids, n);
    *octets = 0;
    if (error != 0)
        return error;
    for (size_t i = 0; i < n; i++) {
        bool fits = *octets < room;
        *octets += write_record(dp_sa_by_id(dp, ids[i]), fits ? out + *octets : out, fits ? room - *octets : 0);
    }
    if (*octets > room)
        return -ENOBUFS;
    for (size_t i = 0; i < n; i++)
        dp_sa_wipe_key(dp, dp_sa_by_id(dp, ids[i]));
    return 0;
}

static int go_on(struct dp *dp, dp_sa_id id, const uint8_t *record, size_t octets) {
    struct dp_sa *sa = dp_sa_by_id(dp, id);
    struct dp_sa_state state;
    const uint8_t *keymat;
    size_t keymat_octets;
    if (sa == NULL)
        return -ENOENT;
    if (!sa->waits)
        return -EPERM;
    if (!dp_sa_record_read(record, octets, &state, &keymat, &keymat_octets) ||
        !dp_sa_state_valid(sa->direction, sa->esp.esn, &state))
        return -EINVAL;
    int error = dp_sa_set_key(dp, sa, keymat, keymat_octets);
    if (error != 0) /* it waits on, without a key */
        return error;
    sa->waits = false;
    dp_sa_state_load(sa, &state);
    atomic_fetch_and_explicit(&sa->generation, ~(uint32_t)DP_SA_RETIRED, memory_order_release);
    return 0;
}

/* Whether these octets are `n` records, and nothing else. */
static bool are_records(const uint8_t *records, size_t octets, size_t n) {
    size_t one = 1;
    for (; n > 0 && one != 0; n--) {
        one = dp_sa_record_octets(records, octets);
        records += one;
        octets -= one;
    }
    return one != 0 && octets == 0;
}

int dp_sa_go_on_many(struct dp *dp, const dp_sa_id *ids, size_t n, const uint8_t *records, size_t octets, int32_t *errors) {
    int refused = 0;
    if (!dp_receive_idle(dp))
        return -EBUSY;
    if (!are_records(records, octets, n))
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        size_t one = dp_sa_record_octets(records, octets);
        errors[i] = ids[i] != 0 ? go_on(dp, ids[i], records, one) : 0;
        refused += errors[i] != 0;
        records += one;
        octets -= one;
    }
    return refused;
}
