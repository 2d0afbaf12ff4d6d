"""The tunnel monitors of a gateway: they probe through the tunnels, report what is down, and move routes.

A probe goes into the tunnel's own interface, whatever the routes are: a tunnel whose routes were withdrawn is still watched.
Its answer may return by any tunnel: each side watches its own direction, since otherwise neither could be the first to return.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host.echo import Echo
from ipsec_dp.services.monitor_health import Health, HealthState, MonitorStatus
from ipsec_dp.util.leaves import Here
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.tasks import Tasks
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipsec_dp.config import Config, Monitor, Tunnel
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.network.host import Host
    from ipsec_dp.util.clock import Clock

    Told = Callable[[str, bool, str], None]

log = logging.getLogger(__name__)

SOURCE = "monitors"  # of conditions
NO_SOURCE = "this host has no address inside the local selectors; write monitor.source"
TOKEN_OCTETS = 16  # of a probe's content: whoever answers must have received it


@dataclass
class _Watch:
    tunnel: Tunnel
    monitor: Monitor
    health: Health
    token: bytes
    source: Address | None = None
    error: str | None = None  # why it cannot probe
    task: asyncio.Task[None] | None = None
    due: float = 0.0  # when it asks next; what is over: at once


class CarriedMonitor(Struct, frozen=True, forbid_unknown_fields=True):
    """`due`: when it asks next, by the gateway's clock."""

    target: Here[str]
    health: Here[HealthState]
    due: Here[float]


