"""What the parts of a running gateway answer: all of `status`, and for `policy explain` the CHILD_SAs that hold a packet."""

from __future__ import annotations

import logging
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ipsec_dp.dataplane import DROP_SENTENCES, Direction, counted, memory_is_locked
from ipsec_dp.gateway.control import LIST_LONG
from ipsec_dp.gateway.events import CONDITIONS
from ipsec_dp.gateway.explain import HoldingChild, holds
from ipsec_dp.gateway.status import (
    ChildSaStatus,
    DropExampleStatus,
    GatewayStatus,
    KeyStatus,
    PuntStatus,
    SocketBufferStatus,
    TrafficStatus,
    TunnelStatus,
    TunnelTotals,
    WorkerStatus,
    ZoneStatus,
)
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.keying.manual import WARNING
from ipsec_dp.keying.status import PostQuantumStatus
from ipsec_dp.util.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_records import ChildSa
    from ipsec_dp.dataplane import DataPlane, SaHandle, SaInfo, TunnelTraffic
    from ipsec_dp.gateway.drop_examples import DropExamples
    from ipsec_dp.gateway.notices import Notices
    from ipsec_dp.gateway.parts import GatewayParts
    from ipsec_dp.gateway.question import PacketQuestion
    from ipsec_dp.services.unanswered import UnansweredTraffic
    from ipsec_dp.util.clock import Clock

NS_PER_S = 1e9


class SaTraffic(NamedTuple):
    """What an SA carried. `first_s`, `last_s`: how long ago it carried a packet; `error`: what is wrong with it, or was last."""

    packets: int = 0
    octets: int = 0
    sequence: int = 0
    last_s: float | None = None
    drops: Mapping[str, int] = {}
    first_s: float | None = None
    error: str | None = None


NO_TRAFFIC: Final = SaTraffic()
NO_POST_QUANTUM: Final = PostQuantumStatus()


def _traffic(sad: Sad, handle: SaHandle | None, now: float) -> SaTraffic:
    if handle is None:
        return NO_TRAFFIC
    info = sad.read(handle)
    first_s, last_s = _ago(info.first_use, now), _ago(info.last_use, now)
    return SaTraffic(info.packets, info.octets, info.sequence, last_s, info.drops, first_s, _error(info))


def _ago(at: int, now: float) -> float | None:
    """Seconds since `at` (ns; 0: never)."""
    return None if at == 0 else round(now - at / NS_PER_S, 1)


def _error(info: SaInfo) -> str | None:
    for flag, level, text in CONDITIONS if info.flags else ():
        if level >= logging.ERROR and flag in info.flags:
            return text
    if info.last_drop is None:
        return None
    side = "received" if info.direction is Direction.INBOUND else "to send"
    return f"the last packet {side} that it dropped: {info.last_drop} ({DROP_SENTENCES[info.last_drop]})"


def child_sa_status(
    sad: Sad, child: ChildSa, now: float, rekey_in_s: float | None = None, post_quantum: PostQuantumStatus = NO_POST_QUANTUM
) -> ChildSaStatus:
    """One CHILD_SA. `rekey_in_s`, `post_quantum`: what IKE knows of it besides."""
    inbound = None if child.inbound is None else sad.records[child.inbound]
    outbound = None if child.outbound is None else sad.records[child.outbound]
    record = outbound or inbound
    received, sent = _traffic(sad, child.inbound, now), _traffic(sad, child.outbound, now)
    drops, texts = counted(received.drops), child.selector_texts
    for reason, count in counted(sent.drops).items():
        drops[reason] = drops.get(reason, 0) + count
    return ChildSaStatus(
        spi_in=None if inbound is None else spi_text(inbound.spi),
        spi_out=None if outbound is None else spi_text(outbound.spi),
        suite=None if record is None else record.suite.keyword,
        esn=None if record is None else record.suite.esn,
        local_ts=texts.local,
        remote_ts=texts.remote,
        age_s=None if record is None else round(now - record.installed, 1),
        rekey_in_s=rekey_in_s,
        packets_in=received.packets,
        octets_in=received.octets,
        sequence_in=received.sequence,
        last_in_s=received.last_s,
        packets_out=sent.packets,
        octets_out=sent.octets,
        sequence_out=sent.sequence,
        last_out_s=sent.last_s,
        drops=drops,
        first_in_s=received.first_s,
        first_out_s=sent.first_s,
        window=None if inbound is None else inbound.replay_window,
        last_error=received.error if sent.error is None else "; ".join(filter(None, (received.error, sent.error))),
        post_quantum=post_quantum,
        worker=0 if record is None else record.worker,
    )


