"""What is made again of routes and rules while a reload takes some of them away: with the kernel in memory."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Self

import pytest

from ipsec_dp.host import held, routing_rules
from ipsec_dp.host.bulk import AT_ONCE, KernelRoute
from ipsec_dp.host.held import Held, place
from ipsec_dp.host.routes import UNREACHABLE
from ipsec_dp.host.routing_rules import RoutingRule

if TYPE_CHECKING:
    from collections.abc import Iterable

MANY = 3 * AT_ONCE
TABLE = 0xE5000020


class Kernel:
    """In the place of `Bulk`: what was made, and what happens after the first requests."""

    def __init__(self) -> None:
        self.routes: list[KernelRoute] = []
        self.rules: list[RoutingRule] = []
        self.then: Any = lambda: None

    def __call__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def replace(self, routes: Iterable[KernelRoute]) -> None:
        found = list(routes)
        assert len(found) <= AT_ONCE
        self.routes += found
        self.then()

    async def add(self, _bulk: object, made: Iterable[RoutingRule]) -> None:
        found = list(made)
        assert len(found) <= AT_ONCE
        self.rules += found
        self.then()

    async def present(self, _bulk: object, _version: int) -> list[RoutingRule]:
        return []


@pytest.fixture
def kernel(monkeypatch):
    made = Kernel()
    monkeypatch.setattr(held, "Bulk", made)
    monkeypatch.setattr(routing_rules, "add", made.add)
    monkeypatch.setattr(routing_rules, "present", made.present)
    return made


def routes(*, interface):
    prefixes = [ip_network(f"10.2.0.{number}/32") for number in range(MANY)]
    kind = 1 if interface else UNREACHABLE
    return [KernelRoute(prefix, TABLE, 50, 229, kind, interface) for prefix in prefixes]


@pytest.mark.parametrize("interface", [0, 7], ids=["unreachable", "led"])
def test_a_route_that_a_reload_takes_away_meanwhile_is_not_made_again(kernel, interface):
    gone = routes(interface=interface)

    def reload() -> None:
        one.routes = {place(each): each for each in gone[:1]}

    one = Held()
    one.routes = {place(each): each for each in gone}
    assert asyncio.run(one.restore_routes(gone)) == MANY, "the control"
    assert kernel.routes == gone
    kernel.routes, kernel.then = [], reload
    made = asyncio.run(one.restore_routes(gone))
    assert made == len(kernel.routes) <= AT_ONCE


def test_a_rule_that_a_reload_takes_away_meanwhile_is_not_made_again(kernel):
    wanted = [RoutingRule(version=4, priority=20000 + number, target=TABLE) for number in range(MANY)]

    def reload() -> None:
        one.rules = frozenset(wanted[:1])

    one = Held()
    one.rules = frozenset(wanted)
    assert asyncio.run(one.restore_rules()) == MANY, "the control"
    kernel.rules, kernel.then = [], reload
    assert asyncio.run(one.restore_rules()) == len(kernel.rules) == AT_ONCE
