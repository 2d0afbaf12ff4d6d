"""The page of metrics, in Prometheus' text format.

Labels are names of tunnels and words of ours, never what a peer or a packet says, and every tunnel has the same few series whatever
happens to it: SPIs, addresses and identities are none. So TUNNELS_MAX tunnels have as many series each as `TUNNEL` has rows; of
those beyond only `configured`, `wanted` and `up` are told, on which alerts rest. The page is made in slices of time.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import Metric

from ipsec_dp import __version__
from ipsec_dp.gateway.ike_counts import BUCKETS_S
from ipsec_dp.gateway.readings import READING_S, GatewayReading, TunnelReading, wanted
from ipsec_dp.util.slices import in_slices, turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from ipsec_dp.config import Config
    from ipsec_dp.dataplane import TunnelTraffic
    from ipsec_dp.gateway.ike_counts import IkeCounts
    from ipsec_dp.gateway.readings import Readings, TunnelSas
    from ipsec_dp.services.monitor_health import MonitorStatus

TUNNELS_MAX: Final = 10_000  # tunnels with all series
CHUNK: Final = 500  # samples in a piece
HELD: Final = frozenset({"half_open", "sessions"})  # of IKE's counters: what is there now
OF_OURS: Final = frozenset({"retransmissions", "cookies_sent", "unfinished"})  # what we did, not datagrams that led to nothing

Samples = Sequence[tuple[dict[str, str], float]]


class TunnelRow(NamedTuple):
    """One family, of each tunnel: `read` gives its value for each of the further labels; None: it has none now. `kind`: "gauge" or
    "counter"; `always`: also of tunnels beyond TUNNELS_MAX, and of a gateway that is not up."""

    name: str
    kind: str
    help: str
    read: Callable[[TunnelReading], float | None]
    labels: Mapping[str, str] = MappingProxyType({})
    always: bool = False


def _of_sas(read: Callable[[TunnelSas], float | None]) -> Callable[[TunnelReading], float | None]:
    return lambda tunnel: None if tunnel.sas is None else read(tunnel.sas)


def _of_traffic(read: Callable[[TunnelTraffic], float]) -> Callable[[TunnelReading], float | None]:
    return _of_sas(lambda sas: read(sas.traffic))


def _of_monitor(read: Callable[[MonitorStatus], float | None]) -> Callable[[TunnelReading], float | None]:
    return _of_sas(lambda sas: None if sas.monitor is None else read(sas.monitor))


IN, OUT = {"direction": "in"}, {"direction": "out"}
BYTES, PACKETS = "Inner octets that the tunnel carried since the gateway started.", "Packets that the tunnel carried."
TUNNEL: Final = (
    TunnelRow("ipsec_dp_tunnel_configured", "gauge", "1 for every tunnel of the configuration.", lambda _: 1, always=True),
    TunnelRow(
        "ipsec_dp_tunnel_wanted", "gauge", "1: it is to be up at all times (start or manual keys).", lambda t: t.wanted, always=True
    ),
    TunnelRow("ipsec_dp_tunnel_up", "gauge", "1: packets find a CHILD_SA; 0: none.", lambda t: t.up, always=True),
    TunnelRow(
        "ipsec_dp_tunnel_complete",
        "gauge",
        "1: up, and no proxy ID lacks its CHILD_SA.",
        lambda t: None if t.sas is None else t.whole,
    ),
    TunnelRow("ipsec_dp_tunnel_ike_up", "gauge", "1: it has an IKE SA.", _of_sas(lambda sas: sas.keying.ike is not None)),
    TunnelRow(
        "ipsec_dp_tunnel_post_quantum",
        "gauge",
        "1: the keys of its IKE SA withstand a quantum adversary who records today.",
        _of_sas(lambda sas: None if sas.keying.ike is None else sas.keying.ike.post_quantum.ike != "none"),
    ),
    TunnelRow("ipsec_dp_tunnel_child_sas", "gauge", "CHILD_SAs that it has.", _of_sas(lambda sas: sas.children)),
    TunnelRow("ipsec_dp_tunnel_bytes", "counter", BYTES, _of_traffic(lambda t: t.octets_in), IN),
    TunnelRow("ipsec_dp_tunnel_bytes", "counter", BYTES, _of_traffic(lambda t: t.octets_out), OUT),
    TunnelRow("ipsec_dp_tunnel_packets", "counter", PACKETS, _of_traffic(lambda t: t.packets_in), IN),
    TunnelRow("ipsec_dp_tunnel_packets", "counter", PACKETS, _of_traffic(lambda t: t.packets_out), OUT),
    TunnelRow(
        "ipsec_dp_tunnel_dropped_packets", "counter", "Packets that its SAs dropped.", _of_traffic(lambda t: sum(t.drops.values()))
    ),
    TunnelRow("ipsec_dp_tunnel_ike_attempts", "counter", "Calls of ours.", _of_sas(lambda sas: sas.keying.tally.attempts)),
    TunnelRow(
        "ipsec_dp_tunnel_ike_failures", "counter", "Calls that came to nothing.", _of_sas(lambda sas: sas.keying.tally.failures)
    ),
    TunnelRow("ipsec_dp_tunnel_flaps", "counter", "How often it went down unasked.", _of_sas(lambda sas: sas.keying.tally.flaps)),
    TunnelRow(
        "ipsec_dp_tunnel_ike_retransmissions",
        "counter",
        "Requests to its peer that were sent once more.",
        _of_sas(lambda sas: sas.keying.tally.retransmissions),
    ),
    TunnelRow("ipsec_dp_tunnel_mtu_bytes", "gauge", "Octets of the largest inner packet.", _of_sas(lambda sas: sas.mtus.mtu)),
    TunnelRow(
        "ipsec_dp_tunnel_path_mtu_bytes", "gauge", "Octets of the largest outer packet.", _of_sas(lambda sas: sas.mtus.path_mtu)
    ),
    TunnelRow("ipsec_dp_tunnel_monitor_up", "gauge", "1: its monitor has answers.", _of_monitor(lambda m: m.state == "up")),
    TunnelRow(
        "ipsec_dp_tunnel_monitor_rtt_seconds",
        "gauge",
        "From the last probe that was answered to its answer.",
        _of_monitor(lambda m: None if m.rtt_ms is None else m.rtt_ms / 1000),
    ),
    TunnelRow("ipsec_dp_tunnel_monitor_probes", "counter", "Probes that were sent.", _of_monitor(lambda m: m.sent)),
    TunnelRow("ipsec_dp_tunnel_monitor_lost_probes", "counter", "Probes without an answer.", _of_monitor(lambda m: m.lost)),
)


class _One:
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self.family = family

    def collect(self) -> Iterator[Metric]:
        yield self.family


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[dict[str, str], float]]) -> Metric:
    family, sample = Metric(name, text, kind), f"{name}_total" if kind == "counter" else name
    for labels, value in samples:
        family.add_sample(sample, labels, float(value))
    return family


def _text(family: Metric) -> bytes:
    return generate_latest(_One(family))


async def page(config: Config, readings: Readings | None, counts: IkeCounts, detailed: int = TUNNELS_MAX) -> list[bytes]:
    """The whole page, in pieces. `readings` None: the gateway is not up. `detailed`: tunnels with all series.

    Of each tunnel text alone is kept: as long as thousands of readings wait, the interpreter's collector looks through them.
    """
    families = [_Lines(rows) for rows in _rows(TUNNEL)]
    number = 0
    async for tunnel in _unread(config) if readings is None else readings.tunnels():
        label = f'tunnel="{escaped(tunnel.name)}"'
        for family in families:
            if number < detailed or family.always:
                family.add(tunnel, label)
        number += 1
    await turn()
    gateway = GatewayReading() if readings is None else await readings.gateway()
    untold = max(0, len(config.tunnels) - detailed)
    others = chain(
        _of_tunnel_counts(len(config.tunnels), untold),
        _of_gateway(gateway, counts, up=readings is not None),
        ProcessCollector(registry=None).collect(),
    )
    text = [_text(family) async for family in in_slices(others, READING_S)]
    of_tunnels = (piece for family in families for piece in family.pieces())
    return text + [piece async for piece in in_slices(of_tunnels, READING_S)]


async def _unread(config: Config) -> AsyncIterator[TunnelReading]:
    async for tunnel in in_slices(config.tunnels, READING_S):
        yield TunnelReading(tunnel.name, wanted(tunnel))


def _rows(rows: Iterable[TunnelRow]) -> list[list[TunnelRow]]:
    """Those of one family together."""
    families: dict[str, list[TunnelRow]] = {}
    for row in rows:
        families.setdefault(row.name, []).append(row)
    return list(families.values())


class _Lines:
    """One family, of all tunnels: samples by the ten thousand, for which the library takes several times as long."""

    def __init__(self, rows: Sequence[TunnelRow]) -> None:
        self._first = rows[0]
        name = f"{rows[0].name}_total" if rows[0].kind == "counter" else rows[0].name
        labels = ["".join(f'{label}="{word}",' for label, word in row.labels.items()) for row in rows]
        self._forms = [(row.read, f"{name}{{{further}") for row, further in zip(rows, labels, strict=True)]
        self._lines: list[str] = []

    @property
    def always(self) -> bool:
        return self._first.always

    def add(self, tunnel: TunnelReading, label: str) -> None:
        for read, begin in self._forms:
            value = read(tunnel)
            if value is not None:
                self._lines.append(f"{begin}{label}}} {value:d}\n" if isinstance(value, int) else f"{begin}{label}}} {value!r}\n")

    def pieces(self) -> Iterator[bytes]:
        yield _text(_family(self._first.name, self._first.kind, self._first.help, ()))
        for first in range(0, len(self._lines), CHUNK):
            yield "".join(self._lines[first : first + CHUNK]).encode()


def escaped(text: str) -> str:
    """As the value of a label. Names of tunnels need none of it, as `config` has them now."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _of_tunnel_counts(tunnels: int, untold: int) -> Iterator[Metric]:
    yield _family("ipsec_dp_tunnels", "gauge", "Tunnels of the configuration.", [({}, tunnels)])
    yield _family(
        "ipsec_dp_tunnels_without_detail", "gauge", "Those of which only configured, wanted and up are told.", [({}, untold)]
    )


