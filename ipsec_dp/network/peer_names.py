"""What the DNS names of peers mean, as they were answered last. Nothing that comes from the network has a name asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ipsec_dp.host import HostError
from ipsec_dp.host.names import addresses_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ipsec.addresses import Address

AT_ONCE: Final = 4  # names that are asked for at the same time
FIRST_S: Final = 3.0  # for which a start waits for the first answers, to all names together


class PeerNames:
    """Of the names in `remote` of one gateway's tunnels."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Address, ...]] = {}
        self._asked: set[str] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._late: set[asyncio.Future[tuple[Address, ...]]] = set()

    def known(self, name: str) -> tuple[Address, ...]:
        """The last answer; none when there never was one."""
        return self._known.get(name, ())

    def keep(self, names: Iterable[str]) -> None:
        """Forgets all others."""
        kept = set(names)
        self._asked &= kept
        self._known = {name: addresses for name, addresses in self._known.items() if name in kept}

    async def ask(self, name: str) -> tuple[Address, ...]:
        """What it means now, each version in order of number. Raises HostError; the last answer stays."""
        self._asked.add(name)
        async with self._turns:
            self._known[name] = tuple(await addresses_of(name))
        return self._known[name]

    async def addresses_to_call(self, remote: Address | str) -> tuple[Address, ...]:
        """What it means now or, where nobody answers, meant last. Raises HostError without either."""
        if not isinstance(remote, str):
            return (remote,)
        try:
            return await self.ask(remote)
        except HostError:
            if not self.known(remote):
                raise
            return self.known(remote)

    async def addresses(self, remotes: Iterable[Address | str]) -> list[tuple[Address | str, tuple[Address, ...]]]:
        """Each with the addresses that are known. Names that were never asked for are asked now, all at once, and waited for
        a moment: a resolver that is not there holds nothing up."""
        remotes = list(remotes)
        new = {name for name in remotes if isinstance(name, str) and name not in self._asked}
        self._asked |= new
        if new:
            asked = [asyncio.ensure_future(self.ask(name)) for name in sorted(new)]
            self._late.update(asked)
            for task in asked:
                task.add_done_callback(self._settled)
            await asyncio.wait(asked, timeout=FIRST_S)
        return [(remote, self.known(remote) if isinstance(remote, str) else (remote,)) for remote in remotes]

    def _settled(self, task: asyncio.Future[tuple[Address, ...]]) -> None:
        """Who follows the names tells what is wrong with them."""
        self._late.discard(task)
        if not task.cancelled():
            task.exception()
