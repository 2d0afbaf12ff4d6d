"""The model of what is carried of IKEv1: what there is with each peer, its ISAKMP SAs and its pairs of IPsec SAs."""

from __future__ import annotations

from msgspec import field

from ipsec_dp.ike.carried.model import (
    EndValue,
    HalfPart,
    IdentityValue,
    LimitsValue,
    NatValue,
    PairValue,
    PathValue,
    ProposalValue,
    SuiteValue,
    WantedPart,
)
from ipsec_dp.ike.carried.part import CarriedPart
from ipsec_dp.util.leaves import Here, Sealed


class IsakmpKeysPart(CarriedPart, frozen=True, kw_only=True):
    """`keymat.Skeyids`."""

    skeyid: Sealed[bytearray]
    d: Sealed[bytearray]
    a: Sealed[bytearray]
    e: Sealed[bytearray]
    cipher: Sealed[bytearray]


class WaitingPart(CarriedPart, frozen=True, kw_only=True):
    """A message of ours whose answer is awaited, as it was sent."""

    datagram: Sealed[bytes]
    deadline: Here[float]
    tries: Sealed[int]
    attempt: Sealed[int]
    began: Here[float]
    kept_back: Here[tuple[int, str] | None] = None


class QuickPart(CarriedPart, frozen=True, kw_only=True):
    """`quick.QuickMode`. `iv`: of the next message; `sa`: the number of what it made."""

    message_id: Sealed[int]
    initiator: Sealed[bool]
    iv: Sealed[bytes]
    pair: Sealed[PairValue]
    stage: Sealed[str]
    began: Here[float]
    nonces: Sealed[tuple[bytes, bytes]]
    spi_in: Sealed[int]
    key: Sealed[HalfPart | None] = None
    replaces: Sealed[int | None] = None
    sa: Sealed[int | None] = None
    waiting: Sealed[WaitingPart | None] = None
    last_in: Sealed[bytes] = b""
    last_out: Sealed[bytes] = b""
    forget_at: Here[float]
    admitted: Sealed[tuple[ProposalValue, ...]] = ()


class HeldPart(CarriedPart, frozen=True, kw_only=True):
    """Fragments of the peer's, as `fragment.HeldParts` has them."""

    path: Sealed[PathValue | None] = None
    exchange: Sealed[int] = 0
    message_id: Sealed[int] = 0
    identifier: Sealed[int] = 0
    parts: Sealed[dict[int, bytes] | None] = None
    deadline: Here[float] = 0.0
    forget_at: Here[float]
    total: Sealed[int] = 0
    last: Sealed[bytes] = b""
    last_ends: Sealed[tuple[int, ...]] = ()


class IsakmpSaPart(CarriedPart, frozen=True, kw_only=True):
    """One ISAKMP SA. `last_block`: of phase 1, from which IVs follow. Without keys it is closed, and only remembered."""

    initiator: Sealed[bool]
    cookie_i: Sealed[bytes]
    cookie_r: Sealed[bytes]
    suite: Sealed[SuiteValue]
    method: Sealed[int]
    exchange: Sealed[int]
    keys: Sealed[IsakmpKeysPart | None] = None
    last_block: Sealed[bytes]
    started: Here[float]
    established_at: Here[float]
    life_s: Sealed[float]
    path: Sealed[PathValue]
    nat: Sealed[NatValue]
    request_key: Sealed[tuple[bytes, EndValue]]
    by_request: Sealed[bool] = False
    last_in: Sealed[bytes] = b""
    last_out: Sealed[bytes] = b""
    hints: Here[list[tuple[str, str]]] = field(default_factory=list)
    answers_kept_back: Here[bool] = False
    nat_t: Sealed[bytes] = b""
    said: Sealed[str] = "truth"
    dpd: Sealed[bool] = False
    fragmentation: Sealed[bool] = False
    vendors: Sealed[tuple[str, ...]] = ()
    unknown_vendors: Sealed[int] = 0
    identities: Sealed[tuple[IdentityValue, IdentityValue]]
    certificates: Sealed[list[bytes]] = field(default_factory=list)
    until: Sealed[float | None] = None
    deadlines: Here[dict[str, float]]
    heard: Here[float]
    number: Sealed[int]
    attempts: Sealed[int] = 0
    asked_at: Here[float]
    move_at: Here[float]
    waiting: Sealed[WaitingPart | None] = None
    fragments: Sealed[HeldPart | None] = None
    repeats: Here[tuple[float, float]] = (0.0, 0.0)
    exchanges: Sealed[list[QuickPart]] = field(default_factory=list)
    seen: Sealed[list[int]] = field(default_factory=list)
    replaced: Sealed[bool] = False


class IpsecSaPart(CarriedPart, frozen=True, kw_only=True):
    """A pair of IPsec SAs; the keys as in `model.ChildPart`."""

    number: Here[int]
    spi_in: Sealed[int]
    spi_out: Sealed[int]
    suite: Sealed[SuiteValue]
    initiator: Sealed[bool]
    pair: Sealed[PairValue]
    created: Here[float]
    used: Here[float]
    lowest_nonce: Sealed[bytes]
    state: Sealed[str]
    sending: Sealed[bool]
    spent: Sealed[bool] = False
    asked: Sealed[bool] = False
    failures: Sealed[int] = 0
    reprieved: Sealed[bool] = False
    told: Sealed[bool] = False
    replaces: Here[int | None] = None
    times: Here[dict[str, float]]
    limits: Sealed[LimitsValue]
    replay_window: Sealed[int]
    keymat_in: Sealed[bytearray] = field(default_factory=bytearray)
    keymat_out: Sealed[bytearray] = field(default_factory=bytearray)


class PeeringPart(CarriedPart, frozen=True, kw_only=True):
    """`context.Peering`. `last`: the ISAKMP SA that there was before; `calling`: another was being made, which is begun anew."""

    tunnel: Sealed[str]
    sessions: Sealed[list[IsakmpSaPart]]
    last: Sealed[IsakmpSaPart | None] = None
    sas: Sealed[list[IpsecSaPart]]
    wanted: Sealed[WantedPart]
    account: Here[tuple[float, float, float] | None] = None
    seen: Here[dict[int, tuple[PairValue, ...]]] = field(default_factory=dict)
    calling: Sealed[bool] = False
    wait_until: Here[float]


class Ikev1Part(CarriedPart, frozen=True, kw_only=True):
    """Of all tunnels. `due`: places of peerings, and of ISAKMP SAs in them, -1: the peering itself; the first due one first."""

    peerings: Sealed[list[PeeringPart]] = field(default_factory=list)
    due: Here[list[tuple[int, int]]] = field(default_factory=list)
    counts: Here[dict[str, int]] = field(default_factory=dict)
    retransmissions: Here[dict[str, int]] = field(default_factory=dict)
