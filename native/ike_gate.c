#include "ike_gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "ike_peers.h"
#include "ike_quiet.h"
#include "ike_sas.h"
#include "punt.h"
#include "seen.h"

static struct dp_punt_limiter *limiter_new(struct dp *dp, uint32_t rate, uint32_t burst) {
    uint64_t seed;
    return dp_random_next(&dp->random, &seed) ? dp_punt_limiter_new(rate, burst, seed) : NULL;
}

static struct dp_seen *seen_new(struct dp *dp, uint32_t seconds) {
    uint64_t secret;
    return dp_random_next(&dp->random, &secret) ? dp_seen_new(secret, seconds) : NULL;
}

int dp_ike_gate_open(struct dp_ike_gate *gate, struct dp *dp, bool nat_port, bool keeps_keys) {
    const struct dp_config *c = &dp->config;
    uint32_t answers = nat_port ? c->cookie_nat_rate : c->cookie_rate;
    *gate = (struct dp_ike_gate){
        .dp = dp,
        .nat_port = nat_port,
        .keeps_keys = keeps_keys,
        .networks = limiter_new(dp, c->stranger_rate, c->stranger_burst),
        .proven_networks = limiter_new(dp, c->proven_rate, c->proven_burst),
        .ikev1_networks = limiter_new(dp, c->ikev1_rate, c->ikev1_burst),
        .begin_rate = dp_rate_of(c->begin_rate, c->begin_rate),
        .other_rate = dp_rate_of(c->other_rate, c->other_rate),
        .ikev1_rate = dp_rate_of(c->ikev1_rate_in_all, c->ikev1_rate_in_all),
        .isakmp_rate = dp_rate_of(c->isakmp_rate, c->isakmp_rate),
        .proven_rate = dp_rate_of(c->proven_rate_in_all, c->proven_rate_in_all),
        .answer_rate = dp_rate_of(answers, answers / 10 + 1),
        .first_rate = dp_rate_of(c->cookie_first_rate, c->cookie_first_rate / 10 + 1),
        .asked = seen_new(dp, c->cookie_seen_seconds),
        .repeat_rate = dp_rate_of(c->repeat_rate, c->repeat_burst),
        .scratch = malloc(DP_IP_MAX),
    };
    bool made = gate->networks != NULL && gate->proven_networks != NULL && gate->ikev1_networks != NULL && gate->asked != NULL;
    return made && gate->scratch != NULL ? 0 : -ENOMEM;
}

void dp_ike_gate_close(struct dp_ike_gate *gate) {
    free(gate->networks);
    free(gate->proven_networks);
    free(gate->ikev1_networks);
    free(gate->asked);
    free(gate->scratch);
    dp_cookies_finish(&gate->cookies);
}

/* Both have one, or neither gives one: a flood that empties the one does not empty the other. */
static bool take(struct dp_punt_limiter *networks, const struct dp_addr *remote, const struct dp_rate *rate, uint64_t *of_all,
                 uint64_t now) {
    return dp_bucket_has(rate, *of_all, now) && dp_punt_allowed(networks, remote, now) && dp_bucket_take(rate, of_all, now);
}

bool dp_ike_stranger(struct dp_ike_gate *gate, const struct dp_addr *remote, uint64_t now) {
    return take(gate->networks, remote, &gate->other_rate, &gate->other, now);
}

static enum dp_ike_verdict proven(struct dp_ike_gate *gate, const struct dp_addr *remote, uint64_t now) {
    return take(gate->proven_networks, remote, &gate->proven_rate, &gate->proven, now) ? DP_IKE_PASS : DP_IKE_LIMITED;
}

static bool take_repeat(const struct dp_ike_gate *gate, struct dp_ike_sa *sa, uint64_t now) {
    uint64_t repeats = atomic_load_explicit(&sa->repeats, memory_order_relaxed);
    bool taken = dp_bucket_take(&gate->repeat_rate, &repeats, now);
    atomic_store_explicit(&sa->repeats, repeats, memory_order_relaxed);
    return taken;
}

/* An authentic message passes once. A repeat of it, a further fragment and what was recorded share a bucket. */
static enum dp_ike_verdict of_peer(struct dp_ike_gate *gate, struct dp_ike_sa *sa, const struct dp_ike_message *m, uint64_t now) {
    if (!dp_ike_authentic(sa, m, gate->scratch))
        return DP_IKE_FORGED;
    _Atomic uint64_t *newest = &sa->newest[(m->flags & DP_IKE_RESPONSE) != 0];
    if (m->id >= atomic_load_explicit(newest, memory_order_relaxed)) {
        atomic_store_explicit(newest, (uint64_t)m->id + 1, memory_order_relaxed);
        return DP_IKE_PASS;
    }
    return take_repeat(gate, sa, now) ? DP_IKE_PASS : DP_IKE_LIMITED;
}

