"""The path with offloads carries what the path without carries: every packet's octets, and the order within each flow."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.config import value_types
from ipsec_dp.databases.sad_events import OffloadLoss
from ipsec_dp.dataplane import (
    ALL_OFFLOADS,
    LINK_OFFLOADS,
    DataPlane,
    Df,
    Encapsulation,
    Endpoint,
    Gso,
    Limits,
    MemoryDatagram,
    MemoryPacket,
    Offload,
    OuterPath,
    SaFlag,
    offloads_named,
)
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.offload import ACK, CWR, ECE, FIN, PSH, TCP, Segment, aggregate, cut, run_of, super_packet
from ipsec_dp.rig.packets import UDP
from ipsec_dp.rig.plane import pair
from tests.unit.sites import HOST, outbound, sequence_of, to_b

ALL = ~Offload(0)


def segment(payload: bytes = b"", version: int = 4, protocol: int = TCP, **fields) -> Segment:
    """From a host of site a to one of site b."""
    ends = [ipaddress.ip_address(HOST[version, site]).packed for site in "ab"]
    return Segment(ends[0], ends[1], protocol, payload, **fields)


def content(octets: int, seed: int = 0) -> bytes:
    return bytes((at * 31 + seed * 7 + (at >> 8)) & 0xFF for at in range(octets))


def turn_on(gateway) -> None:
    gateway.plane.set_tun_offloads(0, ALL)
    gateway.plane.set_link_offloads(gateway.link, ALL)


def pull_cut(gateway) -> list[bytes]:
    """What went to the host, super-packets cut as its kernel would."""
    supers = list(iter(lambda: gateway.plane.pull_super(0), None))
    return [packet for each in supers for packet in cut(each)]


def sealed_of(site, *packets) -> list:
    for packet in packets:
        site.a.plane.push_tun(0, packet)
    site.a.step()
    return site.a.sent()


def arriving(site, datagrams):
    return [replace(each, local=site.b.endpoint, remote=site.a.endpoint) for each in datagrams]


def flow_of(packet: bytes) -> bytes:
    start, end = (12, 24) if packet[0] >> 4 == 4 else (8, 44)
    return packet[:1] + packet[start - 3 : start - 2] + packet[start:end] if start == 12 else packet[6:7] + packet[start:end]


def by_flow(packets):
    flows: dict[bytes, list[bytes]] = {}
    for packet in packets:
        flows.setdefault(flow_of(packet), []).append(packet)
    return flows


# ---- any mix


@st.composite
def bursts(draw):
    """Bursts of several flows: each a segment whose payload is cut at a size; now and then one follows itself seamlessly."""
    flows = [
        segment(
            version=draw(st.sampled_from((4, 6))),
            protocol=draw(st.sampled_from((TCP, UDP))),
            ports=(1000 + number, 5201),
            sequence=draw(st.integers(0, 2**32 - 1)),
            options=draw(st.sampled_from((b"", bytes([1] * 12)))),
            identification=draw(st.integers(0, 2**16 - 1)),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    made = []
    for seed in range(draw(st.integers(1, 10))):
        number = draw(st.integers(0, len(flows) - 1))
        size = draw(st.sampled_from((1, 17, 100, 536, 1386)))
        octets = draw(st.one_of(st.just(size), st.integers(0, 12 * size)))
        whole = replace(
            flows[number],
            payload=content(octets, seed),
            flags=draw(st.sampled_from((ACK, ACK, ACK, ACK | PSH, ACK | PSH | FIN, ACK | ECE | CWR, ACK | ECE))),
            tos=draw(st.sampled_from((0, 0, 0, 2, 3, 0xB8))),
        )
        made.append((whole, size))
        last = list(run_of(whole, size))[-1]
        flows[number] = last.next(b"") if draw(st.booleans()) else replace(flows[number], acknowledgment=seed)
    return made


def spoil(packet: bytes, at: int) -> bytes:
    """A packet whose upper checksum is wrong."""
    start = 24 if packet[0] >> 4 == 4 else 44
    at = start + at % (len(packet) - start)
    return packet[:at] + bytes([packet[at] ^ 0x40]) + packet[at + 1 :]


@settings(max_examples=150, deadline=None)
@given(made=bursts(), data=st.data())
def test_with_offloads_the_same_comes_out_as_without(made, data):
    spoilt = data.draw(st.sets(st.integers(0, len(made) - 1), max_size=2), "spoilt")
    single: list[bytes] = []
    supers: list[bytes | MemoryPacket] = []
    for number, (whole, size) in enumerate(made):
        packets = [each.packet() for each in run_of(whole, size)]
        if number in spoilt:
            packets[0] = spoil(packets[0], number * 37)
        single += packets
        supers += packets if number in spoilt else [super_packet(whole, size)]
    with pair() as plain, pair() as fast:
        turn_on(fast.a)
        turn_on(fast.b)
        slow_path, fast_path = sealed_of(plain, *single), sealed_of(fast, *supers)
        assert fast_path == slow_path  # the very same ESP packets
        order = data.draw(
            st.permutations(range(len(fast_path))) if len(fast_path) < 20 else st.just(range(len(fast_path))), "order"
        )
        datagrams = [fast_path[at] for at in order]
        plain.b.arrive(*arriving(plain, datagrams))
        fast.b.arrive(*aggregate(arriving(fast, datagrams)))
        plain.b.step()
        fast.b.step()
        wanted, got = plain.b.pulled(), pull_cut(fast.b)
        assert sorted(wanted) == sorted(single)
        assert by_flow(got) == by_flow(wanted)
        assert fast.b.drops == plain.b.drops == {}
        for name in "ab":
            ours, theirs = (site.a if name == "a" else site.b for site in (fast, plain))
            assert ours.plane.counters() == theirs.plane.counters()


def test_a_run_arrives_as_one_super_packet():
    """The control for the above: offloads do happen."""
    whole = segment(content(20 * 1386), options=bytes([1] * 12))
    with pair("aes128gcm16-esn") as site:
        turn_on(site.a)
        turn_on(site.b)
        datagrams = sealed_of(site, super_packet(whole, 1386))
        assert len(datagrams) == 20
        (one,) = aggregate(arriving(site, datagrams))
        site.b.arrive(one)
        assert site.b.step() == 20
        assert site.b.plane.pull_super(0) == super_packet(whole, 1386)


@pytest.mark.parametrize("suite", ["aes256gcm16", "chacha20poly1305", "aes128-sha256", "aes256-sha512"])
@pytest.mark.parametrize("encapsulation", list(Encapsulation))
def test_every_cipher_opens_where_the_packet_lies(suite, encapsulation):
    whole = segment(content(5000), version=6)
    with pair(suite, encapsulation=encapsulation) as site:
        turn_on(site.a)
        turn_on(site.b)
        site.a.plane.push_tun(0, super_packet(whole, 1200))
        site.exchange()
        assert pull_cut(site.b) == [each.packet() for each in run_of(whole, 1200)]


def test_tfc_padding_hides_the_size_of_each_packet_of_a_burst():
    whole = segment(content(2000))
    with pair(tfc_octets=800) as site:
        turn_on(site.a)
        turn_on(site.b)
        datagrams = sealed_of(site, super_packet(whole, 700))
        assert len({len(each.data) for each in datagrams}) == 1
        site.b.arrive(*aggregate(arriving(site, datagrams)))
        site.b.step()
        assert pull_cut(site.b) == [each.packet() for each in run_of(whole, 700)]


# ---- one packet each: life, replay, ECN, drops


@pytest.mark.parametrize("limits", [Limits(hard_packets=7), Limits(hard_octets=7 * 140)])
def test_a_burst_does_not_cross_a_hard_limit(limits):
    with pair(limits=limits) as site:
        datagrams = sealed_of(site, super_packet(segment(content(2000)), 100))
        assert [sequence_of(each) for each in datagrams] == list(range(1, 8))
        assert site.a.drops == {"hard_limit": 13}
        assert (outbound(site).packets, outbound(site).octets) == (7, 7 * 140)
        assert SaFlag.HARD_LIMIT in outbound(site).flags


def test_a_burst_does_not_cross_the_last_sequence_number():
    with pair(sequence=2**32 - 4) as site:
        datagrams = sealed_of(site, super_packet(segment(content(1000)), 100))
        assert [sequence_of(each) for each in datagrams] == [2**32 - 3, 2**32 - 2, 2**32 - 1]
        assert site.a.drops == {"sequence_exhausted": 7}


def test_a_soft_limit_is_told_by_the_burst_that_reaches_it():
    with pair(limits=Limits(soft_packets=5)) as site:
        assert len(sealed_of(site, super_packet(segment(content(1000)), 100))) == 10
        assert SaFlag.SOFT_LIMIT in outbound(site).flags


def test_every_datagram_of_an_aggregate_is_checked_by_itself():
    """Replays, a wrong ICV, an unknown SPI, IKE and a keepalive between good packets."""
    whole = segment(content(600))
    with pair() as site:
        turn_on(site.b)
        good = arriving(site, sealed_of(site, super_packet(whole, 100)))
        size = len(good[0].data)
        broken = good[2].data[:-1] + bytes([good[2].data[-1] ^ 1])
        rows = [
            good[0].data,
            good[0].data,
            good[1].data,
            broken,
            b"\xde\xad\xbe\xef" * (size // 4),
            bytes(size),
            good[3].data,
            b"\xff",
        ]
        site.b.arrive(replace(good[0], data=b"".join(rows), gso_size=size))
        assert site.b.step() == len(rows)
        assert site.b.drops == {"replay": 1, "icv": 1, "unknown_spi": 1}
        counters = site.b.plane.counters()
        assert (counters.packets_in, counters.ike_in, counters.keepalives_in) == (3, 1, 1)
        wanted = [each.packet() for each in run_of(whole, 100)]
        assert pull_cut(site.b) == [wanted[0], wanted[1], wanted[3]]


def test_congestion_marks_are_merged_packet_by_packet():
    whole = segment(content(600), tos=2)
    with pair() as site:
        turn_on(site.b)
        datagrams = arriving(site, sealed_of(site, super_packet(whole, 100)))
        assert {each.tos for each in datagrams} == {2}
        datagrams[2:4] = (replace(each, tos=3) for each in datagrams[2:4])
        site.b.arrive(*aggregate(datagrams))
        site.b.step()
        wanted = [replace(each, tos=3 if at in (2, 3) else 2).packet() for at, each in enumerate(run_of(whole, 100))]
        supers = list(iter(lambda: site.b.plane.pull_super(0), None))
        assert [packet for each in supers for packet in cut(each)] == wanted
        assert len(supers) == 3


def test_a_burst_without_an_sa_is_dropped_as_the_packets_it_is():
    with pair() as site:
        site.a.sad.remove(site.outbound("a"))
        sealed_of(site, super_packet(segment(content(1000)), 100))
        assert site.a.drops == {"no_sa": 10}


def test_a_burst_that_waits_for_an_sa_is_sent_whole():
    """A single packet's checksum too is completed once, when it is sent."""
    whole = segment(content(1000))
    single = segment(content(50), protocol=UDP)
    data, field = single.partial()
    with pair(hold_octets=4096) as site:
        handle = site.outbound("a")
        site.a.sad.switch(site.children["a"], None)
        unfinished = MemoryPacket(data, needs_checksum=True, checksum_start=20, checksum_offset=field)
        assert sealed_of(site, super_packet(whole, 100), unfinished) == []
        assert site.a.drops == {}
        site.a.sad.switch(site.children["a"], handle)
        site.exchange()
        assert site.b.pulled() == [*(each.packet() for each in run_of(whole, 100)), single.packet()]


