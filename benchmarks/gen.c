/* Generator and counter of numbered UDP packets, for loss-free rates.
 *
 *   gen send ADDRESS PORT OCTETS RATE SECONDS SEGMENTS RUN     sends, prints {"sent": N, "seconds": S}
 *   gen receive PORT PACKETS ALLOWED RUN                       prints "ready", counts, prints {"received": N, "highest": N, ...}
 *
 * OCTETS is the size of the IPv4 packets (or "imix": 7 of 64, 4 of 576, 1 of 1400), RATE packets a second in all (0: as fast as
 * possible), SEGMENTS the packets of one send: 1, or more with UDP_SEGMENT. Each packet carries RUN and its number from 0.
 * The sender ends after SECONDS, or sooner on SIGTERM. The receiver ends on SIGTERM, after what its socket still holds, or as soon
 * as more than ALLOWED of the PACKETS up to the highest number are missing, and says so: the rate is too high and need not be sent
 * to the end. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    IP_UDP = 20 + 8, /* octets of header */
    BATCH = 64,      /* messages in one system call */
    SEGMENTS_MAX = 64,
    MESSAGE_MAX = 65507,
    TICK_NS = 200000,
    CATCH_UP = 2, /* times the rate at which a sender that was held up catches up, so that it makes no burst of it */
    SEND_BUFFER = 4 << 20,
    RECEIVE_BUFFER = 32 << 20,
    SECOND_NS = 1000000000
};

struct stamp { /* network order */
    uint64_t run, number;
};

static const uint16_t IMIX[] = {64, 576, 64, 64, 576, 64, 1400, 64, 576, 64, 576, 64};