def _of_gateway(gateway: GatewayReading, counts: IkeCounts, *, up: bool) -> Iterator[Metric]:
    info = {"version": __version__, "python": platform.python_version(), "provider": gateway.provider}
    yield _family("ipsec_dp_build_info", "gauge", "1; what it is made of.", [(info, 1)])
    yield _family("ipsec_dp_up", "gauge", "1: the gateway is up; 0: it starts or stops.", [({}, up)])
    yield from _of_ike(counts)
    if not up:
        return
    yield _family("ipsec_dp_conditions", "gauge", "What is wrong now, and status warns of.", [({}, gateway.conditions)])
    yield from _of_plane(gateway)
    yield from _of_strangers(gateway)
    seconds, made = "Processor time that threads used.", "How often what others removed was made again."
    yield _family(
        "ipsec_dp_thread_cpu_seconds", "counter", seconds, [({"thread": name}, used) for name, used in gateway.cpu.items()]
    )
    yield _family("ipsec_dp_key_memory_bytes", "gauge", "Locked memory that holds keys.", [({}, gateway.key_octets)])
    yield _family("ipsec_dp_restored", "counter", made, [({"part": part}, count) for part, count in gateway.restored.items()])


def _of_plane(gateway: GatewayReading) -> Iterator[Metric]:
    counters = gateway.counters
    if counters is None:
        return
    drops: Samples = [({"reason": reason}, count) for reason, count in counters.drops.items()]
    yield _family("ipsec_dp_dropped_packets", "counter", "Packets that were dropped.", drops)
    guard: Samples = [({"counter": name}, count) for name, count in gateway.guard.items()]
    yield _family("ipsec_dp_guard_dropped_packets", "counter", "Packets that the guard in the kernel dropped.", guard)
    lost: Samples = [({"cause": "limited"}, counters.punts_limited), ({"cause": "lost"}, counters.punts_lost)]
    yield _family("ipsec_dp_lost_reports", "counter", "What the loops could not tell the control plane.", lost)
    workers = [({"worker": str(number)}, each) for number, each in enumerate(gateway.workers)]
    octets: Samples = [(label | way, getattr(each, f"octets_{way['direction']}")) for label, each in workers for way in (IN, OUT)]
    yield _family("ipsec_dp_worker_bytes", "counter", "Inner octets that each worker carried.", octets)
    packets: Samples = [(label | way, getattr(each, f"packets_{way['direction']}")) for label, each in workers for way in (IN, OUT)]
    yield _family("ipsec_dp_worker_packets", "counter", "Packets that each worker carried.", packets)
    handed: Samples = [(label, each.handed_over) for label, each in workers]
    yield _family("ipsec_dp_worker_handed_over_packets", "counter", "Packets handed to the worker that owns their SA.", handed)


