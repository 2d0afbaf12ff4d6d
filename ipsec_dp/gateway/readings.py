"""What the parts of a gateway have at the moment, in numbers, for metrics: less than `status` asks, since thousands cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.host import HostError
from ipsec_dp.host.process_load import UdpQueue, cpu_seconds, udp_queues
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.util.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.dataplane import Counters, TunnelTraffic
    from ipsec_dp.gateway.parts import GatewayParts
    from ipsec_dp.keying.status import KeyingStatus
    from ipsec_dp.services.monitor_health import MonitorStatus
    from ipsec_dp.services.path_mtu_state import TunnelMtus

CARRIES: Final = frozenset({"up", "rekeying", "partial"})  # states of a tunnel
WHOLE: Final = frozenset({"up", "rekeying"})
READING_S: Final = 0.002  # of a slice


class TunnelSas(NamedTuple):
    """What a tunnel has while the gateway is up. `children`: CHILD_SAs."""

    keying: KeyingStatus
    children: int
    traffic: TunnelTraffic
    mtus: TunnelMtus
    monitor: MonitorStatus | None


class TunnelReading(NamedTuple):
    """One tunnel. `wanted`: it is to be up at all times; `sas` None: the gateway is not up."""

    name: str
    wanted: bool
    sas: TunnelSas | None = None

    @property
    def up(self) -> bool:
        return self.sas is not None and self.sas.keying.state in CARRIES

    @property
    def whole(self) -> bool:
        return self.sas is not None and self.sas.keying.state in WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReading:
    """The gateway itself; a part that is not there, or cannot be asked, is empty."""

    provider: str = ""
    conditions: int = 0
    counters: Counters | None = None
    workers: Sequence[Counters] = ()
    key_octets: int = 0
    ike: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0  # strangers' messages of IKE
    guard: Mapping[str, int] = field(default_factory=dict)
    restored: Mapping[str, int] = field(default_factory=dict)
    cpu: Mapping[str, float] = field(default_factory=dict)
    udp: Mapping[int, UdpQueue] = field(default_factory=dict)


def wanted(tunnel: Tunnel) -> bool:
    """Whether it is to be up whatever comes: nobody has to ask for it, or call."""
    return tunnel.auth is None or tunnel.start == "start"


def _load() -> tuple[dict[str, float], dict[int, UdpQueue]]:
    """Of the kernel's tables, which have a row for each thread and for each socket of the host."""
    return cpu_seconds(), udp_queues((IKE_PORT, NAT_PORT))


class Readings:
    """Asks the parts of one gateway that is up."""

    def __init__(self, config: Config, parts: GatewayParts) -> None:
        self._config, self._parts = config, parts

    def reconfigure(self, config: Config) -> None:
        """Looks at these tunnels from now on."""
        self._config = config

    def loops_pass(self) -> bool:
        """Whether every loop of the data plane has let go of its packets since the last call that said so."""
        return self._parts.plane.loops_pass()

    async def gateway(self) -> GatewayReading:
        """Everything but the tunnels."""
        parts, plane = self._parts, self._parts.plane
        try:
            guard = await parts.host.guard.counts()
        except HostError:  # `status` says so
            guard = {}
        cpu, udp = await asyncio.to_thread(_load)
        return GatewayReading(
            provider=plane.provider,
            conditions=len(parts.host.conditions.texts),
            counters=plane.counters(),
            workers=plane.worker_counters(),
            key_octets=plane.arena().in_use,
            ike=parts.ike.counters(),
            waiting=parts.ike.waiting,
            guard=guard,
            restored=parts.host.restored,
            cpu=cpu,
            udp=udp,
        )

    async def tunnels(self) -> AsyncIterator[TunnelReading]:
        """Each tunnel of the configuration, without what ends meanwhile."""
        parts = self._parts
        async for tunnel in in_slices(self._config.tunnels, READING_S):
            name, number = tunnel.name, parts.spd.tunnel_numbers.get(tunnel.name)
            if number is None or not (parts.ike.has(name) if tunnel.manual is None else name in parts.manual.paths):
                continue
            keying = parts.ike.status(name) if tunnel.manual is None else parts.manual.status(name)
            children, traffic = parts.sad.count_of(number), parts.sad.traffic(number)
            sas = TunnelSas(keying, children, traffic, parts.mtus.status(name), parts.monitors.status(name))
            yield TunnelReading(name, wanted(tunnel), sas)
