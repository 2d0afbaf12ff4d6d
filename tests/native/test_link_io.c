/* What becomes of runs of datagrams when a kernel that said it takes or joins them does not. Real sockets of the loopback
 * interface; what it refuses or says wrongly is put in here, in place of the C library's functions. */
#include <errno.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plane.h"

enum {
    RUN = 5, /* datagrams */
};

static int refuse_runs, refuse_all;  /* errno, 0: it takes them */
static unsigned refused, runs_taken; /* messages with UDP_SEGMENT */
static enum {
    TRUE,
    CUT,
    ZERO,
    NEGATIVE
} told_size; /* what is said of what was joined */

static bool is_run(struct msghdr *m) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT)
            return true;
    return false;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags) {
    bool run = is_run(&messages[0].msg_hdr);
    int error = refuse_all != 0 ? refuse_all : run ? refuse_runs : 0;
    if (error != 0) {
        refused += run;
        errno = error;
        return -1;
    }
    runs_taken += run;
    return (int)syscall(SYS_sendmmsg, fd, messages, n, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *timeout) {
    int got = (int)syscall(SYS_recvmmsg, fd, messages, n, flags, timeout);
    for (int i = 0; i < got && told_size != TRUE; i++) {
        struct msghdr *m = &messages[i].msg_hdr;
        struct cmsghdr *c = CMSG_FIRSTHDR(m);
        while (c != NULL && (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO))
            c = CMSG_NXTHDR(m, c);
        if (c == NULL)
            continue;
        const int size = told_size == ZERO ? 0 : -1400;
        if (told_size == CUT) {
            c->cmsg_type = 0;
            m->msg_flags |= MSG_CTRUNC;
        } else {
            memcpy(CMSG_DATA(c), &size, sizeof size);
        }
    }
    return got;
}

/* A plane whose worker 0 has an interface in memory and a link whose two sockets send to themselves. */
struct site {
    struct dp *dp;
    int receive, other, link;
};

static int bound(struct sockaddr_in *name) {
    socklen_t octets = sizeof *name;
    const int shared = 1;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)name, sizeof *name), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)name, &octets), 0);
    return fd;
}

static int setup(void **state) {
    static struct site s;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, elsewhere = name;
    refuse_runs = refuse_all = 0;
    refused = runs_taken = 0;
    told_size = TRUE;
    s.dp = plane_new(1);
    plane_protect(s.dp);
    s.receive = bound(&name);
    s.other = bound(&elsewhere);
    struct dp_addr here = loopback(ntohs(name.sin_port));
    assert_int_equal(dp_mem_tun_attach(s.dp, 0, 0, 256), 0);
    s.link = dp_link_attach(s.dp, 0, DP_ENCAPSULATION_UDP, &here, s.receive, DP_DF_SET, s.other);
    assert_true(s.link >= 0);
    struct dp_sa_params params = plane_params(0x1001, (uint32_t)s.link, here.port);
    struct dp_selector any = any_selector(4);
    uint32_t child;
    (void)plane_install(s.dp, DP_INBOUND, &params);
    assert_int_equal(dp_child_add(s.dp, 0, &any, 1, &child), 0);
    assert_int_equal(dp_child_switch(s.dp, 0, child, plane_install(s.dp, DP_OUTBOUND, &params)), 0);
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    struct site *s = *state;
    dp_destroy(s->dp);
    close(s->receive);
    close(s->other);
    return 0;
}

static void leave(const struct site *s, uint8_t first) {
    uint8_t packet[PACKET];
    for (unsigned i = 0; i < RUN; i++) {
        plane_packet(packet, (uint8_t)(first + i));
        assert_int_equal(dp_mem_tun_push(s->dp, 0, 0, packet, sizeof packet), 0);
    }
    assert_int_equal(dp_outbound_step(s->dp, 0, 64, START), RUN);
}

/* What the link received goes to the host. */
static void come(const struct site *s) {
    while (dp_inbound_step(s->dp, 0, 64, START) > 0)
        continue;
}

/* Every packet of a run is there, in order. */
static void expect_run(const struct site *s, uint8_t first) {
    uint8_t expected[PACKET], got[2048];
    come(s);
    for (unsigned i = 0; i < RUN; i++) {
        plane_packet(expected, (uint8_t)(first + i));
        assert_int_equal(dp_mem_tun_pull(s->dp, 0, 0, got, sizeof got), PACKET);
        assert_memory_equal(got, expected, PACKET);
    }
    assert_int_equal(dp_mem_tun_pull(s->dp, 0, 0, got, sizeof got), 0);
}