def _totals(traffic: TunnelTraffic) -> TunnelTotals:
    return TunnelTotals(
        packets_in=traffic.packets_in,
        octets_in=traffic.octets_in,
        packets_out=traffic.packets_out,
        octets_out=traffic.octets_out,
        drops=counted(traffic.drops),
    )


def gateway_status(
    name: str,
    plane: DataPlane,
    warnings: Sequence[str] = (),
    guard: Mapping[str, int] | None = None,
    zones: ZoneStatus | None = None,
    drop_examples: Mapping[str, tuple[DropExampleStatus, ...]] | None = None,
    restored: Mapping[str, int] | None = None,
    ike_counters: Mapping[str, int] | None = None,
    upgraded_at: str | None = None,
    socket_buffers: SocketBufferStatus | None = None,
) -> GatewayStatus:
    """The whole answer but for `tunnels`. `guard`: what it dropped, by counter; `restored`: what was made again, by part."""
    counters, arena = plane.counters(), plane.arena()
    return GatewayStatus(
        gateway=name,
        provider=plane.provider,
        provider_reason=plane.provider_reason,
        offloads=plane.offloads(),
        offloads_given_up=tuple(plane.given_up()),
        warnings=tuple(warnings),
        drops=counters.drops,
        drop_sentences=DROP_SENTENCES,
        traffic=TrafficStatus(
            packets_in=counters.packets_in,
            octets_in=counters.octets_in,
            packets_out=counters.packets_out,
            octets_out=counters.octets_out,
            keepalives_in=counters.keepalives_in,
            ike_in=counters.ike_in,
            cookies_sent=counters.cookies_sent,
        ),
        workers=worker_statuses(plane),
        socket_buffers=socket_buffers,
        punts=PuntStatus(limited=counters.punts_limited, lost=counters.punts_lost),
        keys=KeyStatus(
            octets=arena.in_use,
            locked=arena.locked,
            ike_locked=memory_is_locked(),
            undumped=arena.undumped,
            wiped_on_fork=arena.wiped_on_fork,
        ),
        guard=dict(guard or {}),
        zones=zones,
        drop_examples=dict(drop_examples or {}),
        restored=dict(restored or {}),
        ike_counters=dict(ike_counters or {}),
        upgraded_at=upgraded_at,
    )


def worker_statuses(plane: DataPlane) -> tuple[WorkerStatus, ...]:
    """What each worker did."""
    return tuple(
        WorkerStatus(
            worker=worker,
            packets_in=counters.packets_in,
            octets_in=counters.octets_in,
            packets_out=counters.packets_out,
            octets_out=counters.octets_out,
            handed_over=counters.handed_over,
            taken_over=counters.taken_over,
            memory_octets=plane.worker_octets(worker),
            drops=counted(counters.drops),
        )
        for worker, counters in enumerate(plane.worker_counters())
    )


