"""Rules of others before ours: which packets each is asked about, how many at the most, and what is told of one that takes them."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any, Self, cast

import pytest

from ipsec_dp.host import PROTOCOL, HostError
from ipsec_dp.host.bulk import KernelRoute
from ipsec_dp.host.decision import Way
from ipsec_dp.host.foreign_rules import PACKETS_MAX, RULES_MAX, ProtectedWay, Suspect, before_ours, packets, taken_by
from ipsec_dp.host.outer import OwnAddress
from ipsec_dp.host.routes import BLACKHOLE, MAIN
from ipsec_dp.host.routing_rules import FRA_TUN_ID, GOTO, NOP, UNREACHABLE, RouteQuestion, RoutingRule
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network import foreign_rules as network
from ipsec_dp.network.foreign_rules import ForeignRules, protected_ways
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import PSK, configured, proxy_id, tunnel

NET_A, NET_B = AddressRange.of("10.1.0.0/24"), ip_network("10.2.0.0/24")
WAYS = [ProtectedWay(NET_A, NET_B)]
OWN = [OwnAddress(ip_address("192.0.2.1"), "wan"), OwnAddress(ip_address("10.1.0.1"), "lan")]


def rule(**fields: Any) -> RoutingRule:
    return RoutingRule(version=4, **{"priority": 100, "target": 100, **fields})


def routes(*prefixes: str, table: int = 100, kind: int = 1) -> list[KernelRoute]:
    return [KernelRoute(ip_network(prefix), table, 0, 3, kind, 2) for prefix in prefixes]


def asked(of: RoutingRule, *prefixes: str, ways=WAYS, **more: Any) -> list[tuple[str, str, str]]:
    found = packets(of, ways, routes(*prefixes, table=of.target, **more), OWN)
    return [(str(each.packet.source), str(each.packet.destination), each.packet.iif) for each in found]


# ---- which rules


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True),
        ({"priority": 20257}, True),
        ({"priority": 20258}, False),
        ({"owner": PROTOCOL}, False),
        ({"target": 255}, False),
        ({"mark": (1, 0xFF)}, False),
        ({"mark": (0, 0xFF)}, True),
        ({"mark": (1, 0xFF), "invert": True}, True),
        ({"oif": "wan"}, False),
        ({"rest": ((FRA_TUN_ID, b"\1"),)}, False),
        ({"action": GOTO, "target": 32766}, True),
        ({"action": UNREACHABLE}, True),
        ({"action": NOP}, False),
    ],
)
def test_rules_that_can_matter_are_of_others_and_before_ours(fields, counts):
    assert bool(before_ours([rule(**fields)])) is counts


def test_no_more_rules_are_looked_at_than_so_many():
    assert len(before_ours([rule(priority=number) for number in range(1000)])) == RULES_MAX


# ---- which packets

OWN_PACKET, FORWARDED = ("10.1.0.1", "10.2.0.1", ""), ("10.1.0.2", "10.2.0.1", "lan")


@pytest.mark.parametrize(
    ("fields", "prefixes", "expected"),
    [
        ({}, ["0.0.0.0/0"], [OWN_PACKET, FORWARDED]),
        ({}, [], []),
        ({}, ["10.77.0.0/16"], []),
        ({}, ["10.2.0.128/25"], [("10.1.0.1", "10.2.0.129", ""), ("10.1.0.2", "10.2.0.129", "lan")]),
        ({"source": ip_network("10.1.0.0/16")}, ["0.0.0.0/0"], [OWN_PACKET, FORWARDED]),
        ({"source": ip_network("10.9.0.0/16")}, ["0.0.0.0/0"], []),
        ({"destination": ip_network("10.3.0.0/16")}, ["0.0.0.0/0"], []),
        ({"destination": ip_network("10.3.0.0/16"), "invert": True}, ["0.0.0.0/0"], [OWN_PACKET, FORWARDED]),
        ({"iif": "lan"}, ["0.0.0.0/0"], [FORWARDED]),
        ({"iif": "lan2"}, ["0.0.0.0/0"], [("10.1.0.2", "10.2.0.1", "lan2")]),
        ({"iif": "lo"}, ["0.0.0.0/0"], [OWN_PACKET]),
        ({"uids": (5, 5)}, ["0.0.0.0/0"], [OWN_PACKET]),
        ({"suppress": 0}, ["0.0.0.0/0"], []),
        ({"suppress": 0}, ["10.0.0.0/8"], [OWN_PACKET, FORWARDED]),
        ({"target": MAIN}, ["10.2.0.64/26"], []),
        ({"target": MAIN}, ["10.0.0.0/8"], [OWN_PACKET, FORWARDED]),
        ({"action": UNREACHABLE}, [], [OWN_PACKET, FORWARDED]),
        ({"priority": 20230}, ["0.0.0.0/0"], []),
    ],
    ids=lambda value: str(value)[:60],
)
def test_it_is_asked_about_packets_that_the_rule_may_take(fields, prefixes, expected):
    assert asked(rule(**fields), *prefixes) == expected


def test_the_packet_has_what_the_rule_compares():
    (own, forwarded) = packets(rule(protocol=6, sports=(7, 9), dports=(22, 23), tos=8), WAYS, routes("0.0.0.0/0"), OWN)
    for each in (own.packet, forwarded.packet):
        assert (each.protocol, each.sport, each.dport, each.tos) == (6, 7, 22, 8)
    (own,) = packets(rule(uids=(1000, 1001)), WAYS, routes("0.0.0.0/0"), OWN)
    assert own.packet.uid == 1000


def test_ten_thousand_tunnels_make_no_more_questions():
    many = [ProtectedWay(NET_A, ip_network((10 << 24 | number << 8, 24))) for number in range(10_000)]
    assert len(asked(rule(), "0.0.0.0/0", ways=many)) == PACKETS_MAX
    last = asked(rule(), *(f"172.16.{number}.0/24" for number in range(200)), "10.39.15.0/24", ways=many)
    assert {destination for _, destination, _ in last} == {"10.39.15.1"}, "the one tunnel that a route of the table is about"


# ---- what the kernel says


class Kernel:
    """Answers every question alike; the rules are these."""

    def __init__(self, answer: Way, *rules: RoutingRule) -> None:
        self.answer, self._rules = answer, rules

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def way(self, packet: RouteQuestion) -> Way:
        del packet
        return self.answer

    def rules(self, version: int) -> list[RoutingRule]:
        return [each for each in self._rules if each.version == version]


PACKET = RouteQuestion(ip_address("10.2.0.1"), ip_address("10.1.0.2"), "lan")


@pytest.mark.parametrize(
    ("answer", "refuses", "taken"),
    [
        (Way("wan", 100, rule()), False, True),
        (Way("ipsec0", 100, rule()), False, False),
        (Way("wan", MAIN, rule(priority=32766, target=MAIN)), False, False),
        (Way(None, 0, None, 113), True, True),
        (Way(None, 0, rule(), 113), True, True),
        (Way(None, 0, None, 113), False, False),
        (Way(None, 0, rule(priority=99), 113), True, False),
    ],
)
def test_a_rule_takes_a_packet_when_the_kernel_says_so(answer, refuses, taken):
    found = taken_by(rule(), [Suspect(PACKET, refuses)], {"ipsec0"}, cast("Any", Kernel(answer)))
    assert (found is not None) is taken


def test_it_is_told_with_what_leaves_where_and_the_commands_that_move_the_rule():
    found = taken_by(rule(), [Suspect(PACKET, False)], {"ipsec0"}, cast("Any", Kernel(Way("wan", 100, rule()))))
    assert found is not None
    assert found.text(3) == (
        "rule 100 (from all lookup 100) of this host comes before the gateway's and takes what is to enter a tunnel: "
        "10.1.0.2 to 10.2.0.1 leaves by wan, where the guard drops it (table 100); to move it behind: "
        "ip rule add priority 21003 from all lookup 100; ip rule del priority 100 from all lookup 100"
    )


# ---- while it lasts


def test_what_is_to_enter_tunnels_is_what_is_routed_from_where_its_selectors_say(tmp_path):
    config = configured(tmp_path, tunnel(keys=proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK))
    assert protected_ways(config) == WAYS


@pytest.fixture
def kernel(monkeypatch):
    """Of the module's questions; every table has a default route."""
    made = Kernel(Way("wan", 100, rule()), rule())

    class Tables(Kernel):
        def __init__(self) -> None:
            super().__init__(made.answer)

        async def routes(self, version: int, *, table: int) -> list[KernelRoute]:
            return routes("0.0.0.0/0", table=table) if version == 4 else []

    monkeypatch.setattr(network, "Decisions", lambda: made)
    monkeypatch.setattr(network, "Bulk", Tables)
    return made