static void expect_told_once(const struct site *s, int error, uint32_t on) {
    struct dp_punt punt;
    int channel = dp_punt_fd(s->dp, DP_CHANNEL_TRUSTED);
    assert_int_equal(recv(channel, &punt, sizeof punt, MSG_DONTWAIT), sizeof punt);
    assert_int_equal(punt.kind, DP_PUNT_OFFLOAD);
    assert_int_equal(punt.link, s->link);
    assert_int_equal(punt.error, error);
    assert_int_equal(punt.flags, on);
    assert_int_equal(recv(channel, &punt, sizeof punt, MSG_DONTWAIT), -1);
}

static uint64_t dropped(const struct site *s) {
    struct dp_counters counters;
    uint64_t all = 0;
    dp_counters_read(s->dp, &counters);
    for (unsigned reason = 0; reason < DP_DROP_COUNT; reason++)
        all += counters.drops[reason];
    return all;
}

/* The control: without a fault a run is one message, and joined again. */
static void test_a_run_is_one_message(void **state) {
    struct site *s = *state;
    assert_int_equal(dp_offloads_read(s->dp, 0, 1, (uint32_t)s->link), DP_OFFLOAD_UDP_SEGMENT | DP_OFFLOAD_UDP_GRO);
    leave(s, 0);
    expect_run(s, 0);
    assert_int_equal(runs_taken, 1);
}

static void test_a_refused_run_leaves_one_by_one_and_there_are_no_more(void **state) {
    static const int errors[] = {EIO, EINVAL, EMSGSIZE, EOPNOTSUPP, ENOPROTOOPT};
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct site *s = *state;
        uint32_t link = (uint32_t)s->link;
        refuse_runs = errors[i];
        leave(s, 0);
        expect_run(s, 0);
        assert_int_equal(dp_offloads_given_up(s->dp, 0, 1, link), DP_OFFLOAD_UDP_SEGMENT);
        assert_int_equal(dp_offloads_set(s->dp, 0, 1, link, DP_OFFLOAD_ALL), DP_OFFLOAD_UDP_GRO);
        leave(s, RUN);
        expect_run(s, RUN);
        assert_int_equal(refused, 1);
        assert_int_equal(dropped(s), 0);
        expect_told_once(s, errors[i], DP_OFFLOAD_UDP_GRO);
        teardown(state);
        setup(state);
    }
}

/* A route that says blackhole. */
static void test_where_nothing_leaves_the_offload_is_not_at_fault(void **state) {
    struct site *s = *state;
    refuse_all = EINVAL;
    leave(s, 0);
    assert_int_equal(dropped(s), RUN);
    assert_int_equal(dp_offloads_given_up(s->dp, 0, 1, (uint32_t)s->link), 0);
    refuse_all = 0;
    leave(s, RUN);
    expect_run(s, RUN);
    assert_int_equal(runs_taken, 1);
}

static void test_a_kernel_short_of_memory_keeps_the_offload(void **state) {
    struct site *s = *state;
    refuse_runs = ENOMEM;
    leave(s, 0);
    expect_run(s, 0);
    assert_int_equal(dp_offloads_given_up(s->dp, 0, 1, (uint32_t)s->link), 0);
    assert_int_equal(dropped(s), 0);
}

static int joins(int fd) {
    int on = -1;
    socklen_t octets = sizeof on;
    assert_int_equal(getsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, &octets), 0);
    return on;
}

/* What was joined cannot be told apart any more; what comes then is not joined. */
static void test_a_kernel_that_does_not_say_how_long_each_is_joins_no_more(void **state) {
    for (told_size = CUT; told_size <= NEGATIVE; told_size++) {
        int told = told_size;
        struct site *s = *state;
        uint32_t link = (uint32_t)s->link;
        assert_int_equal(joins(s->receive) + joins(s->other), 2);
        leave(s, 0);
        come(s);
        assert_int_equal(dp_offloads_given_up(s->dp, 0, 1, link), DP_OFFLOAD_UDP_GRO);
        assert_int_equal(joins(s->receive) + joins(s->other), 0);
        leave(s, RUN);
        expect_run(s, RUN);
        assert_int_equal(dp_offloads_set(s->dp, 0, 1, link, DP_OFFLOAD_ALL), DP_OFFLOAD_UDP_SEGMENT);
        assert_int_equal(joins(s->receive) + joins(s->other), 0);
        expect_told_once(s, EBADMSG, DP_OFFLOAD_UDP_SEGMENT);
        teardown(state);
        setup(state);
        told_size = told;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_run_is_one_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_run_leaves_one_by_one_and_there_are_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_where_nothing_leaves_the_offload_is_not_at_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kernel_short_of_memory_keeps_the_offload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kernel_that_does_not_say_how_long_each_is_joins_no_more, setup, teardown),
    };
    return cmocka_run_group_tests_name("link_io", tests, NULL, NULL);
}