def test_a_full_link_loses_the_whole_run():
    with pair(queue=8) as site:
        turn_on(site.a)
        assert sealed_of(site, super_packet(segment(content(1000)), 100)) == []
        assert site.a.drops == {"send_full": 10}


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("offload_kind", {"gso": Gso.TCPV6}),
        ("offload_kind", {"gso": 3}),
        ("offload_fields", {"gso_size": 0}),
        ("offload_fields", {"checksum_start": 0}),
        ("offload_fields", {"checksum_start": 65535}),
        ("offload_fields", {"checksum_offset": 6}),
        ("offload_fields", {"needs_checksum": False}),
        ("offload_fields", {"gso": Gso.NONE, "checksum_start": 60000}),
    ],
)
def test_a_lying_offload_header_is_refused(reason, change):
    with pair() as site:
        assert sealed_of(site, replace(super_packet(segment(content(1000)), 100), **change)) == []
        assert site.a.drops == {reason: 1}
        assert len(sealed_of(site, to_b(b"next"))) == 1


def test_a_single_packets_checksum_is_completed():
    whole = segment(content(333), protocol=UDP)
    data, field = whole.partial()
    with pair() as site:
        site.a.plane.push_tun(0, MemoryPacket(data, needs_checksum=True, checksum_start=20, checksum_offset=field))
        site.exchange()
        assert site.b.pulled() == [whole.packet()]


