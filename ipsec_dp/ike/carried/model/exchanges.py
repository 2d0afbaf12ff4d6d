"""What belongs to an exchange: messages as the octets that were sent, requests under way, series of key exchanges."""

from __future__ import annotations

from msgspec import field

from ipsec_dp.ike.carried.model.values import PairValue, ProposalValue, SelectorValue, SuiteValue
from ipsec_dp.ike.carried.part import CarriedPart
from ipsec_dp.util.leaves import Here, Sealed


class HalfPart(CarriedPart, frozen=True, kw_only=True):
    """Our half of a key exchange that is under way: the private key's octets."""

    group: Sealed[str]
    private: Sealed[bytearray]


class ClearPart(CarriedPart, frozen=True, kw_only=True):
    """A message that is needed once more, the peer's or ours: its header, and the octets that were protected."""

    header: Sealed[bytes]  # SPIi | SPIr
    exchange: Sealed[int]
    flags: Sealed[int]
    message_id: Sealed[int]
    first: Sealed[int]
    octets: Sealed[bytearray]


class SealedPart(CarriedPart, frozen=True, kw_only=True):
    """`sealed.Sealed`: the datagrams that it left in first, and shorter ones by the octets that none is longer than."""

    datagrams: Sealed[tuple[bytes, ...]] = ()
    shorter: Sealed[dict[int, tuple[bytes, ...]]] = field(default_factory=dict)
    content: Sealed[ClearPart | None] = None


class OurSeriesPart(CarriedPart, frozen=True, kw_only=True):
    """A series of additional key exchanges of ours (RFC 9370)."""

    further: Sealed[list[str]]
    secrets: Sealed[list[bytearray]]
    answer: Sealed[ClearPart]
    link: Sealed[bytes]
    key: Sealed[HalfPart | None] = None


class OfferPart(CarriedPart, frozen=True, kw_only=True):
    """`child_create.Offer`."""

    spi: Sealed[int]
    proposals: Sealed[tuple[ProposalValue, ...]]
    local: Sealed[tuple[SelectorValue, ...]]
    remote: Sealed[tuple[SelectorValue, ...]]
    pairs: Sealed[tuple[PairValue, ...]]
    configured: Sealed[tuple[PairValue, ...]]
    admitted: Sealed[tuple[ProposalValue, ...]] = ()
    resource: Sealed[int | None] = None


class ChildCreatePart(CarriedPart, tag="child-create", frozen=True, kw_only=True):
    """`asked`: it is the last rekey that was asked for of what it rekeys."""

    pairs: Sealed[tuple[PairValue, ...]]
    packet: Sealed[PairValue | None] = None
    rekeys: Sealed[int | None] = None
    any_suite: Sealed[bool] = False
    rival: Sealed[int | None] = None
    offer: Sealed[OfferPart | None] = None
    key: Sealed[HalfPart | None] = None
    group: Sealed[str] = ""
    rounds: Sealed[int] = 0
    nonce: Sealed[bytes] = b""
    nonces: Sealed[tuple[bytes, bytes]] = (b"", b"")
    series: Sealed[OurSeriesPart | None] = None
    following: Sealed[bool] = False  # what is on the wire is IKE_FOLLOWUP_KE
    began_again: Sealed[bool] = False
    asked: Sealed[bool] = False
    beside: Sealed[int | None] = None


class AgreementPart(CarriedPart, frozen=True, kw_only=True):
    """`ike_rekey.IkeAgreement`."""

    suite: Sealed[SuiteValue]
    spi: Sealed[bytes]
    nonces: Sealed[tuple[bytes, bytes]]


class IkeRekeyPart(CarriedPart, tag="ike-rekey", frozen=True, kw_only=True):
    rival: Sealed[int | None] = None
    offer: Sealed[tuple[ProposalValue, ...]] = ()
    any_suite: Sealed[bool] = False
    rounds: Sealed[int] = 0
    spi: Sealed[bytes] = b""
    nonce: Sealed[bytes] = b""
    key: Sealed[HalfPart | None] = None
    agreed: Sealed[AgreementPart | None] = None
    series: Sealed[OurSeriesPart | None] = None
    following: Sealed[bool] = False
    began_again: Sealed[bool] = False


class ChildDeletePart(CarriedPart, tag="child-delete", frozen=True, kw_only=True):
    spi: Sealed[int]
    child: Sealed[int | None] = None


class IkeDeletePart(CarriedPart, tag="ike-delete", frozen=True, kw_only=True):
    cause: Sealed[str]
    text: Sealed[str]
    again: Sealed[bool] = False


class LivenessPart(CarriedPart, tag="liveness", frozen=True, kw_only=True):
    tries: Sealed[int]


class ProbePart(CarriedPart, tag="probe", frozen=True, kw_only=True):
    asked: Sealed[int]
    octets: Sealed[int]
    first_wait: Sealed[float]
    retries: Sealed[int]
    tries: Sealed[int]
    whole: Sealed[bool]


TaskPart = ChildCreatePart | IkeRekeyPart | ChildDeletePart | IkeDeletePart | LivenessPart | ProbePart


class OutstandingPart(CarriedPart, frozen=True, kw_only=True):
    """Our request that is not answered: the octets as they were sent."""

    message_id: Sealed[int]
    task: Sealed[TaskPart]
    sealed: Sealed[SealedPart]
    attempt: Sealed[int]
    deadline: Here[float]
    began: Here[float]
    kept_back: Here[tuple[int, str] | None] = None
    last: Sealed[bool] = False


class FragmentsPart(CarriedPart, frozen=True, kw_only=True):
    """Of the peer's messages: the last message ID, and what is there of a message that is not whole."""

    message_id: Sealed[int] = -1
    total: Sealed[int] = 0
    first_inner: Sealed[int] = 0
    deadline: Here[float] = 0.0
    parts: Sealed[dict[int, bytes] | None] = None
    longest: Sealed[int] = 0


class WindowPart(CarriedPart, frozen=True, kw_only=True):
    next_id: Sealed[int]
    expected: Sealed[int]
    reply: Sealed[SealedPart]
    asked_again: Sealed[int] = 0
    asked_in: Sealed[int] = 0
    repeats: Here[tuple[float, float]] = (0.0, 0.0)
    outstanding: Sealed[OutstandingPart | None] = None
    requests: Sealed[FragmentsPart]
    responses: Sealed[FragmentsPart]


class TheirSeriesPart(CarriedPart, frozen=True, kw_only=True):
    """A series of the peer's. `ike`: what is to be made is an IKE SA, else a CHILD_SA."""

    further: Sealed[list[str]]
    secrets: Sealed[list[bytearray]]
    nonces: Sealed[tuple[bytes, bytes]]
    link: Sealed[bytes]
    until: Here[float]
    rekeys: Sealed[int | None] = None
    ike: Sealed[AgreementPart | None] = None
    spi: Sealed[bytes] = b""  # ours of that IKE SA
    child: Sealed[PreparedPart | None] = None


class PreparedPart(CarriedPart, frozen=True, kw_only=True):
    """`child_respond.Prepared`."""

    spis: Sealed[tuple[int, int]]
    chosen: Sealed[ProposalValue]
    suite: Sealed[SuiteValue]
    local: Sealed[tuple[SelectorValue, ...]]
    remote: Sealed[tuple[SelectorValue, ...]]
    pairs: Sealed[tuple[PairValue, ...]]
    fragments_also: Sealed[bool] = False
    resource: Sealed[int | None] = None
