"""The guard in the kernel: made, changed and made again in transactions of nft; `guard` says what it holds."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ipsec_dp.host import HostError, nft
from ipsec_dp.host.guard import plan, render, render_change, render_closing, stand_in_name, table_name, widen
from ipsec_dp.host.kept_table import KeptTable
from ipsec_dp.host.nft import Count
from ipsec_dp.host.nft_state import NftState
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from ipsec_dp.host.guard import Device, GuardRule, Plan

log = logging.getLogger(__name__)


class Guard:
    """The guard of one gateway in the network namespace of the calling thread. HostError when nft is missing or refuses."""

    def __init__(self, gateway: str, planned: Callable[[Sequence[GuardRule], Iterable[Device]], Plan] = plan) -> None:
        """`planned` is `plan`, or a shorter way to the same."""
        self.gateway = gateway
        self._planned = planned
        self._kept = KeptTable(table_name(gateway))
        self._stand_in = stand_in_name(gateway)
        self._closer, self._closed_by = KeptTable(self._stand_in), ""  # as what closes first, and its text
        self._asked: Plan | None = None  # what it is to be, whether nft made it or not
        self._closing: tuple[Plan | None, str] = None, ""  # what closes first when a large guard is gone, and which one
        self._now: Plan | None = None  # what we know the kernel has
        self._then: Plan | None = None  # what it was widened for

    @property
    def table(self) -> str:
        return self._kept.table

    async def exists(self) -> bool:
        return self.table in await nft.tables()

    async def apply(self, selectors: Sequence[GuardRule], tunnels: Iterable[Device]) -> None:
        """Makes the guard, also from one that a killed process left: there is no moment without what both hold back."""
        devices = frozenset(tunnels)
        await self.widen(selectors, devices)
        await self.settle(devices)

    async def widen(self, selectors: Sequence[GuardRule], tunnels: Iterable[Device]) -> None:
        """Keeps closed what it does and what these say, until `settle` (then only what these say) or `apply`."""
        self._then = then = await asyncio.to_thread(self._planned, selectors, tunnels)
        await self._become(then if self._asked is None else widen(self._asked, then))

    async def settle(self, tunnels: Iterable[Device]) -> None:
        """What it was widened for, alone."""
        if self._then is None:
            return
        wanted = replace(self._then, tunnels=frozenset(tunnels))
        if wanted != self._now:
            await self._become(wanted)

    async def exempt(self, tunnels: Iterable[Device]) -> None:
        """These are our interfaces now; nothing else changes. Nothing is done before the guard is made."""
        devices = frozenset(tunnels)
        if self._asked is not None and self._asked.tunnels != devices:
            await self._become(replace(self._asked, tunnels=devices))

    async def _become(self, wanted: Plan) -> None:
        self._asked = wanted
        if wanted.large:
            await self._closing_text(wanted)
        async with self._kept.turn:
            now, self._now = self._now, None
            self._kept.forget()
            if now is None or not await self._change(await asyncio.to_thread(render_change, self.gateway, now, wanted)):
                await self._make(wanted)
            self._now = wanted
            await self._kept.written()

    async def _make(self, wanted: Plan) -> None:
        """A new table."""
        await self._hold_place(wanted, nft.transact)
        await self._replace(wanted, nft.transact)

    async def _hold_place(self, wanted: Plan, transact: Callable[[str], Awaitable[None]]) -> None:
        """Where there is a table, a second keeps its place closed: the sets of a table are not seen until a moment after the one
        that it replaces is gone (see `render_change`)."""
        if await self._kept.is_there():
            await transact(await asyncio.to_thread(render, self.gateway, wanted, table=self._stand_in))

    async def _change(self, transactions: Iterable[str]) -> bool:
        """False: the table is not what we left, so that it has to be made anew."""
        try:
            for text in transactions:
                await nft.transact(text)
        except HostError as error:
            log.warning("the guard is made anew: %s", error, extra=told("guard_remade"))
            return False
        return True

    async def _replace(self, wanted: Plan, transact: Callable[[str], Awaitable[None]]) -> None:
        counts = await self._kept.carried_over()
        with NftState() as state:
            second, further = await state.exists(self._stand_in), await state.counts(self._stand_in)
        for name, count in further.items():
            before = counts.get(name, Count())
            counts[name] = Count(before.packets + count.packets, before.octets + count.octets)
        await transact(await asyncio.to_thread(render, self.gateway, wanted, counts))
        if second:  # not in the same transaction, see `render_change`
            await transact(f"delete table inet {self._stand_in}\n")

    async def is_whole(self) -> bool:
        """Whether the kernel has the guard as it should be, or somebody is writing it just now. HostError."""
        return self._asked is None or self._kept.turn.locked() or await self._kept.is_as_written()

    async def restore(self) -> bool:
        """Makes the guard as it should be, whatever became of it; False: there is to be none. What is large is closed first by a
        small table.

        So is what changes just now, until it has changed. HostError when nft refuses or hangs.
        """
        if (asked := self._asked) is None:
            return False
        if asked.large or self._kept.turn.locked():
            await self._close_quickly(asked)
        async with self._kept.turn:
            if (wanted := self._asked) is None:  # it was taken away meanwhile
                return False
            self._now = None
            self._kept.forget()
            if not wanted.large:  # its place is held by what closed it
                await self._hold_place(wanted, self._kept.make_again)
            await self._replace(wanted, self._kept.make_again)
            self._now = wanted
            await self._kept.written()
            return True

    async def _close_quickly(self, wanted: Plan) -> None:
        text = await self._closing_text(wanted)
        if text == self._closed_by and await self._closer.is_as_written():
            return
        self._closer.forget()
        await self._kept.make_again(text)
        self._closed_by = text
        await self._closer.written()

    async def _closing_text(self, wanted: Plan) -> str:
        if self._closing[0] is not wanted:
            self._closing = wanted, await asyncio.to_thread(render_closing, self.gateway, wanted)
        return self._closing[1]

    async def counts(self) -> dict[str, Count]:
        """What was dropped since the guard was first made, by COUNTERS; empty without a guard."""
        return await self._kept.counts()

    async def remove(self) -> None:
        """Takes the guard away, if there is one."""
        self._asked = self._now = self._then = None
        async with self._kept.turn:
            self._kept.forget()
            await nft.transact(
                "".join(f"add table inet {name}\ndelete table inet {name}\n" for name in (self.table, self._stand_in))
            )
