#include "udp_check.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum {
    SIZE = 1200,
    COUNT = 16,
    TAIL = 700, /* the last one is shorter */
    OCTETS = (COUNT - 1) * SIZE + TAIL,
};

static uint8_t octet_of(size_t at) {
    return (uint8_t)(at * 31 + (at >> 8));
}

/* A socket bound to a loopback port; its name in `name`. -1: there is none to be had. */
static int loopback(struct sockaddr_in *name) {
    socklen_t octets = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd >= 0 &&
        (bind(fd, (struct sockaddr *)name, sizeof *name) != 0 || getsockname(fd, (struct sockaddr *)name, &octets) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* false: it could not be sent at all, which says nothing. */
static bool send_run(int fd, const struct sockaddr_in *to) {
    static uint8_t data[OCTETS];
    for (size_t i = 0; i < OCTETS; i++)
        data[i] = octet_of(i);
    const uint16_t size = SIZE;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof size)] = {0};
    struct iovec iov = {data, OCTETS};
    struct msghdr m = {
        .msg_name = (void *)(uintptr_t)to,
        .msg_namelen = sizeof *to,
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(c), &size, sizeof size);
    return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == OCTETS;
}

/* What the loopback interface delivers is there when the send returns. */
static bool came_whole(int fd, const struct sockaddr_in *from) {
    uint8_t data[SIZE + 1];
    for (size_t at = 0; at < OCTETS;) {
        struct sockaddr_in source;
        socklen_t octets = sizeof source;
        ssize_t got = recvfrom(fd, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&source, &octets);
        if (got >= 0 && source.sin_port != from->sin_port)
            continue; /* somebody else's */
        if (got != (OCTETS - at < SIZE ? TAIL : SIZE))
            return false;
        for (ssize_t i = 0; i < got; i++)
            if (data[i] != octet_of(at++))
                return false;
    }
    return true;
}

static bool works;

static void check(void) {
    struct sockaddr_in from, to;
    int sender = loopback(&from), receiver = loopback(&to);
    works = sender < 0 || receiver < 0 || !send_run(sender, &to) || came_whole(receiver, &from);
    if (sender >= 0)
        close(sender);
    if (receiver >= 0)
        close(receiver);
}

bool dp_udp_segment_works(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, check);
    return works;
}
