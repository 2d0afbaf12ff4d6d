"""A host in memory, for whole gateways without root: no kernel, no socket, no thread, and no time but the clock's.

    network = OuterNetwork()
    host = MemoryHost(config, clock, network, addresses=["192.0.2.1"])
    gateway = Gateway(config, None, host=host, clock=clock)

What is asked of it stands in `calls` (`sent_log.keep`). Its interfaces and outer links are those of the data plane's own doubles;
what the gateways of one network send to each other arrives, once `OuterNetwork.carry` has run their loops. There is a route to
everywhere.
"""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from ipsec_dp.host import HostError
from ipsec_dp.host.decision import Way
from ipsec_dp.host.filters import Filter
from ipsec_dp.host.outer import OuterRoute
from ipsec_dp.network.peer_routes import PeerRoutes
from ipsec_dp.network.remains import Remains
from ipsec_dp.rig.memory_links import QUEUE_PACKETS, MemoryLinks, OuterNetwork
from ipsec_dp.rig.sent_log import keep
from ipsec_dp.util.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AsyncExitStack

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane, Encapsulation
    from ipsec_dp.host.conntrack import NatFlow
    from ipsec_dp.host.echo import Echo
    from ipsec_dp.host.routing_rules import RouteQuestion
    from ipsec_dp.host.tun import Trouble
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.util.clock import Clock

    class MemoryClock(Clock, Protocol):
        """Whose time the data plane can take too."""

        @property
        def ns(self) -> int: ...


FIRST_INDEX = 10  # of an interface


class MemoryRoutes:
    """`ipsec_dp.network.peer_routes.RouteLookup`: to everywhere from the first address of a version, by interface 2."""

    def __init__(self, addresses: Iterable[Address], mtu: int = 1500) -> None:
        self.addresses, self.mtu = list(addresses), mtu
        self.refused: set[Address] = set()  # peers without a route
        self.mtus: dict[Address, int] = {}  # of our addresses whose way is another than that of `mtu`
        self.links = {"wan": mtu, "ipsec0": 1446}  # MTUs of interfaces
        self.asked: list[Address] = []
        self.leading: Callable[[Address], str | None] = lambda _: None  # the tunnel interface by which packets go somewhere

    async def get(self, remote: Address, local: Address | None = None) -> OuterRoute:
        keep(self.asked, remote)
        source = local or next((each for each in self.addresses if each.version == remote.version), None)
        if source is None or remote in self.refused:
            raise HostError(f"no route to {remote}")
        return OuterRoute(source, 2, self.mtus.get(source, self.mtu), None)

    def forget(self) -> None:
        self.asked.clear()

    async def own_addresses(self) -> set[Address]:
        return set(self.addresses)

    def link_mtus(self) -> dict[str, int]:
        return self.links

    async def way(self, asked: RouteQuestion) -> Way:
        if asked.destination in self.refused:
            return Way(None, code=errno.ENETUNREACH)
        return Way(self.leading(asked.destination) or "wan", 254)


class MemoryGuard:
    """Keeps the configurations that it is closed for."""

    def __init__(self, config: Config, note: Callable[[str], None]) -> None:
        self.config, self._note = config, note
        self.closed_for: list[Config] = []

    def _close(self, what: str, *configs: Config) -> None:
        self._note(f"guard {what}")
        self.closed_for = list(configs)

    def close(self) -> None:
        self._close("closed", self.config)

    def remove(self) -> None:
        self._close("opened")

    async def widen(self, config: Config) -> None:
        self._close("widened", self.config, config)

    async def narrow(self) -> None:
        self._close("narrowed", self.config)

    async def settle(self) -> None:
        self._close("settled", self.config)

    async def apply_zones(self, config: Config) -> None:
        del config
        self._note("zones applied")

    async def counts(self) -> dict[str, int]:
        return {"cleartext_out4": 0}

    async def host_filter(self) -> Filter:
        return Filter(())

    async def zone_counts(self) -> dict[str, Any] | None:
        return None


