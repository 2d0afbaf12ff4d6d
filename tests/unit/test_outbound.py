"""Outbound: what becomes of a packet that the TUN device gives us (RFC 4301 §5.1)."""

from __future__ import annotations

import ipaddress
import os
import socket

import pytest

from ipsec_dp.databases.sad_events import Acquire, DeviceFailure
from ipsec_dp.dataplane import (
    Action,
    Channel,
    DataPlane,
    Df,
    Dscp,
    Encapsulation,
    Endpoint,
    OuterPath,
    PolicyRule,
)
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.selectors import Range
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.packets import ipv4, ipv6, udp
from ipsec_dp.rig.plane import PlaneRig, keymat, pair, selector, selectors_of
from tests.unit.sites import arrive, outbound, sequence_of, spi_of, to_b

GCM = parse_suite("aes128gcm16")


@pytest.fixture
def site():
    with pair() as made:
        yield made


def send(gateway: PlaneRig, *packets: bytes, interface: int = 0):
    """Pushes packets and steps; what left by the link."""
    gateway.push(*packets, interface=interface)
    gateway.step()
    return gateway.sent()


def install(gateway: PlaneRig, spi: int, tunnel: int = 0, **parameters: int):
    return gateway.plane.install_outbound(
        spi=spi,
        suite=GCM,
        keymat=keymat(GCM, "k"),
        tunnel=tunnel,
        path=to_peer(gateway),
        **parameters,
    )


def to_peer(gateway: PlaneRig, **settings) -> OuterPath:
    return gateway.path_to(Endpoint(ipaddress.ip_address("192.0.2.2"), 4500), **settings)


# ---- policy decides


@pytest.mark.parametrize("version", [4, 6])
def test_protected_packets_leave_as_esp_to_the_peer(site, version):
    packet = to_b(b"secret", version)
    (datagram,) = send(site.a, packet)
    assert (datagram.remote, datagram.local) == (site.b.endpoint, site.a.endpoint)
    assert (spi_of(datagram), sequence_of(datagram)) == (site.spis["b"], 1)
    assert b"secret" not in datagram.data
    assert len(datagram.data) == 8 + 8 + (len(packet) + 2 + 3) // 4 * 4 + 16
    info = outbound(site)
    assert (info.packets, info.octets, info.sequence) == (1, len(packet), 1)
    assert (info.first_use, info.last_use) == (site.clock.ns, site.clock.ns)
    counters = site.a.plane.counters()
    assert (counters.packets_out, counters.octets_out, counters.packets_in) == (1, len(packet), 0)


def test_the_first_rule_that_holds_the_packet_decides(site):
    blocked = selector("10.1.0.0/16", "10.2.9.0/24")
    rules = [PolicyRule(blocked, Action.DISCARD, 0), PolicyRule(selectors_of("a")[0], Action.PROTECT, 0)]
    site.a.set_policy(rules)
    assert send(site.a, udp("10.1.0.1", "10.2.9.1")) == []
    assert len(send(site.a, to_b())) == 1
    site.a.set_policy(reversed(rules))
    assert len(send(site.a, udp("10.1.0.1", "10.2.9.1"))) == 1
    assert site.a.drops == {"policy_discard": 1}
    assert outbound(site).packets == 2


@pytest.mark.parametrize(
    "packet",
    [udp("10.1.0.1", "192.168.0.1"), udp("10.9.0.1", "10.2.0.1"), udp("10.2.0.1", "10.1.0.1"), udp("fd00::1", "fd00::2")],
    ids=["other destination", "other source", "reversed", "other version"],
)
def test_what_no_rule_holds_is_dropped(site, packet):
    assert send(site.a, packet) == []
    assert site.a.drops == {"policy_none": 1}
    assert outbound(site).sequence == 0


def test_without_any_policy_nothing_leaves():
    with PlaneRig("a", "192.0.2.1") as gateway:
        assert send(gateway, to_b()) == []
        assert gateway.drops == {"policy_none": 1}


def test_a_rule_for_a_tunnel_that_cannot_exist_discards(site):
    site.a.protect(selectors_of("a"), tunnel=16)
    assert send(site.a, to_b()) == []
    assert site.a.drops == {"policy_discard": 1}


def test_rules_belong_to_their_interface():
    with pair(interfaces=2) as site:
        assert send(site.a, to_b(), interface=1) == []
        assert site.a.drops == {"policy_none": 1}
        assert len(send(site.a, to_b(), interface=0)) == 1


