"""A running gateway takes another configuration over: what differs, and nothing else.

Read and check in another process → load secrets → guard closed for both configurations → interfaces → policy, SAs, IKE → routes →
services → guard for the new one alone → interfaces that nobody has any more. Up to and with the interfaces a failure leaves the
former configuration as it was; after that it leaves the guard closed for both, and the next reload completes what is missing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ipsec_dp.config import located
from ipsec_dp.config.difference import Difference, backwards, read_again
from ipsec_dp.errors import Finding, IpsecDpError
from ipsec_dp.gateway.messages import ReloadRefusal, ReloadResult, TunnelChange
from ipsec_dp.gateway.reload_peers import load_peers, new_or_changed
from ipsec_dp.host import HostError
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.peer import Peer
from ipsec_dp.util.collection import no_full_collection
from ipsec_dp.util.faults import explained
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.tasks import Tasks
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane, OuterPath
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.keying.manual import ManualSas
    from ipsec_dp.network.host import Host, OuterLinks
    from ipsec_dp.services.service import Services
    from ipsec_dp.util.clock import Clock

    Reread = Callable[[Config, Path], Awaitable[tuple[Difference | None, tuple[Finding, ...]]]]

log = logging.getLogger(__name__)

# Of [gateway], what the process was made with.
FIXED: Final = {
    "name": "the guard, the control socket and the routing tables have it in their names",
    "workers": "the data plane is made with them",
    "offloads": "devices get them when they are made",
    "control_group": "the control socket is made for it",
}
SOURCE: Final = "reload"  # of conditions
UPGRADED: Final = "upgrade"  # of those that end with a reload
FILES_KEPT: Final = "files that no configuration in force names can still be opened"
FILES_HELPS: Final = "`ipsec-dp reload` tries again to take them away"
CLOSE_S = 30.0  # for which a reload that changes the host is waited for when the gateway stops


class ReloadFailedError(IpsecDpError):
    """A reload that broke off, and what runs now."""


@dataclass(frozen=True, slots=True)
class _Former:
    """What leads back to the configuration before the last reload, with the peers' secrets of then."""

    difference: Difference
    peers: dict[str, Peer]


class Observer(Protocol):
    """What only has to know which tunnels there are."""

    def reconfigure(self, config: Config) -> None: ...


@dataclass(frozen=True, slots=True)
class ReloadParts:
    """What a reload changes of a gateway. `first_mtu`: what the interface of a tunnel that begins needs, in octets. `observers` are
    reconfigured together with the SAs; `before_routes` comes before routes are what the new configuration wants."""

    spd: Spd
    host: Host
    plane: DataPlane
    sad: Sad
    links: OuterLinks
    manual: ManualSas
    ike: IkeDriver
    services: Services
    observers: Sequence[Observer]
    first_mtu: Callable[[Tunnel], Awaitable[int]]
    before_routes: Callable[[Config], Awaitable[None]]


