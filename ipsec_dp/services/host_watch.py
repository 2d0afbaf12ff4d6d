"""The host's own addresses and routes change while a gateway runs: what a gateway does about it, and what it does not.

- Guard and routes into the tunnels are made anew from what is there: a conflict that appeared or went away, a new source address, a
  prefix whose route the kernel removed with an address or an interface.
- A new local address is listened at. A peer that becomes reachable is called at once, without waiting for the pause to end.
- Where `local` is not set, our outer address is the one at which the route to the peer begins: when that is another one, the tunnel
  is negotiated anew from there (there is no MOBIKE). While there is no route at all, nothing happens: when the same route returns,
  the SAs go on, and a peer that is away for longer is a matter of liveness.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.rest import Rest
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.network.host import Closable, Host
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

SETTLE_S = 0.3  # a change rarely comes alone
REST = 5.0  # pause, in times of what the last change took: a host whose routes never rest gets only a part of this thread


class HostWatch:
    """A service. `ike` gives the driver, once it runs."""

    name = "host changes"

    def __init__(self, host: Host, ike: Callable[[], IkeDriver | None], clock: Clock) -> None:
        self._host, self._ike, self._clock = host, ike, clock
        self._rounds = Rounds(self.name, host.conditions, clock)
        self._rest = Rest(clock, REST)
        self._config: Config | None = None
        self._reports: Closable | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._located: dict[tuple[str, Address], Address | None] = {}  # our last address towards each tunnel's remotes
        self._cut: set[tuple[str, Address]] = set()  # those of them without a route at the moment

    async def apply(self, config: Config) -> None:
        """Watches for these tunnels from now on. Raises HostError."""
        before = {} if self._config is None else {tunnel.name: tunnel for tunnel in self._config.tunnels}
        new = [tunnel for tunnel in config.tunnels if before.get(tunnel.name) is not tunnel]
        located = await self._locate(new)
        changed = {tunnel.name for tunnel in new}
        self._config = config
        for way in [way for way in self._located if way[0] in changed or not config.has_tunnel(way[0])]:
            del self._located[way]
        self._located |= located
        self._cut = {way for way in self._cut if way in self._located and way not in located}
        if self._task is None:
            self._reports = self._host.reports.network_changes(self._changed.set)
            self._task = asyncio.get_running_loop().create_task(self._rounds.run(self._watch))

    def look(self) -> None:
        """Something that routes and the guard follow has changed elsewhere: what names of peers mean."""
        self._changed.set()

    async def close(self) -> None:
        if self._task is not None and self._reports is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._reports.close()
        self._task = self._reports = None

    async def _watch(self) -> None:
        await self._changed.wait()
        await self._clock.sleep(SETTLE_S)
        self._changed.clear()
        with self._rounds.told():  # the cause may go away with the next change
            async with self._host.changing:
                with self._rest.work():
                    await self._host.renew()
                    await self._move()
        await self._clock.sleep(self._rest.seconds)

    async def _locate(self, tunnels: Iterable[Tunnel]) -> dict[tuple[str, Address], Address | None]:
        """Our address towards each remote of the tunnels that IKE negotiates; None: no route, or a `local` that is not ours.

        Only for remotes that are addresses: a name is resolved when it is called.
        """
        negotiated = [tunnel for tunnel in tunnels if tunnel.auth is not None]
        ends = [(tunnel, remote) for tunnel in negotiated for remote in tunnel.remotes if not isinstance(remote, str)]
        own = await self._host.peers.own_addresses()
        found: dict[tuple[str, Address], Address | None] = {}
        async for tunnel, remote in in_slices(ends):
            try:
                local = (await self._host.peers.locate(tunnel, remote))[1]
            except IpsecDpError:
                found[tunnel.name, remote] = None
            else:
                found[tunnel.name, remote] = local if local in own or local.is_link_local else None
        return found

    async def _move(self) -> None:
        """Listens at the addresses that are ours now, and calls from there."""
        ike, config = self._ike(), self._config
        if ike is None or config is None:
            return
        for local in await self._host.peers.listen_at(config.tunnels):
            ike.listen(local)
        for way, now in (await self._locate(config.tunnels)).items():
            name, remote = way
            if now is None:
                self._cut.add(way)
                continue
            before = self._located.get(way)
            self._located[way] = now
            if before is not None and before != now and ike.leaves(name, remote, before):
                log.warning(
                    'tunnel "%s": the way to %s begins at %s now, no longer at %s: negotiating anew',
                    name,
                    remote,
                    now,
                    before,
                    extra=told("way_moved", tunnel=name),
                )
                ike.restart(name)
            elif before is None or way in self._cut:
                ike.wake(name)
            self._cut.discard(way)
