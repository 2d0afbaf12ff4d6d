"""What becomes of a guard that somebody takes away or changes while we write it: with nft and nftables in memory."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest

from ipsec_dp.host import HostError, guard_table, kept_table, nft
from ipsec_dp.host.guard import LARGE, GuardRule, render_closing, stand_in_name, table_name
from ipsec_dp.host.guard_table import Guard
from ipsec_dp.host.zones import Zone, Zones
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import SelectorPair
from tests.doubles.clock import settle

if TYPE_CHECKING:
    from ipsec_dp.host.guard import Plan
    from ipsec_dp.host.nft import Count

R = AddressRange.of
GUARD, STAND_IN = table_name("gw"), stand_in_name("gw")
COMMAND = re.compile(r"^(?:(add|delete) table|table) inet (\S+)( \{\n(?:  .*\n)*\})?", re.MULTILINE)


class Nftables:
    """In the place of `NftState` and of nft: tables by name, each with its text. `free` is cleared while nft hangs."""

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}
        self.done: list[str] = []  # transactions, by the table that they make or take away last
        self.free = asyncio.Event()
        self.free.set()
        self.hangs, self.hanging = GUARD, asyncio.Event()
        self.refuses = ""  # a table
        self.closed = asyncio.Event()  # the stand-in was made

    async def transact(self, text: str, seconds: float = 0.0) -> None:
        del seconds
        commands = list(COMMAND.finditer(text))
        self.done.append(commands[-1][2] if commands else "change")
        if self.done[-1] == self.hangs and not self.free.is_set():
            self.hanging.set()
            await self.free.wait()
        if not commands and GUARD not in self.tables:
            raise HostError("no such table")
        if self.done[-1] == self.refuses:
            raise HostError("no")
        for verb, name, body in (match.groups() for match in commands):
            if verb == "delete":
                self.tables.pop(name, None)
            elif verb == "add":
                self.tables.setdefault(name, "")
            else:
                self.tables[name] = body
                if name == STAND_IN:
                    self.closed.set()

    def __call__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def generation(self) -> int:
        return len(self.done)

    async def digest(self, table: str) -> bytes | None:
        return self.tables[table].encode() if table in self.tables else None

    async def exists(self, table: str) -> bool:
        return table in self.tables

    async def counts(self, table: str) -> dict[str, Count]:
        del table
        return {}


@pytest.fixture
def kernel(monkeypatch):
    made = Nftables()
    monkeypatch.setattr(nft, "transact", made.transact)
    monkeypatch.setattr(guard_table, "NftState", made)
    monkeypatch.setattr(kept_table, "NftState", made)
    return made


def rules(second, count=1):
    """For so many hosts, none beside another, whose addresses begin with 10 and this."""
    return [
        GuardRule(SelectorPair(R("192.168.0.0/16"), R(f"10.{second}.{number >> 7}.{2 * number & 255}"))) for number in range(count)
    ]


def test_a_large_guard_that_goes_while_it_is_written_is_closed_for_what_it_is_to_be(kernel, monkeypatch):
    """The text of what closes first takes a while for ten thousand tunnels."""
    go_on, rendering = threading.Event(), threading.Event()

    def slow(gateway: str, wanted: Plan) -> str:
        rendering.set()
        go_on.wait(10)
        return render_closing(gateway, wanted)

    async def life() -> None:
        guard = Guard("gw")
        await guard.apply(rules(1, LARGE), [])
        monkeypatch.setattr(guard_table, "render_closing", slow)
        writing = asyncio.get_running_loop().create_task(guard.widen(rules(2, LARGE), []))
        await asyncio.to_thread(rendering.wait, 10)
        kernel.tables.clear()
        kernel.free.clear()
        restoring: Any = asyncio.get_running_loop().create_task(guard.restore())
        await settle()
        go_on.set()
        await kernel.closed.wait()
        assert "10.2.0.0" in kernel.tables[STAND_IN]
        kernel.free.set()
        await asyncio.gather(writing, restoring)
        assert set(kernel.tables) == {GUARD}
        assert await guard.is_whole()

    asyncio.run(life())


@pytest.mark.parametrize("somebodys", ["", " {\n  chain input { type filter hook input priority 0; }\n}"], ids=["empty", "full"])
def test_a_table_of_somebody_elses_with_the_name_of_what_closes_first_closes_nothing_and_goes(kernel, somebodys):
    async def life() -> None:
        guard = Guard("gw")
        await guard.apply(rules(1, LARGE), [])
        kernel.tables = {STAND_IN: somebodys}
        kernel.free.clear()
        restoring = asyncio.get_running_loop().create_task(guard.restore())
        await kernel.closed.wait()
        assert "10.1.0.0" in kernel.tables[STAND_IN]
        kernel.free.set()
        await restoring
        assert set(kernel.tables) == {GUARD}

    asyncio.run(life())


def test_what_closes_first_is_left_alone_while_the_guard_cannot_be_made(kernel):
    """To replace it opens a window of microseconds, too."""

    async def life() -> None:
        guard = Guard("gw")
        await guard.apply(rules(1, LARGE), [])
        kernel.tables.clear()
        kernel.refuses = GUARD
        kernel.done.clear()
        for _ in range(3):
            with pytest.raises(HostError, match="no"):
                await guard.restore()
        assert kernel.done.count(STAND_IN) == 1
        kernel.tables[STAND_IN] += "# changed"
        with pytest.raises(HostError, match="no"):
            await guard.restore()
        assert kernel.done.count(STAND_IN) == 2

    asyncio.run(life())


def test_a_guard_that_goes_while_it_is_changed_is_closed_at_once_and_made_after_the_change(kernel):
    async def life() -> None:
        guard = Guard("gw")
        await guard.apply(rules(1), [])
        kernel.free.clear()
        kernel.hangs = "change"
        changing = asyncio.get_running_loop().create_task(guard.widen(rules(2), []))
        await kernel.hanging.wait()
        kernel.tables.clear()
        restoring = asyncio.get_running_loop().create_task(guard.restore())
        await kernel.closed.wait()
        assert "10.2.0.0" in kernel.tables[STAND_IN]
        assert not restoring.done()
        kernel.free.set()
        await asyncio.gather(changing, restoring)
        assert set(kernel.tables) == {GUARD}
        assert await guard.is_whole()

    asyncio.run(life())


def test_a_guard_that_is_taken_away_while_it_waits_to_be_made_stays_away(kernel):
    async def life() -> None:
        guard = Guard("gw")
        await guard.apply(rules(1), [])
        kernel.free.clear()
        kernel.hangs = "change"
        changing = asyncio.get_running_loop().create_task(guard.widen(rules(2), []))
        await kernel.hanging.wait()
        restoring = asyncio.get_running_loop().create_task(guard.restore())
        await kernel.closed.wait()
        removing = asyncio.get_running_loop().create_task(guard.remove())
        kernel.free.set()
        await asyncio.gather(changing, removing, restoring)
        assert kernel.tables == {}

    asyncio.run(life())


def test_without_zones_a_table_of_their_name_is_nobodys_and_nothing_is_made(kernel):
    async def life() -> None:
        zones, guard = Zones("gw"), Guard("gw")
        kernel.tables = {zones.table: ""}
        assert (await zones.restore(), await guard.restore()) == (False, False)
        assert kernel.done == []
        await zones.apply([Zone("lan", ("eth1",))], [], [])
        await guard.apply(rules(1), [])
        assert (await zones.restore(), await guard.restore()) == (True, True), "the control"

    asyncio.run(life())