class Reloader:
    """Reloads one gateway, one at a time. `reconfigured` gets the configuration that is in force from then on;
    `told` is around each reload."""

    def __init__(
        self,
        config: Config,
        parts: ReloadParts,
        reconfigured: Callable[[Config], Awaitable[None]],
        clock: Clock,
        reread: Reread = read_again,
        told: Callable[[], AbstractContextManager[object]] = nullcontext,
        in_force: Callable[[Sequence[Config]], None] | None = None,
    ) -> None:
        self._config, self._parts, self._reconfigured, self._clock = config, parts, reconfigured, clock
        self._reread, self._told, self._in_force = reread, told, in_force
        self._one_at_a_time = asyncio.Lock()
        self._incomplete = False  # the last reload is not all in the kernel
        self._closing = False
        self._former: _Former | None = None
        self._telling = Tasks()

    @property
    def incomplete(self) -> bool:
        """Whether the last reload broke off half-way, so that more is closed than either configuration says, or the kernel lacks
        something of it."""
        return self._incomplete

    def make_all(self) -> None:
        """The kernel lacks something of the configuration in force: the next reload makes all of it."""
        self._incomplete = True

    async def reload(self, path: Path, *, on_trial: bool = False, reread: Reread | None = None) -> ReloadResult | ReloadRefusal:
        """Takes `path` over, or says all that is wrong with it. `on_trial`: `go_back` can take it back. `reread`: who reads it
        this time. Raises ReloadFailedError, ReadError."""
        async with self._one_at_a_time:
            with no_full_collection(), self._told():
                try:
                    return await self._reload(path, on_trial=on_trial, reread=reread or self._reread)
                finally:
                    await self._tell_in_force()

    async def _reload(self, path: Path, *, on_trial: bool, reread: Reread) -> ReloadResult | ReloadRefusal:
        began = self._clock.now()
        found = await self._read(path, reread)
        if isinstance(found, ReloadRefusal):
            return _logged(found)
        difference, peers = found
        read = self._clock.now()
        former = _Former(backwards(difference), self._present_peers(difference)) if on_trial else None
        async with self._parts.host.changing:
            await self._change(difference, peers, former)
        result = _result(path, difference, read - began, self._clock.now() - read)
        log.info("reloaded %s: %s", path, result.summary, extra=told("reloaded"))
        return result

    async def preview(self, path: Path) -> ReloadResult | ReloadRefusal:
        """What `reload` would do, as far as the file decides about it: nothing changes, and nothing is kept. Raises ReadError."""
        async with self._one_at_a_time:
            began = self._clock.now()
            try:
                found = await self._read(path, self._reread)
            finally:
                await self._tell_in_force()
            if isinstance(found, ReloadRefusal):
                return found
            result = _result(path, found[0], self._clock.now() - began, 0.0)
            return msgspec.structs.replace(result, applied=False, dry_run=True)

    async def _read(self, path: Path, reread: Reread) -> tuple[Difference, dict[str, Peer]] | ReloadRefusal:
        """What a file changes, with the secrets of what is new or changed; or all that is wrong with it."""
        difference, findings = await reread(self._config, path)
        if difference is None:
            return ReloadRefusal(file=str(path), findings=tuple(findings))
        wrong = [*unchangeable(self._config, difference.new)]
        peers: dict[str, Peer] = {}
        if not wrong:
            peers, wrong = await load_peers(difference)
        if wrong:
            wrong = [*await asyncio.to_thread(located, wrong, path)]
            return ReloadRefusal(file=str(path), findings=(*findings, *wrong))
        return difference, peers

    async def go_back(self) -> None:
        """The configuration before the last reload is in force again, with the secrets of then (keys set by hand are read again).

        Raises ReloadFailedError.
        """
        async with self._one_at_a_time:
            former = self._former
            if former is None:
                raise ReloadFailedError("there is no former configuration to go back to")
            with no_full_collection():
                async with self._parts.host.changing:
                    await self._change(former.difference, former.peers, None, "the configuration on trial runs on")
            await self._tell_in_force()
            log.warning(
                "the former configuration is in force again, that of %s", former.difference.new.path, extra=told("gone_back")
            )

    async def close(self) -> None:
        """The gateway stops: a reload that changes the host comes to its end first, and none begins to any more."""
        self._closing = True
        await self._telling.end()
        try:
            async with asyncio.timeout(CLOSE_S), self._parts.host.changing:
                pass
        except TimeoutError:
            log.warning(
                "a change of the host is not at its end after %g s, and is not waited for any longer",
                CLOSE_S,
                extra=told("change_unfinished"),
            )

    def forget_former(self) -> None:
        """Nothing goes back any more: secrets that are not in force are kept no longer, nor may they be read."""
        self._former = None
        self.tell_files()

    def tell_files(self) -> None:
        """Who opens files hears which are needed: later, since a reload that is being read or looked at comes first, and he may be
        slow to answer."""
        self._telling.begin(self._tell_later())

    async def _tell_later(self) -> None:
        async with self._one_at_a_time:
            await self._tell_in_force()

    async def _tell_in_force(self) -> None:
        """And what may come back. After a reload that broke off half-way both may be needed, and perhaps more. What fails is a
        condition: the configuration is in force all the same."""
        if self._in_force is None or self._incomplete:
            return
        former = () if self._former is None else (self._former.difference.new,)
        conditions = self._parts.host.conditions
        try:
            with explained("telling which files are needed"):
                await asyncio.to_thread(self._in_force, (self._config, *former))
        except IpsecDpError as error:
            conditions.begin(SOURCE, "files", f"{FILES_KEPT}: {error}; {FILES_HELPS}")
        else:
            conditions.end(SOURCE, "files")

    def _present_peers(self, difference: Difference) -> dict[str, Peer]:
        """Of the tunnels that it changes or takes away, as they are now."""
        concerned = (*difference.removed, *(change.old for change in difference.changed))
        found = {tunnel.name: self._parts.ike.peer(tunnel.name) for tunnel in concerned if tunnel.auth is not None}
        return {name: peer for name, peer in found.items() if peer is not None}

    def _unchanged(self, runs_on: str) -> str:
        """What is in force after a change that was refused; `runs_on` is where the one before is whole."""
        if self._incomplete:
            return "nothing more was changed: the reload before broke off half-way, and what it closed stays so until one succeeds"
        return f"nothing was changed, {runs_on}"

    async def _change(
        self,
        difference: Difference,
        peers: dict[str, Peer],
        former: _Former | None,
        runs_on: str = "the former configuration runs on",
    ) -> None:
        """`former`: what leads back when the host has changed."""
        if self._closing:
            raise ReloadFailedError(f"the gateway is stopping; {self._unchanged(runs_on)}")
        parts, new = self._parts, difference.new
        if parts.sad.reclaim() == 0:
            parts.spd.tunnels.reuse()
            parts.spd.interfaces.reuse()
        try:
            parts.spd.reconfigure(new)
            await parts.host.verify()
            await parts.host.guard.widen(new)
            mtus = await self._first_mtus(difference)
            await parts.host.reconfigure(new, mtus)
            by_hand = [tunnel for tunnel in _begun(difference) if tunnel.manual is not None]
            paths = {tunnel.name: await parts.host.peers.path(tunnel, parts.links) for tunnel in by_hand}
        except IpsecDpError as error:
            await self._undo(difference)
            raise ReloadFailedError(f"{error}; {self._unchanged(runs_on)}") from error
        self._former = former
        try:
            await self._complete(difference, peers, paths)
            self._incomplete = False
            parts.host.conditions.become(UPGRADED, {})
        except (IpsecDpError, ValueError) as error:
            self._incomplete = True
            raise ReloadFailedError(
                f"the reload broke off half-way: {error}; what the former or the new configuration protects stays closed until a "
                "reload succeeds"
            ) from error
        finally:
            self._config = new
            await self._reconfigured(new)
        gone = parts.host.remove_unused_interfaces()
        for number in parts.spd.forget((tunnel.name for tunnel in difference.removed), gone):
            parts.plane.forget_tunnel(number)  # or its next owner would find what it carried, and that it asked already
        try:
            await parts.host.verify()
        except HostError as error:
            self._incomplete = True
            raise ReloadFailedError(f"the configuration is complete, but {error}") from error

    async def _first_mtus(self, difference: Difference) -> dict[str, int]:
        """Of the tunnels that are new or changed, by name."""
        mtus, begun = {}, {tunnel.name for tunnel in _begun(difference)}
        async for tunnel in in_slices(new_or_changed(difference)):
            name = tunnel.name
            mtus[name] = await self._parts.first_mtu(tunnel) if name in begun else self._parts.host.interfaces.mtu_of(name)
        return mtus

    async def _undo(self, difference: Difference) -> None:
        """Everything as it was."""
        parts, old = self._parts, difference.old
        parts.spd.reconfigure(old)
        parts.spd.forget((tunnel.name for tunnel in difference.added), ())
        try:
            await parts.host.reconfigure(old, {})
            await parts.host.guard.narrow()  # or a name that is free would be exempt
            parts.host.remove_unused_interfaces()
        except HostError as error:
            log.error("the guard stays closed for both configurations: %s", error, extra=told("guard_stays_closed"))

    async def _complete(self, difference: Difference, peers: dict[str, Peer], paths: dict[str, OuterPath]) -> None:
        parts, new = self._parts, difference.new
        for local in await parts.host.peers.listen_at(new.tunnels if self._incomplete else _begun(difference)):
            parts.ike.listen(local)
        policy = await asyncio.to_thread(parts.spd.snapshot)
        parts.plane.install_policy(policy)
        await self._change_sas(difference, peers, paths)
        await parts.host.guard.apply_zones(new)
        await parts.before_routes(new)
        await parts.host.routing.apply(known=not self._incomplete)
        await parts.services.apply(new)
        await parts.host.guard.settle()

    async def _change_sas(self, difference: Difference, peers: dict[str, Peer], paths: dict[str, OuterPath]) -> None:
        """No event finds a tunnel half there; of very many some are changed before others."""
        parts = self._parts
        for tunnel in (*difference.removed, *(change.old for change in difference.changed if change.effect is Effect.RESTART)):
            if tunnel.manual is not None:
                parts.manual.remove(tunnel)
        effects = {change.new.name: change.effect for change in difference.changed if change.old.auth is not None}
        effects |= {tunnel.name: Effect.RESTART for tunnel in difference.removed if tunnel.auth is not None}
        await parts.ike.reconfigure([tunnel for tunnel in new_or_changed(difference) if tunnel.auth is not None], peers, effects)
        parts.manual.install(_begun(difference), paths)
        for observer in parts.observers:
            observer.reconfigure(difference.new)


