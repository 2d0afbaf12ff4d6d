"""Inbound: what becomes of a datagram from the outer network (RFC 4301 §5.2, RFC 4303 §3.4)."""

from __future__ import annotations

import pytest

from ipsec_dp.dataplane import Action, Encapsulation, Endpoint, MemoryDatagram, PolicyRule, SaFlag
from ipsec_dp.ipsec.selectors import Range
from ipsec_dp.rig.packets import ipv4, ipv6, udp
from ipsec_dp.rig.plane import keymat, pair, selector, selectors_of
from tests.unit.sites import HOST, arrive, from_a, inbound, install_inbound_anew, padded, seal, to_a, to_b


@pytest.fixture
def site():
    with pair() as made:
        yield made


def sealed(site, *packets: bytes) -> list[MemoryDatagram]:
    """What a makes of inner packets, as it would arrive at b."""
    site.a.push(*packets)
    site.a.step()
    return [from_a(site, datagram.data, datagram.tos) for datagram in site.a.sent()]


# ---- what is delivered


@pytest.mark.parametrize("encapsulation", Encapsulation)
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("version", [4, 6])
def test_packets_cross_both_ways(encapsulation, outer, version):
    with pair(encapsulation=encapsulation, outer=outer) as site:
        there, back = to_b(b"there", version), to_a(b"back", version)
        assert site.transfer([there]) == [there]
        assert site.transfer([back], back=True) == [back]
        assert (site.a.drops, site.b.drops) == ({}, {})
        info = inbound(site)
        assert (info.packets, info.octets, info.sequence) == (1, len(there), 1)
        assert site.b.plane.counters().packets_in == 1


def test_tfc_padding_behind_the_inner_packet_is_taken_off(site):
    packet = to_b(b"inner")
    assert arrive(site.b, from_a(site, seal(site, padded(packet + bytes(200), 4), 1))) == [packet]


def test_packets_may_come_in_any_order_within_the_window(site):
    datagrams = sealed(site, *[to_b(bytes([i])) for i in range(100)])
    assert len(arrive(site.b, *reversed(datagrams))) == 100
    assert site.b.drops == {}


def test_each_sa_delivers_to_its_interface():
    with pair(interfaces=2) as site:
        install_inbound_anew(site, interface=1)
        site.transfer([to_b()])
        assert site.b.pulled(0) == []
        assert site.b.pulled(1) == [to_b()]


def test_sas_of_two_interfaces_in_one_burst_keep_their_packets_apart():
    """Plaintext of several SAs lies in one buffer until it is sent."""
    with pair(interfaces=2) as site:
        first = sealed(site, *[to_b(bytes([i]) * 50) for i in range(4)])
        site.install_inbound()
        handle = site.inbound("b")
        site.b.sad.remove(handle)
        site.b.sad.install_inbound(
            spi=site.spis["b"],
            suite=site.suite,
            keymat=keymat(site.suite, "to b 2"),
            selectors=selectors_of("b"),
            tunnel=0,
            interface=1,
            replay_window=64,
        )
        site.switch()
        second = sealed(site, *[to_b(bytes([100 + i]) * 60) for i in range(4)])
        mixed = [datagram for both in zip(first, second, strict=True) for datagram in both]
        assert arrive(site.b, *mixed) == [to_b(bytes([i]) * 50) for i in range(4)]
        assert site.b.pulled(1) == [to_b(bytes([100 + i]) * 60) for i in range(4)]


# ---- ECN (RFC 6040 §4.2)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("inner", "outer", "merged"),
    [(0, 0, 0), (2, 3, 3), (1, 3, 3), (2, 1, 1), (2, 0, 2), (3, 0, 3), (0xB8, 0, 0xB8), (0xBA, 3, 0xBB)],
)
def test_outer_congestion_marks_reach_the_inner_packet(site, version, inner, outer, merged):
    (datagram,) = sealed(site, to_b(version=version, tos=inner))
    (packet,) = arrive(site.b, from_a(site, datagram.data, outer))
    assert packet == to_b(version=version, tos=merged)


def test_a_mark_on_a_packet_that_is_not_ecn_capable_drops_it(site):
    (datagram,) = sealed(site, to_b(tos=0))
    assert arrive(site.b, from_a(site, datagram.data, 3)) == []
    assert site.b.drops == {"ecn": 1}


# ---- selectors and policy


@pytest.mark.parametrize(
    "packet",
    [
        udp("10.9.0.1", HOST[4, "b"]),
        udp(HOST[4, "a"], "10.9.0.1"),
        to_a(),
        udp("2001:db8:9::1", HOST[6, "b"]),
        udp("127.0.0.1", "127.0.0.1"),
    ],
)
def test_what_lies_outside_the_sas_selectors_is_dropped_though_authentic(site, packet):
    version = 4 if packet[0] >> 4 == 4 else 6
    assert arrive(site.b, from_a(site, seal(site, padded(packet, 4 if version == 4 else 41), 1))) == []
    assert site.b.drops == {"selectors": 1}
    assert inbound(site).drops["selectors"] == 1


def test_discarded_traffic_is_discarded_inbound_too(site):
    """The first rule that holds the reverse flow decides, though the SA would carry it."""
    everything = selectors_of("b")[0]
    site.b.set_policy(
        [
            PolicyRule(selector("10.2.0.1/32", "10.1.0.1/32"), Action.DISCARD, 0),
            PolicyRule(everything, Action.PROTECT, 0),
        ]
    )
    other = udp("10.1.0.2", "10.2.0.1")
    assert site.transfer([to_b(), other]) == [other]
    assert site.b.drops == {"policy_inbound": 1}


