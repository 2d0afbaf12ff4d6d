"""What goes into the C core and comes out of it, as Python values. The numbers are those of ``native/dp.h``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, NewType

from ipsec_dp._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.ipsec.suites import Suite

SaHandle = NewType("SaHandle", int)

TAILROOM = 18  # octets that sealing writes behind an inner packet (DP_ESP_TAILROOM in native/esp_wire.h)
GROWTH = 74  # octets that sealing adds at the most without TFC padding
PUNT_OCTETS_MAX = 65536 + 128

DROP_NAMES: tuple[str, ...] = tuple(ffi.string(lib.dp_drop_name(i)).decode() for i in range(lib.DP_DROP_COUNT))
DROP_SENTENCES: dict[str, str] = {
    name: ffi.string(lib.dp_drop_sentence(i)).decode() for i, name in enumerate(DROP_NAMES) if i != lib.DP_OK
}
NO_DROPS: Final[Mapping[str, int]] = MappingProxyType(dict.fromkeys(DROP_SENTENCES, 0))


def counted(drops: Mapping[str, int]) -> dict[str, int]:
    """Without the reasons that dropped nothing."""
    return {} if drops is NO_DROPS else {reason: count for reason, count in drops.items() if count}


class Provider(IntEnum):
    """Who computes the AEADs."""

    AUTO = lib.DP_PROVIDER_AUTO
    OPENSSL = lib.DP_PROVIDER_OPENSSL
    IPSEC_MB = lib.DP_PROVIDER_IPSEC_MB


class Direction(IntEnum):
    INBOUND = lib.DP_INBOUND
    OUTBOUND = lib.DP_OUTBOUND


class Encapsulation(IntEnum):
    ESP = lib.DP_ENCAPSULATION_ESP
    UDP = lib.DP_ENCAPSULATION_UDP


class Df(IntEnum):
    """The outer don't-fragment bit (RFC 4301 §8.1)."""

    COPY = lib.DP_DF_COPY
    SET = lib.DP_DF_SET
    CLEAR = lib.DP_DF_CLEAR


class Dscp(IntEnum):
    COPY = lib.DP_DSCP_COPY
    ZERO = lib.DP_DSCP_ZERO
    VALUE = lib.DP_DSCP_VALUE  # OuterPath.dscp_value


class Outer(IntFlag):
    """Further choices about the outer header."""

    HOP_LIMIT_COPY = lib.DP_OUTER_HOP_LIMIT_COPY  # of the inner packet
    FLOW_LABEL = lib.DP_OUTER_FLOW_LABEL  # IPv6: one for each inner flow (RFC 6438); else zero
    NO_ECN = lib.DP_OUTER_NO_ECN  # RFC 6040 §4.1, compatibility mode


PLAIN = Outer(0)


class SaFlag(IntFlag):
    """Sticky conditions of an SA."""

    SOFT_LIMIT = lib.DP_SA_SOFT_LIMIT
    HARD_LIMIT = lib.DP_SA_HARD_LIMIT
    SEQUENCE_SOFT = lib.DP_SA_SEQUENCE_SOFT
    SEQUENCE_EXHAUSTED = lib.DP_SA_SEQUENCE_EXHAUSTED
    PEER_MOVED = lib.DP_SA_PEER_MOVED


class Channel(IntEnum):
    STRANGER = lib.DP_CHANNEL_STRANGER
    TRUSTED = lib.DP_CHANNEL_TRUSTED


class PuntKind(IntEnum):
    IKE = lib.DP_PUNT_IKE
    UNKNOWN_SPI = lib.DP_PUNT_UNKNOWN_SPI
    ACQUIRE = lib.DP_PUNT_ACQUIRE
    SA = lib.DP_PUNT_SA
    IO_ERROR = lib.DP_PUNT_IO_ERROR
    OFFLOAD = lib.DP_PUNT_OFFLOAD
    TOO_BIG = lib.DP_PUNT_TOO_BIG