def _of_strangers(gateway: GatewayReading) -> Iterator[Metric]:
    ike = gateway.ike
    yield _family("ipsec_dp_ike_sas", "gauge", "IKE SAs, those under way included.", [({}, ike.get("sessions", 0))])
    yield _family(
        "ipsec_dp_ike_half_open_sas", "gauge", "IKE SAs whose peer has not proven who it is.", [({}, ike.get("half_open", 0))]
    )
    nothing: Samples = [({"reason": reason}, count) for reason, count in ike.items() if reason not in HELD | OF_OURS]
    yield _family("ipsec_dp_ike_dropped_datagrams", "counter", "IKE datagrams that led to nothing.", nothing)
    cookies = ike.get("cookies_sent", 0) + (0 if gateway.counters is None else gateway.counters.cookies_sent)
    yield _family("ipsec_dp_ike_cookies_sent", "counter", "Strangers that were asked for a cookie.", [({}, cookies)])
    again = ike.get("retransmissions", 0)
    yield _family("ipsec_dp_ike_retransmissions", "counter", "Requests of ours that were sent once more.", [({}, again)])
    yield _family(
        "ipsec_dp_ike_waiting_messages", "gauge", "Messages of strangers that wait for their turn.", [({}, gateway.waiting)]
    )
    queued: Samples = [({"port": str(port)}, each.octets) for port, each in sorted(gateway.udp.items())]
    yield _family("ipsec_dp_udp_receive_queue_bytes", "gauge", "What waits in the sockets of a port of this host.", queued)
    dropped: Samples = [({"port": str(port)}, each.dropped) for port, each in sorted(gateway.udp.items())]
    yield _family("ipsec_dp_udp_dropped_datagrams", "counter", "Datagrams for which those sockets had no room.", dropped)