def test_several_interfaces_and_tunnels_each_take_their_own_sa():
    with PlaneRig("a", "192.0.2.1", interfaces=2) as gateway:
        anything = selector("0.0.0.0/0", "0.0.0.0/0")
        gateway.set_policy(
            [
                PolicyRule(selector("0.0.0.0/0", "10.2.0.0/16"), Action.PROTECT, 0, 3),
                PolicyRule(selector("0.0.0.0/0", "10.2.0.0/16"), Action.PROTECT, 1, 5),
                PolicyRule(selector("0.0.0.0/0", "10.3.0.0/16"), Action.PROTECT, 1, 3),
            ]
        )
        for tunnel in (3, 5):
            child = gateway.plane.add_child(tunnel, [anything])
            gateway.plane.switch(tunnel, child, install(gateway, 0x1000 + tunnel, tunnel))
        assert [spi_of(d) for d in send(gateway, udp("10.1.0.1", "10.2.0.1"), interface=0)] == [0x1003]
        assert [spi_of(d) for d in send(gateway, udp("10.1.0.1", "10.2.0.1"), interface=1)] == [0x1005]
        assert [spi_of(d) for d in send(gateway, udp("10.1.0.1", "10.3.0.1"), interface=1)] == [0x1003]
        assert gateway.drops == {}


# ---- malformed inner packets


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"\x50" + to_b()[1:], "inner_version"),
        (b"\x00" * 40, "inner_version"),
        (to_b()[:19], "inner_length"),
        (to_b()[:-1], "inner_length"),
        (b"\x44" + to_b()[1:], "inner_length"),
        (to_b(version=6)[:39], "inner_length"),
        (to_b(version=6)[:-1], "inner_length"),
        (ipv6("2001:db8:1::1", "2001:db8:2::1", b"\x06\xff", protocol=60), "inner_header"),
    ],
)
def test_a_malformed_packet_is_dropped_and_spends_nothing(site, packet, reason):
    assert send(site.a, packet) == []
    assert site.a.drops == {reason: 1}
    assert outbound(site).sequence == 0


def test_octets_behind_the_inner_packet_are_not_sent(site):
    assert site.transfer([to_b(b"x") + b"rubbish"]) == [to_b(b"x")]


# ---- no SA: ask once


def test_without_an_sa_the_packet_is_dropped_and_asked_for_once_until_taken(site):
    site.a.sad.switch(site.children["a"], None)
    packet = to_b(bytes(1000))
    assert send(site.a, packet, packet, packet) == []
    assert site.a.events() == [Acquire(0, 0, packet[:256])]
    assert send(site.a, packet) == []
    assert site.a.events() == []
    site.a.sad.acquired(0)
    assert send(site.a, to_b(version=6)) == []
    assert site.a.events() == [Acquire(0, 0, to_b(version=6))]
    assert site.a.drops == {"no_sa": 5}


def test_the_acquire_flag_is_of_one_tunnel_and_is_taken_once():
    with PlaneRig("a", "192.0.2.1") as gateway:
        gateway.set_policy([PolicyRule(selectors_of("a")[0], Action.PROTECT, 0, 7)])
        assert not gateway.plane.take_acquire(7)
        send(gateway, to_b())
        assert not gateway.plane.take_acquire(6)
        assert gateway.plane.take_acquire(7)
        assert not gateway.plane.take_acquire(7)


def test_a_lost_acquire_is_asked_again_by_the_next_packet():
    """Nobody scans tunnels for the flag, so a full channel must not silence it for ever."""
    with PlaneRig("a", "192.0.2.1") as gateway:
        gateway.protect(selectors_of("a"))
        while gateway.plane.counters().punts_lost == 0:
            gateway.plane.take_acquire(0)
            send(gateway, to_b())
        while gateway.plane.read_punt(Channel.TRUSTED) is not None:
            pass
        send(gateway, to_b(b"again"))
        assert gateway.events() == [Acquire(0, 0, to_b(b"again"))]


# ---- links


def test_without_a_link_nothing_is_sealed(site):
    site.a.plane.detach_link(site.a.link)
    site.a.push(to_b())
    site.a.step()
    assert site.a.drops == {"no_link": 1}
    assert outbound(site).sequence == 0