def _begun(difference: Difference) -> list[Tunnel]:
    """Tunnels that begin, or begin anew."""
    anew = (change.new for change in difference.changed if change.effect is Effect.RESTART)
    return [*difference.added, *anew]


def unchangeable(old: Config, new: Config) -> Iterable[Finding]:
    """What a reload cannot change."""
    for key, why in FIXED.items():
        if getattr(old, key) != getattr(new, key):
            right = f"stop the gateway and start it anew, or write the former value ({why})"
            yield Finding("error", str(new.path), "gateway", key, "cannot be changed by a reload", right)


def _logged(refusal: ReloadRefusal) -> ReloadRefusal:
    log.error("%s is not taken over, nothing changed:", refusal.file, extra=told("reload_refused"))
    for finding in refusal.findings:
        log.log(
            logging.WARNING if finding.severity == "warning" else logging.ERROR,
            "%s",
            finding,
            extra=told("reload_finding", where=finding.where, key=finding.key),
        )
    return refusal


def _result(path: Path, difference: Difference, read_s: float, applied_s: float) -> ReloadResult:
    return ReloadResult(
        file=str(path),
        added=tuple(tunnel.name for tunnel in difference.added),
        removed=tuple(tunnel.name for tunnel in difference.removed),
        changed=tuple(
            TunnelChange(name=change.new.name, keys=tuple(change.keys), effect=change.effect.text) for change in difference.changed
        ),
        kept=difference.kept,
        findings=tuple(difference.findings),
        read_s=round(read_s, 3),
        applied_s=round(applied_s, 3),
    )
