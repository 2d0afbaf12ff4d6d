"""What an `OddPeer` sends and hears: payloads right and wrong, and datagrams of the gateway under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import Proposal
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Message
from ipsec_dp.ike.v2.wire import PAYLOAD_HEADER
from ipsec_dp.rig.odd_esp import OpenedEsp


@dataclass(frozen=True, slots=True)
class RawPayload:
    """A payload as octets: of any type, with any flags (CRITICAL, reserved bits), with a length that need not be its own."""

    type: int
    body: bytes = b""
    flags: int = 0
    length: int | None = None


Part = p.Payload | RawPayload
Change = Callable[[list[Part]], list[Part]]
Patch = Callable[[bytes], bytes]


def unchanged(parts: list[Part]) -> list[Part]:
    return parts


def as_built(octets: bytes) -> bytes:
    return octets


def raw(payload: p.Payload, flags: int = 0, length: int | None = None) -> RawPayload:
    """A right payload with a header that is not."""
    return RawPayload(payload.type, payload.body(), flags, length)


def build_parts(parts: Sequence[Part]) -> tuple[int, bytes]:
    """The type of the first and the octets of all, one behind the other."""
    made = [part if isinstance(part, RawPayload) else raw(part) for part in parts]
    following = [*(part.type for part in made), 0][1:]
    octets = b""
    for part, after in zip(made, following, strict=True):
        length = PAYLOAD_HEADER + len(part.body) if part.length is None else part.length
        octets += bytes([after, part.flags]) + length.to_bytes(2, "big") + part.body
    return (made[0].type if made else 0), octets


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """What the odd peer and the gateway under test are both configured with. Selectors are seen from here: `local` is ours."""

    psk: PreSharedKey = field(repr=False)
    local_id: Identity
    remote_id: Identity | None = None
    ike: tuple[Proposal, ...]
    esp: tuple[Proposal, ...]
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """A datagram of the peer, without non-ESP marker. `message`: of IKE, what was protected in it opened; None for all else.

    `protected`: its ICV held. `marked`: the marker was there."""

    octets: bytes
    natt: bool
    marked: bool = False
    message: Message | None = None
    protected: bool = False
    esp: OpenedEsp | None = None