class MemoryInterfaces:
    """TUN doubles of the data plane, by name of the interface."""

    def __init__(self, config: Config, note: Callable[[str], None]) -> None:
        self.config, self._note = config, note
        self.numbers: dict[str, int] = {}
        self.carriers: dict[str, bool] = {}
        self.mtus: dict[str, int] = {}  # by tunnel
        self.faults: dict[str, Trouble] = {}  # what others did to them
        self.unmendable: dict[str, str] = {}  # those that cannot be restored, and why
        self._attach: Callable[[str], None] = lambda _: None

    async def make(self, stack: AsyncExitStack, plane: DataPlane, spd: Spd) -> None:
        self._attach = partial(self._attach_to, plane, spd)
        stack.callback(self._remove, plane, self.numbers)
        self._add()

    def _attach_to(self, plane: DataPlane, spd: Spd, name: str) -> None:
        self.numbers[name] = spd.interface_numbers[name]
        for worker in range(plane.workers):
            plane.attach_memory_tun(self.numbers[name], QUEUE_PACKETS, worker)
        self._note(f"interface {name} made")

    def _add(self) -> None:
        for name in dict.fromkeys(tunnel.interface for tunnel in self.config.tunnels):
            if name not in self.numbers:
                self._attach(name)

    def _remove(self, plane: DataPlane, names: Iterable[str]) -> None:
        for name in list(names):
            number = self.numbers.pop(name)
            for worker in range(plane.workers):
                plane.detach_tun(number, worker)
            self._note(f"interface {name} removed")

    async def reconfigure(self, config: Config, mtus: Mapping[str, int]) -> None:
        self.config = config
        self.mtus.update(mtus)
        self._add()

    def remove_unused(self, plane: DataPlane) -> list[str]:
        unused = sorted(self.numbers.keys() - {tunnel.interface for tunnel in self.config.tunnels})
        self._remove(plane, unused)
        return unused

    async def set_mtus(self, mtus: Mapping[str, int]) -> None:
        self.mtus = dict(mtus)
        self._note("interfaces up")

    def mtu_of(self, tunnel: str) -> int:
        return self.mtus[tunnel]

    def set_carrier(self, interface: str, on: bool) -> None:
        self.carriers[interface] = on

    @property
    def indices(self) -> dict[str, int]:
        return {name: FIRST_INDEX + number for name, number in self.numbers.items()}

    async def troubles(self, names: Iterable[str] | None = None) -> dict[str, Trouble]:
        asked = self.faults.keys() if names is None else self.faults.keys() & set(names)
        return {name: self.faults[name] for name in sorted(asked)}

    async def restore(self, interface: str, trouble: Trouble) -> None:
        self._note(f"interface {interface} to be restored: {trouble.fault.name}")
        if interface in self.unmendable:
            raise HostError(self.unmendable[interface])
        self.faults.pop(interface, None)


class MemoryRouting:
    """What leads where, as notes."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self.notes: list[str] = []
        self.withdrawn: frozenset[str] = frozenset()

    def hold(self) -> None:
        self._note("routes unreachable")

    async def start(self, stack: AsyncExitStack) -> None:
        stack.callback(self.hold)
        await self.apply()

    async def apply(self, *, known: bool = False) -> None:
        self._note("routes known" if known else "routes applied")

    async def withdraw(self, interfaces: frozenset[str]) -> None:
        self.withdrawn = interfaces
        self._note(f"routes withdrawn from {', '.join(sorted(interfaces)) or 'nothing'}")

    async def probe_source(self, tunnel: Tunnel, target: Address) -> Address | None:
        return next((each.ip for each in tunnel.addresses if each.version == target.version), None)


class Listener:
    """Who gets reports of one kind, until it is closed."""

    def __init__(self, kind: str, callback: Callable[..., object], note: Callable[[str], None]) -> None:
        self.kind, self.callback, self._note = kind, callback, note
        self.open = True

    def close(self) -> None:
        self.open = False
        self._note(f"{self.kind} no longer heard")


class MemoryEchoes:
    """Probes that were sent, with their interface."""

    def __init__(self, identifier: int, answered: Callable[[Echo], None]) -> None:
        self.identifier, self.answered = identifier, answered
        self.listening: set[tuple[str, int]] = set()
        self.sent: list[tuple[str, Echo]] = []
        self.reopened: list[str] = []

    def listen(self, interface: str, version: int) -> None:
        self.listening.add((interface, version))

    def reopen(self, interface: str) -> None:
        keep(self.reopened, interface)

    def keep(self, interfaces: set[str]) -> None:
        self.listening = {each for each in self.listening if each[0] in interfaces}

    def send(self, interface: str, echo: Echo) -> None:
        keep(self.sent, (interface, echo))

    def answer(self, echo: Echo) -> None:
        """The peer answers."""
        self.answered(echo._replace(source=echo.destination, destination=echo.source))


class MemoryFlows:
    """Translated connections: those in `present`. `deleted` are no longer there."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self.present: list[NatFlow] = []
        self.deleted: list[NatFlow] = []
        self.asked = 0

    async def translated(self) -> list[NatFlow]:
        self.asked += 1
        self._note("connections listed")
        return list(self.present)

    async def delete(self, flows: Sequence[NatFlow]) -> list[NatFlow]:
        gone = [flow for flow in flows if flow in self.present]
        self.present = [flow for flow in self.present if flow not in gone]
        keep(self.deleted, *gone)
        self._note("connections deleted")
        return gone


