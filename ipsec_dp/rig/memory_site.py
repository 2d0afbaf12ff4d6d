"""The inside of a gateway in memory: the whole gateway on doubles of host and clock, and what reaches it from a medium."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ipsec_dp.config.difference import ReadRequest, answer, difference, known
from ipsec_dp.config.files import fingerprint_key
from ipsec_dp.gateway.gateway import Gateway
from ipsec_dp.gateway.substitutes import Substitutes
from ipsec_dp.host.too_big import TooBig
from ipsec_dp.ike.environment import RememberedPins
from ipsec_dp.network.desired import routed_prefixes
from ipsec_dp.rig.clock import GatewayClock, Randomness, RigTimer
from ipsec_dp.rig.configs import repeatable
from ipsec_dp.rig.interference import SiteInterference
from ipsec_dp.rig.loop import RigError
from ipsec_dp.rig.memory_host import MemoryHost
from ipsec_dp.rig.memory_plane import MemoryPlane
from ipsec_dp.rig.surface import RigEvent
from ipsec_dp.rig.wireshark import ESP_TABLE, IKE_TABLE, IKEV1_TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.config.difference import Difference
    from ipsec_dp.errors import Finding
    from ipsec_dp.ike.actions import Event
    from ipsec_dp.ike.v2.message import Header
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.rig.medium import Medium
    from ipsec_dp.rig.memory_links import OuterDatagram
    from ipsec_dp.rig.wires import Wire

Shaper = Callable[["Header", list["Payload"]], list["Payload"]]
"""The payloads that an IKE message leaves with, by its header and those that it would."""
Reader = Callable[["Header", list["Payload"]], None]
"""Hears of each IKE message as it leaves."""
START_S = 60.0  # of the clock, for which a gateway may take to come up, or to answer


async def _reread(old: Config, path: Path) -> tuple[Difference | None, tuple[Finding, ...]]:
    """As `config.difference.read_again`, in this process."""
    got = answer(ReadRequest(path, {tunnel.name: known(tunnel) for tunnel in old.tunnels}, fingerprint_key()))
    got = replace(got, tunnels=tuple(map(repeatable, got.tunnels)))
    return (None if got.config is None else difference(old, got)), got.findings


class _Unheard:
    """In the place of the socket that serves metrics: nobody connects."""

    def close(self) -> None:
        pass


async def _listen(*_arguments: object, **_options: object) -> _Unheard:
    return _Unheard()


def _nothing() -> None:
    pass


class Inner(Protocol):
    """A host behind a gateway."""

    def is_for(self, packet: bytes) -> bool:
        """Whether it has the destination."""

    def take(self, packet: bytes) -> None:
        """It gets a packet."""


class MemorySite:
    """`ipsec_dp.rig.medium.Member`. `inbox`: inner packets that came out; `events`: what IKE told; both oldest first. `at_end` is
    called when it is closed."""

    def __init__(self, medium: Medium, config: Config, wires: Sequence[Wire], addresses: Sequence[Address]) -> None:
        config = replace(config, tunnels=tuple(map(repeatable, config.tunnels)))
        self.medium, self.name, self.wires = medium, config.name, wires
        self.clock = GatewayClock(medium.clock, config.name)
        self.events: list[RigEvent] = []
        self.inbox: list[bytes] = []
        self.hosts: list[Inner] = []
        self.shapers: list[Shaper] = []
        self.readers: list[Reader] = []
        self.interference = SiteInterference()
        self.plane: MemoryPlane | None = None
        self._passes_on = False  # in the next step
        self._dropped: dict[str, int] = {}  # when it last did
        self.closed = True
        self.at_end: Callable[[], None] = _nothing
        medium.join(self, wires, addresses)
        self.host = MemoryHost(config, self.clock, medium.outer, addresses=map(str, addresses), mtu=wires[0].mtu)
        self.host.routes.leading = self.leading
        substitutes = Substitutes(
            plane=self._make_plane,
            reported=self._note,
            shaped=self._shape,
            interference=self.interference,
            pins=lambda _name, _conditions: RememberedPins(),
            reread=_reread,
            starting=nullcontext,
            listen=_listen,
        )
        self.gateway = Gateway(config, None, host=self.host, clock=self.clock, substitutes=substitutes)

    def start(self) -> None:
        """Comes up. Raises IpsecDpError; nothing is left then."""
        self.closed = False
        try:
            self.medium.loop.call(self.gateway.start(), START_S)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Goes down and leaves; peers are told. Nothing when it is closed."""
        if self.closed:
            return
        self.closed = True
        try:
            self.gateway.stop("closed")
            self.medium.loop.call(self.gateway.close(), START_S)
        finally:
            self.plane = None
            self.medium.leave(self)
            self.at_end()

    def _make_plane(self, **options: Any) -> MemoryPlane:
        seed = int.from_bytes(Randomness(f"{self.medium.clock.seed}/{self.name}/plane")(8))
        self.plane = MemoryPlane(self._busy, seed=seed, **options)
        self.plane.limitless = lambda: bool(self.interference.ignored[True])
        return self.plane

    def _busy(self, *, control: bool = False) -> None:
        """What is only passed on is IKE's, as on port 500; `step` sees whether it was."""
        self.medium.busy[self] = None
        self._passes_on = self._passes_on or control
        if not control:
            self.touch(packets=True)

    def _note(self, event: Event) -> None:
        self.events.append(RigEvent(self.clock.now(), self.name, event.kind, event.tunnel, event.text, event.cause, event.child))

    def _shape(self, header: Header, payloads: list[Payload]) -> list[Payload]:
        for shaper in tuple(self.shapers):
            payloads = shaper(header, payloads)
        for reader in self.readers:
            reader(header, payloads)
        return payloads

    def leading(self, destination: Address) -> str | None:
        """The interface that the longest of our prefixes for an address leads into."""
        ways = {prefix: ways for prefix, ways in routed_prefixes(self.gateway.config).items() if destination in prefix}
        if not ways:
            return None
        return min(ways[max(ways, key=lambda prefix: prefix.prefixlen)], key=lambda way: way[1])[0]

    def state_of(self, tunnel: str) -> str | None:
        """What IKE says of a tunnel; None: it has no such."""
        engine = self.gateway.engine
        return engine.ike.status(tunnel).state if engine is not None and engine.ike.has(tunnel) else None

    # ---- as its medium sees it

    def step(self) -> int:
        """As `Member`. What comes out of the interfaces goes to `inbox`, what leaves goes to the medium."""
        plane = self.plane
        if plane is None or plane.closed or self.clock.frozen:
            return 0
        total = 0
        while moved := plane.step(self.clock.ns):
            total += moved
        for number in self.host.interfaces.numbers.values():
            for worker in range(plane.workers):
                while (packet := plane.pull_tun(number, worker)) is not None:
                    self._deliver(packet)
        if self._passes_on:
            self._look_at_drops(plane)
        links = () if self.host.links is None else tuple(self.host.links.opened)
        return total + sum(map(self.medium.outer.pull, links))

    def _look_at_drops(self, plane: MemoryPlane) -> None:
        """What was dropped instead of passed on happened to the data plane."""
        self._passes_on, before, self._dropped = False, self._dropped, plane.counters().drops
        if self._dropped != before:
            self.touch(packets=True)

    def _deliver(self, packet: bytes) -> None:
        """Hosts answer in the next step: this one is not over."""
        if not any(host.is_for(packet) for host in self.hosts):
            self.inbox.append(packet)
            return
        for host in self.hosts:
            if host.is_for(packet):
                self.medium.clock.at(self.clock.now(), RigTimer(host.take, (packet,)))

    def meet(self, arrival: Callable[[], None]) -> None:
        """As `Member`."""
        self.clock.gate(arrival)

    def freeze(self) -> None:
        """Nothing happens in it until `thaw`, as in a process that is stopped: what arrives waits."""
        self.clock.freeze()

    def thaw(self) -> None:
        """It goes on: what has come and what was due meanwhile is handled now."""
        self.clock.thaw()
        self._busy()

    def touch(self, *, packets: bool = False) -> None:
        """As `Member`."""
        self.clock.touch(packets=packets)

    def wake(self) -> None:
        """As `Member`."""
        self.clock.wake()

    def too_big(self, datagram: OuterDatagram, mtu: int) -> None:
        """As `Member`."""
        if not datagram.ike and len(datagram.data) >= 8:
            spi, sequence = (int.from_bytes(datagram.data[at : at + 4]) for at in (0, 4))
            ends = datagram.source.address, datagram.destination.address
            self.host.reports.report("too big", TooBig(mtu, *ends, datagram.udp, spi, sequence, datagram.octets))
        self.touch(packets=True)

    def waits_for(self) -> str:
        """As `Member`."""
        engine = self.gateway.engine
        if engine is None:
            return f"{self.name} is not up"
        statuses = {
            tunnel.name: engine.ike.status(tunnel.name) for tunnel in self.gateway.config.tunnels if engine.ike.has(tunnel.name)
        }
        states = (f'tunnel "{name}" {status.state_text or status.state}' for name, status in statuses.items())
        return f"{self.name}: {', '.join(states) or 'no tunnel that IKE negotiates'}"

    def skip_numbers(self, spi: int, packets: int) -> None:
        """An outbound SA goes on as if so many packets more had been sent. Raises DataPlaneError."""
        if self.plane is not None:
            self.plane.skip_numbers(spi, packets)

    def key_lines(self, table: str = ESP_TABLE) -> Sequence[str]:
        """As `Member`. RigError: no such table."""
        if table not in (ESP_TABLE, IKE_TABLE, IKEV1_TABLE):
            raise RigError(f"Wireshark has no table {table!r} of keys; there are: {ESP_TABLE}, {IKE_TABLE}, {IKEV1_TABLE}")
        if table != ESP_TABLE:
            return tuple(self.interference.keys if table == IKE_TABLE else self.interference.isakmp_keys)
        return () if self.plane is None else tuple(self.plane.keys)