class Offload(IntFlag):
    """What the kernel does for a device in bulk: packets to and from a TUN device, datagrams to and from a peer."""

    TUN_CSUM = lib.DP_OFFLOAD_TUN_CSUM
    TUN_TSO4 = lib.DP_OFFLOAD_TUN_TSO4
    TUN_TSO6 = lib.DP_OFFLOAD_TUN_TSO6
    TUN_USO4 = lib.DP_OFFLOAD_TUN_USO4
    TUN_USO6 = lib.DP_OFFLOAD_TUN_USO6
    UDP_SEGMENT = lib.DP_OFFLOAD_UDP_SEGMENT
    UDP_GRO = lib.DP_OFFLOAD_UDP_GRO
    TUN_UDP_TUNNEL = lib.DP_OFFLOAD_TUN_UDP_TUNNEL


def offloads_named(names: Iterable[str]) -> Offload:
    """Offloads by the names that `status` shows, in any order. Raises KeyError."""
    wanted = Offload(0)
    for name in names:
        wanted |= Offload[name.upper()]
    return wanted


LINK_OFFLOADS = Offload.UDP_SEGMENT | Offload.UDP_GRO
ALL_OFFLOADS = Offload(lib.DP_OFFLOAD_ALL)
TUN_OFFLOADS = ALL_OFFLOADS & ~LINK_OFFLOADS


def owner_of(tunnel: int, workers: int, resource: int = 0) -> int:
    """The worker that owns a tunnel's SAs, by the tunnel's number."""
    return (tunnel + resource) % workers


class Action(IntEnum):
    DISCARD = lib.DP_DISCARD
    PROTECT = lib.DP_PROTECT
    BYPASS = lib.DP_BYPASS


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An outer address; `port` 0 under IP protocol 50."""

    address: Address
    port: int = 0
    scope: int = 0


@dataclass(frozen=True, slots=True)
class OuterPath:
    """Where an outbound SA's packets go."""

    local: Endpoint
    remote: Endpoint
    encapsulation: Encapsulation
    link: int
    df: Df = Df.COPY
    dscp: Dscp = Dscp.COPY
    dscp_value: int = 0
    hop_limit: int = 0  # 0: the host's own
    outer: Outer = PLAIN


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """How a tunnel treats inner packets for their size and DSCP; see struct dp_tunnel_settings."""

    mtu: int = 0  # octets of the largest inner packet; 0: no bound
    mss4: int = 0  # the largest TCP MSS in a SYN; 0: untouched
    mss6: int = 0
    fragment_after: bool = False  # too long and may be fragmented: the outer packet is, not the inner one
    dscp_in: bool = False  # what comes in gets the outer DSCP


@dataclass(frozen=True, slots=True)
class Limits:
    """Of inner octets and packets; 0: no limit."""

    soft_octets: int = 0
    hard_octets: int = 0
    soft_packets: int = 0
    hard_packets: int = 0


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SaParams:
    """What an SA is made with. Whoever made `keymat` wipes it, when the SA is installed or refused.

    An inbound SA has an `interface` (ValueError without), where its packets come out, and an outbound one a `path`; the fields
    below these mean nothing to the other one. `fragments_also`: both sides agreed that later fragments pass where selectors ask
    for ports (RFC 4301 §7.3). `resource`: how many workers after the tunnel's own the one is that has it (RFC 9611).
    """

    direction: Direction
    spi: int
    suite: Suite
    keymat: bytes | bytearray | memoryview = field(repr=False)
    tunnel: int
    limits: Limits = NO_LIMITS
    fragments_also: bool = False
    resource: int = 0

    interface: int | None = None
    selectors: Sequence[SelectorPair] = ()
    replay_window: int = 1024  # packets
    peer: Endpoint | None = None  # None: any

    path: OuterPath | None = None
    tfc_octets: int = 0
    sequence: int = 0  # the last one that was used already
    iv: int = 0

    def __post_init__(self) -> None:
        if (self.interface is None) is (self.direction is Direction.INBOUND):
            raise ValueError(f"an {self.direction.name.lower()} SA with interface {self.interface}")
        if (self.path is None) is (self.direction is Direction.OUTBOUND):
            raise ValueError(f"an {self.direction.name.lower()} SA with path {self.path}")


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule in the order of decision, on one interface."""

    selector: SelectorPair
    action: Action
    interface: int
    tunnel: int = 0


class SaInfo(NamedTuple):
    """An SA's counters. Times: nanoseconds of the monotonic clock, 0: never."""

    spi: int
    tunnel: int
    direction: Direction
    flags: SaFlag
    packets: int
    octets: int
    sequence: int
    first_use: int
    last_use: int
    recent: int  # outbound: sequence numbers above it were used within the 20 s before last_use
    peer: Endpoint | None
    drops: Mapping[str, int]
    last_drop: str | None = None  # why it dropped the last packet that it did