def _of_ike(counts: IkeCounts) -> Iterator[Metric]:
    rekeys: Samples = [
        ({"sa": sa, "trigger": why, "result": end}, count) for (sa, why, end), count in sorted(counts.rekeys.items())
    ]
    yield _family("ipsec_dp_rekeys", "counter", "Rekeys, by who wanted them; of failed ones the first of each SA.", rekeys)
    failures: Samples = [
        ({"sa": sa, "cause": why, "origin": who}, count) for (sa, why, who), count in sorted(counts.failures.items())
    ]
    yield _family("ipsec_dp_ike_failures", "counter", "IKE SAs and CHILD_SAs that did not come up.", failures)
    handshakes = Metric("ipsec_dp_ike_handshake_seconds", "From the first message of an IKE SA until it was up.", "histogram")
    for role, durations in counts.handshakes.items():
        below = 0
        for limit, count in zip((*map(str, BUCKETS_S), "+Inf"), durations.counts, strict=True):
            below += count
            handshakes.add_sample("ipsec_dp_ike_handshake_seconds_bucket", {"role": role, "le": limit}, below)
        handshakes.add_sample("ipsec_dp_ike_handshake_seconds_sum", {"role": role}, durations.total)
        handshakes.add_sample("ipsec_dp_ike_handshake_seconds_count", {"role": role}, below)
    yield handshakes