/* Whether one of IKEv1 that is up has something left of its own share, which nobody takes from who has not seen its cookies. */
static bool of_isakmp(struct dp_ike_gate *gate, struct dp_ike_sa *sa, uint64_t now) {
    return sa->isakmp && sa->nat_port == gate->nat_port && gate->keeps_keys &&
           dp_bucket_has(&gate->isakmp_rate, gate->isakmp, now) && take_repeat(gate, sa, now) &&
           dp_bucket_take(&gate->isakmp_rate, &gate->isakmp, now);
}

/* Whether this request may have an answer. Answers to forged addresses trouble those who have them, and cost as much as all else
 * here together: whoever asks for the first time waits in a flood until he asks again, which no random address does. */
static bool may_answer(struct dp_ike_gate *gate, const struct dp_addr *remote, uint64_t now) {
    if (gate->answer_rate.interval == 0)
        return false;
    bool again = dp_seen_before(gate->asked, remote, now);
    return dp_bucket_take(&gate->first_rate, &gate->first, now) ||
           (again && dp_bucket_take(&gate->answer_rate, &gate->answers, now));
}

static bool makes_cookie(struct dp_ike_gate *gate, const struct dp_addr *remote, const struct dp_ike_message *m,
                         const struct dp_ike_begin *begin, uint64_t now) {
    uint8_t cookie[DP_IKE_COOKIE];
    if (m->octets < DP_IKE_COOKIE_ANSWER || dp_ike_is_quiet(gate->dp, remote) || !may_answer(gate, remote, now) ||
        !dp_cookie_make(gate->dp, &gate->cookies, m, begin, remote, now, cookie))
        return false;
    dp_ike_write_cookie(m, cookie, gate->answer + DP_NON_ESP_MARKER);
    dp_add(&gate->answered, 1);
    return true;
}

/* Whether a request may be the control plane's without a cookie. Once more came than may, for a second none is: what is passed on
 * of a flood is the flood's, and the others lose nothing but the time that a cookie takes. */
static bool may_begin(struct dp_ike_gate *gate, const struct dp_addr *remote, uint64_t now) {
    if (!dp_bucket_has(&gate->begin_rate, gate->begin, now)) {
        gate->cookies_until = now + DP_SECOND;
        return false;
    }
    if (now >= gate->cookies_until || gate->answer_rate.interval == 0)
        return take(gate->networks, remote, &gate->begin_rate, &gate->begin, now);
    (void)dp_bucket_take(&gate->begin_rate, &gate->begin, now);
    return false;
}

static enum dp_ike_verdict of_new(struct dp_ike_gate *gate, const struct dp_addr *remote, const struct dp_ike_message *m,
                                  const struct dp_ike_begin *begin, uint64_t now) {
    if (dp_cookie_good(gate->dp, &gate->cookies, m, begin, remote, now))
        return proven(gate, remote, now);
    if (may_begin(gate, remote, now))
        return DP_IKE_PASS;
    return makes_cookie(gate, remote, m, begin, now) ? DP_IKE_ANSWER : DP_IKE_LIMITED;
}

/* Whether this is message 1 of main mode from where a peer with IKEv1 is expected, and there is reserve left for it. */
static bool reserved(struct dp_ike_gate *gate, const struct dp_addr *remote, const struct dp_ike_message *m, uint64_t now) {
    return m->spi_r == 0 && m->exchange == DP_IKE_MAIN_MODE && dp_ike_is_peer(gate->dp, remote) &&
           take(gate->ikev1_networks, remote, &gate->ikev1_rate, &gate->ikev1, now);
}

void dp_ike_expect(const struct dp_ike_gate *gate, const struct dp_addr *remote) {
    dp_seen_prefetch(gate->asked, remote);
}

enum dp_ike_verdict dp_ike_judge(struct dp_ike_gate *gate, const struct dp_addr *remote, const uint8_t *message, size_t octets,
                                 uint64_t now) {
    struct dp_ike_message m;
    struct dp_ike_begin begin;
    if (dp_ike_read(message, octets, &m)) {
        struct dp_ike_sa *sa = dp_ike_sa_of(gate->dp, &m);
        if (sa != NULL && sa->context == NULL)
            return proven(gate, remote, now);
        if (sa != NULL && sa->nat_port == gate->nat_port && gate->keeps_keys && dp_ike_protected(&m) != 0)
            return of_peer(gate, sa, &m, now);
        if (dp_ike_begins(&m, &begin))
            return of_new(gate, remote, &m, &begin, now);
    } else if (dp_ike_read_v1(message, octets, &m)) { /* nothing in it is authentic before it is decrypted: by its cookies alone */
        struct dp_ike_sa *sa = dp_ike_sa_of_v1(gate->dp, &m);
        if (sa != NULL && sa->context == NULL)
            return of_isakmp(gate, sa, now) ? DP_IKE_PASS : proven(gate, remote, now);
        if (m.first == DP_IKE_V1_FRAGMENT) /* there is nothing that it could be a part of */
            return DP_IKE_LIMITED;
        if (reserved(gate, remote, &m, now))
            return DP_IKE_PASS;
    }
    return dp_ike_stranger(gate, remote, now) ? DP_IKE_PASS : DP_IKE_LIMITED;
}
