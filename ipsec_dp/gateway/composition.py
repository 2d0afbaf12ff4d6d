"""Who is made of what in a gateway, and who hears of what. Nothing is opened, installed or begun here: that is `gateway`'s, in its
order."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.config.ikev1 import aggressive_risk
from ipsec_dp.config.nested import Nesting
from ipsec_dp.databases.pad import KeyFiles, peer_of, resources_of
from ipsec_dp.databases.sad import Sad
from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import DataPlane, Encapsulation, Provider, offloads_named
from ipsec_dp.dataplane.tap import Tap
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.absence import Absence
from ipsec_dp.gateway.bring_up import BringUp
from ipsec_dp.gateway.clone_watch import CloneWatch
from ipsec_dp.gateway.confirmation import Confirmation
from ipsec_dp.gateway.drop_examples import DropExamples, DropWatch
from ipsec_dp.gateway.event_stream import EventStream
from ipsec_dp.gateway.events import Events
from ipsec_dp.gateway.gateway_log import GatewayLog
from ipsec_dp.gateway.housekeeping import Housekeeping
from ipsec_dp.gateway.ike_counts import IkeCounts
from ipsec_dp.gateway.inspection import Inspection
from ipsec_dp.gateway.notices import Notices
from ipsec_dp.gateway.parts import GatewayParts
from ipsec_dp.gateway.readings import Readings
from ipsec_dp.gateway.reload import Reloader, ReloadParts
from ipsec_dp.gateway.second_line import SecondLine
from ipsec_dp.gateway.substitutes import NO_SUBSTITUTES, Substitutes
from ipsec_dp.host import HostError
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.environment import Environment
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.strangers import LIMITS, StrangersEvents
from ipsec_dp.keying.child_installer import IkeChildren
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.keying.ike_trace import CookieLines
from ipsec_dp.keying.ike_trials import IkeTrials
from ipsec_dp.keying.ike_watch import IkeWatch, ike_rates
from ipsec_dp.keying.key_log import KeyLog
from ipsec_dp.keying.manual import ManualSas
from ipsec_dp.network import workers
from ipsec_dp.network.carrier import InterfaceCarriers
from ipsec_dp.network.outer_header import with_outer_header
from ipsec_dp.services.crl_watch import CrlWatch
from ipsec_dp.services.device_watch import DeviceWatch
from ipsec_dp.services.host_watch import HostWatch
from ipsec_dp.services.metrics_server import MetricsServer
from ipsec_dp.services.name_watch import NameWatch
from ipsec_dp.services.nat_flows import NatFlows
from ipsec_dp.services.path_mtu import PathMtuDiscovery
from ipsec_dp.services.service import Services
from ipsec_dp.services.tunnel_monitor import TunnelMonitors
from ipsec_dp.services.tunnel_mtu import OuterShape
from ipsec_dp.services.unanswered import UnansweredTraffic
from ipsec_dp.services.zone_log import ZoneLog
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.config.named_files import KeptKeys
    from ipsec_dp.dataplane import Offload, OuterPath
    from ipsec_dp.ike.actions import Event
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.status import KeyingStatus
    from ipsec_dp.network.host import Host, OuterLinks
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

PROVIDER_VARIABLE = "IPSEC_DP_PROVIDER"
PROVIDERS = {"auto": Provider.AUTO, "openssl": Provider.OPENSSL, "intel-ipsec-mb": Provider.IPSEC_MB}
HOLD_OCTETS = 128 << 10  # of one tunnel, while its SA is negotiated: a super-packet and what follows it


class GatewayFailedError(IpsecDpError):
    """The gateway cannot start, or runs no longer, and why."""


def wanted_provider(environment: Mapping[str, str]) -> Provider:
    """The provider that IPSEC_DP_PROVIDER forces; unset or empty: the fastest there is. Raises GatewayFailedError."""
    name = environment.get(PROVIDER_VARIABLE, "") or "auto"
    if name not in PROVIDERS:
        raise GatewayFailedError(f"{PROVIDER_VARIABLE}={name}: no such provider; write one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name]


def _state_of(tunnel: Tunnel, ike: IkeDriver, manual: ManualSas) -> str:
    """How a tunnel is, in words."""
    if tunnel.auth is not None and not ike.has(tunnel.name):
        return "gone"
    keying = manual.status(tunnel.name) if tunnel.auth is None else ike.status(tunnel.name)
    return keying.state if keying.state_text in ("", keying.state) else f"{keying.state}: {keying.state_text}"


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that need a data plane."""

    ike: IkeDriver
    events: Events
    housekeeping: Housekeeping
    clone_watch: CloneWatch
    inspection: Inspection
    reloader: Reloader
    drop_watch: DropWatch
    readings: Readings
    tap: Callable[..., Tap]  # begins a capture
    plane: DataPlane
    sad: Sad
    core: IkeVersions
    children: IkeChildren