static void fail(const char *what) {
    fprintf(stderr, "gen: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t number_of(const char *text) {
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 0);
    if (errno || end == text || *end) {
        fprintf(stderr, "gen: not a number: %s\n", text);
        exit(2);
    }
    return value;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static uint64_t big_endian(uint64_t value) {
    return (uint64_t)htonl((uint32_t)value) << 32 | htonl((uint32_t)(value >> 32));
}

static volatile sig_atomic_t ended;

static void on_end(int number) {
    (void)number;
    ended = 1;
}

static void end_on_sigterm(void) {
    const struct sigaction action = {.sa_handler = on_end};
    sigaction(SIGTERM, &action, NULL);
}

/* ---- sending */

struct sender {
    int socket;
    uint16_t sizes[sizeof(IMIX) / sizeof(*IMIX)]; /* UDP payloads, in turn */
    unsigned size_count, segments;
    uint64_t run, sent;
};

/* One burst: messages of `segments` stamped payloads each. */
struct burst {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    union {
        char octets[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control[BATCH];
    uint8_t *payloads;
};

static void prepare(struct sender *s, struct burst *b, unsigned messages) {
    uint8_t *at = b->payloads;
    uint64_t number = s->sent;
    for (unsigned i = 0; i < messages; i++) {
        const uint16_t size = s->sizes[number % s->size_count];
        b->vectors[i] = (struct iovec){at, (size_t)size * s->segments};
        b->messages[i].msg_hdr = (struct msghdr){.msg_iov = &b->vectors[i], .msg_iovlen = 1};
        for (unsigned j = 0; j < s->segments; j++, at += size) {
            const struct stamp stamp = {big_endian(s->run), big_endian(number++)};
            memcpy(at, &stamp, sizeof(stamp));
        }
        if (s->segments == 1)
            continue;
        struct msghdr *header = &b->messages[i].msg_hdr;
        header->msg_control = b->control[i].octets;
        header->msg_controllen = sizeof(b->control[i].octets);
        struct cmsghdr *control = CMSG_FIRSTHDR(header);
        *control = (struct cmsghdr){.cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof(size))};
        memcpy(CMSG_DATA(control), &size, sizeof(size));
    }
}

/* Sends up to `packets`; how many went. What an ICMP error or a full queue refuses is sent again. */
static uint64_t send_burst(struct sender *s, struct burst *b, uint64_t packets) {
    uint64_t messages = (packets + s->segments - 1) / s->segments;
    if (messages > BATCH)
        messages = BATCH;
    prepare(s, b, (unsigned)messages);
    const int went = sendmmsg(s->socket, b->messages, (unsigned)messages, 0);
    if (went < 0 && errno != ENOBUFS && errno != ECONNREFUSED && errno != EHOSTUNREACH && errno != EINTR)
        fail("sendmmsg");
    return went < 0 ? 0 : (uint64_t)went * s->segments;
}

static void sleep_until(uint64_t ns) {
    const struct timespec at = {(time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

static void send_all(struct sender *s, struct burst *b, uint64_t rate, double seconds) {
    const uint64_t begun = now_ns(), end = begun + (uint64_t)(seconds * SECOND_NS);
    const uint64_t per_tick = rate * TICK_NS / SECOND_NS;
    uint64_t now = begun;
    for (uint64_t tick = begun; now < end && !ended; now = now_ns()) {
        uint64_t due = rate ? (uint64_t)((double)(now - begun) / SECOND_NS * (double)rate) : UINT64_MAX;
        const uint64_t limit = s->sent + CATCH_UP * per_tick + s->segments;
        if (rate && due > limit)
            due = limit;
        while (s->sent < due) {
            s->sent += send_burst(s, b, due - s->sent);
            if (ended || now_ns() >= end)
                break;
        }
        if (rate) {
            tick += TICK_NS;
            sleep_until(tick);
        }
    }
    printf("{\"sent\": %llu, \"seconds\": %.6f}\n", (unsigned long long)s->sent, (double)(now_ns() - begun) / SECOND_NS);
}

static struct sockaddr_in address_of(const char *host, const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number_of(port))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "gen: not an IPv4 address: %s\n", host);
        exit(2);
    }
    return address;
}

static void take_sizes(struct sender *s, const char *octets) {
    const bool mixed = strcmp(octets, "imix") == 0;
    s->size_count = mixed ? sizeof(IMIX) / sizeof(*IMIX) : 1;
    for (unsigned i = 0; i < s->size_count; i++) {
        const uint64_t size = mixed ? IMIX[i] : number_of(octets);
        if (size < IP_UDP + sizeof(struct stamp) || size > IP_UDP + MESSAGE_MAX) {
            fprintf(stderr, "gen: packets of %llu octets cannot be sent\n", (unsigned long long)size);
            exit(2);
        }
        s->sizes[i] = (uint16_t)(size - IP_UDP);
    }
    if (mixed && s->segments != 1) {
        fprintf(stderr, "gen: UDP_SEGMENT needs one size\n");
        exit(2);
    }
    if (s->segments > SEGMENTS_MAX)
        s->segments = SEGMENTS_MAX;
    while (s->segments > 1 && s->segments * s->sizes[0] > MESSAGE_MAX)
        s->segments--;
}

static int send_main(char **arguments) {
    const struct sockaddr_in to = address_of(arguments[0], arguments[1]);
    struct sender s = {.segments = (unsigned)number_of(arguments[5]), .run = number_of(arguments[6])};
    if (s.segments == 0)
        s.segments = 1;
    take_sizes(&s, arguments[2]);
    static struct burst burst;
    burst.payloads = calloc(BATCH, MESSAGE_MAX);
    s.socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (!burst.payloads || s.socket < 0 || connect(s.socket, (const struct sockaddr *)&to, sizeof(to)))
        fail("connecting");
    const int buffer = SEND_BUFFER;
    if (setsockopt(s.socket, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer)) || prctl(PR_SET_TIMERSLACK, 1UL))
        fail("preparing the socket");
    end_on_sigterm();
    send_all(&s, &burst, number_of(arguments[3]), strtod(arguments[4], NULL));
    return 0;
}

/* ---- receiving */

struct counter {
    uint64_t run, packets, allowed;
    uint64_t received, highest, duplicates, reordered;
    uint8_t *seen; /* one bit a packet */
};

static void count(struct counter *c, const uint8_t *payload) {
    struct stamp stamp;
    memcpy(&stamp, payload, sizeof(stamp));
    const uint64_t number = big_endian(stamp.number);
    if (big_endian(stamp.run) != c->run || number >= c->packets)
        return;
    const uint8_t bit = (uint8_t)(1 << number % 8);
    if (c->seen[number / 8] & bit) {
        c->duplicates++;
        return;
    }
    c->seen[number / 8] |= bit;
    c->received++;
    if (number < c->highest)
        c->reordered++;
    else
        c->highest = number;
}

/* The kernel may hand several packets of a flow as one message and say their size (UDP_GRO). */
static unsigned segment_size(struct msghdr *header, unsigned octets) {
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control))
        if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(control), sizeof(size));
            return size > 0 ? (unsigned)size : octets;
        }
    return octets;
}