@pytest.mark.parametrize("link", [1, 1023, 65535])
def test_a_link_that_is_not_there_is_no_link(site, link):
    path = site.a.path_to(site.b.endpoint)
    site.a.plane.set_path(site.outbound("a"), OuterPath(path.local, path.remote, path.encapsulation, link))
    assert send(site.a, to_b()) == []
    assert site.a.drops == {"no_link": 1}


def test_a_path_and_its_link_agree_about_encapsulation(site):
    """ESP meant for UDP never leaves as protocol 50, nor the other way round."""
    path = site.a.path_to(site.b.endpoint)
    wrong = OuterPath(path.local, path.remote, Encapsulation.ESP, path.link)
    site.a.plane.set_path(site.outbound("a"), wrong)
    assert send(site.a, to_b()) == []
    assert site.a.drops == {"no_link": 1}
    assert outbound(site).sequence == 0


def test_a_new_path_is_taken_by_the_next_packet(site):
    moved = Endpoint(site.b.endpoint.address, 40000)
    send(site.a, to_b())
    site.a.plane.set_path(site.outbound("a"), site.a.path_to(moved))
    (datagram,) = send(site.a, to_b())
    assert (datagram.remote, sequence_of(datagram)) == (moved, 2)


def test_a_full_link_costs_the_packets_that_do_not_fit():
    with pair(queue=2) as site:
        site.a.push(to_b(b"1"), to_b(b"2"))
        site.a.plane.step_outbound(site.clock.ns)
        site.a.push(to_b(b"3"))
        site.a.plane.step_outbound(site.clock.ns)
        assert [sequence_of(d) for d in site.a.sent()] == [1, 2]
        assert site.a.drops == {"send_full": 1}
        assert site.a.events() == []


def test_a_packet_whose_esp_no_datagram_holds_is_too_big(site):
    around = 8 + 8 + 2 + 16  # header, IV, trailer, ICV
    fits = 65507 // 4 * 4 - around  # what UDP over IPv4 can carry, less ESP
    assert send(site.a, ipv4("10.1.0.1", "10.2.0.1", bytes(fits + 1 - 20))) == []
    assert site.a.drops == {"too_big": 1}
    assert outbound(site).sequence == 0
    (datagram,) = send(site.a, ipv4("10.1.0.1", "10.2.0.1", bytes(fits - 20)))
    assert len(datagram.data) == 65504


