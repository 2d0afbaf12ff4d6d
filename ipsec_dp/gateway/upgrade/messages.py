"""What the two processes say to each other, in this order, the one before the arrow first: OFFER → READY, SHAPE → PREPARED while
everything goes on; SAS → FORWARDS, while packets wait; STATE, and an IKE for each piece of it → GOES_ON, while IKE waits. REFUSED
stands for any of them.

Keys of ESP and packets in the clear are in SAS alone, keys of IKE in IKE. Each message is whoever's that has it to wipe.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Struct

from ipsec_dp.databases.carried_sas import CarriedRecords, CarriedSad
from ipsec_dp.databases.sad_shape import SadShape
from ipsec_dp.dataplane import Counters
from ipsec_dp.dataplane.carried import CarriedFlows, CarriedTraffic, EndpointValue
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
from ipsec_dp.util.wiping import unless_whole, wipe

if TYPE_CHECKING:
    from ipsec_dp.gateway.upgrade.stream import HandOverChannel

MODEL: Final = 2
"""Of the messages below, as they were released: whatever is changed of them then makes another number, also a field with a default.
Another one is refused, since an older reader might get it wrong."""

TEXT_MAX: Final = 2000  # characters of a reason


class MessageKind(IntEnum):
    OFFER = 1
    READY = 2
    REFUSED = 3
    STATE = 4
    GOES_ON = 5
    SHAPE = 6
    PREPARED = 7
    SAS = 8
    FORWARDS = 9
    IKE = 10


class HelperOffer(Struct, frozen=True):
    """The process that stays root: the place of its channel, its process ID, of which program it is."""

    channel: Here[int]
    process: Here[int]
    program: Here[str]


class GatewayOffer(Struct, frozen=True, kw_only=True):
    """What a successor is to be. `numbers`: those of tunnels, by name; `text`: of the configuration in force, as its file held it;
    `known`: digests of its tunnels and of what the files held that they name, by name of the tunnel, and `key` that they are made
    with. Descriptors are named by their places."""

    model: Here[int] = MODEL
    program: Here[str]
    gateway: Here[str]
    config: Here[str]
    control: Here[str]
    listening: Here[int]  # the control socket
    workers: Here[int]
    sa_slots: Here[int]
    numbers: Here[dict[str, int]]
    key: Here[bytes]
    known: Here[dict[str, bytes]]
    text: Here[str]
    host: Here[InheritedHost]
    mtus: Here[CarriedMtus]
    helper: Here[HelperOffer | None] = None
    metrics: Here[int | None] = None  # the socket where they are served
    verbose: Here[bool] = False
    trace_ike: Here[bool] = False
    log_format: Here[str | None] = None
    offload_faults: Here[dict[str, str]] = {}

    def __repr__(self) -> str:
        return "<Offer>"


class _Numbered(Struct):
    """An offer of any model."""

    model: int = 0


class Ready(Struct, frozen=True):
    """All that can fail without SAs has been done. `program`: the version that goes on; `layout`: how it lays out the data plane's
    records of SAs (`record_layout`)."""

    program: Here[str]
    layout: Here[bytes] = b""


class SasPrepared(Struct, frozen=True):
    """Every SA of SHAPE is there, and waits."""

    sas: Here[int]


class UpgradeRefused(Struct, frozen=True):
    why: Here[str]


class GivenSas(Struct, frozen=True, kw_only=True):
    """What forwarding takes. `stopped`: when the last burst was done, nanoseconds of CLOCK_MONOTONIC; `shape`: what has changed
    since SHAPE; `sas`: one by one where the other process lays records out otherwise. `expected`: SPIs that were named to peers;
    `counters`: of each worker; `waiting`: packets that wait for an SA."""

    stopped: Here[int]
    shape: Here[SadShape]
    records: Here[CarriedRecords | None] = None
    sas: Here[CarriedSad | None] = None
    expected: Here[list[tuple[int, EndpointValue]]]
    counters: Here[list[Counters]]
    flows: Here[CarriedFlows]
    waiting: Here[list[WaitingPacket]] = []

    def __repr__(self) -> str:
        return "<SAs>"

    def wipe(self) -> None:
        """Overwrites every key with zeros, and what is not sealed yet."""
        for each in (self.records, self.sas, *(one.packet for one in self.waiting)):
            if each is not None:
                each.wipe()


class Forwards(Struct, frozen=True):
    """The successor is alone, and packets pass."""

    sas: Here[int]


class GivenState(Struct, frozen=True, kw_only=True):
    """Everything else that changes while packets pass, as it was when they stopped. `pieces`: how many IKE follow; `intents`: of
    tunnels that are in none of them. `traffic` by tunnel, of SAs that are gone."""

    pieces: Here[int]
    intents: Here[dict[str, IntentState]]
    findings: Here[dict[str, FindingState]]
    traffic: Here[dict[str, CarriedTraffic]]
    host: Here[InheritedHost]
    mtus: Here[CarriedMtus]
    monitors: Here[dict[str, CarriedMonitor]]
    counts: Here[CarriedCounts]


class GivenIke(Struct, frozen=True, kw_only=True):
    """The IKE SAs of some tunnels (`ike.carried`), and what is wanted of these."""

    ike: Here[bytearray]
    intents: Here[dict[str, IntentState]]

    def __repr__(self) -> str:
        return "<IKE>"

    def wipe(self) -> None:
        """Overwrites every key with zeros."""
        wipe(self.ike)


class LeftBehind(Struct, frozen=True):
    """What is negotiated anew, and why. `tunnel` empty: it belongs to none."""

    tunnel: Here[str]
    why: Here[str]


class GoesOn(Struct, frozen=True, kw_only=True):
    """The successor has all. `gap_ms`: for how long nobody forwarded; `changes`: what the configuration file says otherwise than
    what is in force, which it takes over next. None: nothing."""

    gap_ms: Here[float]
    ike_sas: Here[int]
    child_sas: Here[int]
    left_out: Here[list[LeftBehind]]
    changes: Here[str | None] = None


MESSAGES: Final[dict[MessageKind, type[Struct]]] = {
    MessageKind.OFFER: GatewayOffer,
    MessageKind.READY: Ready,
    MessageKind.REFUSED: UpgradeRefused,
    MessageKind.STATE: GivenState,
    MessageKind.GOES_ON: GoesOn,
    MessageKind.SHAPE: SadShape,
    MessageKind.PREPARED: SasPrepared,
    MessageKind.SAS: GivenSas,
    MessageKind.FORWARDS: Forwards,
    MessageKind.IKE: GivenIke,
}
ENCODER: Final = msgspec.msgpack.Encoder()
_NUMBERED: Final = msgspec.msgpack.Decoder(_Numbered)
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(shape) for kind, shape in MESSAGES.items()}

Message = TypeVar("Message", bound=Struct)


def body_of(message: Struct) -> bytearray:
    """Its octets, which whoever has them wipes."""
    body = bytearray()
    with unless_whole(partial(wipe, body)):
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


def heard(channel: HandOverChannel, seconds: float, expected: type[Message]) -> Message:
    """What the other process says next, which holds no key. Raises HandOverError: it refuses, says something else, or nothing."""
    got = channel.receive(seconds=seconds)
    said: Struct = message_of(got.kind, got.body, expected, UpgradeRefused)
    if isinstance(said, expected):
        return said
    raise HandOverError(f"the successor refuses: {said.why}" if isinstance(said, UpgradeRefused) else "it speaks out of turn")
