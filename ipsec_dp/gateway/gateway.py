"""One gateway: brought up in the order that never lets protected traffic out, and taken down in reverse.

Up: control socket (one gateway of a name at a time) → guard → data plane → TUN interfaces → outer sockets → policy, SAs → loops →
routes → services. Down: the same backwards, the guard last. A start that fails leaves the guard where it is, as a crash does;
the next start adopts it.
"""

from __future__ import annotations

import asyncio
import difflib
import gc
import logging
import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsec_dp.databases.pad import peer_of
from ipsec_dp.databases.sad import Sad
from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import DataPlane, Provider, offloads_named
from ipsec_dp.errors import ControlError, IpsecDpError
from ipsec_dp.gateway import explain
from ipsec_dp.gateway.control import ControlServer, Listed
from ipsec_dp.gateway.events import Running
from ipsec_dp.gateway.reload import Live, Reloader
from ipsec_dp.ike.environment import Environment
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.keying import manual
from ipsec_dp.keying.child_installer import IkeChildren
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.network import workers
from ipsec_dp.network.carrier import InterfaceCarriers
from ipsec_dp.network.linux_host import LinuxHost
from ipsec_dp.network.outer_header import with_outer_header
from ipsec_dp.services.host_watch import HostWatch
from ipsec_dp.services.path_mtu import PathMtuDiscovery
from ipsec_dp.services.service import Services
from ipsec_dp.services.tunnel_monitor import TunnelMonitors
from ipsec_dp.services.tunnel_mtu import Shape
from ipsec_dp.services.zone_log import ZoneLog
from ipsec_dp.util.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.dataplane import OuterPath
    from ipsec_dp.network.host import Host, OuterLinks
    from ipsec_dp.services.service import Service
    from ipsec_dp.util.clock import Clock

log = logging.getLogger("ipsec_dp")

PROVIDER_VARIABLE = "IPSEC_DP_PROVIDER"
PROVIDERS = {"auto": Provider.AUTO, "openssl": Provider.OPENSSL, "intel-ipsec-mb": Provider.IPSEC_MB}
TOLD_FROM = 1000  # tunnels: a start with so many takes seconds
HOLD_OCTETS = 128 << 10  # of one tunnel, while its SA is negotiated: a super-packet and what follows it


class GatewayFailedError(IpsecDpError):
    """The gateway cannot start, or runs no longer, and why."""