def test_a_socket_that_refuses_is_counted_and_reported_once_a_second(site):
    """An IPv4 socket cannot send to an IPv6 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outer:
        link = site.a.plane.attach_link(Encapsulation.UDP, site.a.endpoint, outer.fileno(), Df.SET)
        path = OuterPath(site.a.endpoint, Endpoint(selectors_of("a")[1].remote.low, 4500), Encapsulation.UDP, link)
        site.a.plane.set_path(site.outbound("a"), path)
        assert send(site.a, to_b(), to_b()) == []
        assert site.a.drops == {"send_error": 2}
        (event,) = site.a.events()
        assert isinstance(event, DeviceFailure)
        assert (event.link, event.interface) == (link, None)
        assert event.error != 0
        site.clock.advance(1.5)
        send(site.a, to_b())
        assert len(site.a.events()) == 1


def test_a_tun_that_fails_is_reported_and_not_read_again():
    """A write-only descriptor stands for a device that was deleted."""
    ours, theirs = os.pipe()
    try:
        with PlaneRig("a", "192.0.2.1", interfaces=1) as gateway:
            gateway.plane.attach_tun(1, theirs)
            gateway.plane.step_outbound(gateway.clock.ns)
            (event,) = gateway.events()
            assert isinstance(event, DeviceFailure)
            assert (event.interface, event.link) == (1, None)
            gateway.clock.advance(10)
            gateway.plane.step_outbound(gateway.clock.ns)
            assert gateway.events() == []
    finally:
        os.close(ours)
        os.close(theirs)


# ---- what goes onto the wire


@pytest.mark.parametrize("first", [0, 0x1122334455667788, 2**64 - 1])
def test_the_iv_is_a_counter_from_where_it_was_told(site, first):
    """Never the same twice: the nonce is salt and IV (RFC 4106 §3)."""
    handle = install(site.a, 0x2000, iv=first)
    site.a.plane.switch(0, site.children["a"].number, handle)
    ivs = [int.from_bytes(d.data[8:16]) for d in send(site.a, to_b(), to_b(), to_b())]
    assert ivs == [(first + i) % 2**64 for i in range(3)]


def test_cbc_ivs_are_unpredictable_and_all_different():
    with pair("aes128-sha256") as site:
        ivs = {d.data[8:24] for d in send(site.a, *[to_b()] * 64)}
        assert len(ivs) == 64
        assert len({iv[:4] for iv in ivs}) > 60


def test_sequence_numbers_go_on_from_where_they_were_told(site):
    handle = install(site.a, 0x2000, sequence=41)
    site.a.plane.switch(0, site.children["a"].number, handle)
    assert [sequence_of(d) for d in send(site.a, to_b(), to_b())] == [42, 43]


@pytest.mark.parametrize(
    ("setting", "inner_df", "outer_df"),
    [
        (Df.COPY, False, Df.CLEAR),
        (Df.COPY, True, Df.SET),
        (Df.SET, False, Df.SET),
        (Df.SET, True, Df.SET),
        (Df.CLEAR, False, Df.CLEAR),
        (Df.CLEAR, True, Df.CLEAR),
    ],
)
def test_the_outer_df_bit_is_copied_set_or_cleared(setting, inner_df, outer_df):
    """RFC 4301 §8.1."""
    with pair(settings={"df": setting}) as site:
        (datagram,) = send(site.a, to_b(df=inner_df))
        assert datagram.df is outer_df


def test_ipv6_inside_counts_as_df_when_copied(site):
    (datagram,) = send(site.a, to_b(version=6))
    assert datagram.df is Df.SET


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("setting", "outer"), [(Dscp.COPY, 0xB9), (Dscp.ZERO, 0x01)])
def test_the_outer_tos_has_ecn_always_and_dscp_as_told(version, setting, outer):
    """RFC 6040 §4.1, RFC 2983."""
    with pair(settings={"dscp": setting}) as site:
        (datagram,) = send(site.a, to_b(version=version, tos=0xB9))
        assert datagram.tos == outer


@pytest.mark.parametrize("suite", ["aes128gcm16", "aes256-sha512-esn"])
def test_tfc_padding_hides_sizes_and_harms_no_neighbour(suite):
    """RFC 4303 §2.7: short packets leave at one size, and arrive as they were."""
    packets = [to_b(bytes([i]) * size) for i, size in enumerate((0, 1, 100, 471, 900))]
    with pair(suite, tfc_octets=500) as site:
        site.a.push(*packets)
        site.a.step()
        datagrams = site.a.sent()
        sizes = [len(datagram.data) for datagram in datagrams]
        assert len(set(sizes[:4])) == 1
        assert sizes[4] > sizes[0]
        assert arrive(site.b, *datagrams) == packets
        assert outbound(site).octets == sum(map(len, packets))


def test_bursts_longer_than_any_buffer_leave_in_order(site):
    packets = [to_b(i.to_bytes(2)) for i in range(300)]
    site.a.push(*packets)
    assert site.a.plane.step_outbound(site.clock.ns, budget=40) == 40
    site.a.step()
    assert [sequence_of(d) for d in site.a.sent()] == list(range(1, 301))


def test_a_budget_is_shared_fairly_between_interfaces():
    with pair(interfaces=2) as site:
        site.a.set_policy(PolicyRule(selectors_of("a")[0], Action.PROTECT, interface, 0) for interface in (0, 1))
        for interface in (0, 1):
            site.a.push(*[to_b(bytes([interface]))] * 10, interface=interface)
        for _ in range(2):
            site.a.plane.step_outbound(site.clock.ns, budget=5)
        site.carry(site.a)
        site.deliver(site.b)
        site.b.step()
        assert {packet[-1] for packet in site.b.pulled()} == {0, 1}


def test_selectors_by_protocol_and_port_choose_the_rule(site):
    web = selector("10.1.0.0/16", "10.2.0.0/16", protocol=Range(17, 17), remote_ports=Range(443, 443))
    site.a.protect([web])
    assert len(send(site.a, to_b(ports=(1, 443)))) == 1
    assert send(site.a, to_b(ports=(443, 1)), ipv4("10.1.0.1", "10.2.0.1", b"\0\1\1\xbb" * 5, protocol=6)) == []
    assert site.a.drops == {"policy_none": 2}


def test_a_step_of_a_worker_that_is_not_there_is_refused():
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1) as plane, pytest.raises(DataPlaneError, match="step"):
        plane.step_outbound(1, worker=1)
