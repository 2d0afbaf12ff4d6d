"""What a gateway's parts do for one thing costs the same beside many others, and work on many leaves everything else its turn.

Steps of the interpreter are counted (`tests.ike.growth`); the core's own table is `tests/ike/test_growth.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from ipsec_dp.databases.sad_events import SendRefusal
from ipsec_dp.dataplane import Channel
from ipsec_dp.gateway.control import LIST_LONG, LongAnswer
from ipsec_dp.gateway.events import Events
from ipsec_dp.gateway.housekeeping import Housekeeping
from ipsec_dp.gateway.status import ChildSaStatus, GatewayStatus, TunnelStatus
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.keying.initiation import BACKOFF_MAX_S
from ipsec_dp.rig.plane import PlaneRig, selectors_of
from ipsec_dp.services.path_mtu_state import Intervals, PathMtu
from ipsec_dp.services.tunnel_mtu import MtuTable, OuterEnds, OuterShape
from ipsec_dp.services.unanswered import UnansweredTraffic
from ipsec_dp.util.conditions import Conditions
from ipsec_dp.util.slices import SLICE_S, Slice
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import PSK, configured, proxy_id, tunnel
from tests.ike import growth
from tests.unit import ike_driver_site as driver
from tests.unit import test_child_installer as installer
from tests.unit.gateway_doubles import MemorySad
from tests.unit.sites import to_b

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FEW, MANY = 25, 200
SAME = 1.3  # of what one thing costs beside FEW: eight times as many may cost a look-up a step more
GCM = parse_suite("aes128gcm16")
OURS = ip_address("192.0.2.1")


def opcodes(operation: Callable[[], object]) -> int:
    with growth.opcodes() as steps:
        operation()
    return steps.count


def busy() -> None:
    """A third of a slice."""
    end = Slice(SLICE_S / 3)
    while not end.over:
        pass


def same(cost: dict[int, int]) -> bool:
    return cost[MANY] <= SAME * cost[FEW] and cost[FEW] > 0


# ---- the driver


def tables(count: int, start: str) -> list[str]:
    return [
        tunnel(
            f"t{number}",
            start,
            remote=f"198.18.{number >> 8}.{number & 255}",
            keys=proxy_id("10.1.0.0/24", f"11.{number >> 8}.{number & 255}.0/24") + PSK,
        )
        for number in range(count)
    ]


def failing(count: int, directory: Any) -> driver.Site:
    """Tunnels whose peers have no route: each waits for its next attempt, but t0, which waits for traffic."""
    first, *others = tables(count, driver.AT_ONCE)
    site = driver.Site(directory, first.replace(driver.AT_ONCE, driver.ON_DEMAND), *others)
    site.lost.update(f"t{number}" for number in range(1, count))
    return site


def test_a_packet_asks_nothing_of_tunnels_that_are_called_later(tmp_path):
    """Each acquire, and each answer, went through all that were to be called some time."""
    cost = {}
    for count in (FEW, MANY):
        site = failing(count, tmp_path)

        async def life(site: driver.Site = site, count: int = count) -> None:
            await site.clock.advance(BACKOFF_MAX_S)
            cost[count] = opcodes(lambda: site.driver.acquire("t0", to_b()))
            await settle()
            assert "t0" in site.called()

        site.run(life)
    assert same(cost)


def test_one_changed_tunnel_is_one_peer_for_the_core(tmp_path):
    cost = {}
    for count in (FEW, MANY):
        site = driver.Site(tmp_path, *tables(count, driver.ON_DEMAND))
        tunnels, peers = site.read(*tables(count, driver.ON_DEMAND))

        async def life(site: driver.Site = site, count: int = count, tunnels: Any = tunnels, peers: Any = peers) -> None:
            with growth.opcodes() as steps:
                await site.driver.reconfigure(tunnels[:1], peers, {"t0": Effect.IN_PLACE})
            cost[count] = steps.count
            ((_, given, _, _),) = site.core.of("reconfigure")
            assert [peer.tunnel for peer in given] == ["t0"]

        site.run(life)
    assert same(cost)


class SlowCore(driver.Double):
    """A core that takes a third of a slice for each of `left` things that are due."""

    def __init__(self, left: int) -> None:
        super().__init__(acquire=None, latest=(), probe=None)
        self.left = left

    def next_timeout(self) -> float | None:
        return 0.0 if self.left else None

    def unfinished(self) -> bool:
        return self.left > 0

    def timer(self, _now: float) -> list[act.Action]:
        self.left = max(0, self.left - 1)
        busy()
        return []


def test_what_is_due_at_once_is_done_in_slices(tmp_path):
    site = driver.Site(tmp_path, tunnel("to-b", driver.ON_DEMAND))
    core = SlowCore(50)
    parts: dict[str, Any] = {"core": core, "children": site.children, "links": site.links, "clock": site.clock}
    parts["conditions"] = Conditions(site.clock)
    tunnels, peers = site.read(tunnel("to-b", driver.ON_DEMAND))
    site.driver = IkeDriver(tunnels, peers, locate=site.locate, changed=site.changed.append, **parts)

    async def life() -> None:
        site.driver.terminate("to-b")
        turns = 0
        while core.left:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 5
        core.left = 5  # what `close` leaves is finished before the sockets go

    site.run(life)
    assert core.left == 0


# ---- CHILD_SAs in the SAD, and what depends on them


def one_more(site: installer.Site) -> None:
    site.up(2000)
    assert site.children.sends("to-b")
    site.children.new_ways("to-b")


def one_less(site: installer.Site) -> None:
    site.children.remove(7)
    site.children.new_ways("to-b")


def test_one_child_sa_costs_the_same_beside_many_of_its_tunnel():
    cost: dict[str, dict[int, int]] = {"up": {}, "away": {}}
    for count in (FEW, MANY):
        with PlaneRig("a", "192.0.2.1") as gateway:
            site = installer.Site(gateway)
            for number in range(1, count + 1):
                site.up(number)
            site.children.new_ways("to-b")
            cost["up"][count] = opcodes(partial(one_more, site))
            cost["away"][count] = opcodes(partial(one_less, site))
            assert len(site.children.of("to-b")) == count
    assert same(cost["up"])
    assert same(cost["away"])


def ends(number: int) -> OuterEnds:
    return OuterEnds(growth.address(number), OURS)


def shape(number: int) -> OuterShape:
    return OuterShape(GCM, True, *ends(number))


def hub(count: int, config: Any) -> MtuTable:
    """One tunnel with so many peers."""
    table = MtuTable()
    for number in range(count):
        table.paths[ends(number)] = PathMtu(4, 1500, Intervals(), 0.0)
    table.set_shapes(config.tunnels[0], set(map(shape, range(count))))
    return table


NEW = 5000  # a peer besides


def test_one_peer_of_a_hub_is_one_for_its_mtu_too(tmp_path):
    config = configured(tmp_path, tunnel())
    (one,) = config.tunnels
    cost: dict[str, dict[int, int]] = {"came": {}, "path": {}, "fragments": {}, "went": {}}
    for count in (FEW, MANY):
        table = hub(count, config)
        wide = table["to-b"]
        table.paths[ends(NEW)] = PathMtu(4, 1400, Intervals(), 0.0)
        cost["came"][count] = opcodes(partial(table.change_shapes, one, {shape(NEW)}, set()))
        assert wide - 110 < table["to-b"] < wide - 90
        cost["path"][count] = opcodes(partial(table.update, one, ends(NEW)))
        cost["fragments"][count] = opcodes(partial(table.needs_fragments, ends(NEW)))
        cost["went"][count] = opcodes(partial(table.change_shapes, one, set(), {shape(NEW)}))
        assert table["to-b"] == wide
    assert [name for name, costs in cost.items() if not same(costs)] == []


def test_the_last_peer_that_goes_is_assumed_until_another_comes(tmp_path):
    (one,) = configured(tmp_path, tunnel()).tunnels
    table = hub(2, configured(tmp_path, tunnel()))
    first, second = sorted(table.shapes("to-b"), key=str)
    table.change_shapes(one, set(), {first})
    assert table.shapes("to-b") == {second}
    table.change_shapes(one, set(), {second})
    assert table.shapes("to-b") == {second}, "nothing better is known"
    table.change_shapes(one, {first}, set())
    assert table.shapes("to-b") == {first}


# ---- slices


async def turns_of_others(work: Any) -> int:
    """How often something else had its turn while `work` was done."""
    others = 0

    async def beat() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    beating = asyncio.create_task(beat())
    await work
    beating.cancel()
    return others


def test_conditions_of_thousands_of_sas_leave_others_their_turn():
    async def run() -> int:
        clock, sad = FakeClock(), MemorySad()
        sad.conditions = list(range(30))
        async with AsyncExitStack() as stack:
            Housekeeping(cast("Any", sad), lambda _: busy(), Conditions(clock), clock).start(stack)

            async def all_handled() -> None:
                while sad.conditions or clock.next_event is None:  # noqa: ASYNC110 - nothing tells that it is through
                    await asyncio.sleep(0)

            return await turns_of_others(all_handled())

    assert asyncio.run(run()) >= 5


def test_what_the_loops_report_is_handled_as_far_as_a_slice_goes():
    handled: list[SendRefusal] = []
    waiting = [SendRefusal(OURS, OURS, 1500)] * 200

    def refused(event: SendRefusal) -> None:
        handled.append(event)
        busy()

    nothing: Any = SimpleNamespace()
    parts: dict[str, Any] = dict.fromkeys(("spd", "plane", "manual", "ike", "notices", "device_failed"), nothing)
    sad: Any = SimpleNamespace(events=lambda _channel: iter(waiting))
    events = Events(sad=sad, refused=refused, clock=FakeClock(), **parts)
    events.read(Channel.TRUSTED)
    assert 1 <= len(handled) < 20


CHILD = ChildSaStatus(spi_in="0x1", local_ts=("10.1.0.0/16",))


@pytest.mark.parametrize("count", [0, LIST_LONG, LIST_LONG + 1, 3000])
def test_a_tunnel_with_thousands_of_child_sas_is_shown_in_parts(count):
    rows = [TunnelStatus(name="Käse", children=(CHILD,) * count), TunnelStatus(name="b", last_error='a "quote"')]

    async def each() -> AsyncIterator[msgspec.Struct]:
        for row in rows:
            yield row

    async def run() -> tuple[bytes, int]:
        pieces: list[bytes] = []

        async def send() -> None:
            pieces.extend([piece async for piece in LongAnswer(GatewayStatus(), "tunnels", each()).pieces()])

        others = await turns_of_others(send())
        return b"".join(pieces), others

    sent, others = asyncio.run(run())
    whole = {"ok": True, "result": msgspec.to_builtins(GatewayStatus()) | {"tunnels": [msgspec.to_builtins(row) for row in rows]}}
    assert sent.decode() == json.dumps(whole) + "\n", "the same text as of the whole"
    assert others > 0 or count < 3000


def test_a_look_for_traffic_without_answers_costs_the_same_however_many_tunnels_have_them():
    counts = {}
    for count in (FEW, MANY):
        with PlaneRig("a", "192.0.2.1", tunnels=MANY, sa_slots=4 * 256) as site:
            for number in range(count):
                child_sa(site, number)
            nothing: Any = None
            service = UnansweredTraffic(site.plane.unanswered, str, nothing, nothing, Conditions(FakeClock()), FakeClock())
            counts[count] = opcodes(service.look)
    assert counts[MANY] == counts[FEW]


def child_sa(site: PlaneRig, tunnel: int) -> None:
    """A CHILD_SA of a tunnel, with both its SAs."""
    keys = {"suite": GCM, "tunnel": tunnel, "keymat": bytearray(GCM.keymat_octets)}
    spi = site.sad.allocate_spi(0)
    inbound = site.sad.install_inbound(spi=spi, selectors=selectors_of("a"), interface=0, replay_window=64, **keys)
    child = site.sad.add_child(tunnel, selectors_of("a"), inbound)
    site.sad.switch(child, site.sad.install_outbound(spi=0x9000, path=site.path_to(site.endpoint), **keys))


def test_a_slice_ends():
    began = time.monotonic()
    busy()
    assert time.monotonic() - began >= SLICE_S / 3
    assert not Slice(60.0).over
    assert Slice(0.0).over