class TunnelTraffic(NamedTuple):
    """What all SAs of a tunnel carried, those that are gone included; octets are inner ones."""

    packets_in: int = 0
    octets_in: int = 0
    packets_out: int = 0
    octets_out: int = 0
    drops: Mapping[str, int] = NO_DROPS


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Packets of a tunnel that went one way and want an answer, since the last packet came the other way.

    `asked`: among `packets`, echo requests, DNS queries, first segments of TCP connections and data that TCP sent again.
    `goes_on`: TCP segments that went this way, now or before, acknowledge what came: by this tunnel or another. `last`: ns of the
    monotonic clock, 0: none ever came.
    """

    tunnel: int
    direction: Direction
    goes_on: bool
    asked: int
    packets: int
    last: int


@dataclass(frozen=True, slots=True)
class SaCondition:
    handle: SaHandle
    tunnel: int
    spi: int
    flags: SaFlag


@dataclass(frozen=True, slots=True)
class Punt:
    """One record from the loops; which fields mean something depends on `kind` (native/dp.h)."""

    kind: PuntKind
    link: int
    tunnel: int
    sa: SaHandle
    spi: int
    flags: SaFlag
    interface: int
    error: int
    now: int
    local: Endpoint | None
    remote: Endpoint | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class Counters:
    drops: dict[str, int]
    packets_out: int
    octets_out: int
    packets_in: int
    octets_in: int
    keepalives_in: int
    ike_in: int
    punts_limited: int
    punts_lost: int
    handed_over: int
    taken_over: int
    cookies_sent: int = 0  # COOKIE answers of the data plane's own


@dataclass(frozen=True, slots=True)
class DropExample:
    """A packet that was dropped, as far as it shows itself. `at`: nanoseconds of the monotonic clock.

    Addresses are None where it has none, protocol and ports OPAQUE (256, 65536) where it shows none; under ICMP both ports are
    type << 8 | code. `outer`: they are those of the datagram outside. `interface` and `tunnel` are numbers of the data plane.
    """

    at: int
    direction: Direction
    source: Address | None
    destination: Address | None
    protocol: int
    source_port: int
    destination_port: int
    interface: int | None
    tunnel: int | None
    spi: int | None
    outer: bool


@dataclass(frozen=True, slots=True)
class ArenaInfo:
    """The memory that holds keys."""

    octets: int
    in_use: int
    locked: bool
    undumped: bool
    wiped_on_fork: bool


class Gso(IntEnum):
    """What a super-packet is cut into (<linux/virtio_net.h>), and the tunnel it lies in, by the outer IP version."""

    NONE = 0
    TCPV4 = 1
    TCPV6 = 4
    UDP_L4 = 5
    UDP_TUNNEL_IPV4 = 0x20
    UDP_TUNNEL_IPV6 = 0x40


@dataclass(frozen=True, slots=True)
class MemoryPacket:
    """What crosses an in-memory TUN device: a packet, or a super-packet that `gso` says how to cut into payloads of `gso_size`.

    With `needs_checksum` the checksum at checksum_start + checksum_offset holds the sum of the pseudo-header only. In a UDP tunnel
    `network` octets are before the inner IP header; with `tunnel_checksum` the outer UDP checksum holds such a sum too.
    """

    data: bytes
    gso: int = Gso.NONE
    gso_size: int = 0
    needs_checksum: bool = False
    checksum_start: int = 0
    checksum_offset: int = 0
    network: int = 0
    tunnel_checksum: bool = False


@dataclass(frozen=True, slots=True)
class MemoryDatagram:
    """What crosses an in-memory link: the UDP payload or the ESP packet, and what the outer headers would say.

    Pushed with a `gso_size` it is as many datagrams of that size, the last one perhaps shorter, as the kernel aggregates them.
    """

    data: bytes
    local: Endpoint | None = None
    remote: Endpoint | None = None
    tos: int = 0
    df: Df = Df.COPY
    gso_size: int = 0
    hop_limit: int = 0
    flow_label: int = 0
