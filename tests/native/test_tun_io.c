/* What becomes of super-packets when a TUN device that said it takes them refuses one (EINVAL): some kernels do. A socket pair
 * stands for the device; the ioctls that it lacks, and the refusal, are answered here, in place of the C library's functions. */
#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "offload.h"
#include "plane.h"

enum {
    HEADER = sizeof(struct virtio_net_hdr),
    PAYLOAD = 100,
    SEGMENTS = 3,
    TCP_HEADERS = 40,
};

static bool refuse;
static unsigned refused;

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *at = va_arg(arguments, void *);
    va_end(arguments);
    (void)fd;
    if (request == TUNGETIFF)
        ((struct ifreq *)at)->ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    else if (request == TUNGETVNETHDRSZ)
        *(int *)at = HEADER;
    else
        assert_int_equal(request, TUNSETOFFLOAD);
    return 0;
}

ssize_t writev(int fd, const struct iovec *iov, int count) {
    const struct virtio_net_hdr *h = iov[0].iov_base;
    if (refuse && h->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        refused++;
        errno = EINVAL;
        return -1;
    }
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
    return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* A plane whose worker 0 has the device, as interface 0, and a link in memory. */
struct site {
    struct dp *dp;
    int host[2];
};

static int setup(void **state) {
    static struct site s;
    s.dp = plane_new(1);
    plane_protect(s.dp);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s.host), 0);
    assert_int_equal(dp_tun_attach(s.dp, 0, 0, s.host[0]), 0);
    struct dp_addr here = loopback(4500);
    assert_int_equal(dp_mem_tun_attach(s.dp, 0, 1, 64), 0);
    assert_int_equal(dp_mem_link_attach(s.dp, 0, DP_ENCAPSULATION_UDP, &here, 64), 0);
    struct dp_sa_params params = plane_params(0x1001, 0, 4500);
    struct dp_selector any = any_selector(4);
    uint32_t child;
    (void)plane_install(s.dp, DP_INBOUND, &params);
    assert_int_equal(dp_child_add(s.dp, 0, &any, 1, &child), 0);
    assert_int_equal(dp_child_switch(s.dp, 0, child, plane_install(s.dp, DP_OUTBOUND, &params)), 0);
    refuse = false;
    refused = 0;
    *state = &s;
    return 0;
}

static int teardown(void **state) {
    struct site *s = *state;
    dp_destroy(s->dp);
    close(s->host[0]);
    close(s->host[1]);
    return 0;
}

static void put16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned sum(const uint8_t *data, size_t octets, unsigned before) {
    for (size_t i = 0; i + 1 < octets; i += 2)
        before += (unsigned)data[i] << 8 | data[i + 1];
    while (before > 0xffff)
        before = (before & 0xffff) + (before >> 16);
    return before;
}

/* Segment `number` of one TCP flow, checksums right. */
static void segment(uint8_t packet[TCP_HEADERS + PAYLOAD], unsigned number) {
    static const uint8_t headers[TCP_HEADERS] = {0x45, 0,          0,    TCP_HEADERS + PAYLOAD,
                                                 0,    0,          0x40, 0,
                                                 64,   6,          0,    0,
                                                 10,   1,          0,    1,
                                                 10,   2,          0,    1,
                                                 0x30, 0,          0x14, 0x51,
                                                 0,    0,          0,    0,
                                                 0,    0,          0,    1,
                                                 0x50, DP_TCP_ACK, 0xff, 0xff};
    memcpy(packet, headers, TCP_HEADERS);
    memset(packet + TCP_HEADERS, (int)('a' + number), PAYLOAD);
    put16(packet + DP_IPV4_ID, number);
    put16(packet + DP_IPV4_CHECKSUM, ~sum(packet, DP_IPV4_HEADER_MIN, 0) & 0xffff);
    put16(packet + 26, number * PAYLOAD);
    unsigned ends = sum(packet + 12, 8, DP_PROTOCOL_TCP + DP_TCP_HEADER_MIN + PAYLOAD);
    put16(packet + DP_IPV4_HEADER_MIN + DP_TCP_CHECKSUM,
          ~sum(packet + DP_IPV4_HEADER_MIN, DP_TCP_HEADER_MIN + PAYLOAD, ends) & 0xffff);
}