class MemoryReports:
    """A test reports in the kernel's place: `report("network changes")`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self.listeners: list[Listener] = []
        self.probes: MemoryEchoes | None = None

    def _listen(self, kind: str, callback: Callable[..., object]) -> Listener:
        self._note(f"{kind} heard")
        self.listeners.append(Listener(kind, callback, self._note))
        return self.listeners[-1]

    def report(self, kind: str, *what: Any) -> None:
        """Tells whoever listens for that."""
        for each in self.listeners:
            if each.kind == kind and each.open:
                each.callback(*what)

    def network_changes(self, changed: Callable[[], None]) -> Listener:
        return self._listen("network changes", changed)

    def interface_changes(self, changed: Callable[[set[int] | None], None]) -> Listener:
        return self._listen("interface changes", changed)

    def machine_clones(self, cloned: Callable[[], None]) -> Listener:
        return self._listen("clones", cloned)

    def zone_log(self, group: int, logged: Callable[..., None]) -> Listener:
        return self._listen(f"log group {group}", logged)

    def packets_too_big(self, reported: Callable[..., None]) -> Listener:
        return self._listen("too big", reported)

    def unreachable(self, reported: Callable[..., None]) -> Listener:
        return self._listen("unreachable", reported)

    def hear_too_big(self, remote: Address, local: Address | None = None) -> Listener:
        del local
        return self._listen(f"too big of {remote}", lambda: None)

    def echoes(self, identifier: int, answered: Callable[[Echo], None]) -> MemoryEchoes:
        self.probes = MemoryEchoes(identifier, answered)
        return self.probes


class MemoryHost:
    """`ipsec_dp.network.host.Host`."""

    def __init__(
        self,
        config: Config,
        clock: MemoryClock,
        network: OuterNetwork | None = None,
        *,
        addresses: Iterable[str] = ("192.0.2.1",),
        mtu: int = 1500,
    ) -> None:
        self.calls: list[str] = []
        self.changing = asyncio.Lock()
        self.guard = MemoryGuard(config, self.note)
        self.interfaces = MemoryInterfaces(config, self.note)
        self.routing = MemoryRouting(self.note)
        self.routes = MemoryRoutes(map(ip_address, addresses), mtu)
        self.peers = PeerRoutes(self.routes)
        self.reports = MemoryReports(self.note)
        self.flows = MemoryFlows(self.note)
        self.conditions = Conditions(clock)
        self.restored = {"guard": 0, "zones": 0, "rules": 0, "routes": 0}
        self._clock = clock
        self._network = OuterNetwork() if network is None else network
        self._network.hosts.append(self)
        self.links: MemoryLinks | None = None
        self.denied: dict[Encapsulation, str] = {}  # what it permits no links of, and why
        self._plane: DataPlane | None = None

    def note(self, what: str) -> None:
        """Something is asked of the host."""
        keep(self.calls, what)

    async def close_guard(self) -> None:
        self.guard.close()
        self.routing.hold()

    async def close_for(self, config: Config) -> None:
        self.guard.config = config
        self.guard.close()
        self.routing.hold()

    async def remains(self) -> Remains:
        return Remains(self.guard.config.name, guard=bool(self.guard.closed_for))

    async def open_guard(self) -> None:
        self.note("routes removed")
        self.guard.remove()

    async def close(self) -> None:
        self._network.hosts.remove(self)

    def outer_links(self, plane: DataPlane) -> MemoryLinks:
        self.links = MemoryLinks(self._network, plane, self.denied)
        return self.links

    def start_workers(self, plane: DataPlane) -> None:
        """No thread: `step` runs the loops."""
        self._plane = plane
        self.note("workers started")

    async def reconfigure(self, config: Config, mtus: Mapping[str, int]) -> None:
        self.note("interfaces reconfigured")
        self.guard.config = config
        await self.interfaces.reconfigure(config, mtus)

    def remove_unused_interfaces(self) -> list[str]:
        return [] if self._plane is None else self.interfaces.remove_unused(self._plane)

    async def apply_mtus(self, mtus: Mapping[str, int]) -> None:
        self.interfaces.mtus = dict(mtus)

    async def verify(self) -> None:
        self.note("host verified")

    async def renew(self) -> None:
        self.note("host renewed")

    # ---- what a rig does with it

    def step(self) -> int:
        """One step of each loop; packets moved or dropped."""
        if self._plane is None:
            return 0
        return self._plane.step_outbound(self._clock.ns) + self._plane.step_inbound(self._clock.ns)

    def push(self, interface: str, packet: bytes) -> None:
        """The host sends a packet into an interface."""
        if self._plane is not None:
            self._plane.push_tun(self.interfaces.numbers[interface], packet)

    def pulled(self, interface: str) -> list[bytes]:
        """Packets that the host got out of an interface since the last call."""
        plane = self._plane
        return [] if plane is None else list(iter(lambda: plane.pull_tun(self.interfaces.numbers[interface]), None))