def _load_exposition() -> None:
    """Its library, which nobody needs who serves no metrics."""
    from ipsec_dp.gateway import exposition  # noqa: F401 - it is there from now on


class Composition:
    """The parts of one gateway. `config` is the configuration in force; `engine` is there while the gateway is up."""

    def __init__(
        self,
        config: Config,
        host: Host,
        clock: Clock,
        substitutes: Substitutes = NO_SUBSTITUTES,
        log: GatewayLog | None = None,
    ) -> None:
        self.log = GatewayLog(config.log) if log is None else log
        self.config, self.host, self.clock, self.substitutes = config, host, clock, substitutes
        self._nesting = Nesting.of(config)
        self.spd = Spd(config)
        self.carriers = InterfaceCarriers(host.interfaces.set_carrier, self._has_child)
        self.stream = EventStream(config.name, self._keying, clock)
        self.monitors = TunnelMonitors(host, self._renew, clock, self.stream.monitor)
        self.mtus = PathMtuDiscovery(config, host, lambda: self.spd.tunnel_numbers, clock)
        self.devices = DeviceWatch(host, lambda: self._links, self._interface_restored, clock)
        host_watch = HostWatch(host, lambda: self.ike, clock)
        self.nat_flows = NatFlows(host, clock)
        crls = CrlWatch(lambda: self.ike, host.conditions, clock)
        names = NameWatch(host, lambda: self.ike, host_watch.look, clock)
        self.counts, self.key_log = IkeCounts(clock), KeyLog(host.conditions, clock)
        self.metrics = MetricsServer(self.metrics_page, _load_exposition, host.conditions, clock, substitutes.listen)
        beside = ZoneLog(host.reports), self.monitors, self.devices, host_watch, self.nat_flows, crls, names, self.metrics
        self.services = Services((self.carriers, self.mtus, *beside))
        self.confirmation = Confirmation(host.conditions, clock)
        self.engine: Engine | None = None
        self._children: IkeChildren | None = None
        self._watch: IkeWatch | None = None
        self._core: IkeVersions | None = None
        self.upgraded_at: str | None = None  # date and time, UTC, since when this process goes on with another's SAs
        self._notices: Notices | None = None
        self._strangers = StrangersEvents()
        self._links: OuterLinks | None = None

    @property
    def ike(self) -> IkeDriver | None:
        return None if self.engine is None else self.engine.ike

    def _offloads(self) -> Offload:
        """Those that may be used. What the kernel was found to do wrongly is a condition."""
        faults = {name: text for name, text in self.substitutes.offload_faults.items() if name in self.config.offloads}
        text = "this kernel does not do what it says of super-packets, so these offloads are off: "
        found = "; ".join(f"{name} ({fault})" for name, fault in sorted(faults.items()))
        self.host.conditions.become("offloads", {"trial": text + found} if faults else {})
        return offloads_named(self.config.offloads - faults.keys())

    def data_plane(self) -> DataPlane:
        """Raises GatewayFailedError, DataPlaneError."""
        return self.substitutes.plane(
            provider=wanted_provider(os.environ),
            tunnels=self.spd.tunnels.capacity,
            interfaces=self.spd.interfaces.capacity,
            stranger_rate=LIMITS.datagrams_a_second,
            stranger_burst=LIMITS.datagrams_at_once,
            hold_octets=HOLD_OCTETS,
            offloads=self._offloads(),
            workers=self.config.workers,
            ike=ike_rates(LIMITS),
        )

    def ike_driver(self, plane: DataPlane, sad: Sad, links: OuterLinks, kept: KeptKeys | None = None) -> IkeDriver:
        """For the tunnels that have [tunnel.auth], whose secrets are read, but for those in `kept`. Raises GatewayFailedError."""
        tunnels = [tunnel for tunnel in self.config.tunnels if tunnel.auth is not None]
        self._tell_risks()
        resources = resources_of(self.config)
        try:
            with KeyFiles(tunnels, kept) as read:
                peers = {tunnel.name: peer_of(tunnel, files_read=read, resources=resources) for tunnel in tunnels}
        except (IkeError, OSError, ValueError) as error:
            raise GatewayFailedError(str(error)) from error
        self._watch = watch = IkeWatch(plane)
        watch.silent_towards(self._nesting.silent())
        spd, key_log = self.spd, self.key_log
        self._children = children = IkeChildren(
            sad, links.link, spd.tunnel_numbers, spd.interface_of, self._outer_header, key_log.esp
        )
        trace = self.substitutes.trace(self.clock)
        self._core = core = IkeVersions(
            Environment(
                self.clock.random,
                lambda name: sad.try_allocate_spi(workers.receiver(self.config, self.spd.tunnel_numbers, name)),
                lambda _now: self.clock.utc(),
                activity=children.activity,
                watcher=watch,
                trace=trace,
                pins=self.substitutes.pins(self.config.name, self.host.conditions),
                shaped=self.substitutes.shaped,
                interference=self.substitutes.interference,
                keys=self.key_log,
            ),
            events=self._strangers,
        )
        return IkeDriver(
            tunnels,
            peers,
            core=core,
            children=children,
            links=links,
            locate=self._locate,
            changed=lambda name: self._children_changed(name, children),
            probed=self.mtus.probed,
            conditions=self.host.conditions,
            clock=self.clock,
            refuses=self._refuses_stranger,
            trace=trace,
            reported=self._reported,
            renewing=self.counts.renewing,
            uncalled=self.stream.uncalled,
            trials=IkeTrials(core.environment, links, children.release_spi, self.clock),
            no_esp=links.unavailable(Encapsulation.ESP),
        )

    def make_engine(self, plane: DataPlane, sad: Sad, links: OuterLinks, manual: ManualSas, ike: IkeDriver) -> Engine:
        self._links = links
        spd, host, clock = self.spd, self.host, self.clock
        self._notices = notices = Notices(clock, self._strangers)
        events = Events(
            spd=spd,
            plane=plane,
            sad=sad,
            manual=manual,
            ike=ike,
            notices=notices,
            device_failed=self.devices.failed,
            refused=self.mtus.refused,
            clock=clock,
        )
        examples = DropExamples(
            self.config,
            plane=plane,
            spd=spd,
            own_addresses=host.peers.own_addresses,
            state=lambda tunnel: _state_of(tunnel, ike, manual),
            clock=clock,
        )
        unanswered = UnansweredTraffic(
            plane.unanswered,
            spd.tunnel_names.get,
            lambda name: ike.status(name) if ike.has(name) else manual.status(name) if name in manual.paths else None,
            self.monitors.status,
            host.conditions,
            clock,
            lambda name: ike.has(name) and ike.nothing_back(name),
        )
        asked = GatewayParts(
            spd=spd,
            plane=plane,
            sad=sad,
            manual=manual,
            ike=ike,
            host=host,
            mtus=self.mtus,
            monitors=self.monitors,
        )
        inspection = Inspection(
            self.config,
            asked,
            unanswered=unanswered,
            drop_examples=examples,
            notices=notices,
            clock=clock,
            upgraded_at=lambda: self.upgraded_at,
            buffers=lambda: links.buffers,
        )
        readings = Readings(self.config, asked)
        parts = ReloadParts(
            spd,
            host,
            plane,
            sad,
            links,
            manual,
            ike,
            self.services,
            (notices, inspection, examples, readings, self.log, links),
            self.mtus.first_of,
            self.nat_flows.before_routes,
        )
        given = self.substitutes
        reloader = Reloader(self.config, parts, self.reconfigure, clock, given.reread, given.reloading, given.in_force)
        second_line, absence = SecondLine(plane, host.conditions, clock), Absence(clock, notices, ike.check_liveness)
        called = sum(tunnel.start == "start" and tunnel.manual is None for tunnel in self.config.tunnels)
        bring_up = BringUp(called, ike.came_up, self.clock.now)
        cookies = CookieLines(lambda: plane.counters().cookies_sent)
        logs = notices.look, partial(self.log.look, host.conditions), cookies.look
        looks = second_line.look, absence.look, unanswered.look, bring_up.look, *logs
        housekeeping = Housekeeping(sad, events.handle, host.conditions, clock, looks)
        watch = DropWatch(plane, examples, notices, self._drops_began, host.conditions, clock, self.stream.drops)
        if self._core is None or self._children is None:
            raise GatewayFailedError("an engine without IKE")
        return Engine(
            ike,
            events,
            housekeeping,
            CloneWatch(plane, ike),
            inspection,
            reloader,
            watch,
            readings,
            partial(Tap, plane),
            plane,
            sad,
            self._core,
            self._children,
        )

    async def reconfigure(self, config: Config) -> None:
        """Another configuration is in force; outer headers are as it says."""
        if not self._nesting.adapt(config):
            self._nesting = await asyncio.to_thread(Nesting.of, config)
        self.config = config
        self._tell_risks()
        if self._watch is not None:
            self._watch.silent_towards(await asyncio.to_thread(self._nesting.silent))
        if self._children is None:
            return
        async for name, path in in_slices(tuple(self._children.paths().items())):
            if self.ike is not None and self._nested(name, path.remote.address, path.local.address) is not None:
                self.ike.leave(name)
        await self._children.set_outer_headers()

    def _tell_risks(self) -> None:
        """What tunnels give away by how they are configured, for as long as they are."""
        self.key_log.apply(self.config.keylog)
        risks = {tunnel.name: risk for tunnel in self.config.tunnels if (risk := aggressive_risk(tunnel)) is not None}
        self.host.conditions.become("aggressive", {name: f'tunnel "{name}": {risk}' for name, risk in risks.items()})

    # ---- peers behind another tunnel

    def _nested(self, name: str, remote: Address, local: Address | None) -> str | None:
        """Why a tunnel has no peer there: it lies behind another tunnel. None: it does not."""
        holder = self._nesting.holder(name, remote, local)
        if holder is None:
            self.host.conditions.end("nested", name)
            return None
        text = holder.refusal(remote)
        self.host.conditions.begin("nested", name, f'tunnel "{name}": {text}')
        return text

    async def _locate(self, tunnel: Tunnel, remote: Address | str, turn: int) -> tuple[Address, Address]:
        found, local = await self.host.peers.locate(tunnel, remote, turn)
        if (refusal := self._nested(tunnel.name, found, local)) is not None:
            raise HostError(refusal)
        return found, local

    def _refuses_stranger(self, remote: Address) -> bool:
        """What comes from there gets no answer, which would leave beside a tunnel."""
        holder = self._nesting.of_stranger(remote)
        if holder is not None and self._notices is not None:
            text = f"IKE is not answered: {holder.refusal(remote)}"
            self._notices.add_of_stranger(logging.WARNING, text, "nested", told("nested_refused"))
        return holder is not None

    async def metrics_page(self) -> list[bytes]:
        """As Prometheus reads it, in pieces."""
        from ipsec_dp.gateway.exposition import page

        return await page(self.config, None if self.engine is None else self.engine.readings, self.counts)

    # ---- who hears of what

    def _reported(self, event: Event) -> None:
        self.counts.event(event)
        self.substitutes.reported(event)
        self.stream.ike(event)

    def _keying(self, name: str) -> KeyingStatus | None:
        """How a tunnel is that IKE negotiates."""
        return None if self.ike is None or not self.ike.has(name) else self.ike.status(name)

    def _drops_began(self, reason: str) -> None:
        if reason == "policy_none":
            self.nat_flows.ask()

    def _renew(self, name: str) -> None:
        """A tunnel carries nothing, says its monitor: new keys show whether the peer is there, and help if only an SA was lost."""
        if self.ike is None or self.config.tunnel(name).auth is None:
            return
        try:
            self.ike.rekey(name, ike=False, why="monitor")
        except IpsecDpError as error:
            log.info("%s", error, extra=told("rekey_refused", tunnel=name))

    def _interface_restored(self, name: str) -> None:
        """It may be another device: its carrier is to show what it did, and the monitors ask by it."""
        self.carriers.restored(name)
        self.monitors.restored(name)

    def _outer_header(self, tunnel: str, path: OuterPath) -> OuterPath:
        if (refusal := self._nested(tunnel, path.remote.address, path.local.address)) is not None:
            raise HostError(refusal)
        if not self.config.has_tunnel(tunnel):  # a reload is not over yet; `reconfigure` comes
            return path
        return with_outer_header(path, self.config.tunnel(tunnel).packets)

    def _has_child(self, name: str) -> bool:
        """Whether packets of a tunnel that IKE negotiates find an SA."""
        return self._children is not None and self._children.sends(name)

    def _children_changed(self, name: str, children: IkeChildren) -> None:
        """Carrier and MTU follow what was negotiated."""
        self.carriers.changed(name)
        came, gone = ({OuterShape(*way) for way in ways} for ways in children.new_ways(name))
        if self.config.has_tunnel(name):
            self.mtus.negotiated(self.config.tunnel(name), came, gone)
