"""The host's own addresses and routes change while a gateway runs: what follows them, and what does not.

- Guard and routes into the tunnels are made anew from what is there: a conflict that came or went, a source address that came, a
  prefix whose route the kernel took away with an address or an interface.
- A new local address is listened at; a peer that becomes reachable is called at once, without waiting for the pause to end.
- Where `local` is not set, our outer address follows the route to the peer: when that begins at another address, the tunnel is
  negotiated anew from there (there is no MOBIKE). While there is no route at all, nothing happens: what comes back as it was goes
  on as it was, and a peer that is gone for longer is what liveness is for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host.changes import Changes, ChangesSocket
from ipsec_dp.util.slices import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.network.host import HostSide

log = logging.getLogger("ipsec_dp")

SETTLE_S = 0.3  # a change rarely comes alone
REST = 5.0  # times as long as the last time took: a host whose routes never rest gets a part of this thread only


class Following:
    """A component. `ike` gives the driver, if any tunnel has IKE."""

    name = "host changes"

    def __init__(self, host: HostSide, ike: Callable[[], IkeDriver | None]) -> None:
        self._host, self._ike = host, ike
        self._config: Config | None = None
        self._socket: ChangesSocket | None = None
        self._changes = Changes()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._located: dict[tuple[str, Address], Address | None] = {}  # our last address towards each tunnel's remotes
        self._cut: set[tuple[str, Address]] = set()  # those of them without a way at the moment

    async def apply(self, config: Config) -> None:
        """Follows for these tunnels from now on. Raises HostError."""
        before = {} if self._config is None else {tunnel.name: tunnel for tunnel in self._config.tunnels}
        news = [tunnel for tunnel in config.tunnels if before.get(tunnel.name) is not tunnel]
        located = await self._locate(news)
        changed = {tunnel.name for tunnel in news}
        self._config = config
        for way in [way for way in self._located if way[0] in changed or not config.has_tunnel(way[0])]:
            del self._located[way]
        self._located |= located
        self._cut = {way for way in self._cut if way in self._located and way not in located}
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._socket = ChangesSocket()
            loop.add_reader(self._socket.fileno(), self._read)
            self._task = loop.create_task(self._follow())

    async def close(self) -> None:
        if self._task is not None and self._socket is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        self._task = self._socket = None

    def _read(self) -> None:
        if self._socket is not None:
            self._socket.read(self._changes)
        if self._changes:
            self._changed.set()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_S)
            self._changed.clear()
            self._changes = Changes()
            began = loop.time()
            try:
                async with self._host.changing:
                    await self._host.follow_host()
                    await self._move()
            except IpsecDpError as error:  # what it was about may change again
                log.warning("host changes: %s", error)
            await asyncio.sleep(REST * (loop.time() - began))

    async def _locate(self, tunnels: Iterable[Tunnel]) -> dict[tuple[str, Address], Address | None]:
        """Our address towards each remote of the tunnels that IKE negotiates; None: no route, or a `local` that is not ours.

        Only of remotes that are addresses: a name is resolved when it is called.
        """
        negotiated = [tunnel for tunnel in tunnels if tunnel.auth is not None]
        ways = [(tunnel, remote) for tunnel in negotiated for remote in tunnel.remotes if not isinstance(remote, str)]
        own = await self._host.ways.own_addresses()
        found: dict[tuple[str, Address], Address | None] = {}
        async for tunnel, remote in in_turns(ways):
            try:
                local = (await self._host.ways.locate(tunnel, remote))[1]
            except IpsecDpError:
                found[tunnel.name, remote] = None
            else:
                found[tunnel.name, remote] = local if local in own or local.is_link_local else None
        return found

    async def _move(self) -> None:
        """Listens at what is ours now, and calls from there."""
        ike, config = self._ike(), self._config
        if ike is None or config is None:
            return
        for local in await self._host.ways.listen_at(config.tunnels):
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
                    'tunnel "%s": the way to %s begins at %s now, no longer at %s: negotiating anew', name, remote, now, before
                )
                ike.restart(name)
            elif before is None or way in self._cut:
                ike.wake(name)
            self._cut.discard(way)