static void receive_burst(struct counter *c, int from, int flags) {
    static uint8_t payloads[BATCH][1 << 16];
    static union {
        char octets[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    struct iovec vectors[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){payloads[i], sizeof(payloads[i])};
        messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &vectors[i], .msg_iovlen = 1, .msg_control = control[i].octets, .msg_controllen = sizeof(control[i].octets)};
    }
    const int got = recvmmsg(from, messages, BATCH, flags, NULL);
    if (got < 0 && errno == EAGAIN && flags & MSG_DONTWAIT)
        ended = 2; /* nothing is left */
    else if (got < 0 && errno != EINTR && errno != EAGAIN)
        fail("recvmmsg");
    for (int i = 0; i < got; i++) {
        const unsigned octets = messages[i].msg_len, size = segment_size(&messages[i].msg_hdr, octets);
        for (unsigned at = 0; at + sizeof(struct stamp) <= octets; at += size)
            count(c, payloads[i] + at);
    }
}

static int receive_main(char **arguments) {
    const struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number_of(arguments[0]))};
    struct counter c = {.packets = number_of(arguments[1]), .allowed = number_of(arguments[2]), .run = number_of(arguments[3])};
    c.seen = calloc(c.packets / 8 + 1, 1);
    const int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), buffer = RECEIVE_BUFFER, on = 1;
    const struct timeval wait = {.tv_usec = 100000}; /* a signal between the look at `ended` and the wait is seen at the next */
    if (!c.seen || from < 0 || setsockopt(from, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) ||
        setsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) || setsockopt(from, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)) ||
        bind(from, (const struct sockaddr *)&here, sizeof(here)))
        fail("preparing the socket");
    end_on_sigterm();
    puts("ready");
    fflush(stdout);
    bool too_many = false;
    while (ended != 2 && !too_many) {
        receive_burst(&c, from, ended ? MSG_DONTWAIT : MSG_WAITFORONE);
        too_many = c.received && c.highest + 1 - c.received > c.allowed;
    }
    printf("{\"received\": %llu, \"highest\": %llu, \"duplicates\": %llu, \"reordered\": %llu, \"aborted\": %s}\n",
           (unsigned long long)c.received, (unsigned long long)c.highest, (unsigned long long)c.duplicates,
           (unsigned long long)c.reordered, too_many ? "true" : "false");
    return 0;
}

int main(int count_of_arguments, char **arguments) {
    if (count_of_arguments == 9 && strcmp(arguments[1], "send") == 0)
        return send_main(arguments + 2);
    if (count_of_arguments == 6 && strcmp(arguments[1], "receive") == 0)
        return receive_main(arguments + 2);
    fprintf(stderr, "usage: gen send ADDRESS PORT OCTETS RATE SECONDS SEGMENTS RUN\n       gen receive PORT PACKETS ALLOWED RUN\n");
    return 2;
}