def test_a_rule_that_takes_packets_is_a_condition_until_it_does_no_longer(tmp_path, kernel, caplog):
    config = configured(tmp_path, tunnel(keys=proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK))
    conditions = Conditions(FakeClock())
    watch = ForeignRules(conditions)
    asyncio.run(watch.look(config, OWN, {"ipsec0"}))
    (text,) = conditions.texts
    assert text.startswith("rule 100 (from all lookup 100) of this host")
    assert text in caplog.text
    kernel.answer = Way("ipsec0", 100, rule())
    asyncio.run(watch.look(config, OWN, {"ipsec0"}))
    assert conditions.texts == []


def test_where_the_kernel_cannot_be_asked_what_was_known_stays(tmp_path, kernel, monkeypatch, caplog):
    config = configured(tmp_path, tunnel(keys=proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK))
    conditions = Conditions(FakeClock())
    watch = ForeignRules(conditions)
    asyncio.run(watch.look(config, OWN, {"ipsec0"}))

    def refuse(*_: object) -> Any:
        raise HostError("rtnetlink: no")

    monkeypatch.setattr(kernel, "rules", refuse)
    asyncio.run(watch.look(config, OWN, {"ipsec0"}))
    assert len(conditions.texts) == 1
    assert "rules of others: rtnetlink: no" in caplog.text


def test_a_blackhole_in_the_table_refuses():
    found = packets(rule(), WAYS, routes("10.2.0.0/24", kind=BLACKHOLE), OWN)
    assert [each.refuses for each in found] == [True, True]
    assert [each.refuses for each in packets(rule(), WAYS, routes("10.2.0.0/24"), OWN)] == [False, False]
