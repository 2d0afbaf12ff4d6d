"""ICMP errors are judged by the packet that they quote (RFC 4301 §6), in both directions.

A router behind site a, whose own address no selector holds, tells a host of site b that its packet did not arrive.
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop

from ipsec_dp.dataplane import Action, PolicyRule
from ipsec_dp.ipsec.selectors import Range
from ipsec_dp.rig.plane import pair, selector, selectors_of
from tests.unit.sites import arrive, from_a, padded, seal

ROUTER = {4: "172.16.0.1", 6: "fd00:ffff::1"}
LOCAL = {4: "10.1.0.5", 6: "2001:db8:1::5"}
REMOTE = {4: "10.2.0.9", 6: "2001:db8:2::9"}
ELSEWHERE = {4: "10.9.0.9", 6: "2001:db8:9::9"}
SERVICE = {"protocol": Range(17, 17), "local_ports": Range(53, 53)}


@pytest.fixture
def site():
    with pair() as made:
        yield made


def quoted(version=4, source=None, destination=None, port=53):
    kind = IP if version == 4 else IPv6
    return kind(src=source or REMOTE[version], dst=destination or LOCAL[version]) / UDP(sport=4711, dport=port)


def error(version=4, about=None, to=None, kind=3):
    """What the router says of a packet."""
    head = ICMP(type=kind) if version == 4 else ICMPv6DestUnreach() if kind == 3 else ICMPv6PacketTooBig(mtu=1280)
    about = quoted(version) if about is None else about
    network = IP(src=ROUTER[4], dst=to or REMOTE[4]) if version == 4 else IPv6(src=ROUTER[6], dst=to or REMOTE[6])
    return bytes(network / head / bytes(about))


def outcome(site, packet):
    """What the outbound step of a made of a packet: "sent", or the reason why not."""
    site.a.push(packet)
    site.a.step()
    if site.a.sent():
        return "sent"
    ((reason, _),) = site.a.drops.items()
    return reason


@pytest.mark.parametrize(("version", "kind"), [(4, 3), (4, 11), (4, 12), (6, 3), (6, 2)])
def test_an_error_crosses_with_the_traffic_it_is_about(site, version, kind):
    packet = error(version, kind=kind)
    assert site.transfer([packet]) == [packet]


@pytest.mark.parametrize(
    "packet",
    [
        error(about=quoted(destination=ELSEWHERE[4])),
        error(6, about=quoted(6, destination=ELSEWHERE[6])),
        error(kind=5),  # a redirect
        error(kind=8),  # no error at all
        error(about=quoted(source="10.2.0.77")),  # goes to another host than the one whose packet it quotes
        error(about=b"\x45" * 19),
        error(about=quoted(6)),
        error()[:28],
    ],
    ids=[
        "other traffic",
        "other traffic, IPv6",
        "redirect",
        "echo",
        "to a stranger",
        "cut off",
        "IPv6 in ICMPv4",
        "quotes nothing",
    ],
)
def test_what_quotes_no_protected_packet_is_judged_by_its_own_header(site, packet):
    if len(packet) == 28:
        packet = bytes(IP(src=ROUTER[4], dst=REMOTE[4]) / ICMP(type=3))
    assert outcome(site, packet) == "policy_none"
    (datagram,) = [from_a(site, seal(site, padded(packet, 41 if packet[0] >> 4 == 6 else 4), 1))]
    assert arrive(site.b, datagram) == []
    assert site.b.drops == {"selectors": 1}


def test_a_fragment_of_an_error_is_judged_by_its_own_header(site):
    packet = IPv6(src=ROUTER[6], dst=REMOTE[6]) / IPv6ExtHdrFragment(m=1) / ICMPv6DestUnreach() / bytes(quoted(6))
    assert outcome(site, bytes(packet)) == "policy_none"


def test_a_quoted_packet_is_read_behind_its_extension_headers(site):
    about = IPv6(src=REMOTE[6], dst=LOCAL[6]) / IPv6ExtHdrHopByHop() / UDP(sport=1, dport=2)
    assert outcome(site, error(6, about=about)) == "sent"


WHOLE = selectors_of("a")[0]
PROTECT, DISCARD, BYPASS = Action.PROTECT, Action.DISCARD, Action.BYPASS
ICMP_RULE = {"protocol": Range(1, 1)}
ORDERS = [
    # rules in order (bounds, action), what becomes of an error about a datagram to port 53 that a host inside sends
    ([(SERVICE, DISCARD), ({}, PROTECT)], "policy_discard"),
    ([(SERVICE, PROTECT), ({}, DISCARD)], "sent"),
    ([(ICMP_RULE, DISCARD), ({}, PROTECT)], "policy_discard"),
    ([({}, PROTECT), (SERVICE, DISCARD)], "sent"),
    ([(SERVICE, BYPASS), ({}, PROTECT)], "sent"),
    ([(ICMP_RULE, BYPASS), (SERVICE, PROTECT)], "policy_bypass"),
]


@pytest.mark.parametrize(("rules", "says"), ORDERS)
def test_the_first_rule_that_holds_the_error_or_what_it_quotes_decides(site, rules, says):
    pair_of = [(selector("10.1.0.0/16", "10.2.0.0/16", **bounds), action) for bounds, action in rules]
    site.a.set_policy(PolicyRule(each, action, 0, 0) for each, action in pair_of)
    packet = bytes(IP(src=LOCAL[4], dst=REMOTE[4]) / ICMP(type=3, code=3) / quoted())
    assert outcome(site, packet) == says


def test_an_error_about_discarded_traffic_is_dropped_inbound_too(site):
    site.b.set_policy(
        [
            PolicyRule(selector("10.2.0.0/16", "10.1.0.0/16", protocol=Range(17, 17), remote_ports=Range(53, 53)), DISCARD, 0),
            PolicyRule(selectors_of("b")[0], PROTECT, 0),
        ]
    )
    assert site.transfer([error()]) == []
    assert site.b.drops == {"policy_inbound": 1}
    packet = error(about=quoted(port=54))
    assert site.transfer([packet]) == [packet]


def test_what_may_bypass_is_dropped_in_the_tunnel_interface(site):
    """Kernel routing lets it bypass; what comes here all the same (a fragment without ports) is neither sealed nor let out."""
    service = {"protocol": Range(17, 17), "remote_ports": Range(53, 53)}
    site.a.set_policy([PolicyRule(selector("10.1.0.0/16", "10.2.0.0/16", **service), BYPASS, 0), PolicyRule(WHOLE, PROTECT, 0)])
    first = IP(src=LOCAL[4], dst=REMOTE[4], flags="MF") / UDP(sport=1, dport=53, len=2000) / (b"x" * 64)
    assert outcome(site, bytes(first)) == "policy_bypass"
    later = IP(src=LOCAL[4], dst=REMOTE[4], frag=9, proto=17) / (b"x" * 64)
    site.a.push(bytes(later))
    site.a.step()
    assert len(site.a.sent()) == 1, "a later fragment shows no ports, so the next rule decides (RFC 4301 §7)"
