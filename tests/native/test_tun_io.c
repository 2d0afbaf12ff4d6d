/* What becomes of super-packets when a TUN device that said it takes them refuses one: some kernels do. A socket pair
 * stands for the device; the ioctls that it lacks, and the refusal, are answered here, in place of the C library's functions. */
#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "packets.h"
#include "plane.h"

enum {
    HEADER = sizeof(struct virtio_net_hdr),
    TUNNEL_HEADER = 24,   /* struct virtio_net_hdr_v1_hash_tunnel */
    OUTER_TRANSPORT = 20, /* where it says that the tunnel's UDP header begins */
    PAYLOAD = 100,
    SEGMENTS = 3,
    TCP_HEADERS = 40,
};

static bool refuse;                 /* every super-packet */
static int refusal;                 /* errno of that */
static int broken;                  /* errno of every write, 0: none */
static bool tunnels;                /* the kernel is Linux 6.17 or later */
static uint16_t refuse_outer_below; /* a super-packet in a UDP tunnel whose UDP header begins before */
static int header;                  /* octets */
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
        *(int *)at = header;
    else if (request == TUNSETVNETHDRSZ)
        header = *(const int *)at;
    else
        assert_int_equal(request, TUNSETOFFLOAD);
    if (request != TUNSETOFFLOAD || tunnels || ((uintptr_t)at & (TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM)) == 0)
        return 0;
    errno = EINVAL;
    return -1;
}

static bool takes(const uint8_t *begun) {
    struct virtio_net_hdr h;
    uint16_t outer = 0;
    memcpy(&h, begun, sizeof h);
    if ((h.gso_type & DP_GSO_UDP_TUNNEL) != 0)
        memcpy(&outer, begun + OUTER_TRANSPORT, sizeof outer);
    return h.gso_type == VIRTIO_NET_HDR_GSO_NONE ||
           (!refuse && ((h.gso_type & DP_GSO_UDP_TUNNEL) == 0 || outer >= refuse_outer_below));
}

ssize_t writev(int fd, const struct iovec *iov, int count) {
    if (broken != 0 || !takes(iov[0].iov_base)) {
        refused++;
        errno = broken != 0 ? broken : refusal;
        return -1;
    }
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
    return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

ssize_t write(int fd, const void *data, size_t octets) {
    if (broken != 0) {
        errno = broken;
        return -1;
    }
    return syscall(SYS_write, fd, data, octets);
}

/* A plane whose worker 0 has the device, as interface 0, and a link in memory. */
struct site {
    struct dp *dp;
    int host[2];
};

static int setup_with(void **state, bool with_tunnels) {
    static struct site s;
    tunnels = with_tunnels;
    header = HEADER;
    refuse_outer_below = 0;
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
    refusal = EINVAL;
    broken = 0;
    refused = 0;
    *state = &s;
    return 0;
}

static int setup(void **state) {
    return setup_with(state, false);
}

static int setup_tunnels(void **state) {
    return setup_with(state, true);
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

/* What was pushed at interface 1 arrives in one burst. */
static void carry(const struct site *s) {
    uint8_t sealed[SEGMENTS * 2048];
    struct dp_mem_meta meta, back = {.local = loopback(4500), .remote = loopback(4500)};
    size_t all = 0;
    (void)dp_outbound_step(s->dp, 0, 64, START);
    for (int octets; (octets = dp_mem_link_pull(s->dp, 0, 0, &meta, sealed + all, sizeof sealed - all)) > 0; all += (size_t)octets)
        back.gso_size = (uint16_t)octets;
    assert_int_equal(all, SEGMENTS * back.gso_size);
    assert_int_equal(dp_mem_link_push(s->dp, 0, 0, &back, sealed, all), 0);
    assert_int_equal(dp_inbound_step(s->dp, 0, 64, START), SEGMENTS);
}

/* The segments arrive in one burst, from `first` on. */
static void arrive(const struct site *s, unsigned first) {
    uint8_t packet[TCP_HEADERS + PAYLOAD];
    for (unsigned i = 0; i < SEGMENTS; i++) {
        segment(packet, first + i);
        assert_int_equal(dp_mem_tun_push(s->dp, 0, 1, packet, sizeof packet), 0);
    }
    carry(s);
}

/* The same in VXLAN; `packet` gets the first of them. Its octets. */
static size_t arrive_in_tunnel(const struct site *s, uint8_t first[2048]) {
    struct envelope e = envelope_new(4);
    struct shape one = shape_new(4, DP_PROTOCOL_TCP, PAYLOAD);
    size_t octets = packet_wrap(first, &e, &one);
    for (unsigned i = 0; i < SEGMENTS; i++, e = envelope_next(e), one = shape_next(one, PAYLOAD)) {
        uint8_t packet[2048];
        assert_int_equal(packet_wrap(packet, &e, &one), octets);
        assert_int_equal(dp_mem_tun_push(s->dp, 0, 1, packet, octets), 0);
    }
    carry(s);
    return octets;
}

/* The kernel behind the device sends a packet in a tunnel that ends there, the inner checksum left to us, or not. */
static void show_end(const struct site *s, bool partial) {
    uint8_t packet[TUNNEL_HEADER + 2048] = {0};
    struct envelope e = envelope_new(4);
    struct shape one = shape_new(4, DP_PROTOCOL_TCP, 10);
    size_t octets = packet_wrap(packet + TUNNEL_HEADER, &e, &one);
    memcpy(packet + TUNNEL_HEADER + 12, (const uint8_t[]){10, 2, 0, 2, 10, 1, 0, 1}, 8);
    struct virtio_net_hdr h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 70, .csum_offset = 16};
    if (partial)
        memcpy(packet, &h, sizeof h);
    assert_int_equal(send(s->host[1], packet, TUNNEL_HEADER + octets, 0), TUNNEL_HEADER + octets);
    assert_int_equal(dp_outbound_step(s->dp, 0, 64, START), 1);
    uint8_t sealed[2048];
    struct dp_mem_meta meta;
    while (dp_mem_link_pull(s->dp, 0, 0, &meta, sealed, sizeof sealed) > 0)
        continue;
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

static void expect_apart(const struct site *s, int error, unsigned first) {
    refuse = true;
    refusal = error;
    arrive(s, first);
    for (unsigned i = 0; i < SEGMENTS; i++)
        expect_single(s, first + i);
    expect_nothing(s);
}

/* Kernels, and what stands in for one, refuse in their own ways. */
static void test_whatever_it_is_refused_with_its_packets_are_not_lost(void **state) {
    static const int errors[] = {EOPNOTSUPP, EMSGSIZE, EIO, EPROTO};
    struct site *s = *state;
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        expect_apart(s, errors[i], 0);
        assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0), 0);
        teardown(state);
        setup(state);
    }
}

