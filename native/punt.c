#include "punt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bucket.h"
#include "engine.h"
#include "network.h"

enum {
    DP_PUNT_BUCKETS = 1024,
    DP_PUNT_SEND_BUFFER = 1 << 20,
};

struct dp_punt_limiter {
    uint64_t seed;
    struct dp_rate rate;
    uint64_t since[DP_PUNT_BUCKETS];
};

bool dp_punt_pair(int pair[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    int octets = DP_PUNT_SEND_BUFFER;
    /* The larger buffer needs CAP_NET_ADMIN; without it the default holds, and a full channel is counted. */
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &octets, sizeof octets) != 0)
        (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets);
    return true;
}

int dp_punt_open(struct dp *dp) {
    for (int c = 0; c < 2; c++)
        if (!dp_punt_pair(dp->punt_fd[c]))
            return -errno;
    return 0;
}

void dp_punt_close(struct dp *dp) {
    for (int c = 0; c < 2; c++)
        for (int end = 0; end < 2; end++)
            if (dp->punt_fd[c][end] >= 0)
                close(dp->punt_fd[c][end]);
}

int dp_punt_fd(const struct dp *dp, unsigned channel) {
    return channel > DP_CHANNEL_TRUSTED ? -EINVAL : dp->punt_fd[channel][1];
}

struct dp_punt_limiter *dp_punt_limiter_new(uint32_t rate, uint32_t burst, uint64_t seed) {
    struct dp_punt_limiter *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->seed = seed;
    l->rate = dp_rate_of(rate, burst);
    return l;
}

bool dp_punt_allowed(struct dp_punt_limiter *l, const struct dp_addr *source, uint64_t now) {
    /* A source that shares a bucket with a busy one shares its rate: bounded memory errs on the strict side. */
    uint64_t *since = &l->since[dp_network_hash(l->seed, source) % DP_PUNT_BUCKETS];
    return dp_bucket_take(&l->rate, since, now);
}

bool dp_punt_write(int fd, struct dp_punt *punt, const uint8_t *payload, size_t octets) {
    punt->octets = (uint32_t)octets;
    struct iovec iov[2] = {{punt, sizeof *punt}, {(void *)(uintptr_t)payload, octets}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = octets != 0 ? 2 : 1};
    return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

bool dp_punt_send(struct dp_loop *loop, unsigned channel, struct dp_punt *punt, const uint8_t *payload, size_t octets) {
    if (dp_punt_write(loop->dp->punt_fd[channel][0], punt, payload, octets))
        return true;
    dp_add(&loop->punts_lost, 1);
    return false;
}