class Gateway:
    """`start`, `wait` until someone calls `stop` (or something breaks), `close`."""

    def __init__(self, config: Config, control_path: Path, *, host: Host | None = None, clock: Clock | None = None) -> None:
        """`host` None: this machine; `clock` None: the system's."""
        self.config = config
        self._clock = SystemClock() if clock is None else clock
        self.spd = Spd(config)
        self._control = ControlServer(control_path, self._request)
        self._host = LinuxHost(config, self._clock) if host is None else host
        self._stack = AsyncExitStack()
        self._stopping = asyncio.Event()
        self._torn_down = asyncio.Event()
        self._failure: str | None = None
        self._left: str | None = None  # why something was not taken away
        self._running: Running | None = None
        self._ike: IkeDriver | None = None
        self._children: IkeChildren | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._carriers = InterfaceCarriers(self._host.interfaces.set_carrier, self._has_child)
        self._reloader: Reloader | None = None
        self._monitors = TunnelMonitors(self._host, self._renew, self._clock)
        self._mtus = PathMtuDiscovery(config, self._host, lambda: self.spd.tunnel_numbers, self._clock)
        self._services = Services(self._make_services())

    def _make_services(self) -> tuple[Service, ...]:
        """What is applied when everything else is as the configuration wants it, in this order."""
        watch = HostWatch(self._host, lambda: self._ike, self._clock)
        return (self._carriers, self._mtus, ZoneLog(self._host.reports), self._monitors, watch)

    async def start(self) -> None:
        """Brings everything up. Raises IpsecDpError; then `close` takes away what was made, but for the guard."""
        await self._control.start()
        await self._host.close_guard()
        try:
            await self._start_inside()
        except IpsecDpError:
            log.warning(
                "the guard stays, so that nothing protected leaves in clear; the next `up` adopts it, %s", self._host.guard.hint
            )
            raise

    async def _start_inside(self) -> None:
        stack, tunnels = self._stack, self.config.tunnels
        self._tell_progress("the guard is closed; looking for the ways to the peers")
        plane = DataPlane(
            provider=wanted_provider(os.environ),
            tunnels=self.spd.tunnels.capacity,
            interfaces=self.spd.interfaces.capacity,
            hold_octets=HOLD_OCTETS,
            offloads=offloads_named(self.config.offloads),
            workers=self.config.workers,
        )
        stack.callback(plane.close)
        if not plane.arena().locked:
            log.warning("keys are not locked in memory; raise the limit with `ulimit -l unlimited` or LimitMEMLOCK=infinity")
        await self._host.interfaces.make(stack, plane, self.spd)
        await self._mtus.first()
        plane.install_policy(self.spd.snapshot())
        self._tell_progress("interfaces and policy are there; loading secrets")
        sad, links = Sad(plane, self._clock.now, self._clock.random), self._host.outer_links(plane)
        stack.callback(links.close)
        install = partial(self._install, sad)
        paths = {tunnel.name: await self._host.peers.path(tunnel, links) for tunnel in tunnels if tunnel.manual is not None}
        for name, path in paths.items():
            install(self.config.tunnel(name), path)
        ike = self._ike_driver(sad, links)
        running = Running(self.config, self.spd, plane, sad, paths, ike, self._mtus.status, self._fail)
        running.listen(stack)
        stack.callback(self._host.reports.machine_clones(running.cloned).close)
        self._mtus.begin(plane, sad, ike)
        stack.push_async_callback(self._mtus.close)
        self._host.start_workers(plane)
        stack.callback(plane.stop)
        self._tell_progress("adding routes")
        await self._host.routing.start(stack)
        stack.push_async_callback(self._services.close)
        await self._services.apply(self.config)
        ike.start(stack, await self._host.peers.listen_at(tunnels))
        self._running, self._ike = running, ike
        live = Live(self.spd, self._host, plane, sad, links, ike, running, self._services, paths, self._mtus.first_of, install)
        self._reloader = Reloader(self.config, live, self._take)
        gc.collect()
        gc.freeze()  # what the configuration is made of stays: looking through it again and again would hold IKE up
        log.info("gateway %s is up: %d tunnels, provider %s", self.config.name, len(tunnels), plane.provider)

    def _tell_progress(self, text: str) -> None:
        """A start that takes seconds says where it is."""
        if len(self.config.tunnels) >= TOLD_FROM:
            log.info("starting %d tunnels: %s", len(self.config.tunnels), text)

    def _take(self, config: Config) -> None:
        self.config = config
        if self._children is not None:
            self._children.set_outer_headers()

    def _install(self, sad: Sad, tunnel: Tunnel, path: OuterPath) -> None:
        """A manual tunnel's SAs."""
        if (keys := tunnel.manual) is None:
            return
        manual.install(
            sad,
            tunnel,
            keys,
            number=self.spd.tunnel_numbers[tunnel.name],
            interface=self.spd.interface_numbers[tunnel.interface],
            selectors=tunnel.selectors,
            path=path,
            random=self._clock.random,
        )
        log.warning('tunnel "%s": %s', tunnel.name, manual.WARNING)

    def _ike_driver(self, sad: Sad, links: OuterLinks) -> IkeDriver:
        """For the tunnels that have [tunnel.auth]."""
        tunnels = [tunnel for tunnel in self.config.tunnels if tunnel.auth is not None]
        try:
            peers = {tunnel.name: peer_of(tunnel) for tunnel in tunnels}
        except (IkeError, OSError, ValueError) as error:
            raise GatewayFailedError(str(error)) from error
        self._children = children = IkeChildren(sad, links.link, self.spd.tunnel_numbers, self.spd.interface_of, self._outer_header)
        core = IkeManager(
            Environment(
                self._clock.random,
                lambda name: sad.try_allocate_spi(workers.receiver(self.config, self.spd.tunnel_numbers, name)),
                lambda _now: self._clock.utc(),
                activity=children.activity,
            )
        )
        return IkeDriver(
            tunnels,
            peers,
            core=core,
            children=children,
            links=links,
            locate=self._host.peers.locate,
            changed=lambda name: self._children_changed(name, children),
            clock=self._clock,
            probed=self._mtus.probed,
        )

    def _renew(self, name: str) -> None:
        """A tunnel carries nothing, says its monitor: new keys show whether the peer is there, and help if only an SA was lost."""
        if self._ike is None or self.config.tunnel(name).auth is None:
            return
        try:
            self._ike.rekey(name, ike=False)
        except IpsecDpError as error:
            log.info("%s", error)

    def _outer_header(self, tunnel: str, path: OuterPath) -> OuterPath:
        if not self.config.has_tunnel(tunnel):  # a reload is not over yet; `_take` follows
            return path
        return with_outer_header(path, self.config.tunnel(tunnel).packets)

    def _has_child(self, name: str) -> bool:
        """Whether packets of a tunnel that IKE negotiates find an SA."""
        return self._children is not None and any(child.child is not None for child in self._children.of(name))

    def _children_changed(self, name: str, children: IkeChildren) -> None:
        """Carrier and MTU follow what was negotiated."""
        self._carriers.changed(name)
        if self.config.has_tunnel(name):
            shapes = {Shape(child.suite, child.udp, child.path.remote.address) for child in children.of(name)}
            self._mtus.negotiated(self.config.tunnel(name), shapes)

    def hang_up(self) -> None:
        """SIGHUP: the configuration is read again; what comes of it is logged."""
        task = asyncio.get_running_loop().create_task(self._hang_up())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hang_up(self) -> None:
        try:
            await self._reload(None)
        except IpsecDpError as error:
            log.error("%s", error)

    async def _reload(self, path: str | None) -> dict[str, Any]:
        if self._reloader is None:
            raise ControlError("the gateway is starting or stopping; ask again")
        return await self._reloader.reload(self.config.path if path is None else Path(path))

    def stop(self, why: str) -> None:
        """Ends `wait`."""
        log.info("stopping: %s", why)
        self._stopping.set()

    def _fail(self, cause: str) -> None:
        self._failure = cause
        self._stopping.set()

    async def wait(self) -> int:
        """The exit status, once stopped. Raises GatewayFailedError when something broke."""
        await self._stopping.wait()
        if self._failure is not None:
            raise GatewayFailedError(self._failure)
        return 0

    async def close(self) -> None:
        """Takes everything away; the guard only after a clean run and unless the configuration keeps it."""
        clean = self._stopping.is_set() and self._failure is None
        self._running = self._ike = self._reloader = None
        try:
            await self._stack.aclose()
            if clean and not self.config.keep_closed:
                await self._host.open_guard()
        except IpsecDpError as error:
            self._left = str(error)
            raise
        finally:
            self._torn_down.set()
            await self._host.close()
            await self._control.close()

    async def _request(self, request: dict[str, Any]) -> Any:
        match request["verb"]:
            case "status":
                return await self._status(request.get("name"), request.get("state"))
            case "down":
                self.stop("down")
                await self._torn_down.wait()
                if self._left is not None:
                    raise ControlError(f"stopped, but not everything is taken away: {self._left}")
                return {"stopped": self.config.name}
            case "reload":
                return await self._reload(request.get("file"))
            case "explain":
                return await self._explain(request)
            case "initiate" | "rekey" | "terminate":
                return self._negotiate(request)
            case verb:
                raise ControlError(f'"{verb}" is no verb of this gateway')

    def _negotiate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carries out a verb of IKE; what comes of it shows in the log and in `status`."""
        name, verb = request.get("name"), request["verb"]
        known = [tunnel.name for tunnel in self.config.tunnels if tunnel.auth is not None]
        if self._ike is None or name not in known:
            raise ControlError(f'no tunnel "{name}" that IKE negotiates; there are: {", ".join(known) or "none"}')
        match verb:
            case "initiate":
                self._ike.initiate(str(name))
            case "rekey":
                self._ike.rekey(str(name), ike=request.get("ike") is True)
            case _:
                self._ike.terminate(str(name))
        return {"tunnel": name, "verb": verb}

    async def _explain(self, request: dict[str, Any]) -> dict[str, Any]:
        """What decides about a packet now, see `explain`."""
        running = self._running
        if running is None:
            raise ControlError("the gateway is starting or stopping; ask again")
        texts = [None if request.get(key) is None else str(request[key]) for key in ("protocol", "sport", "dport")]
        ends = str(request.get("source")), str(request.get("destination"))
        question = explain.question_of(*ends, *texts, inbound=request.get("inbound") is True)
        host = explain.GatewayView(self._host.peers.interface_to, running.children_holding)
        return (await explain.explain(self.config, question, host)).as_json()

    async def _status(self, name: str | None, state: str | None) -> Listed:
        """All, or the one tunnel of this name, or those in this state."""
        running = self._running
        if running is None:
            raise ControlError("the gateway is starting or stopping; ask again")
        if name is not None and not self.config.has_tunnel(name):
            close = difflib.get_close_matches(name, (tunnel.name for tunnel in self.config.tunnels), n=1)
            raise ControlError(f'no tunnel "{name}"' + (f'; did you mean "{close[0]}"?' if close else ""))
        status = running.status()
        head = status | {
            "warnings": status["warnings"] + self._host.routing.notes,
            "guard": await self._host.guard.counts(),
            "zones": await self._host.guard.zone_counts(),
        }
        return Listed(head, "tunnels", self._monitors.added_to(running.tunnels_status(name, state)))


def wanted_provider(environment: Mapping[str, str]) -> Provider:
    """The provider that IPSEC_DP_PROVIDER forces; unset or empty: the fastest there is. Raises GatewayFailedError."""
    name = environment.get(PROVIDER_VARIABLE, "") or "auto"
    if name not in PROVIDERS:
        raise GatewayFailedError(f"{PROVIDER_VARIABLE}={name}: no such provider; write one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name]
