"""The DNS names of peers are asked for again by a timer of their own, whatever comes from the network.

A name says whom we call. What it means besides is worth knowing: a caller from there is the likelier peer, and `status` says when
the peer is elsewhere. It never keeps a peer out, and ends no IKE SA: that is liveness's to decide, and the next call asks anew.

`getaddrinfo` says nothing of how long an answer holds, so the period is fixed.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from ipsec_dp.host import HostError
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.text import shown
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.network.host import Host
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

EVERY_S: Final = 60.0  # after an answer
AGAIN_S: Final = 30.0  # after the first failure; each further one doubles it
AGAIN_MAX_S: Final = 600.0
SOURCE: Final = "names"  # of conditions


class NameWatch:
    """A service. `ike` gives the driver, once it runs; `changed` is called when a name means other addresses."""

    name = "names of peers"

    def __init__(self, host: Host, ike: Callable[[], IkeDriver | None], changed: Callable[[], None], clock: Clock) -> None:
        self._host, self._ike, self._changed, self._clock = host, ike, changed, clock
        self._tunnels: dict[str, list[Tunnel]] = {}  # by name
        self._failures: dict[str, int] = {}  # in a row
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def apply(self, config: Config) -> None:
        self._tunnels = {}
        for tunnel in config.tunnels:
            for name in dict.fromkeys(tunnel.names if tunnel.auth is not None else ()):
                self._tunnels.setdefault(name, []).append(tunnel)
        await self._end([name for name in self._tasks if name not in self._tunnels])
        self._host.peers.names.keep(self._tunnels)
        loop = asyncio.get_running_loop()
        for name in self._tunnels:
            if name in self._tasks:
                self._tell(name)  # a reload makes peers anew
            else:
                rounds = Rounds(f"{self.name}: {name}", self._host.conditions, self._clock)
                self._tasks[name] = loop.create_task(rounds.run(partial(self._turn, name)))

    async def close(self) -> None:
        self._tunnels = {}
        await self._end(list(self._tasks))

    async def _end(self, names: list[str]) -> None:
        tasks = [self._tasks.pop(name) for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in names:
            self._failures.pop(name, None)
            self._host.conditions.end(SOURCE, name)

    async def _turn(self, name: str) -> None:
        await self._ask(name)
        while self._ike() is None:  # the gateway is about to be up
            await self._clock.sleep(1.0)
            self._tell(name)
        failures = self._failures.get(name, 0)
        await self._clock.sleep(EVERY_S if failures == 0 else min(AGAIN_S * 2.0 ** (failures - 1), AGAIN_MAX_S))

    async def _ask(self, name: str) -> None:
        names = self._host.peers.names
        before = names.known(name)
        try:
            now = await names.ask(name)
        except HostError as error:
            self._failures[name] = min(self._failures.get(name, 0) + 1, 16)
            kept = f"; until then it is {_listed(before)}, as it was" if before else ""
            self._host.conditions.begin(SOURCE, name, f"{error}{kept}; the peer may call all the same")
            return
        self._failures[name] = 0
        self._host.conditions.end(SOURCE, name)
        self._tell(name)
        if before and set(before) != set(now):
            log.info(
                "%s means %s now, no longer %s: the next call goes there",
                name,
                _listed(now),
                _listed(before),
                extra=told("name_changed"),
            )
        if set(before) != set(now):
            self._changed()

    def _tell(self, name: str) -> None:
        ike = self._ike()
        if ike is None:
            return
        for tunnel in self._tunnels.get(name, ()):
            ike.located(tunnel.name, self._addresses(tunnel))

    def _addresses(self, tunnel: Tunnel) -> tuple[Address, ...]:
        """All that its remotes mean, in their order."""
        known = self._host.peers.names.known
        meant = (known(remote) if isinstance(remote, str) else (remote,) for remote in tunnel.remotes)
        return tuple(dict.fromkeys(address for addresses in meant for address in addresses))


def _listed(addresses: tuple[Address, ...]) -> str:
    return shown(", ".join(map(str, addresses)))
