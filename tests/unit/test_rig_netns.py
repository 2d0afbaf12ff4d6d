"""Of gateways in namespaces, what needs none: packets that cross a hop, wires and clocks that refuse, rules for nftables."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.config import load
from ipsec_dp.dataplane import Direction, SaParams
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig import NatBox, NetnsWire, RigError
from ipsec_dp.rig.capture import kind
from ipsec_dp.rig.configs import loaded
from ipsec_dp.rig.netns_host import datagram_of, local_prefixes, nearer
from ipsec_dp.rig.packets import checksum, ipv4, ipv6, udp
from ipsec_dp.rig.plane import keymat
from ipsec_dp.rig.real_clock import ADVANCE_MAX_S, RealClock
from ipsec_dp.rig.wireshark import esp_line
from tests.unit.rig_sites import site

PORTS = {"a": "port0", "b": "port1"}


@pytest.mark.parametrize("ends", [("10.1.0.5", "10.2.0.5"), ("fd00:1::5", "fd00:2::5")])
def test_a_hop_that_is_taken_back_leaves_a_packet_as_it_was(ends):
    packet = udp(ends[0], ends[1], b"hello")
    at = 8 if packet[0] >> 4 == 4 else 7
    crossed = packet[:at] + bytes((packet[at] - 1,)) + packet[at + 1 :]
    if at == 8:
        head = crossed[:10] + bytes(2) + crossed[12:20]
        crossed = crossed[:10] + checksum(head).to_bytes(2) + crossed[12:]
    assert nearer(crossed) == packet
    assert nearer(packet[:at] + b"\xff" + packet[at + 1 :])[at] == 255


def test_outer_packets_are_read_as_datagrams():
    ike = datagram_of(udp("192.0.2.1", "192.0.2.2", bytes(28), ports=(500, 500)))
    assert ike is not None
    assert (ike.ike, ike.octets, str(ike.destination.address), ike.source.port) == (True, 56, "192.0.2.2", 500)
    esp = datagram_of(ipv6("2001:db8::1", "2001:db8::2", bytes(40), protocol=50))
    assert esp is not None
    assert (esp.udp, esp.octets) == (False, 80)
    assert datagram_of(ipv4("192.0.2.1", "192.0.2.2", bytes(40), protocol=6)) is None
    later = udp("192.0.2.1", "192.0.2.2", bytes(40))
    assert datagram_of(later[:6] + b"\x00\x10" + later[8:]) is None
    assert kind(later) == "udp"


def test_hosts_are_where_local_selectors_are_but_not_everywhere(tmp_path):
    config = loaded(site("a"), tmp_path, {})
    assert [*map(str, local_prefixes(config))] == ["10.1.0.0/16"]
    everywhere = (tmp_path / "gateway.toml").read_text().replace('"10.1.0.0/16"', '"0.0.0.0/0"')
    (tmp_path / "gateway.toml").write_text(everywhere)
    assert local_prefixes(load(tmp_path / "gateway.toml")) == set()


def test_what_the_kernel_cannot_do_to_a_wire_is_refused_at_once():
    for options, wrong in (
        ({"delay": 0.1}, "delay: not in namespaces"),
        ({"jitter": 0.1, "seed": 1}, "jitter, seed: not in namespaces"),
        ({"los": 0.1}, "a wire has no los"),
        ({"loss": 2}, "no probability"),
        ({"mtu": 100}, "576"),
        ({"nat": NatBox("a", "203.0.113.1", expires=30)}, "does not expire"),
    ):
        with pytest.raises(RigError, match=wrong):
            NetnsWire(**options)
    wire = NetnsWire(nat=NatBox("a", "203.0.113.1"))
    for refused in (lambda: wire.rules, lambda: setattr(wire, "loss", -1), lambda: setattr(wire, "mtu", 1), lambda: wire.cut("a")):
        with pytest.raises(RigError):
            refused()
    assert wire.nat is not None
    with pytest.raises(RigError, match="rebind"):
        wire.nat.rebind()


def test_what_a_wire_does_is_said_to_nftables():
    wire = NetnsWire(loss=0.25, nat=NatBox("a", "203.0.113.1"))
    wire.cut()
    rules = wire.ruleset(PORTS, [ip_address("192.0.2.1"), ip_address("2001:db8::1")]).splitlines()
    assert {"drop", "numgen random mod 1000 < 250 drop"} <= set(rules)
    assert "ip saddr { 192.0.2.1 } meta l4proto udp snat to 203.0.113.1:20000-29999" in rules
    wire.mend()
    for loss, rule in ((1.0, "drop"), (0.0001, "numgen random mod 1000 < 1 drop")):  # 1000 is out of nftables' range
        wire.loss = loss
        assert rule in wire.ruleset(PORTS, []).splitlines()
    wire.loss = 0
    assert not any("drop" in rule for rule in wire.ruleset(PORTS, []).splitlines())
    assert not any("snat" in rule for rule in wire.ruleset(PORTS, []).splitlines()), "nobody is inside yet"


def test_a_wire_of_two_passes_what_it_does_not_lose_whatever_that_of_all_does():
    wire = NetnsWire(loss=0.25)
    one, other = list(PORTS)[:2]
    there, back = f"iifname {PORTS[one]} oifname {PORTS[other]}", f"iifname {PORTS[other]} oifname {PORTS[one]}"
    lost = "numgen random mod 1000 < 250 drop"
    assert list(wire.of_pair(PORTS, (one, other))) == [f"{each} {what}" for each in (there, back) for what in (lost, "accept")]
    wire.loss = 0
    wire.cut()
    assert list(wire.of_pair(PORTS, (one, other))) == [f"{each} {what}" for each in (there, back) for what in ("drop", "accept")]
    rules = NetnsWire(loss=1.0).ruleset(PORTS, [], wire.of_pair(PORTS, (one, other))).splitlines()
    assert rules.index(f"{there} accept") < rules.index("drop")


def test_real_time_is_waited_for_and_neither_goes_back_nor_leaps():
    clock = RealClock()
    before = clock.now()
    assert clock.advance(0.01) >= round((before + 0.01) * 1e9)
    assert (clock.seconds, clock()) >= (before, before)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    with pytest.raises(RigError, match="use a gateway in memory"):
        clock.advance(ADVANCE_MAX_S + 1)
    with pytest.raises(RigError, match="use a gateway in memory"):
        clock.leap(1)


def test_a_key_is_a_line_of_wiresharks_table():
    suite = parse_suite("aes128gcm16")
    params = SaParams(direction=Direction.INBOUND, spi=0x1001, suite=suite, keymat=keymat(suite, "to a"), tunnel=0, interface=0)
    key = bytes(keymat(suite, "to a")).hex()
    assert esp_line(params) == f'"IPv4","*","*","0x00001001","AES-GCM [RFC4106]","0x{key}","NULL",""'
