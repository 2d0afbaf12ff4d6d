/* What of the IKE messages at a port reaches the control plane. Each receiving loop has a gate, port 500 another (ike_port.h).
 *
 * 1. A message of an IKE SA whose peer is authenticated: by its ICV alone, whatever floods. What is not new shares a bucket of that
 *    IKE SA.
 * 2. One of an IKE SA that is begun, and a request with a good COOKIE: their sender receives at his address, or is on the way to
 *    it. By buckets of his network, and of all such. So too what comes for an ISAKMP SA of IKEv1, which proves nothing before it is
 *    decrypted; once its peer is authenticated it has a small bucket of its own besides.
 * 3. The request of a new IKE SA: by buckets of its network, and of all such. Beyond, and for a second after it, a COOKIE is the
 * answer, for which nothing is kept (RFC 7296 §2.6): to whoever asks for the first time from a small bucket, to whoever asks again
 * from a large one. Beyond these it is dropped.
 * 4. Message 1 of IKEv1's main mode from where such a peer is configured: as anything else, and by a reserve of that network and of
 *    all such, which no other address takes anything of. IKEv1 has no cookie that would show whether it is from there.
 * 5. Anything else: by buckets of its network, and of all such. */
#ifndef DP_IKE_GATE_H
#define DP_IKE_GATE_H

#include "bucket.h"
#include "cookie.h"
#include "dp.h"
#include "esp_wire.h"
#include "ike_message.h"

struct dp;
struct dp_punt_limiter;
struct dp_seen;

struct dp_ike_gate {
    const struct dp *dp;
    bool nat_port, keeps_keys; /* of port 4500; IKE SAs of this port are checked here and nowhere else */
    struct dp_punt_limiter *networks, *proven_networks, *ikev1_networks;
    struct dp_rate begin_rate, other_rate, ikev1_rate, isakmp_rate, proven_rate, answer_rate, first_rate, repeat_rate;
    uint64_t begin, other, ikev1, isakmp, proven, answers, first; /* buckets */
    uint64_t cookies_until;                                       /* until when each new IKE SA takes one */
    struct dp_seen *asked;                                        /* who had no answer or only a cookie */
    struct dp_cookies cookies;
    uint8_t *scratch;
    uint8_t answer[DP_NON_ESP_MARKER + DP_IKE_COOKIE_ANSWER]; /* the marker before it is what port 4500 sends too */
    _Atomic uint64_t answered;
};

int dp_ike_gate_open(struct dp_ike_gate *gate, struct dp *dp, bool nat_port, bool keeps_keys);
void dp_ike_gate_close(struct dp_ike_gate *gate);

enum dp_ike_verdict {
    DP_IKE_PASS,
    DP_IKE_ANSWER, /* with `answer`, and no more */
    DP_IKE_LIMITED,
    DP_IKE_FORGED,
};
/* A message from there is judged next. */
void dp_ike_expect(const struct dp_ike_gate *gate, const struct dp_addr *remote);
/* What becomes of a message without its marker. */
enum dp_ike_verdict dp_ike_judge(struct dp_ike_gate *gate, const struct dp_addr *remote, const uint8_t *message, size_t octets,
                                 uint64_t now);
/* Whether somebody from there may cause anything else at all that reaches the control plane. */
bool dp_ike_stranger(struct dp_ike_gate *gate, const struct dp_addr *remote, uint64_t now);

#endif
