/* A token bucket: so many at once, and one more each `interval`. */
#ifndef DP_BUCKET_H
#define DP_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#define DP_SECOND UINT64_C(1000000000)

/* What buckets of one kind have in common, ns: a token, and all of them. Without an interval there is no limit. */
struct dp_rate {
    uint64_t interval, span;
};

static inline struct dp_rate dp_rate_of(uint32_t a_second, uint32_t at_once) {
    struct dp_rate rate = {0, 0};
    if (a_second != 0) {
        rate.interval = DP_SECOND / a_second;
        rate.span = rate.interval * at_once;
    }
    return rate;
}

/* A bucket is `since`: the time since which its tokens have run in, later by the span so that it is full when the clock begins. */
static inline bool dp_bucket_has(const struct dp_rate *rate, uint64_t since, uint64_t now) {
    return rate->interval == 0 || now + rate->span - (since < now ? now : since) >= rate->interval;
}

/* Takes one. false: there is none. */
static inline bool dp_bucket_take(const struct dp_rate *rate, uint64_t *since, uint64_t now) {
    if (*since < now)
        *since = now;
    if (!dp_bucket_has(rate, *since, now))
        return false;
    *since += rate->interval;
    return true;
}

#endif
