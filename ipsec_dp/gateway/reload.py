"""A running gateway takes another configuration over: what differs, and nothing else.

Read and check in another process → load secrets → guard closed for both configurations → interfaces → policy, SAs, IKE → routes →
interfaces that nobody has any more → services → guard for the new one alone. Up to and with the interfaces a failure leaves the
former configuration as it was; after that it leaves the guard closed for both, and the next reload completes what is missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.config.difference import Difference, read_again
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.errors import Finding, IpsecDpError
from ipsec_dp.host import HostError
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane, OuterPath
    from ipsec_dp.gateway.events import Running
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.network.host import Host, OuterLinks
    from ipsec_dp.services.service import Services

log = logging.getLogger("ipsec_dp")

# Of [gateway], what the process was made with.
FIXED: Final = {
    "name": "the guard, the control socket and the routing tables have it in their names",
    "workers": "the data plane is made with them",
    "offloads": "devices get them when they are made",
}
AT_ONCE = 256  # peers whose secrets are loaded before the rest of the control plane has its turn


class ReloadFailedError(IpsecDpError):
    """A reload that broke off, and what runs now."""


@dataclass(slots=True)
class Live:
    """The parts of a gateway that runs. `paths` are those of manual tunnels."""

    spd: Spd
    host: Host
    plane: DataPlane
    sad: Sad
    links: OuterLinks
    ike: IkeDriver
    running: Running
    services: Services
    paths: dict[str, OuterPath]
    first_mtu: Callable[[Tunnel], Awaitable[int]]
    install: Callable[[Tunnel, OuterPath], None]  # a manual tunnel's SAs


class Reloader:
    """Reloads one gateway, one at a time. `taken` is told the configuration that runs from then on."""

    def __init__(self, config: Config, live: Live, taken: Callable[[Config], None]) -> None:
        self._config, self._live, self._taken = config, live, taken
        self._turn = asyncio.Lock()
        self._torn = False  # the last reload broke off half-way

    async def reload(self, path: Path) -> dict[str, Any]:
        """Takes `path` over. The answer says what was done, or, with `applied` false, all that is wrong with the file; then nothing
        changed. Raises ReloadFailedError, ReadError."""
        async with self._turn:
            began = time.monotonic()
            difference, findings = await read_again(self._config, path)
            if difference is None:
                return _refused(path, findings)
            wrong = [*_fixed(self._config, difference.new)]
            peers: dict[str, Peer] = {}
            if not wrong:
                peers, wrong = await _load_peers(difference)
            if wrong:
                return _refused(path, (*findings, *wrong))
            read = time.monotonic()
            async with self._live.host.changing:
                await self._apply(difference, peers)
            answer = _done(path, difference) | {
                "read_s": round(read - began, 3),
                "applied_s": round(time.monotonic() - read, 3),
            }
            log.info("reloaded %s: %s", path, summary(answer))
            return answer

    async def _apply(self, difference: Difference, peers: dict[str, Peer]) -> None:
        live, new = self._live, difference.new
        if live.sad.reclaim() == 0:
            live.spd.tunnels.reuse()
            live.spd.interfaces.reuse()
        try:
            live.spd.reconfigure(new)
            await live.host.guard.widen(new)
            concerned = (*difference.added, *(change.new for change in difference.changed))
            mtus = {tunnel.name: await self._mtu(tunnel, difference) for tunnel in concerned}
            await live.host.reconfigure(new, mtus)
            paths = {tunnel.name: await live.host.peers.path(tunnel, live.links) for tunnel in _begun(difference) if tunnel.manual}
        except IpsecDpError as error:
            await self._back(difference)
            raise ReloadFailedError(f"{error}; nothing was changed, the former configuration runs on") from error
        try:
            await self._follow(difference, peers, paths)
            self._torn = False
        except (IpsecDpError, ValueError) as error:
            self._torn = True
            raise ReloadFailedError(
                f"the reload broke off half-way: {error}; what the former or the new configuration protects stays closed until a "
                "reload succeeds"
            ) from error
        finally:
            self._config = new
            self._taken(new)
        gone = live.host.remove_unused_interfaces()
        for number in live.spd.forget((tunnel.name for tunnel in difference.removed), gone):
            live.plane.take_acquire(number)  # or the number's next owner would find it asked already

    async def _mtu(self, tunnel: Tunnel, difference: Difference) -> int:
        begun = any(tunnel is one for one in _begun(difference))
        return await self._live.first_mtu(tunnel) if begun else self._live.host.interfaces.mtu_of(tunnel.name)

    async def _back(self, difference: Difference) -> None:
        """Everything as it was."""
        live, old = self._live, difference.old
        live.spd.reconfigure(old)
        live.spd.forget((tunnel.name for tunnel in difference.added), ())
        try:
            await live.host.reconfigure(old, {})
            live.host.remove_unused_interfaces()
            await live.host.guard.narrow()
        except HostError as error:
            log.error("the guard stays closed for both configurations: %s", error)

    async def _follow(self, difference: Difference, peers: dict[str, Peer], paths: dict[str, OuterPath]) -> None:
        live, new = self._live, difference.new
        for local in await self._listeners(difference):
            live.ike.listen(local)
        policy = await asyncio.to_thread(live.spd.snapshot)
        live.plane.install_policy(policy)
        self._change_sas(difference, peers, paths)
        await live.host.guard.apply_zones(new)
        await live.host.routing.apply(known=not self._torn)
        await live.services.apply(new)
        await live.host.guard.settle()

    def _change_sas(self, difference: Difference, peers: dict[str, Peer], paths: dict[str, OuterPath]) -> None:
        """Without a pause in between: no event finds a tunnel half there."""
        live = self._live
        ended = [*difference.removed, *(change.old for change in difference.changed if change.effect is Effect.RESTART)]
        for tunnel in ended:
            if tunnel.manual is not None:
                live.paths.pop(tunnel.name, None)
                for child in live.sad.children_of(live.spd.tunnel_numbers[tunnel.name]):
                    live.sad.remove_child(child)
        effects = {change.new.name: change.effect for change in difference.changed if change.old.auth is not None}
        effects |= {tunnel.name: Effect.RESTART for tunnel in difference.removed if tunnel.auth is not None}
        concerned = (*difference.added, *(change.new for change in difference.changed))
        live.ike.reconfigure([tunnel for tunnel in concerned if tunnel.auth is not None], peers, effects)
        live.paths.update(paths)
        for tunnel in _begun(difference):
            if tunnel.manual is not None:
                live.install(tunnel, paths[tunnel.name])
        live.running.follow(difference.new)

    async def _listeners(self, difference: Difference) -> set[Any]:
        """Our addresses at which peers of tunnels that begin may call."""
        return await self._live.host.peers.listen_at(_begun(difference))


def _begun(difference: Difference) -> list[Tunnel]:
    """Tunnels that begin, or begin anew."""
    anew = (change.new for change in difference.changed if change.effect is Effect.RESTART)
    return [*difference.added, *anew]


def _fixed(old: Config, new: Config) -> Iterable[Finding]:
    """What a reload cannot change."""
    for key, why in FIXED.items():
        if getattr(old, key) != getattr(new, key):
            right = f"stop the gateway and start it anew, or write the former value ({why})"
            yield Finding("error", str(new.path), "gateway", key, "cannot be changed by a reload", right)


async def _load_peers(difference: Difference) -> tuple[dict[str, Peer], list[Finding]]:
    """Peers of tunnels that are new or changed, with their secrets; what cannot be read."""
    peers: dict[str, Peer] = {}
    wrong: list[Finding] = []
    concerned = [*difference.added, *(change.new for change in difference.changed)]
    for index, tunnel in enumerate(concerned):
        if index % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        if tunnel.auth is None:
            continue
        try:
            peers[tunnel.name] = peer_of(tunnel)
        except (IkeError, OSError, ValueError) as error:
            place = f'tunnel "{tunnel.name}"'
            wrong.append(Finding("error", str(difference.new.path), place, "auth", str(error), "make the file as check wants it"))
    return peers, wrong


def _refused(path: Path, findings: Iterable[Finding]) -> dict[str, Any]:
    log.error("%s is not taken over, nothing changed:", path)
    for finding in findings:
        log.error("%s", finding)
    return {"schema": 1, "applied": False, "file": str(path), "findings": _rows(findings)}


def _rows(findings: Iterable[Finding]) -> list[dict[str, str]]:
    return [{name: getattr(finding, name) for name in Finding.__slots__} for finding in findings]


def _done(path: Path, difference: Difference) -> dict[str, Any]:
    return {
        "schema": 1,
        "applied": True,
        "file": str(path),
        "added": [tunnel.name for tunnel in difference.added],
        "removed": [tunnel.name for tunnel in difference.removed],
        "changed": [
            {"name": change.new.name, "keys": list(change.keys), "effect": change.effect.text} for change in difference.changed
        ],
        "kept": difference.kept,
        "findings": _rows(difference.findings),
    }


def summary(answer: dict[str, Any]) -> str:
    """One line for a log."""
    counts = (f"{len(answer[key])} {key}" for key in ("added", "removed", "changed"))
    return f"{', '.join(counts)}, {answer['kept']} kept; read in {answer['read_s']} s, applied in {answer['applied_s']} s"
