"""Outer sockets: DF as asked for, every datagram at the receiving socket, options, and who is to blame when they cannot be had.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

The sockets are gwA's; gwB sends to them and records what they send.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import DataPlane, Encapsulation, Endpoint
from ipsec_dp.host import MARK, HostError
from ipsec_dp.host import sockets as outer
from ipsec_dp.network.outer_sockets import SocketLinks
from ipsec_dp.rig import capture, netns
from tests.netns import harness

VERSIONS = pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
KINDS = pytest.mark.parametrize("kind", ["udp", "esp"])
ESP = bytes.fromhex("0000100100000001")


@pytest.fixture
def pair(sites):
    """Makes a pair on gwA's outer address."""
    made = []

    def make(kind, version):
        local = ip_address(netns.GW_A_OUTER[version])
        made.append(sites.gw_a.call(lambda: outer.udp_pair(local) if kind == "udp" else outer.esp_pair(local)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def peer_sends(sites, kind, version, payloads):
    """gwB sends each payload from a port of its own."""
    family = (socket.AF_INET, socket.AF_INET6)[version]

    def send():
        for payload in payloads:
            raw = (socket.SOCK_RAW, outer.PROTOCOL_ESP) if kind == "esp" else (socket.SOCK_DGRAM, 0)
            with socket.socket(family, *raw) as sender:
                sender.sendto(payload, (netns.GW_A_OUTER[version], 4500 if kind == "udp" else 0))

    sites.gw_b.call(send)


def arrived(target, count):
    """So many datagrams, as soon as they are there: a busy kernel hands them over a little later."""
    received: list[bytes] = []
    while len(received) < count and select.select([target], [], [], 5)[0]:
        received.append(target.recv(1 << 16))
    return received


def drained(target):
    received = []
    try:
        while True:
            received.append(target.recv(1 << 16))
    except BlockingIOError:
        return received


@VERSIONS
@KINDS
def test_no_datagram_is_ever_lost_to_the_sending_socket(sites, pair, kind, version):
    made = pair(kind, version)
    payloads = [ESP + struct.pack(">I", i) for i in range(500)]
    peer_sends(sites, kind, version, payloads)
    received = [data[20:] if kind == "esp" and version == 0 else data for data in arrived(made.receive, len(payloads))]
    assert received == payloads
    assert drained(made.other) == []


def matched(sites, version):
    """How many raw sockets of gwA a packet of gwB's is copied to, by what `ss` shows of their ends: getpeername(2) names no peer
    without a port."""
    rows = sites.gw_a.run("ss", "-H", "-n", "-a", "-w", f"-{(4, 6)[version]}").stdout.splitlines()
    ends = [row.split()[-2:] for row in rows]
    return sum(netns.GW_A_OUTER[version] in local and netns.GW_A_OUTER[version] not in peer for local, peer in ends)


@VERSIONS
def test_a_packet_is_copied_for_no_socket_that_refuses_it(sites, pair, version):
    made = pair("esp", version)
    assert matched(sites, version) == 1
    sites.gw_a.call(lambda: made.other.sendto(ESP, (netns.GW_B_OUTER[version], 0)))  # it sends to others all the same


@VERSIONS
def test_without_steering_they_would_be_lost(sites, version):
    """The control: two sockets that merely share the port divide the datagrams among them."""
    family = (socket.AF_INET, socket.AF_INET6)[version]

    def plain():
        shared = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((netns.GW_A_OUTER[version], 4500))
        return shared

    with sites.gw_a.call(plain), sites.gw_a.call(plain) as second:
        peer_sends(sites, "udp", version, [b"x"] * 200)
        assert len(arrived(second, 21)) == 21


@KINDS
def test_df_of_each_socket_on_ipv4(sites, pair, kind, tmp_path):
    made = pair(kind, 0)
    to = (netns.GW_B_OUTER[0], 4500 if kind == "udp" else 0)
    for target, size in ((made.receive, 1000), (made.other, 1001)):
        path = tmp_path / str(size)
        with capture.Capture(sites.gw_a, "wan", path) as recording:
            target.sendto(bytes(size), to)
            harness.settle(sites.gw_a, "wan")  # once the neighbour is known
            recording.stop()
        (packet,) = (packet for _, packet in capture.read(path) if packet[0] == 0x45 and len(packet) > size)
        assert bool(packet[6] & 0x40) == (target is made.receive)


@VERSIONS
@KINDS
def test_too_large_is_an_error_or_fragments(sites, pair, kind, version, tmp_path):
    made = pair(kind, version)
    to = (netns.GW_B_OUTER[version], 4500 if kind == "udp" else 0)
    with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
        made.receive.sendto(bytes(1501), to)
    found = harness.crossed(sites.gw_a, "wan", tmp_path / "x", lambda: made.other.sendto(bytes(1501), to))
    assert sum(found.packets[name] for name in ("esp", "ike", "udp-fragment")) == 2


@VERSIONS
def test_an_icmp_message_does_not_change_what_is_sent(sites, pair, version, tmp_path):
    """gwB claims that its next link takes 1280 octets; 1400 still leave whole: the data plane decides what to believe."""
    made = pair("udp", version)
    sites.gw_b.ip("link set lan mtu 1280")
    to = (netns.HOST_B[version], 4500)

    def twice():
        for _ in range(2):
            made.receive.sendto(b"\x01" * 1400, to)
            made.other.sendto(b"\x01" * 1400, to)
            sites.gw_a.run("ping", "-c", "1", netns.GW_B_OUTER[version])  # the ICMP messages have arrived before the second round

    found = harness.crossed(sites.gw_a, "wan", tmp_path / "x", twice)
    # The second socket fragments IPv6 once the kernel has heard that it must (the whole is counted too): nobody on the way may.
    assert (found.packets["esp-udp"], found.packets["udp-fragment"]) == ((4, 0), (4, 2))[version]


# Of an IPv4 packet of ESP the header has the traffic class; where it went is known of each raw socket.
TOLD = {
    ("udp", 0): {(socket.IPPROTO_IP, outer.IP_PKTINFO), (socket.IPPROTO_IP, socket.IP_TOS)},
    ("udp", 1): {(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)},
    ("esp", 0): set(),
    ("esp", 1): {(socket.IPPROTO_IPV6, socket.IPV6_TCLASS)},
}


@VERSIONS
@KINDS
def test_what_is_told_of_each_datagram(sites, pair, kind, version):
    made = pair(kind, version)
    peer_sends(sites, kind, version, [ESP])
    assert select.select([made.receive], [], [], 5)[0]
    _, ancillary, _, _ = made.receive.recvmsg(2048, 256)
    assert {(level, option) for level, option, _ in ancillary} == TOLD[kind, version]


@VERSIONS
@KINDS
def test_options_of_both(pair, kind, version):
    made = pair(kind, version)
    for each in (made.receive, made.other):
        assert each.getsockopt(socket.SOL_SOCKET, outer.SO_MARK) == MARK
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * outer.BUFFER_OCTETS
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * outer.BUFFER_OCTETS
        assert not each.getblocking()
        assert not os.get_inheritable(each.fileno())


@VERSIONS
def test_raw_sockets_keep_the_kernel_from_refusing_esp(sites, pair, version, tmp_path):
    def refused():
        return harness.crossed(sites.gw_a, "wan", tmp_path / "x", lambda: peer_sends(sites, "esp", version, [ESP])).packets

    assert refused().keys() == {"esp", ("icmp", "icmpv6")[version]}
    pair("esp", version)
    assert refused().keys() == {"esp"}


@VERSIONS
def test_ike_socket(sites, version):
    local = ip_address(netns.GW_A_OUTER[version])
    with sites.gw_a.call(lambda: outer.ike_socket(local)) as ike:
        assert ike.getsockname()[:2] == (str(local), 500)
        assert ike.getsockopt(socket.SOL_SOCKET, outer.SO_MARK) == MARK


def test_link_local_address_is_bound_on_its_interface(sites):
    text = sites.gw_a.run("ip", "-6", "-o", "address", "show", "dev", "wan", "scope", "link").stdout
    local = ip_address(text.split()[3].partition("/")[0] + "%wan")
    made = sites.gw_a.call(lambda: outer.udp_pair(local))
    assert made.receive.getsockname()[3] == sites.gw_a.call(lambda: socket.if_nametoindex("wan"))
    made.close()


@VERSIONS
def test_port_that_is_taken_even_by_one_that_shares_it(sites, pair, version):
    pair("udp", version)
    local = netns.GW_A_OUTER[version]
    with pytest.raises(HostError, match=f"UDP port 4500 of {local}: taken by another program"):
        pair("udp", version)


@KINDS
def test_address_that_is_not_ours(sites, kind):
    make = outer.udp_pair if kind == "udp" else outer.esp_pair
    what = "UDP port 4500" if kind == "udp" else "IP protocol 50"
    with pytest.raises(HostError, match=f"{what} of 203.0.113.1: not an address of this host"):
        sites.gw_a.call(lambda: make(ip_address("203.0.113.1")))


def test_without_privilege_buffers_stay_within_the_limit():
    class Unprivileged(socket.socket):
        def setsockopt(self, *arguments):
            if arguments[1] in (outer.SO_RCVBUFFORCE, outer.SO_SNDBUFFORCE):
                raise PermissionError
            super().setsockopt(*arguments)

    with Unprivileged(socket.AF_INET, socket.SOCK_DGRAM) as target:
        outer.set_buffers(target, 1 << 16)
        assert target.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 << 16


def test_an_outer_socket_whose_mark_was_taken_is_opened_anew_and_the_link_stays(sites, monkeypatch):
    """What somebody with pidfd_getfd(2) can do. The data plane sends by the new one, under the same number."""
    opened = []
    udp_pair = outer.udp_pair

    def noted(*ends, **how):
        opened.append(udp_pair(*ends, **how))
        return opened[-1]

    monkeypatch.setattr(outer, "udp_pair", noted)
    local = Endpoint(ip_address(netns.GW_A_OUTER[0]), 4500)

    def life():
        with DataPlane() as plane:
            links = SocketLinks(plane)
            number = links.link(local, Encapsulation.UDP)
            assert links.broken() == {}
            opened[0].other.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0)
            ((what, wrong),) = links.broken().items()
            assert (what, wrong) == ("UDP port 4500 of 192.0.2.1", "lost its mark, without which its packets enter the tunnel")
            links.reopen(what)
            assert links.broken() == {}
            assert links.link(local, Encapsulation.UDP) == number
            assert opened[1].other.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == MARK
            links.close()

    sites.gw_a.call(life)