static void test_a_kernel_short_of_memory_gets_them_one_by_one_and_keeps_the_offload(void **state) {
    static const int errors[] = {ENOMEM, ENOBUFS};
    struct site *s = *state;
    int on = dp_offloads_read(s->dp, 0, 0, 0);
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
        expect_apart(s, errors[i], i * SEGMENTS);
    assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0), on);
    assert_int_equal(dp_offloads_given_up(s->dp, 0, 0, 0), 0);
}

/* As one does that was set down: EIO whatever is written. */
static void test_a_device_that_takes_nothing_says_nothing_of_its_offloads(void **state) {
    struct site *s = *state;
    struct dp_counters counters;
    int on = dp_offloads_read(s->dp, 0, 0, 0);
    broken = EIO;
    arrive(s, 0);
    expect_nothing(s);
    dp_counters_read(s->dp, &counters);
    assert_int_equal(counters.drops[DP_DROP_tun_gone], SEGMENTS);
    assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0), on);
    assert_int_equal(dp_offloads_given_up(s->dp, 0, 0, 0), 0);
}

static void test_what_was_given_up_is_not_turned_on_again(void **state) {
    struct site *s = *state;
    expect_apart(s, EINVAL, 0);
    int every = DP_OFFLOAD_TUN_CSUM | DP_OFFLOAD_TUN_TSO4 | DP_OFFLOAD_TUN_TSO6 | DP_OFFLOAD_TUN_USO4 | DP_OFFLOAD_TUN_USO6 |
                DP_OFFLOAD_TUN_UDP_TUNNEL;
    assert_int_equal(dp_offloads_given_up(s->dp, 0, 0, 0), every);
    assert_int_equal(dp_offloads_set(s->dp, 0, 0, 0, DP_OFFLOAD_ALL), 0);
    arrive(s, SEGMENTS);
    assert_int_equal(refused, 1);
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

/* ---- in a UDP tunnel ----------------------------------------------------------------------------------------------------------
 */

static struct virtio_net_hdr expect_tunnelled(const struct site *s, size_t octets, uint16_t *outer) {
    struct virtio_net_hdr h;
    uint8_t got[TUNNEL_HEADER + 65536];
    assert_int_equal(recv(s->host[1], got, sizeof got, 0), TUNNEL_HEADER + octets);
    memcpy(&h, got, sizeof h);
    memcpy(outer, got + OUTER_TRANSPORT, sizeof *outer);
    if (h.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        assert_int_equal(got[OUTER_TRANSPORT + 2] | got[OUTER_TRANSPORT + 3] << 8, 50);
    return h;
}

static void test_packets_in_a_tunnel_are_written_as_one(void **state) {
    struct site *s = *state;
    uint8_t first[2048];
    uint16_t outer;
    assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0) & DP_OFFLOAD_TUN_UDP_TUNNEL, DP_OFFLOAD_TUN_UDP_TUNNEL);
    show_end(s, true);
    size_t octets = arrive_in_tunnel(s, first);
    struct virtio_net_hdr h = expect_tunnelled(s, octets + (SEGMENTS - 1) * PAYLOAD, &outer);
    assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4);
    assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_int_equal(h.csum_start, 70);
    assert_int_equal(outer, 20);
    expect_nothing(s);
}

