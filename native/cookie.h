/* Cookies (RFC 7296 §2.6), the same that the control plane makes (ike/strangers.py:Cookies): none is kept, each follows from a
 * secret, the time, and what it was made for. */
#ifndef DP_COOKIE_H
#define DP_COOKIE_H

#include "dp.h"
#include "ike_message.h"

struct dp;

enum {
    DP_COOKIE_SECRET = 32
};

/* What one loop computes them with. Zeroed at first; finish also what was never used. */
struct dp_cookies {
    void *mac[2];       /* of the period, and of the one before; a MAC context with its key */
    uint64_t period[2]; /* plus one; 0: none */
    uint64_t serial;    /* of the secret that they follow from */
};

/* Makes the cookie for a request that came from there. false: there is no secret. */
bool dp_cookie_make(const struct dp *dp, struct dp_cookies *c, const struct dp_ike_message *m, const struct dp_ike_begin *begin,
                    const struct dp_addr *remote, uint64_t now, uint8_t cookie[DP_IKE_COOKIE]);
/* Whether the cookie that the request brings is one of ours, made for the same within the last one or two periods. */
bool dp_cookie_good(const struct dp *dp, struct dp_cookies *c, const struct dp_ike_message *m, const struct dp_ike_begin *begin,
                    const struct dp_addr *remote, uint64_t now);
void dp_cookies_finish(struct dp_cookies *c);
void dp_cookie_secret_finish(struct dp *dp);

#endif