# ---- what is on


def test_doubles_begin_without_offloads_and_take_what_they_are_told():
    with pair() as site:
        assert set(site.a.plane.offloads().values()) == {False}
        assert site.a.plane.set_tun_offloads(0, Offload.TUN_TSO4) == Offload.TUN_TSO4 == site.a.plane.tun_offloads(0)
        assert site.a.plane.set_link_offloads(site.a.link, Offload.UDP_GRO) == site.a.plane.link_offloads(site.a.link)
        assert {name for name, on in site.a.plane.offloads().items() if on} == {"tun_tso4", "udp_gro"}
        with pytest.raises(DataPlaneError):
            site.a.plane.tun_offloads(1)
        with pytest.raises(DataPlaneError):
            site.a.plane.set_link_offloads(5, ALL)


def test_only_what_is_on_is_coalesced():
    whole = segment(content(600))
    with pair() as site:
        site.b.plane.set_tun_offloads(0, ALL & ~Offload.TUN_TSO4)
        site.a.plane.push_tun(0, super_packet(whole, 100))
        site.exchange()
        assert site.b.pulled() == [each.packet() for each in run_of(whole, 100)]


# ---- real sockets on the loopback interface


class Loopback:
    """Gateway a sends to a socket of the test; both on 127.0.0.1."""

    def __init__(self, site) -> None:
        self.site = site
        self.ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for each in (self.ours, self.theirs):
            each.bind(("127.0.0.1", 0))
        self.theirs.setblocking(False)
        here, there = (Endpoint(ipaddress.ip_address("127.0.0.1"), each.getsockname()[1]) for each in (self.ours, self.theirs))
        self.link = site.a.plane.attach_link(Encapsulation.UDP, here, self.ours.fileno(), Df.SET)
        site.a.plane.set_path(site.outbound("a"), OuterPath(here, there, Encapsulation.UDP, self.link))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ours.close()
        self.theirs.close()

    def received(self) -> list[bytes]:
        rows = []
        while True:
            try:
                rows.append(self.theirs.recv(65536))
            except BlockingIOError:
                return rows


