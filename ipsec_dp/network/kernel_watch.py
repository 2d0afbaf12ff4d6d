"""The kernel's state is watched, not believed: reports of what others take away, and a slow look at everything.

Reports come within microseconds, so what closes is closed again in the time that nft takes. The look finds what no report told of.
Both lead to the same: the part concerned is made again (`restorer`). Our own transactions are known by the process that made them,
our own routes and rules by no longer being held.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.host import HostError, nft
from ipsec_dp.host.changes import LossesSocket
from ipsec_dp.host.nft_reports import NftReports
from ipsec_dp.network.kept import KeptBypass, KeptNft, KeptRoutes, KeptRules
from ipsec_dp.network.restorer import Restorer
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.rest import Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.host.bypass import HeldBypass
    from ipsec_dp.host.changes import Losses
    from ipsec_dp.host.held import Held
    from ipsec_dp.host.nft_reports import Transaction
    from ipsec_dp.network.kept import Kept, NftTable
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

LOOK_S = 10.0  # between two looks
LOOK_REST = 1000.0  # and no less than that many times what a look takes, as far as `rest` goes
CHANGED = "nobody but this gateway may write to it: give it or the other program another name"
SAVED = (
    "nobody but this gateway may write to it: a saved ruleset that has it (`nft list ruleset` into a file while a gateway ran) "
    "makes it anew, as it was then; take the tables ipsec_dp… out of that file"
)


class KernelWatch:
    """Of one gateway; its parts in the order in which they are made again: what closes first."""

    def __init__(
        self, guard: NftTable, zones: NftTable, held: Held, bypass: HeldBypass, conditions: Conditions, clock: Clock
    ) -> None:
        self._conditions, self._clock, self._held, self._bypass = conditions, clock, held, bypass
        self._routes, self._rules = KeptRoutes(held), KeptRules(held)
        self._tables = {
            table.table: self._restorer(KeptNft(name, what, table))
            for name, what, table in (("guard", "the guard", guard), ("zones", "the zones", zones))
        }
        self._of_rules, self._of_routes = self._restorer(self._rules), self._restorer(self._routes)
        self._of_bypass = self._restorer(KeptBypass(bypass))
        self._restorers = (*self._tables.values(), self._of_rules, self._of_routes, self._of_bypass)
        self._look_now = asyncio.Event()
        self._rest, self._breath = Rest(clock, LOOK_REST, LOOK_S), Rest(clock, 1.0)
        self._lost = False  # reports did not fit a buffer
        self._tasks: list[asyncio.Task[None]] = []
        self._sources: list[_Source] = []

    def _restorer(self, part: Kept) -> Restorer:
        return Restorer(part, self._conditions, self._clock)

    @property
    def restored(self) -> dict[str, int]:
        """How often each part was made again; all rules are one."""
        times = {each.part.name: each.restored for each in self._restorers}
        times["rules"] += times.pop("bypass")
        return times

    def open(self) -> None:
        """Listens from now on. HostError when the kernel refuses."""
        reports, losses = NftReports(), LossesSocket()
        self._read(reports, lambda: self._read_nft(reports))
        self._read(losses, lambda: self.lose(losses.skip() if self._routes.many else losses.read()))
        self.start()

    def start(self) -> None:
        """Makes again what `report` and `lose` are told of, and looks now and then."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(each.run()) for each in self._restorers]
        self._tasks.append(loop.create_task(Rounds("kernel watch", self._conditions, self._clock).run(self._look_again)))

    async def close(self) -> None:
        """Nothing is made again any more."""
        for source in self._sources:
            asyncio.get_running_loop().remove_reader(source.fileno())
            source.close()
        self._sources.clear()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _read(self, source: _Source, read: Callable[[], None]) -> None:
        self._sources.append(source)
        asyncio.get_running_loop().add_reader(source.fileno(), read)

    # ---- reports

    def _read_nft(self, reports: NftReports) -> None:
        self.report(reports.read())
        if reports.empty:
            nft.all_read()
        if reports.lost:
            reports.lost = False
            self.look_at_all()

    def report(self, transactions: Iterable[Transaction]) -> None:
        """What programs did to nftables."""
        for each in transactions:
            if nft.is_ours(each.port):
                continue
            by = f" by {each.program}" if each.program else ""
            for table, lost in self._tables.items():
                if table not in each.tables:
                    continue
                if each.deleted(table):
                    lost.lose(f"was deleted{by}", lost.part.usual)
                else:
                    lost.lose(f"was changed{by}", SAVED if each.remade(table) else CHANGED)

    def lose(self, losses: Losses) -> None:
        """Routes and rules that went, of ours and of others."""
        rules = {rule: port for rule, port in losses.rules if rule in self._held.rules}
        if rules:
            self._of_rules.lose(_deleted(rules.values()), self._rules.usual)
        bypass = [port for rule, port in losses.rules if self._bypass.owns(rule)]
        if bypass:
            self._of_bypass.lose(_deleted(bypass), self._of_bypass.part.usual)
        # What the kernel takes away with an interface or an address is a change of the host, and comes back with it.
        gone = {route: port for route, port in losses.routes if port or not route.interface}
        if mine := self._routes.lose(gone):
            self._of_routes.lose(_deleted(gone[route] for route in mine), self._routes.usual)
        if losses.lost:
            self.look_at_all()

    # ---- looks

    def look_at_all(self) -> None:
        """Reports were lost: whatever a digest says, all is compared."""
        self._lost = True
        self._look_now.set()

    async def look(self) -> None:
        """Compares everything with the kernel; what is missing will be made."""
        cheaply, self._lost = not self._lost, False
        troubles: dict[str, str] = {}
        for each in self._restorers:
            try:
                await each.check(cheaply=cheaply)
            except HostError as error:
                troubles[each.part.name] = f"{each.part.what} cannot be compared with what it should be: {error}"
        self._conditions.become("look", troubles)

    async def verify(self) -> None:
        """Compares everything with the kernel, and makes what is missing. HostError: something cannot be."""
        await self.look()
        for each in self._restorers:
            await each.settled()

    async def _look_again(self) -> None:
        timer = self._clock.call_at(self._clock.now() + self._rest.seconds, self._look_now.set)
        await self._look_now.wait()
        timer.cancel()
        self._look_now.clear()
        with self._rest.work(), self._breath.work():
            await self.look()
        await self._clock.sleep(self._breath.seconds)  # reports that never fit their buffer get half of the time at the most


class _Source(Protocol):
    def fileno(self) -> int: ...

    def close(self) -> None: ...


def _deleted(ports: Iterable[int]) -> str:
    """How something went, by those with these netlink ports."""
    names = dict.fromkeys(filter(None, map(_program, dict.fromkeys(ports))))
    return "were deleted" + (f" by {' and '.join(names)}" if names else "")


def _program(port: int) -> str:
    """The name of the program with a netlink port, which most often is its process ID; empty: nobody knows."""
    if port == 0:
        return "the kernel"
    try:
        return Path(f"/proc/{port}/comm").read_text().strip()
    except OSError:
        return ""