class TunnelMonitors:
    """A service. `renew` has IKE make new SAs for a tunnel that carries nothing; `told` hears of each that goes down or up."""

    name = "monitors"

    def __init__(self, host: Host, renew: Callable[[str], None], clock: Clock, told: Told = lambda *_: None) -> None:
        self._host, self._renew, self._clock, self._told = host, renew, clock, told
        self._watches: dict[str, _Watch] = {}
        self._echoes = host.reports.echoes(int.from_bytes(clock.random(2)), self._answered)
        self._by_token: dict[bytes, _Watch] = {}
        self._moving = asyncio.Lock()
        self._withdrawn: frozenset[str] = frozenset()
        self._carried: dict[str, CarriedMonitor] = {}
        self._moves = Tasks()

    def export(self) -> dict[str, CarriedMonitor]:
        """What each knows, by tunnel."""
        return {
            name: CarriedMonitor(str(watch.monitor.target), watch.health.export(), watch.due)
            for name, watch in self._watches.items()
        }

    def take(self, carried: Mapping[str, CarriedMonitor], withdrawn: frozenset[str]) -> None:
        """Before the first `apply`: those that ask the same target go on from there. `withdrawn`: interfaces without routes."""
        self._carried, self._withdrawn = dict(carried), withdrawn

    def _resumed(self, watch: _Watch) -> _Watch:
        carried = self._carried.pop(watch.tunnel.name, None)
        if carried is not None and carried.target == str(watch.monitor.target):
            watch.health.resume(carried.health)
            watch.due = carried.due
        return watch

    async def apply(self, config: Config) -> None:
        """A monitor that probes as before goes on with what it knows; the others begin anew. Raises HostError."""
        wanted = {tunnel.name: (tunnel, tunnel.monitor) for tunnel in config.tunnels if tunnel.monitor is not None}
        for name, watch in list(self._watches.items()):
            tunnel, monitor = wanted.get(name, (None, None))
            if monitor == watch.monitor and tunnel is not None and tunnel.interface == watch.tunnel.interface:
                watch.tunnel = tunnel
            else:
                await self._end(name)
        versions = {monitor.target.version for _, monitor in wanted.values()}
        interfaces = {tunnel.interface for tunnel in config.tunnels} if versions else set()
        self._echoes.keep(interfaces)
        for interface in interfaces:
            for version in versions:
                self._echoes.listen(interface, version)
        for name, (tunnel, monitor) in wanted.items():
            if name not in self._watches:
                watch = _Watch(tunnel, monitor, Health(monitor.threshold), self._clock.random(TOKEN_OCTETS))
                self._watches[name] = self._by_token[watch.token] = self._resumed(watch)
                watch.task = asyncio.get_running_loop().create_task(self._watch(watch))
        await self._move()

    async def close(self) -> None:
        for name in list(self._watches):
            await self._end(name)
        self._echoes.keep(set())

    def restored(self, interface: str) -> None:
        """An interface was made anew."""
        try:
            self._echoes.reopen(interface)
        except IpsecDpError as error:
            self._host.conditions.begin(SOURCE, interface, f"monitors: {error}")
        else:
            self._host.conditions.end(SOURCE, interface)

    async def _end(self, name: str) -> None:
        watch = self._watches.pop(name)
        del self._by_token[watch.token]
        if watch.task is not None:
            watch.task.cancel()
            await asyncio.gather(watch.task, return_exceptions=True)

    async def _watch(self, watch: _Watch) -> None:
        rounds = Rounds(f'tunnel "{watch.tunnel.name}": monitor', self._host.conditions, self._clock)
        if (wait := watch.due - self._clock.now()) > 0:
            await self._clock.sleep(wait)
        watch.due = self._clock.now()

        async def turn() -> None:
            await self._ask(watch)
            watch.due = max(watch.due + watch.monitor.interval_s, self._clock.now())
            await self._clock.sleep(watch.due - self._clock.now())

        await rounds.run(turn)

    async def _ask(self, watch: _Watch) -> None:
        target = watch.monitor.target
        if watch.source is None or watch.health.lost_in_a_row:
            await self._find_source(watch)
        sequence, lost = watch.health.ask(self._clock.now())
        if watch.source is not None:
            echo = Echo(watch.source, target, self._echoes.identifier, sequence, watch.token)
            self._echoes.send(watch.tunnel.interface, echo)
        if lost:
            log.warning('tunnel "%s": %s', watch.tunnel.name, _trouble(watch), extra=told("monitor_down", tunnel=watch.tunnel.name))
            self._told(watch.tunnel.name, False, _trouble(watch))
            self._renew(watch.tunnel.name)
        await self._move()

    async def _find_source(self, watch: _Watch) -> None:
        watch.source, watch.error = watch.monitor.source, None
        if watch.source is None:
            try:
                watch.source = await self._host.routing.probe_source(watch.tunnel, watch.monitor.target)
            except IpsecDpError as error:
                watch.error = str(error)
            else:
                watch.error = None if watch.source is not None else NO_SOURCE

    def _answered(self, echo: Echo) -> None:
        watch = self._by_token.get(echo.data)
        if watch is None or (echo.source, echo.destination) != (watch.monitor.target, watch.source):
            return
        if watch.health.answered(echo.sequence, self._clock.now()):
            text = f"monitor: {watch.monitor.target} answers again"
            log.info('tunnel "%s": %s', watch.tunnel.name, text, extra=told("monitor_up", tunnel=watch.tunnel.name))
            self._told(watch.tunnel.name, True, text)
            self._moves.begin(self._move())

    async def _move(self) -> None:
        """Withdraws the routes into the interfaces of tunnels that are down, as far as a monitor is to."""
        async with self._moving:
            down = frozenset(
                watch.tunnel.interface
                for watch in self._watches.values()
                if watch.monitor.action == "fail-over" and not watch.health.up
            )
            if down == self._withdrawn:
                return
            try:
                await self._host.routing.withdraw(down)
                self._withdrawn = down
            except IpsecDpError as error:
                log.error("monitors: routes stay as they were: %s", error, extra=told("monitor_routes"))

    def status(self, tunnel: str) -> MonitorStatus | None:
        """Of a tunnel's monitor; None without one."""
        watch = self._watches.get(tunnel)
        return None if watch is None else _status(watch)

    def trouble(self, tunnel: str) -> str | None:
        """What is wrong with a tunnel while its monitor is down."""
        watch = self._watches.get(tunnel)
        return None if watch is None or watch.health.up else _trouble(watch)


def _trouble(watch: _Watch) -> str:
    health, monitor = watch.health, watch.monitor
    what = "its traffic goes to other tunnels that are routed" if monitor.action == "fail-over" else "its routes stay"
    if watch.error is not None:
        return f"monitor: cannot ask {monitor.target}: {watch.error}; {what}"
    return f"monitor: {health.lost_in_a_row} probes in a row to {monitor.target} got no answer through the tunnel; {what}"


def _status(watch: _Watch) -> MonitorStatus:
    health = watch.health
    return MonitorStatus(
        state="up" if health.up else "down",
        target=str(watch.monitor.target),
        source=None if watch.source is None else str(watch.source),
        action=watch.monitor.action,
        rtt_ms=None if health.rtt_s is None else round(health.rtt_s * 1000, 2),
        sent=health.asked,
        lost=health.lost,
        lost_in_a_row=health.lost_in_a_row,
    )