def test_udp_gro_is_set_on_both_sockets_of_a_link():
    """The kernel asks any socket that shares the port whether to join datagrams."""
    udp_gro = 104  # <linux/udp.h>
    here = Endpoint(ipaddress.ip_address("127.0.0.1"), 1)
    with pair() as site, socket.socket(type=socket.SOCK_DGRAM) as receive, socket.socket(type=socket.SOCK_DGRAM) as other:
        link = site.a.plane.attach_link(Encapsulation.UDP, here, receive.fileno(), Df.SET, other.fileno())
        for wanted in (ALL, Offload(0)):
            site.a.plane.set_link_offloads(link, wanted)
            assert {each.getsockopt(socket.IPPROTO_UDP, udp_gro) for each in (receive, other)} == {int(bool(wanted))}


def test_a_run_leaves_a_real_socket_as_the_datagrams_it_is():
    whole = segment(content(70 * 500 + 123))  # more than one send takes
    with pair() as site, Loopback(site) as loopback:
        assert site.a.plane.link_offloads(loopback.link) == Offload.UDP_SEGMENT | Offload.UDP_GRO
        sealed_of(site, super_packet(whole, 500))
        received = loopback.received()
        assert [int.from_bytes(each[4:8]) for each in received] == list(range(1, 72))
        assert site.a.drops == {}
        site.b.arrive(*(MemoryDatagram(each, remote=site.a.endpoint) for each in received))
        site.b.step()
        assert site.b.pulled() == [each.packet() for each in run_of(whole, 500)]


