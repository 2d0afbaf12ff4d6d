"""What is wrong, what the loops report and what was dropped: one costs the same beside many others, all as much as there are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipsec_dp.databases.sad_events import Acquire
from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import Direction, DropExample, SaCondition, SaFlag
from ipsec_dp.gateway.drop_examples import DropExamples
from ipsec_dp.gateway.events import Events
from ipsec_dp.gateway.notices import Notices
from ipsec_dp.ike.strangers import StrangersEvents
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.ike import growth
from tests.unit.gateway_doubles import Calls, MemorySad, config_of

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 500, 4000
LOOK_UP = 200  # opcodes that MANY may cost more than FEW
LINEAR = 2.3  # for twice as many


def opcodes(operation: Callable[[], object]) -> int:
    with growth.opcodes() as steps:
        operation()
    return steps.count


def many_tunnels(directory: Any, count: int) -> Any:
    """The two of the doubles' configuration, and so many like the second, to networks of their own."""
    config = config_of(directory)
    like = config.tunnels[1]
    pairs = [replace(like.proxy_ids[0], remote=type(like.proxy_ids[0].remote).of(growth.net(number))) for number in range(count)]
    others = tuple(replace(like, name=f"t{number}", proxy_ids=(pair,)) for number, pair in enumerate(pairs))
    return replace(config, tunnels=(*config.tunnels, *others))


# ---- conditions


@pytest.mark.parametrize(
    "what",
    [
        lambda conditions: conditions.begin("one", "key", "it is wrong"),
        lambda conditions: conditions.end("one", "key"),
        lambda conditions: conditions.become("one", {"other": "this is wrong now"}),
    ],
    ids=["begins", "ends", "becomes"],
)
def test_a_condition_costs_the_same_beside_many_others(what):
    cost = {}
    for count in (FEW, MANY):
        conditions = Conditions(FakeClock())
        for number in range(count):
            conditions.begin("many", str(number), f"number {number} is wrong")
        cost[count] = opcodes(partial(what, conditions))
    assert cost[MANY] <= cost[FEW] + LOOK_UP
    assert cost[FEW] > 0


def test_all_conditions_of_one_source_cost_as_much_as_there_are():
    cost = {}
    for count in (FEW, 2 * FEW):
        conditions = Conditions(FakeClock())
        found = {str(number): f"number {number} is wrong" for number in range(count)}
        cost[count] = opcodes(partial(conditions.become, "many", found)) + opcodes(partial(conditions.become, "many", {}))
    assert cost[2 * FEW] <= LINEAR * cost[FEW]


# ---- events of the data plane


def events_of(spd: Spd, known: dict[Any, Any]) -> Events:
    clock = FakeClock()
    ike = Calls("ike", named=known.get, acquire=lambda *_: True, paths=dict)
    parts: dict[str, Any] = {
        "spd": spd,
        "plane": SimpleNamespace(),
        "sad": MemorySad(),
        "manual": SimpleNamespace(paths={}),
        "ike": ike,
        "notices": Notices(clock, StrangersEvents()),
        "device_failed": lambda *_: None,
        "refused": lambda *_: None,
    }
    return Events(**parts, clock=cast("Any", SimpleNamespace(now=clock.now, call_at=lambda *_: None)))


@pytest.mark.parametrize("kind", ["a packet without an SA", "a limit of an SA"])
def test_an_event_costs_the_same_beside_many_tunnels(tmp_path, kind):
    cost = {}
    for count in (FEW, MANY):
        spd = Spd(many_tunnels(tmp_path, count))
        number, handle = spd.tunnel_numbers["t7"], cast("Any", object())
        events = events_of(spd, {handle: ("t7", 1)})
        event = Acquire(number, 0, b"packet") if kind.startswith("a packet") else SaCondition(handle, number, 7, SaFlag.SOFT_LIMIT)
        cost[count] = opcodes(partial(events.handle, event))
    assert cost[MANY] <= cost[FEW] + LOOK_UP
    assert cost[FEW] > 0


# ---- examples of dropped packets


def examples_of(config: Any, shown: dict[str, list[DropExample]]) -> DropExamples:
    async def own() -> Any:
        return []

    plane = cast("Any", SimpleNamespace(drop_examples=lambda reason: shown.get(reason, [])))
    return DropExamples(config, plane=plane, spd=Spd(config), own_addresses=own, state=lambda _: "up", clock=FakeClock())


@pytest.mark.parametrize("reason", ["policy_none", "no_sa", "selectors"])
def test_the_cause_of_a_drop_costs_as_much_as_there_are_tunnels(tmp_path, reason):
    """It is found when somebody asks, for four packets of a reason at the most."""
    cost = {}
    for count in (FEW, 2 * FEW):
        config = many_tunnels(tmp_path, count)
        asked = config.tunnels[-1].proxy_ids[0]
        dropped = dropped_from(asked.local.low, asked.remote.low)
        examples = examples_of(config, {reason: [dropped] * 9})
        with growth.opcodes() as steps:
            told = asyncio.run(examples.of([reason]))
        assert len(told[reason]) == 4
        cost[count] = steps.count
    assert cost[2 * FEW] <= LINEAR * cost[FEW]


def dropped_from(source: Any, destination: Any) -> DropExample:
    fields = dict.fromkeys(DropExample.__dataclass_fields__)
    return replace(
        cast("Any", DropExample)(**fields),
        direction=Direction.OUTBOUND,
        source=source,
        destination=destination,
        protocol=17,
        source_port=5,
        destination_port=6,
        at=0,
        outer=False,
    )