/* A program that reads the port would get them as one datagram. */
static void test_only_where_a_kernel_has_the_tunnel(void **state) {
    struct site *s = *state;
    uint8_t first[2048];
    uint16_t outer;
    show_end(s, false);
    size_t octets = arrive_in_tunnel(s, first);
    for (unsigned i = 0; i < SEGMENTS; i++)
        assert_int_equal(expect_tunnelled(s, octets, &outer).gso_type, VIRTIO_NET_HDR_GSO_NONE);
    expect_nothing(s);
}

/* As Linux 6.17 and 6.18 do: an IPv4 header is to them as long as an Ethernet one more. */
static void test_a_kernel_that_counts_an_ethernet_header_is_told_so(void **state) {
    struct site *s = *state;
    uint8_t first[2048];
    uint16_t outer;
    refuse_outer_below = 34;
    show_end(s, true);
    for (unsigned round = 0; round < 2; round++) {
        size_t octets = arrive_in_tunnel(s, first);
        (void)expect_tunnelled(s, octets + (SEGMENTS - 1) * PAYLOAD, &outer);
        assert_int_equal(outer, 34);
        expect_nothing(s);
    }
    assert_int_equal(refused, 1);
    assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0) & DP_OFFLOAD_TUN_UDP_TUNNEL, DP_OFFLOAD_TUN_UDP_TUNNEL);
}

static void test_refused_ones_in_a_tunnel_end_no_others(void **state) {
    struct site *s = *state;
    uint8_t first[2048], got[TUNNEL_HEADER + 65536];
    refuse_outer_below = UINT16_MAX;
    show_end(s, true);
    size_t octets = arrive_in_tunnel(s, first);
    assert_int_equal(recv(s->host[1], got, sizeof got, 0), TUNNEL_HEADER + octets);
    assert_memory_equal(got + TUNNEL_HEADER, first, octets);
    for (unsigned i = 1; i < SEGMENTS; i++)
        assert_int_equal(recv(s->host[1], got, sizeof got, 0), TUNNEL_HEADER + octets);
    expect_nothing(s);
    assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0),
                     DP_OFFLOAD_TUN_CSUM | DP_OFFLOAD_TUN_TSO4 | DP_OFFLOAD_TUN_TSO6 | DP_OFFLOAD_TUN_USO4 | DP_OFFLOAD_TUN_USO6);
    assert_int_equal(refused, 2);
    arrive(s, 0);
    assert_int_equal(recv(s->host[1], got, sizeof got, 0), TUNNEL_HEADER + TCP_HEADERS + SEGMENTS * PAYLOAD);
}

/* The header of a device is everybody's who reads it: it stays long whatever is turned off later. */
static void test_turned_off_they_are_not_made(void **state) {
    struct site *s = *state;
    uint8_t first[2048];
    uint16_t outer;
    int without = DP_OFFLOAD_ALL & ~DP_OFFLOAD_TUN_UDP_TUNNEL;
    (void)dp_offloads_set(s->dp, 0, 0, 0, (uint32_t)without);
    show_end(s, true);
    size_t octets = arrive_in_tunnel(s, first);
    for (unsigned i = 0; i < SEGMENTS; i++)
        assert_int_equal(expect_tunnelled(s, octets, &outer).gso_type, VIRTIO_NET_HDR_GSO_NONE);
    assert_int_equal(header, TUNNEL_HEADER);
    assert_int_equal(dp_offloads_set(s->dp, 0, 0, 0, DP_OFFLOAD_TUN_UDP_TUNNEL), 0); /* not by itself */
}

static void test_an_older_kernel_has_the_shorter_header(void **state) {
    struct site *s = *state;
    assert_int_equal(header, HEADER);
    assert_int_equal(dp_offloads_read(s->dp, 0, 0, 0) & DP_OFFLOAD_TUN_UDP_TUNNEL, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_burst_is_written_as_one_super_packet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_super_packet_is_cut_and_written_at_once_and_there_are_no_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_whatever_it_is_refused_with_its_packets_are_not_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kernel_short_of_memory_gets_them_one_by_one_and_keeps_the_offload, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_device_that_takes_nothing_says_nothing_of_its_offloads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_given_up_is_not_turned_on_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_packets_in_a_tunnel_are_written_as_one, setup_tunnels, teardown),
        cmocka_unit_test_setup_teardown(test_only_where_a_kernel_has_the_tunnel, setup_tunnels, teardown),
        cmocka_unit_test_setup_teardown(test_a_kernel_that_counts_an_ethernet_header_is_told_so, setup_tunnels, teardown),
        cmocka_unit_test_setup_teardown(test_refused_ones_in_a_tunnel_end_no_others, setup_tunnels, teardown),
        cmocka_unit_test_setup_teardown(test_turned_off_they_are_not_made, setup_tunnels, teardown),
        cmocka_unit_test_setup_teardown(test_an_older_kernel_has_the_shorter_header, setup, teardown),
    };
    return cmocka_run_group_tests_name("tun_io", tests, NULL, NULL);
}