@pytest.mark.parametrize(
    "other",
    [
        udp("10.1.0.1", "10.2.0.1", ports=(5000, 53)),
        udp("10.1.0.1", "10.2.0.1", ports=(53, 6000)),
        udp("10.1.0.1", "10.2.0.2"),
        udp("10.1.0.2", "10.2.0.1"),
        udp("2001:db8:1::1", "2001:db8:2::1"),
        ipv4("10.1.0.1", "10.2.0.1", b"", protocol=50),
    ],
)
def test_flows_that_take_turns_in_a_burst_are_judged_each_by_itself(site, other):
    """The answer about one flow is never given for the next one, however little they differ; nor that of an older policy."""
    one = udp("10.1.0.1", "10.2.0.1")
    ports = {"protocol": Range(17, 17), "local_ports": Range(6000, 6000), "remote_ports": Range(5000, 5000)}
    discard = PolicyRule(selector("10.2.0.1/32", "10.1.0.1/32", **ports), Action.DISCARD, 0)
    rules = [discard, *(PolicyRule(everything, Action.PROTECT, 0) for everything in selectors_of("b"))]
    site.b.set_policy(rules)
    assert site.transfer([one, other, one, other]) == [other, other]
    assert site.transfer([other, one, one, other]) == [other, other]
    site.b.set_policy(rules[1:])
    assert site.transfer([one, other]) == [one, other]


def test_a_discard_rule_behind_the_protect_rule_does_not_reach_inbound_packets(site):
    site.b.set_policy(
        [PolicyRule(selectors_of("b")[0], Action.PROTECT, 0), PolicyRule(selector("0.0.0.0/0", "0.0.0.0/0"), Action.DISCARD, 0)]
    )
    assert site.transfer([to_b()]) == [to_b()]


# ---- the peer's address (RFC 7296 §2.23)


def elsewhere(site, datagram, port=40000):
    return MemoryDatagram(datagram.data, datagram.local, Endpoint(site.a.endpoint.address, port))


def test_the_peer_is_known_from_installation(site):
    assert inbound(site).peer == site.a.endpoint


def test_a_peer_that_moved_is_flagged_and_told_once_and_nothing_else_changes(site):
    first, second, third = sealed(site, *[to_b()] * 3)
    assert len(arrive(site.b, first)) == 1
    assert inbound(site).flags == SaFlag(0)
    assert len(arrive(site.b, elsewhere(site, second), elsewhere(site, third))) == 2
    assert inbound(site).peer == Endpoint(site.a.endpoint.address, 40000)
    assert inbound(site).flags == SaFlag.PEER_MOVED
    (event,) = site.b.events()
    assert event.flags == SaFlag.PEER_MOVED
    assert site.b.plane.read_sa(site.outbound("b")).peer is None
    site.b.push(to_a())
    site.b.step()
    assert [d.remote for d in site.b.sent()] == [site.a.endpoint]  # only the control plane moves a path


def test_an_old_packet_does_not_move_the_peer(site):
    """Whoever holds packets back and sends them from elsewhere must not draw the traffic there."""
    first, second = sealed(site, *[to_b()] * 2)
    arrive(site.b, second)
    assert len(arrive(site.b, elsewhere(site, first))) == 1
    assert inbound(site).peer == site.a.endpoint
    assert inbound(site).flags == SaFlag(0)


def test_a_forged_packet_does_not_move_the_peer(site):
    (datagram,) = sealed(site, to_b())
    forged = MemoryDatagram(datagram.data[:-1] + bytes([datagram.data[-1] ^ 1]), datagram.local, datagram.remote)
    assert arrive(site.b, elsewhere(site, forged)) == []
    assert inbound(site).peer == site.a.endpoint


def test_an_unknown_peer_is_learnt_without_a_word():
    with pair() as site:
        handle = install_inbound_anew(site)
        assert site.b.sad.read(handle).peer is None
        site.transfer([to_b()])
        assert site.b.sad.read(handle).peer == site.a.endpoint
        assert site.b.sad.read(handle).flags == SaFlag(0)


# ---- what shares the port with ESP (RFC 3948 §2.2, §2.3)


def test_keepalives_are_counted_and_no_more(site):
    assert arrive(site.b, from_a(site, b"\xff"), from_a(site, b"\xff")) == []
    assert site.b.plane.counters().keepalives_in == 2
    assert site.b.drops == {}


def test_under_protocol_50_nothing_shares_and_a_zero_spi_is_unknown():
    with pair(encapsulation=Encapsulation.ESP) as site:
        arrive(site.b, from_a(site, b"\xff"), from_a(site, bytes(40)))
        assert site.b.drops == {"runt": 1, "unknown_spi": 1}
        assert (site.b.plane.counters().keepalives_in, site.b.plane.counters().ike_in) == (0, 0)


def test_extension_headers_hide_no_ports(site):
    """A selector on ports looks behind them."""
    packet = ipv6(HOST[6, "a"], HOST[6, "b"], bytes([17, 0, 1, 4, 0, 0, 0, 0]) + to_b(b"x", 6)[40:], protocol=60)
    assert site.transfer([packet]) == [packet]
    fragment = ipv4(HOST[4, "a"], HOST[4, "b"], b"rest of something")
    assert site.transfer([fragment]) == [fragment]
