#include "ike_batch.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "esp_wire.h"
#include "ike_pause.h"
#include "link.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55 /* <asm-generic/socket.h> */
#endif

struct dp_ike_batch {
    uint8_t *octets; /* a datagram at each DP_RECEIVE_STRIDE */
    unsigned received, answers;
    struct mmsghdr in[DP_IKE_BATCH], out[DP_IKE_BATCH];
    struct iovec in_iov[DP_IKE_BATCH], out_iov[DP_IKE_BATCH];
    union dp_sockaddr from[DP_IKE_BATCH];
    struct dp_addr remote[DP_IKE_BATCH];
    uint8_t answer[DP_IKE_BATCH][DP_IKE_COOKIE_ANSWER];
};

struct dp_ike_batch *dp_ike_batch_new(void) {
    struct dp_ike_batch *b = calloc(1, sizeof *b);
    uint8_t *octets = malloc((size_t)DP_IKE_BATCH * DP_RECEIVE_STRIDE);
    if (b == NULL || octets == NULL) {
        free(b);
        free(octets);
        return NULL;
    }
    b->octets = octets;
    for (unsigned i = 0; i < DP_IKE_BATCH; i++) {
        b->in_iov[i] = (struct iovec){octets + (size_t)i * DP_RECEIVE_STRIDE, DP_IP_MAX};
        b->in[i].msg_hdr =
            (struct msghdr){.msg_name = &b->from[i], .msg_namelen = sizeof b->from[i], .msg_iov = &b->in_iov[i], .msg_iovlen = 1};
        b->out_iov[i] = (struct iovec){b->answer[i], DP_IKE_COOKIE_ANSWER};
        b->out[i].msg_hdr = (struct msghdr){.msg_iov = &b->out_iov[i], .msg_iovlen = 1};
    }
    return b;
}

void dp_ike_batch_free(struct dp_ike_batch *b) {
    if (b != NULL)
        free(b->octets);
    free(b);
}

int dp_ike_batch_receive(struct dp_ike_batch *b, int fd) {
    for (unsigned i = 0; i < b->received; i++)
        b->in[i].msg_hdr.msg_namelen = sizeof b->from[i];
    int got = recvmmsg(fd, b->in, DP_IKE_BATCH, MSG_DONTWAIT, NULL);
    if (got < 0)
        return -errno;
    b->received = (unsigned)got;
    for (unsigned i = 0; i < b->received; i++)
        dp_from_sockaddr(&b->remote[i], &b->from[i]);
    return got;
}

const uint8_t *dp_ike_batch_message(const struct dp_ike_batch *b, unsigned number, size_t *octets) {
    *octets = b->in[number].msg_len;
    return b->in_iov[number].iov_base;
}

const struct dp_addr *dp_ike_batch_remote(const struct dp_ike_batch *b, unsigned number) {
    return &b->remote[number];
}

void dp_ike_batch_answer(struct dp_ike_batch *b, unsigned number, const uint8_t answer[DP_IKE_COOKIE_ANSWER]) {
    struct msghdr *m = &b->out[b->answers].msg_hdr;
    m->msg_name = &b->from[number];
    m->msg_namelen = b->in[number].msg_hdr.msg_namelen;
    memcpy(b->answer[b->answers++], answer, DP_IKE_COOKIE_ANSWER);
}

void dp_ike_batch_send(struct dp_ike_batch *b, int fd) {
    for (unsigned done = 0; done < b->answers;) {
        int sent = sendmmsg(fd, b->out + done, b->answers - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        done += sent > 0 ? (unsigned)sent : 1;
    }
    b->answers = 0;
}

uint32_t dp_ike_batch_filled(int fd) {
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t octets = sizeof info;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &octets) != 0 || info[SK_MEMINFO_RCVBUF] == 0)
        return 0;
    uint64_t filled = (uint64_t)info[SK_MEMINFO_RMEM_ALLOC] * DP_IKE_FULL / info[SK_MEMINFO_RCVBUF];
    return filled < DP_IKE_FULL ? (uint32_t)filled : DP_IKE_FULL;
}
