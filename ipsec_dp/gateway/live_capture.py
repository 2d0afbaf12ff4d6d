"""A capture for a client of the control socket: pcapng, written to his connection as fast as he reads it.

The daemon opens no file, keeps nothing beyond the rings of the data plane, and waits for nobody: what a slow client leaves there
finds no room soon, and is counted. Only who may change the gateway may ask for it, for it shows what the tunnels protect.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from ipsec_dp.dataplane.tap import OUTER_KEY, Tap, TappedTunnel
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.following import FollowedAnswer
from ipsec_dp.util import pcapng

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ipsec_dp.config import Tunnel
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.util.clock import Clock

LOOK_S: Final = 0.02  # between two looks at what has come
LAST_S: Final = 5.0  # for which a client that ends it may go on reading what was captured before
NS_PER_S: Final = 10**9
OUTER: Final = "outer"
SNAP_MAX: Final = 65535


def wall_offset(clock: Clock) -> int:
    """ns that the time of day is ahead of a clock's `now`."""
    return int(clock.utc().timestamp() * NS_PER_S) - int(clock.now() * NS_PER_S)


def tapped(tunnel: Tunnel, spd: Spd, ike: IkeDriver) -> TappedTunnel:
    """A tunnel as the data plane knows it, with the addresses that its peer has by the configuration, by name and now."""
    name = tunnel.name
    peers = [remote for remote in tunnel.remotes if not isinstance(remote, str)]
    if ike.has(name):
        known = ike.peer(name)
        peers += () if known is None else known.remotes
        with contextlib.suppress(ValueError):  # "any", or several
            peers.insert(0, ip_address(ike.status(name).remote))
    return TappedTunnel(spd.tunnel_numbers[name], spd.interface_of[name], tuple(dict.fromkeys(peers)))


class CaptureLines:
    """`following.FollowedLines`: the blocks of the file, from its first. `names`: of the TUN interfaces, by number."""

    def __init__(self, tap: Tap, names: Mapping[int, str], clock: Clock, *, gateway: str, snap: int) -> None:
        self._tap, self._names, self._clock, self._gateway, self._snap = tap, names, clock, gateway, snap
        self._keys: list[int] = []  # of the interfaces that have a number, by it
        self._finished = asyncio.Event()
        self._closed = False

    async def lines(self) -> AsyncIterator[bytes]:
        yield pcapng.section(f"ipsec-dp, gateway {self._gateway}")
        with contextlib.suppress(DataPlaneError):  # the gateway has stopped
            async for octets in self._blocks():
                yield octets

    async def _blocks(self) -> AsyncIterator[bytes]:
        while not self._closed:
            last = self._finished.is_set()
            octets, unnamed = self._tap.read()
            if octets:
                yield octets
            if unnamed is not None:
                yield self._named(unnamed)
            elif not octets and last:
                break
            elif not octets:
                await self._clock.pause(LOOK_S)
        for number, key in enumerate(() if self._closed else self._keys):
            taken, missed = self._tap.counts(key)
            yield pcapng.statistics(number, int(self._clock.utc().timestamp() * NS_PER_S), taken + missed, missed)

    def _named(self, key: int) -> bytes:
        number = len(self._keys)
        self._keys.append(key)
        self._tap.name(key, number)
        if key == OUTER_KEY:
            return pcapng.interface(OUTER, "ESP and IKE of this gateway; outer headers are made of what sockets show", self._snap)
        name = self._names.get(key - 1, f"interface {key - 1}")
        return pcapng.interface(name, "inner packets, before they are sealed and after they were opened", self._snap)

    def finish(self) -> None:
        """What comes from now on need not be there."""
        self._finished.set()

    def close(self) -> None:
        self._closed = True
        self._tap.close()


@dataclass(frozen=True, slots=True)
class CapturedAnswer(FollowedAnswer):
    """Ends as a file does when the client says that he wants no more, by closing his half of the connection."""

    followed: CaptureLines

    async def end(self, sending: asyncio.Future[None]) -> None:
        """What was captured by now follows, for a short time."""
        self.followed.finish()
        await asyncio.wait((sending,), timeout=LAST_S)
