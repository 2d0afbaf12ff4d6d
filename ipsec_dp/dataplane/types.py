"""What goes into the C core and comes out of it, as Python values. The numbers are those of ``native/dp.h``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NewType

from ipsec_dp._native import ffi, lib

if TYPE_CHECKING:
    from ipsec_dp.addresses import Address
    from ipsec_dp.selectors import SelectorPair

SaHandle = NewType("SaHandle", int)

TAILROOM = 18  # octets that sealing writes behind an inner packet (DP_ESP_TAILROOM in native/esp_wire.h)
GROWTH = 74  # octets that sealing adds at the most without TFC padding
PUNT_OCTETS_MAX = 65536 + 128

DROP_NAMES: tuple[str, ...] = tuple(ffi.string(lib.dp_drop_name(i)).decode() for i in range(lib.DP_DROP_COUNT))
DROP_SENTENCES: dict[str, str] = {
    name: ffi.string(lib.dp_drop_sentence(i)).decode() for i, name in enumerate(DROP_NAMES) if i != lib.DP_OK
}


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


class Action(IntEnum):
    DISCARD = lib.DP_DISCARD
    PROTECT = lib.DP_PROTECT


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


@dataclass(frozen=True, slots=True)
class Limits:
    """Of inner octets and packets; 0: no limit."""

    soft_octets: int = 0
    hard_octets: int = 0
    soft_packets: int = 0
    hard_packets: int = 0


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule in the order of decision, on one interface."""

    selector: SelectorPair
    action: Action
    interface: int
    tunnel: int = 0


@dataclass(frozen=True, slots=True)
class SaInfo:
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
    peer: Endpoint | None
    drops: dict[str, int]


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


@dataclass(frozen=True, slots=True)
class ArenaInfo:
    """The memory that holds keys."""

    octets: int
    in_use: int
    locked: bool
    undumped: bool
    wiped_on_fork: bool


@dataclass(frozen=True, slots=True)
class MemoryDatagram:
    """What crosses an in-memory link: the UDP payload or the ESP packet, and what the outer headers would say."""

    data: bytes
    local: Endpoint | None = None
    remote: Endpoint | None = None
    tos: int = 0
    df: Df = Df.COPY