class Inspection:
    """Asks the parts of one gateway."""

    def __init__(
        self,
        config: Config,
        parts: GatewayParts,
        *,
        unanswered: UnansweredTraffic,
        drop_examples: DropExamples,
        notices: Notices,
        clock: Clock,
        upgraded_at: Callable[[], str | None] = lambda: None,
        buffers: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        """`buffers`: of the outer sockets, as `OuterLinks`."""
        self._buffers = buffers
        self._config, self._parts, self._notices, self._clock = config, parts, notices, clock
        self._drop_examples, self._unanswered, self._upgraded_at = drop_examples, unanswered, upgraded_at

    def reconfigure(self, config: Config) -> None:
        """Looks at these tunnels from now on."""
        self._config = config

    async def gateway(self) -> GatewayStatus:
        """Everything but the tunnels."""
        guard, zones = await self._parts.host.guard.counts(), await self._parts.host.guard.zone_counts()
        dropped = [reason for reason, count in self._parts.plane.counters().drops.items() if count]
        by_hand = [f'tunnel "{tunnel.name}": {WARNING}' for tunnel in self._config.tunnels if tunnel.manual is not None]
        return gateway_status(
            self._config.name,
            self._parts.plane,
            [*by_hand, *self._parts.host.routing.notes, *self._parts.host.conditions.texts],
            guard,
            None if zones is None else msgspec.convert(zones, ZoneStatus),
            await self._drop_examples.of(dropped),
            self._parts.host.restored,
            self._parts.ike.counters(),
            self._upgraded_at(),
            self._socket_buffers(),
        )

    def _socket_buffers(self) -> SocketBufferStatus | None:
        granted = self._buffers()
        if granted is None:
            return None
        return SocketBufferStatus(asked=self._config.socket_buffer, receive=granted[0], send=granted[1])

    async def tunnels(self, name: str | None = None, state: str | None = None) -> AsyncIterator[TunnelStatus]:
        """Each tunnel, or the one of this name, or those in this state; without what ends meanwhile."""
        names = tuple(tunnel.name for tunnel in self._config.tunnels) if name is None else (name,)
        async for each in in_slices(names):
            tunnel = self._config.tunnel(each) if self._config.has_tunnel(each) else None
            if tunnel is None or (tunnel.manual is None and not self._parts.ike.has(each)):
                continue
            status = await self._tunnel(tunnel)
            if state in (None, status.state):
                yield status

    async def _tunnel(self, tunnel: Tunnel) -> TunnelStatus:
        name = tunnel.name
        keying = self._parts.ike.status(name) if tunnel.manual is None else self._parts.manual.status(name)
        last_error, noticed, tally = keying.last_error, self._notices.last_error(name), keying.tally
        if last_error is None and noticed is not None and noticed.at > keying.up_at:
            last_error = noticed.text
        mtus, number = self._parts.mtus.status(name), self._parts.spd.tunnel_numbers[name]
        return TunnelStatus(
            name=name,
            state=keying.state,
            state_text=keying.state_text,
            last_error=self._parts.monitors.trouble(name) or self._unanswered.trouble(name) or last_error,
            remote=keying.remote,
            nat=keying.nat,
            ike=keying.ike,
            mtu=mtus.mtu,
            path_mtu=mtus.path_mtu,
            children=await self._children(number),
            monitor=self._parts.monitors.status(name),
            encapsulation=keying.encapsulation,
            encapsulation_why=keying.encapsulation_why,
            totals=_totals(self._parts.sad.traffic(number)),
            remote_in_dns=keying.remote_in_dns,
            attempts=tally.attempts,
            failures=tally.failures,
            flaps=tally.flaps,
            retransmissions=tally.retransmissions,
            pinned=keying.pinned,
        )

    async def _children(self, number: int) -> tuple[ChildSaStatus, ...]:
        """Of the tunnel with this number, which may have thousands; without what ends meanwhile."""
        children, sad = self._parts.sad.children_of(number), self._parts.sad
        if len(children) <= LIST_LONG:
            return tuple(map(self._child, children))
        return tuple([self._child(child) async for child in in_slices(children) if sad.holds(child)])

    def _child(self, child: ChildSa) -> ChildSaStatus:
        ike, handle = self._parts.ike, child.inbound
        known = () if handle is None else (ike.rekey_in_s(handle), ike.post_quantum(handle))
        return child_sa_status(self._parts.sad, child, self._clock.now(), *known)

    def children_holding(self, tunnel: str, question: PacketQuestion) -> list[HoldingChild]:
        """The CHILD_SAs of a tunnel whose negotiated selectors hold a packet, in the order in which the data plane tries them."""
        found = []
        sad = self._parts.sad
        for child in sad.children_of(self._parts.spd.tunnel_numbers[tunnel]):
            held = next((pair for pair in child.selectors if holds(pair, question)), None)
            if held is not None:
                spis = [None if handle is None else sad.records[handle].spi for handle in (child.inbound, child.outbound)]
                found.append((not held.opaque, HoldingChild(spis[0], spis[1], f"{held.local_text} <-> {held.remote_text}")))
        return [child for _, child in sorted(found, key=itemgetter(0))]