/* The segments arrive in one burst, from `first` on. */
static void arrive(const struct site *s, unsigned first) {
    uint8_t packet[TCP_HEADERS + PAYLOAD], sealed[SEGMENTS * 2048];
    struct dp_mem_meta meta, back = {.local = loopback(4500), .remote = loopback(4500)};
    size_t all = 0;
    for (unsigned i = 0; i < SEGMENTS; i++) {
        segment(packet, first + i);
        assert_int_equal(dp_mem_tun_push(s->dp, 0, 1, packet, sizeof packet), 0);
    }
    (void)dp_outbound_step(s->dp, 0, 64, START);
    for (int octets; (octets = dp_mem_link_pull(s->dp, 0, 0, &meta, sealed + all, sizeof sealed - all)) > 0; all += (size_t)octets)
        back.gso_size = (uint16_t)octets;
    assert_int_equal(all, SEGMENTS * back.gso_size);
    assert_int_equal(dp_mem_link_push(s->dp, 0, 0, &back, sealed, all), 0);
    assert_int_equal(dp_inbound_step(s->dp, 0, 64, START), SEGMENTS);
}

static void expect_single(const struct site *s, unsigned number) {
    uint8_t expected[TCP_HEADERS + PAYLOAD], got[HEADER + 65536];
    segment(expected, number);
    assert_int_equal(recv(s->host[1], got, sizeof got, 0), HEADER + sizeof expected);
    assert_int_equal(((struct virtio_net_hdr *)(void *)got)->gso_type, VIRTIO_NET_HDR_GSO_NONE);
    assert_memory_equal(got + HEADER, expected, sizeof expected);
}

static void expect_nothing(const struct site *s) {
    uint8_t got[1];
    assert_int_equal(recv(s->host[1], got, sizeof got, 0), -1);
}

/* The control: without a refusal the three are one. */
static void test_a_burst_is_written_as_one_super_packet(void **state) {
    struct site *s = *state;
    uint8_t got[HEADER + 65536];
    arrive(s, 0);
    assert_int_equal(recv(s->host[1], got, sizeof got, 0), HEADER + TCP_HEADERS + SEGMENTS * PAYLOAD);
    assert_int_equal(((struct virtio_net_hdr *)(void *)got)->gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    expect_nothing(s);
}

static void test_a_refused_super_packet_is_cut_and_written_at_once_and_there_are_no_more(void **state) {
    struct site *s = *state;
    refuse = true;
    arrive(s, 0);
    for (unsigned i = 0; i < SEGMENTS; i++)
        expect_single(s, i);
    expect_nothing(s);
    assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0), 0);
    arrive(s, SEGMENTS);
    for (unsigned i = 0; i < SEGMENTS; i++)
        expect_single(s, SEGMENTS + i);
    expect_nothing(s);
    assert_int_equal(refused, 1);
    struct dp_counters counters;
    dp_counters_read(s->dp, &counters);
    for (unsigned reason = 0; reason < DP_DROP_COUNT; reason++)
        assert_int_equal(counters.drops[reason], 0);
}

static void test_it_is_told(void **state) {
    struct site *s = *state;
    struct dp_punt punt;
    refuse = true;
    arrive(s, 0);
    arrive(s, SEGMENTS);
    assert_int_equal(recv(dp_punt_fd(s->dp, DP_CHANNEL_TRUSTED), &punt, sizeof punt, MSG_DONTWAIT), sizeof punt);
    assert_int_equal(punt.kind, DP_PUNT_OFFLOAD);
    assert_int_equal(punt.interface, 0);
    assert_int_equal(punt.link, UINT16_MAX);
    assert_int_equal(punt.error, EINVAL);
    assert_int_equal(punt.flags, 0);
    assert_int_equal(recv(dp_punt_fd(s->dp, DP_CHANNEL_TRUSTED), &punt, sizeof punt, MSG_DONTWAIT), -1); /* once */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_burst_is_written_as_one_super_packet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_super_packet_is_cut_and_written_at_once_and_there_are_no_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_it_is_told, setup, teardown),
    };
    return cmocka_run_group_tests_name("tun_io", tests, NULL, NULL);
}
