"""What the two processes say to each other, in this order: OFFER → READY (or REFUSED) → STATE → GOES_ON.

Keys are in STATE alone. Each message is whoever's that has it to wipe.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from ipsec_dp.databases.carried_sas import CarriedSad
from ipsec_dp.dataplane import Counters
from ipsec_dp.dataplane.carried import CarriedTraffic
from ipsec_dp.gateway.ike_counts import CarriedCounts
from ipsec_dp.gateway.upgrade.stream import HandOverError
from ipsec_dp.gateway.upgrade.waiting import WaitingPacket
from ipsec_dp.ike.octets import Buffer
from ipsec_dp.keying.encapsulations import FindingState
from ipsec_dp.keying.initiation import IntentState
from ipsec_dp.network.inheritance import InheritedHost
from ipsec_dp.services.path_mtu import CarriedMtus
from ipsec_dp.services.tunnel_monitor import CarriedMonitor
from ipsec_dp.util.leaves import Here

MODEL: Final = 1
"""Of the messages below, as they were released: whatever is changed of them then makes another number. Another one is refused."""

TEXT_MAX: Final = 2000  # characters of a reason


class MessageKind(IntEnum):
    OFFER = 1
    READY = 2
    REFUSED = 3
    STATE = 4
    GOES_ON = 5


class HelperOffer(Struct, frozen=True):
    """The process that stays root: the place of its channel, its process ID, of which program it is."""

    channel: Here[int]
    process: Here[int]
    program: Here[str]


class GatewayOffer(Struct, frozen=True, kw_only=True):
    """What a successor is to be. `known`: digests of the tunnels in force, by name, and `key` that they are made with; `fields`:
    the rest of the configuration, as text. Descriptors are named by their places."""

    model: Here[int] = MODEL
    program: Here[str]
    gateway: Here[str]
    config: Here[str]
    control: Here[str]
    listening: Here[int]  # the control socket
    workers: Here[int]
    sa_slots: Here[int]
    key: Here[bytes]
    known: Here[dict[str, bytes]]
    fields: Here[dict[str, str]]
    host: Here[InheritedHost]
    mtus: Here[CarriedMtus]
    helper: Here[HelperOffer | None] = None
    metrics: Here[int | None] = None  # the socket where they are served
    verbose: Here[bool] = False
    trace_ike: Here[bool] = False
    log_format: Here[str | None] = None


class _Numbered(Struct):
    """An offer of any model."""

    model: int = 0


class Ready(Struct, frozen=True):
    """All that can fail without the state has been done. `program`: the version that goes on."""

    program: Here[str]


class UpgradeRefused(Struct, frozen=True):
    why: Here[str]


class GivenState(Struct, frozen=True, kw_only=True):
    """Everything that changes while packets pass. `stopped`: when the last burst was done, nanoseconds of CLOCK_MONOTONIC. `host`
    as it is then; `traffic` by tunnel, of SAs that are gone."""

    stopped: Here[int]
    sas: Here[CarriedSad]
    ike: Here[bytearray]
    intents: Here[dict[str, IntentState]]
    findings: Here[dict[str, FindingState]]
    traffic: Here[dict[str, CarriedTraffic]]
    counters: Here[Counters]
    host: Here[InheritedHost]
    mtus: Here[CarriedMtus]
    monitors: Here[dict[str, CarriedMonitor]]
    counts: Here[CarriedCounts]
    waiting: Here[list[WaitingPacket]] = []

    def __repr__(self) -> str:
        return "<State>"

    def wipe(self) -> None:
        """Overwrites every key with zeros, and what is not sealed yet."""
        self.sas.wipe()
        for each in self.waiting:
            each.packet.wipe()
        self.ike[:] = bytes(len(self.ike))


class LeftBehind(Struct, frozen=True):
    """What is negotiated anew, and why. `tunnel` empty: it belongs to none."""

    tunnel: Here[str]
    why: Here[str]


class GoesOn(Struct, frozen=True, kw_only=True):
    """The successor is alone. `gap_ms`: for how long nobody forwarded."""

    gap_ms: Here[float]
    ike_sas: Here[int]
    child_sas: Here[int]
    left_out: Here[list[LeftBehind]]


MESSAGES: Final[dict[MessageKind, type[Struct]]] = {
    MessageKind.OFFER: GatewayOffer,
    MessageKind.READY: Ready,
    MessageKind.REFUSED: UpgradeRefused,
    MessageKind.STATE: GivenState,
    MessageKind.GOES_ON: GoesOn,
}
ENCODER: Final = msgspec.msgpack.Encoder()
_NUMBERED: Final = msgspec.msgpack.Decoder(_Numbered)
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(shape) for kind, shape in MESSAGES.items()}

Message = TypeVar("Message", bound=Struct)


def body_of(message: Struct) -> bytearray:
    """Its octets, which whoever has them wipes."""
    body = bytearray()
    ENCODER.encode_into(message, body)
    return body


def message_of(kind: int, body: Buffer, *expected: type[Message]) -> Message:
    """The inverse, of one of the messages that may come now. Raises HandOverError, with one sentence."""
    known = {MESSAGES[each]: each for each in MessageKind}
    if kind not in [known[each] for each in expected]:
        raise HandOverError("the other process said something that is not its turn")
    try:
        if kind == MessageKind.OFFER and (number := _NUMBERED.decode(body).model) != MODEL:
            raise HandOverError(f"the other program speaks model {number} of the hand-over, and this one model {MODEL}: restart")
        found = _DECODERS[MessageKind(kind)].decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        raise HandOverError("what the other process said does not have the form of its message") from None
    return found  # type: ignore[return-value]
