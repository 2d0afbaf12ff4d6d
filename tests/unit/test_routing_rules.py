"""The host's rules: read from octets as the kernel sends them, written as `ip rule` takes them, compared with packets."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.host.routing_rules import (
    BLACKHOLE,
    FRA_L3MDEV,
    FRA_OIFNAME,
    FRA_SUPPRESS_IFGROUP,
    FRA_TABLE,
    FRA_TUN_ID,
    GOTO,
    LOOKUP,
    NOP,
    RouteQuestion,
    RoutingRule,
    body_of,
    dump_request,
    routing_rule_of,
    table_name,
)

NET_A, NET_B = ip_network("10.1.0.0/24"), ip_network("10.2.0.0/16")


def attribute(number, value):
    return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)


# "100: from 10.1.0.0/24 to 10.2.0.0/16 iif lan fwmark 0x5/0xff ipproto tcp dport 22-23 lookup 1000 suppress_prefixlength 8", and
# "99: not from all uidrange 0-5 goto 32766", as Linux 6.1 sends them.
FULL = struct.pack("=8BI", 2, 16, 24, 0, 252, 0, 0, 1, 0) + b"".join(
    (
        attribute(6, struct.pack("=I", 100)),
        attribute(1, bytes((10, 2, 0, 0))),
        attribute(2, bytes((10, 1, 0, 0))),
        attribute(3, b"lan\0"),
        attribute(10, struct.pack("=I", 5)),
        attribute(16, struct.pack("=I", 0xFF)),
        attribute(22, b"\x06"),
        attribute(24, struct.pack("=HH", 22, 23)),
        attribute(15, struct.pack("=I", 1000)),
        attribute(14, struct.pack("=I", 8)),
        attribute(13, b"\xff" * 4),
        attribute(21, b"\x04"),
    )
)
JUMP = struct.pack("=8BI", 2, 0, 0, 0, 0, 0, 0, 2, 2) + b"".join(
    (
        attribute(6, struct.pack("=I", 99)),
        attribute(4, struct.pack("=I", 32766)),
        attribute(14, b"\xff" * 4),
        attribute(20, struct.pack("=II", 0, 5)),
        attribute(21, b"\x00"),
    )
)


def read(octets: bytes) -> RoutingRule:
    rule = routing_rule_of(octets, 0, len(octets))
    assert rule is not None
    return rule


def test_a_rule_is_read_whole():
    full, jump = read(FULL), read(JUMP)
    assert (full.owner, jump.owner) == (4, 0)
    assert full == RoutingRule(
        version=4,
        priority=100,
        target=1000,
        source=NET_A,
        destination=NET_B,
        iif="lan",
        mark=(5, 0xFF),
        suppress=8,
        protocol=6,
        dports=(22, 23),
    )
    assert jump == RoutingRule(version=4, priority=99, action=GOTO, target=32766, invert=True, uids=(0, 5))


@pytest.mark.parametrize(
    "rule",
    [
        read(FULL),
        read(JUMP),
        RoutingRule(version=6, priority=20209, target=0xE5001218, mark=(0xE5, 0xFFFFFFFF), invert=True, owner=229),
        RoutingRule(version=4, priority=20208, target=254, suppress=0, owner=229),
        RoutingRule(version=6, priority=1, source=ip_network("2001:db8::/32"), oif="wan", tos=0x10, sports=(1, 9), uids=(7, 7)),
        RoutingRule(version=4, priority=2, action=NOP, target=7, mark=(0, 1), rest=((FRA_TUN_ID, bytes(7) + b"\1"), (99, b"x"))),
        RoutingRule(version=4, priority=3, action=GOTO, target=9, rest=((FRA_TABLE, b"\0\0\0\xe5"),)),
    ],
    ids=lambda rule: rule.words,
)
def test_a_rule_that_is_made_is_read_as_it_was_asked_for(rule):
    found = read(body_of(rule))
    assert (found, found.owner) == (rule, rule.owner)


OURS = body_of(RoutingRule(version=4, priority=20209, target=0xE5000018, mark=(0xE5, 0xFFFFFFFF), invert=True, owner=229))


@pytest.mark.parametrize("number", [28, 29])
def test_a_mask_of_a_port_that_says_nothing_makes_it_no_other(number):
    """Linux shows one beside each single port since 6.15."""
    shown = FULL + attribute(number, b"\xff\xff")
    assert routing_rule_of(shown, 0, len(shown)) == routing_rule_of(FULL, 0, len(FULL))
    some = FULL + attribute(number, b"\xff\x00")
    assert routing_rule_of(some, 0, len(some)) != routing_rule_of(FULL, 0, len(FULL))


@pytest.mark.parametrize(
    ("number", "value", "same"),
    [
        (FRA_OIFNAME, b"wan\0", False),
        (FRA_L3MDEV, b"\1", False),
        (FRA_SUPPRESS_IFGROUP, bytes(4), False),
        (99, b"\0\1", False),
        (99, bytes(4), True),
        (99, b"\xff" * 4, True),
        (FRA_SUPPRESS_IFGROUP, b"\xff" * 4, True),
    ],
)
def test_whatever_else_a_rule_says_makes_it_another(number, value, same):
    assert (read(OURS + attribute(number, value)) == read(OURS)) is same


@pytest.mark.parametrize(("at", "value"), [(1, 16), (2, 16), (3, 0x10)], ids=["to", "from", "tos"])
def test_what_the_header_compares_makes_it_another_too(at, value):
    octets = bytearray(OURS + attribute(1, bytes(4)) + attribute(2, bytes(4)))
    assert read(bytes(octets)) == read(OURS), "addresses without a length"
    octets[at] = value
    assert read(bytes(octets)) != read(OURS)


def test_who_made_a_rule_makes_it_no_other():
    assert replace(read(OURS), owner=4) == read(OURS)
    assert len({replace(read(OURS), owner=4), read(OURS)}) == 1


@pytest.mark.parametrize("length", [0, 33], ids=["no address", "a length that IPv4 does not have"])
def test_a_prefix_that_is_none_makes_no_rule(length):
    octets = bytearray(OURS + (attribute(2, bytes(4)) if length else b""))
    octets[2] = length or 8
    assert routing_rule_of(bytes(octets), 0, len(octets)) is None


@pytest.mark.parametrize("octets", [range(12), range(13, len(FULL), 7)], ids=["cut in the header", "cut in an attribute"])
def test_what_is_cut_short_is_no_harm(octets):
    for end in octets:
        assert end >= 12 or routing_rule_of(FULL[:end], 0, end) is None
        routing_rule_of(FULL[:end], 0, end)


def test_rules_of_other_families_are_none():
    assert routing_rule_of(b"\x1c" + FULL[1:], 0, len(FULL)) is None


def test_a_dump_is_asked_for_by_family():
    assert [dump_request(version, 7)[16] for version in (4, 6)] == [2, 10]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RoutingRule(version=4, target=254), "from all lookup main"),
        (read(FULL), "from 10.1.0.0/24 to 10.2.0.0/16 iif lan fwmark 0x5/0xff ipproto tcp dport 22-23"),
        (read(JUMP), "not from all uidrange 0-5 goto 32766"),
        (RoutingRule(version=6, action=BLACKHOLE), "from all blackhole"),
        (RoutingRule(version=4, target=7, mark=(1, 0xFFFFFFFF), sports=(53, 53)), "from all fwmark 0x1 sport 53 lookup 7"),
    ],
)
def test_it_is_written_as_ip_rule_takes_it(rule, words):
    assert rule.words.startswith(words)


def test_tables_have_the_names_that_ip_gives_them():
    assert [table_name(number) for number in (100, 253, 254, 255)] == ["100", "default", "main", "local"]


PACKET = RouteQuestion(ip_address("10.2.0.9"), ip_address("10.1.0.5"), "lan", protocol=6, sport=40000, dport=22)


@pytest.mark.parametrize(
    ("rule", "packet", "holds"),
    [
        ({}, {}, True),
        ({"invert": True}, {}, False),
        ({"source": NET_A, "destination": NET_B}, {}, True),
        ({"source": NET_B}, {}, False),
        ({"source": NET_A}, {"source": None}, False),
        ({"destination": NET_A}, {}, False),
        ({"iif": "lan"}, {}, True),
        ({"iif": "lo"}, {}, False),
        ({"iif": "lo"}, {"iif": ""}, True),
        ({"oif": "wan"}, {}, False),
        ({"mark": (1, 0xFF)}, {}, False),
        ({"mark": (1, 0xFF)}, {"mark": 0x101}, True),
        ({"mark": (0, 0xFF)}, {}, True),
        ({"mark": (1, 0xFF), "invert": True}, {}, True),
        ({"protocol": 6, "dports": (20, 22)}, {}, True),
        ({"dports": (23, 25)}, {}, False),
        ({"dports": (20, 22)}, {"dport": None}, False),
        ({"sports": (1, 1023)}, {}, False),
        ({"protocol": 17}, {}, False),
        ({"uids": (0, 0)}, {}, False),
        ({"uids": (0, 0)}, {"iif": ""}, True),
        ({"uids": (5, 6)}, {"iif": "", "uid": 6}, True),
        ({"tos": 0x10}, {}, False),
        ({"rest": ((FRA_L3MDEV, b"\1"),)}, {}, False),
        ({"rest": ((99, b"\1"),)}, {}, True),
    ],
)
def test_a_rule_is_for_a_packet(rule, packet, holds):
    assert RoutingRule(version=4, action=LOOKUP, **rule).holds(replace(PACKET, **packet)) is holds
