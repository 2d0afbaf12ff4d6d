"""Super-packets in a UDP tunnel (VXLAN, Geneve): the path with them carries what the path without them carries."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.dataplane import ALL_OFFLOADS, Gso, MemoryPacket, Offload, TunnelSettings
from ipsec_dp.rig.offload import ACK, CWR, ECE, FIN, PSH, TCP, Segment, Tunnelled, aggregate, super_packet, tunnelled_run_of, vxlan
from ipsec_dp.rig.packets import UDP
from ipsec_dp.rig.plane import pair
from tests.unit.sites import HOST
from tests.unit.test_offloads import arriving, by_flow, content, pull_cut, sealed_of, turn_on

GENEVE = bytes.fromhex("03006558 00002a00 0102 8002 5a5a5a5a 5a5a5a5a 020000000001 020000000002")
PORT = 4789


def outer(version: int = 4, source: str = "a", **fields) -> Segment:
    """UDP from a host of one site to one of the other."""
    ends = [ipaddress.ip_address(HOST[version, site]).packed for site in ("ab" if source == "a" else "ba")]
    return Segment(ends[0], ends[1], UDP, b"", **{"ports": (50000, PORT), "df": False, **fields})


def inner(payload: bytes = b"", version: int = 4, protocol: int = TCP, **fields) -> Segment:
    ends = [
        ipaddress.ip_address(address).packed for address in (("10.99.0.1", "10.99.0.2") if version == 4 else ("fd99::1", "fd99::2"))
    ]
    return Segment(ends[0], ends[1], protocol, payload, **fields)


def geneve(around: Segment, segment: Segment, *, checksum: bool = False) -> Tunnelled:
    """In Geneve (RFC 8926 §3.4) with an option."""
    return Tunnelled(around, GENEVE + (b"\x08\x00" if segment.ip_octets == 20 else b"\x86\xdd"), segment, checksum)


def left_to_us(whole: Tunnelled) -> MemoryPacket:
    """One packet as a kernel hands it over that has the tunnel: the inner checksum is not written yet."""
    made = super_packet(replace(whole, checksum=False), 1)
    return replace(made, gso=Gso.NONE, gso_size=0, network=0)


def show_end(gateway, version: int = 4, **fields) -> None:
    """A kernel behind gateway b shows that it has the end of a tunnel."""
    gateway.plane.push_tun(0, left_to_us(vxlan(outer(version, "b", **fields), inner(b"hello"))))
    gateway.step()
    assert len(gateway.sent()) == 1


# ---- any mix


@st.composite
def bursts(draw):
    """Bursts of several flows in several tunnels, some of which share an outer flow."""
    flows = [
        draw(st.sampled_from((vxlan, geneve)))(
            outer(draw(st.sampled_from((4, 6))), ports=(50000 + number // 2, PORT), identification=draw(st.integers(0, 2**16 - 1))),
            inner(
                version=draw(st.sampled_from((4, 6))),
                protocol=draw(st.sampled_from((TCP, TCP, UDP))),
                ports=(1000 + number, 5201),
                sequence=draw(st.integers(0, 2**32 - 1)),
                identification=draw(st.integers(0, 2**16 - 1)),
            ),
            checksum=draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    made = []
    for seed in range(draw(st.integers(1, 8))):
        number = draw(st.integers(0, len(flows) - 1))
        size = draw(st.sampled_from((1, 17, 100, 536, 1300)))
        octets = draw(st.one_of(st.just(size), st.integers(0, 12 * size)))
        segment = replace(
            flows[number].inner,
            payload=content(octets, seed),
            flags=draw(st.sampled_from((ACK, ACK, ACK, ACK | PSH, ACK | PSH | FIN, ACK | ECE | CWR, ACK | ECE))),
            tos=draw(st.sampled_from((0, 0, 2, 3))),
        )
        whole = replace(flows[number], inner=segment, outer=replace(flows[number].outer, tos=draw(st.sampled_from((0, 0, 2, 3)))))
        made.append((whole, size))
        last = list(tunnelled_run_of(whole, size))[-1]
        if draw(st.booleans()):
            flows[number] = replace(last, outer=last.outer.next(b""), inner=last.inner.next(b""))
    return made


@settings(max_examples=150, deadline=None)
@given(
    made=bursts(),
    spoilt=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2000), st.integers(1, 255)), max_size=3),
    data=st.data(),
)
def test_with_offloads_the_same_comes_out_as_without(made, spoilt, data):
    """Octets changed on their way, in any header or payload, come out as they were changed."""
    single = [each.packet() for whole, size in made for each in tunnelled_run_of(whole, size)]
    supers: list[bytes | MemoryPacket] = [super_packet(whole, size) for whole, size in made]
    for number, at, bits in spoilt:
        packet = bytearray(single[number % len(single)])
        begin = 40 if packet[0] >> 4 == 6 else 20  # the outer IP header says what the packet is
        packet[begin + at % (len(packet) - begin)] ^= bits
        single[number % len(single)] = bytes(packet)
        supers = list(single)
    with pair() as plain, pair() as fast:
        turn_on(fast.a)
        turn_on(fast.b)
        for version in data.draw(st.sampled_from(((), (4,), (4, 6))), "shown"):
            show_end(fast.b, version)
        slow_path, fast_path = sealed_of(plain, *single), sealed_of(fast, *supers)
        assert fast_path == slow_path
        plain.b.arrive(*arriving(plain, slow_path))
        fast.b.arrive(*aggregate(arriving(fast, fast_path)))
        plain.b.step()
        fast.b.step()
        wanted, got = plain.b.pulled(), pull_cut(fast.b)
        assert sorted(wanted) == sorted(single)
        assert by_flow(got) == by_flow(wanted)
        assert fast.b.drops == plain.b.drops == fast.a.drops == {}


@pytest.mark.parametrize("wrap", [vxlan, geneve])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("checksum", [False, True])
def test_a_run_arrives_as_one_super_packet(wrap, version, checksum):
    """The control for the above: offloads do happen."""
    whole = wrap(outer(version), inner(content(20 * 1300)), checksum=checksum)
    with pair() as site:
        turn_on(site.a)
        turn_on(site.b)
        show_end(site.b, version)
        datagrams = sealed_of(site, super_packet(whole, 1300))
        assert len(datagrams) == 20
        site.b.arrive(*aggregate(arriving(site, datagrams)))
        assert site.b.step() == 20
        assert site.b.plane.pull_super(0) == super_packet(whole, 1300)


# ---- who gets them


def arrives_as(site, whole: Tunnelled) -> int:
    """How many packets and super-packets it comes out as."""
    site.b.arrive(*aggregate(arriving(site, sealed_of(site, super_packet(whole, 100)))))
    site.b.step()
    return len(list(iter(lambda: site.b.plane.pull_super(0), None)))


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ({}, 1),
        ({"ports": (1, PORT)}, 1),
        ({"ports": (PORT, PORT + 1)}, 10),  # the end of another tunnel
        ({"version": 6}, 10),
    ],
)
def test_only_the_end_of_a_kernels_tunnel_gets_super_packets(shown, wanted):
    """A program that reads the port would get them as one datagram."""
    with pair() as site:
        turn_on(site.b)
        show_end(site.b, **shown)
        assert arrives_as(site, vxlan(outer(), inner(content(1000)))) == wanted


def test_a_program_shows_no_tunnel():
    """Its socket leaves the checksum of the UDP datagram alone to us, whatever is in it."""
    with pair() as site:
        turn_on(site.b)
        data, field = replace(outer(source="b"), payload=vxlan(outer(), inner(b"x")).packet()[28:]).partial()
        site.b.plane.push_tun(0, MemoryPacket(data, needs_checksum=True, checksum_start=20, checksum_offset=field))
        site.b.step()
        assert arrives_as(site, vxlan(outer(), inner(content(1000)))) == 10


def test_what_was_shown_is_believed_for_ten_seconds():
    whole = vxlan(outer(), inner(content(1000)))
    with pair() as site:
        turn_on(site.b)
        show_end(site.b)
        site.clock.advance(9)
        assert arrives_as(site, whole) == 1
        site.clock.advance(1)
        assert arrives_as(site, whole) == 10


def test_a_device_without_the_offload_gets_none():
    with pair() as site:
        site.b.plane.set_tun_offloads(0, ALL_OFFLOADS & ~Offload.TUN_UDP_TUNNEL)
        show_end(site.b)
        assert arrives_as(site, vxlan(outer(), inner(content(1000)))) == 10


# ---- too long, and lying


def test_what_does_not_fit_is_handled_as_one_by_one():
    """The outer packets may be fragmented: their payload is not cut anew, as that of TCP alone is."""
    whole = vxlan(outer(), inner(content(5000)))
    with pair() as slow, pair() as fast:
        for site in (slow, fast):
            site.a.plane.set_tunnel(0, TunnelSettings(mtu=600))
        assert sealed_of(fast, super_packet(whole, 1000)) == sealed_of(
            slow, *(each.packet() for each in tunnelled_run_of(whole, 1000))
        )


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("offload_kind", {"gso": Gso.TCPV4 | Gso.UDP_TUNNEL_IPV6}),
        ("offload_kind", {"gso": Gso.TCPV6 | Gso.UDP_TUNNEL_IPV4}),
        ("offload_kind", {"gso": int(Gso.UDP_TUNNEL_IPV4)}),
        ("offload_kind", {"gso": Gso.TCPV4}),
        ("offload_fields", {"network": 0}),
        ("offload_fields", {"network": 49}),
        ("offload_fields", {"network": 65534}),
        ("offload_fields", {"checksum_start": 20}),
        ("offload_fields", {"gso_size": 0}),
        ("offload_fields", {"needs_checksum": False}),
    ],
)
def test_a_lying_offload_header_is_refused(reason, change):
    with pair() as site:
        assert sealed_of(site, replace(super_packet(vxlan(outer(), inner(content(1000))), 100), **change)) == []
        assert site.a.drops == {reason: 1}