def test_a_refused_run_is_sent_again_at_once_and_the_offload_given_up():
    """UDP_SEGMENT takes no socket without checksums; the datagrams do fit."""
    so_no_check = 11
    whole = segment(content(10 * 500))
    with pair() as site, Loopback(site) as loopback:
        loopback.ours.setsockopt(socket.SOL_SOCKET, so_no_check, 1)
        sealed_of(site, super_packet(whole, 500))
        assert [int.from_bytes(each[4:8]) for each in loopback.received()] == list(range(1, 11))
        assert site.a.drops == {}
        (lost,) = site.a.events()
        assert isinstance(lost, OffloadLoss)
        assert (lost.link, lost.interface, lost.on) == (loopback.link, None, Offload.UDP_GRO)
        assert site.a.plane.link_offloads(loopback.link) == Offload.UDP_GRO
        sealed_of(site, super_packet(whole, 500))
        assert len(loopback.received()) == 10
        assert site.a.events() == []


def test_what_was_given_up_stays_so_for_sockets_made_anew_at_that_address():
    so_no_check = 11
    with pair() as site, Loopback(site) as loopback:
        plane = site.a.plane
        loopback.ours.setsockopt(socket.SOL_SOCKET, so_no_check, 1)
        sealed_of(site, super_packet(segment(content(10 * 500)), 500))
        assert plane.given_up() == ["udp_segment"]
        assert plane.set_link_offloads(loopback.link, ALL) == Offload.UDP_GRO
        here, elsewhere = (Endpoint(ipaddress.ip_address(each), 1) for each in ("127.0.0.1", "127.0.0.2"))
        plane.detach_link(loopback.link)
        for local, on in ((here, Offload.UDP_GRO), (elsewhere, LINK_OFFLOADS)):
            link = plane.attach_link(Encapsulation.UDP, local, loopback.theirs.fileno(), Df.SET)
            assert plane.link_offloads(link) == on
        assert plane.given_up() == ["udp_segment"]


@pytest.mark.parametrize("wanted", [Offload(0), Offload.UDP_GRO, Offload.UDP_SEGMENT | Offload.TUN_TSO4, ALL_OFFLOADS])
def test_a_device_is_attached_with_no_offload_that_is_not_wanted(wanted):
    local = Endpoint(ipaddress.ip_address("127.0.0.1"), 1)
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1, offloads=wanted) as plane, socket.socket(type=socket.SOCK_DGRAM) as outer:
        link = plane.attach_link(Encapsulation.UDP, local, outer.fileno(), Df.SET)
        assert plane.link_offloads(link) == wanted & LINK_OFFLOADS


def test_a_configuration_names_offloads_as_status_does():
    names = get_args(value_types.OffloadName)
    assert names == tuple(str(flag.name).lower() for flag in Offload)
    assert offloads_named(names) == ALL_OFFLOADS
    assert offloads_named(()) == Offload(0)


def test_a_real_socket_brings_aggregates():
    """What the loopback interface carries as one super-packet is received as one and opened datagram by datagram."""
    whole = segment(content(20 * 500))
    with pair() as site, Loopback(site) as loopback:
        loopback.theirs.setblocking(True)
        link = site.b.plane.attach_link(
            Encapsulation.UDP, Endpoint(ipaddress.ip_address("127.0.0.1"), 1), loopback.theirs.fileno(), Df.SET
        )
        assert Offload.UDP_GRO in site.b.plane.link_offloads(link)
        sealed_of(site, super_packet(whole, 500))
        assert site.b.plane.step_inbound(site.clock.ns, budget=1) == 20
        assert site.b.pulled() == [each.packet() for each in run_of(whole, 500)]
        site.b.plane.set_link_offloads(link, Offload(0))
        sealed_of(site, super_packet(whole, 500))
        assert site.b.plane.step_inbound(site.clock.ns, budget=1) == 1
