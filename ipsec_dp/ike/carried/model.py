"""The model of what is carried: all IKE SAs of a gateway with the IKE side of their CHILD_SAs, as values.

A CHILD_SA is named by its SPIs; its sequence numbers, its window and its counters are the data plane's, which exports them by the
inbound SPI. Messages are the octets that were sent. Instants are seconds of the clock of the data plane, which goes on while the
host is suspended: a lifetime goes on where it was. SAs name each other by their place in the list, CHILD_SAs by their number.

What is not here is negotiated anew: an IKE SA before both sides have proven themselves, and what strangers may cost.
"""

from __future__ import annotations

from math import inf
from typing import Final

from msgspec import field

from ipsec_dp.ike.carried.part import CarriedPart, Value
from ipsec_dp.util.leaves import Here, Sealed

MODEL: Final = 1
"""Of this version. Fields are added with a default; whatever an older reader would get wrong makes another number."""


# ---- small values ----------------------------------------------------------------------------------------------------------------


class EndValue(Value, frozen=True, array_like=True):
    """`actions.Endpoint`; the address as its octets."""

    address: bytes
    port: int
    scope: int


class PathValue(Value, frozen=True, array_like=True):
    """`actions.Path`."""

    local: EndValue
    remote: EndValue
    natt: bool


class SelectorValue(Value, frozen=True, array_like=True):
    """`traffic_selectors.TrafficSelector`; first and last address as their octets."""

    start: bytes
    end: bytes
    protocol: int
    start_port: int
    end_port: int


class PairValue(Value, frozen=True, array_like=True):
    """`traffic_selectors.ProxyId`."""

    local: SelectorValue
    remote: SelectorValue


class TransformValue(Value, frozen=True, array_like=True):
    """`transforms.Transform` of ours."""

    type: int
    id: int
    key_length: int | None


class ProposalValue(Value, frozen=True, array_like=True):
    """`proposal.Proposal` of ours, or what a peer chose of it."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[TransformValue, ...]


class SuiteValue(Value, frozen=True, array_like=True):
    """Keywords of an IKE or ESP suite; empty: it has none of that kind."""

    encryption: str
    integrity: str
    prf: str
    group: str
    additional: tuple[str, ...]
    esn: bool


class NatValue(Value, frozen=True, array_like=True):
    """`nat.Nat`."""

    supported: bool
    local: bool
    remote: bool
    forced_here: bool
    forced_there: bool


class LengthValue(Value, frozen=True, array_like=True):
    """What `lengths.Lengths` knows of an address: octets of IP datagram, and until when."""

    address: bytes
    octets: float
    until: float


class IdentityValue(Value, frozen=True, array_like=True):
    type: int
    data: bytes


class LimitsValue(Value, frozen=True, array_like=True):
    """`actions.ChildLimits`."""

    soft_octets: int
    hard_octets: int
    soft_packets: int
    hard_packets: int


# ---- what belongs to an exchange -------------------------------------------------------------------------------------------------


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


# ---- CHILD_SAs -------------------------------------------------------------------------------------------------------------------


class ChildPart(CarriedPart, frozen=True, kw_only=True):
    """One CHILD_SA. The keys are those of the data plane, each as `InstallInbound` has it; empty: it has none any more."""

    number: Here[int]
    spi_in: Sealed[int]
    spi_out: Sealed[int]
    suite: Sealed[SuiteValue]
    initiator: Sealed[bool]
    ts_local: Sealed[tuple[SelectorValue, ...]]
    ts_remote: Sealed[tuple[SelectorValue, ...]]
    pairs: Sealed[tuple[PairValue, ...]]
    created: Here[float]
    used: Here[float]
    lowest_nonce: Sealed[bytes]
    times: Here[dict[str, float]]
    state: Sealed[str]
    installed: Sealed[bool]
    sending: Sealed[bool]
    limits: Sealed[LimitsValue]
    replay_window: Sealed[int]
    switch_by: Here[float]
    fragments_also: Sealed[bool] = False
    waits: Sealed[bool] = False
    failures: Sealed[int] = 0
    reprieved: Sealed[bool] = False
    replaces: Here[int | None] = None
    successor: Here[int | None] = None
    post_quantum: Sealed[str] = "none"
    keymat_in: Sealed[bytearray] = field(default_factory=bytearray)
    keymat_out: Sealed[bytearray] = field(default_factory=bytearray)


class TablePart(CarriedPart, frozen=True, kw_only=True):
    """The CHILD_SAs of one IKE SA, or of two of which one rekeyed the other. `holder`: the place of the one whose they are; `all`:
    the numbers, in their order, also of those that have gone over to another table since, which has them."""

    holder: Here[int]
    children: Sealed[list[ChildPart]]
    all: Here[list[int]]
    came: Here[dict[int, tuple[PairValue, ...]]] = field(default_factory=dict)
    went: Here[dict[int, bool]] = field(default_factory=dict)
    busy: Here[int] = 0


# ---- what is wanted --------------------------------------------------------------------------------------------------------------


class WishValue(Value, frozen=True, array_like=True):
    pair: PairValue
    not_before: float
    failures: int
    delays: int
    why: str
    refused: bool
    up_at: float


class WaitingValue(Value, frozen=True, array_like=True):
    pair: PairValue
    rank: int
    asked: bool
    at: float


class WantedPart(CarriedPart, frozen=True, kw_only=True):
    """`wanted.WantedParts`."""

    wishes: Here[list[WishValue]] = field(default_factory=list)
    asked: Sealed[list[tuple[PairValue, bool]]] = field(default_factory=list)
    packets: Sealed[list[tuple[PairValue, PairValue]]] = field(default_factory=list)
    dismissed: Sealed[list[PairValue]] = field(default_factory=list)
    held: Sealed[list[PairValue]] = field(default_factory=list)
    up: Here[dict[int, tuple[PairValue, ...]]] = field(default_factory=dict)
    whole: Sealed[list[PairValue]] = field(default_factory=list)
    told: Here[dict[int, str]] = field(default_factory=dict)
    troubled: Sealed[bool] = False
    placed: Sealed[bool] = False
    floors: Here[list[tuple[int, bool, float]]] = field(default_factory=list)
    waiting: Here[list[WaitingValue]] = field(default_factory=list)


# ---- an IKE SA -------------------------------------------------------------------------------------------------------------------


class Exact(CarriedPart, tag="exact", frozen=True, kw_only=True):
    """The source has stopped and its key is retired: the next SK IV is `next`."""

    next: Sealed[int]
    serial: Sealed[int] = 0
    epoch: Sealed[int] = 0


class Reserved(CarriedPart, tag="reserved", frozen=True, kw_only=True):
    """The source goes on, and keeps the `stride` SK IVs in front of `begins`. `serial`: the how-manieth stride of this key;
    only the last one of all may be imported, which whoever imports cannot know by itself."""

    begins: Sealed[int]
    stride: Sealed[int]
    serial: Sealed[int] = 0
    epoch: Sealed[int] = 0


class KeysPart(CarriedPart, frozen=True, kw_only=True):
    """`keymat.IkeKeys`."""

    sk_d: Sealed[bytearray]
    sk_ai: Sealed[bytearray]
    sk_ar: Sealed[bytearray]
    sk_ei: Sealed[bytearray]
    sk_er: Sealed[bytearray]
    sk_pi: Sealed[bytearray]
    sk_pr: Sealed[bytearray]


class KeptKeysPart(CarriedPart, frozen=True, kw_only=True):
    """Of one that lingers: what repeats of the last request are checked with."""

    encryption: Sealed[bytearray]
    integrity: Sealed[bytearray]


class EndsPart(CarriedPart, frozen=True, kw_only=True):
    """`context.Ends`. Dates are seconds of the calendar since 1970, in UTC."""

    called: Sealed[bool]
    identities: Sealed[tuple[IdentityValue, IdentityValue]]
    certificates: Sealed[list[bytes]] = field(default_factory=list)
    until: Sealed[float | None] = None
    listed_until: Sealed[float | None] = None
    renew_at: Sealed[float | None] = None
    initial_contact: Sealed[bool] = False
    account: Here[tuple[float, float, float] | None] = None


class AbilitiesPart(CarriedPart, frozen=True, kw_only=True):
    """`context.Abilities`, which an IKE SA shares with those that rekey it."""

    fragmentation: Sealed[bool] = False
    longest: Sealed[float] = inf
    longest_until: Here[float] = inf
    followed: Sealed[bool] = False
    slow: Sealed[bool] = False
    hashes: Sealed[list[int] | None] = None
    single_pair: Sealed[bool] = False
    told: Here[list[str]] = field(default_factory=list)
    complaints: Here[tuple[float, float]]


class IkeSaPart(CarriedPart, frozen=True, kw_only=True):
    """One IKE SA. `before`, `after`: places of those that it replaces, and that replace it."""

    tunnel: Sealed[str]
    state: Sealed[str]
    initiator: Sealed[bool]
    spi_i: Sealed[bytes]
    spi_r: Sealed[bytes]
    suite: Sealed[SuiteValue]
    keys: Sealed[KeysPart | None] = None
    kept: Sealed[KeptKeysPart | None] = None
    sk_iv: Sealed[Exact | Reserved | None] = None
    started: Here[float]
    established_at: Here[float]
    lowest_nonce: Sealed[bytes]
    own_quantum: Sealed[str]
    seed_quantum: Sealed[str]
    path: Sealed[PathValue]
    nat: Sealed[NatValue]
    request_key: Sealed[tuple[bytes, EndValue]]
    by_request: Sealed[bool] = False
    hints: Here[list[tuple[str, str]]] = field(default_factory=list)
    ends: Sealed[EndsPart]
    abilities: Sealed[int]
    window: Sealed[WindowPart]
    queue: Sealed[list[TaskPart]] = field(default_factory=list)
    table: Sealed[int]
    wanted: Sealed[int | None] = None
    series: Sealed[list[TheirSeriesPart]] = field(default_factory=list)
    before: Sealed[int | None] = None
    after: Sealed[int | None] = None
    handed_over: Sealed[bool] = False
    withdrawn: Sealed[bool] = False
    deadlines: Here[dict[str, float]]
    failures: Sealed[int] = 0
    reprieved: Sealed[bool] = False
    exchange: Here[str] = ""
    withstood: Sealed[bool | None] = None  # what `downgrades.Downgrades` knows of the two ends


class Ikev2Part(CarriedPart, frozen=True, kw_only=True):
    """Of all tunnels. `loose`: CHILD_SAs that are gone, and which something still names; `due`: places, the first due one first."""

    sas: Sealed[list[IkeSaPart]] = field(default_factory=list)
    tables: Sealed[list[TablePart]] = field(default_factory=list)
    loose: Sealed[list[ChildPart]] = field(default_factory=list)
    wanted: Sealed[list[WantedPart]] = field(default_factory=list)
    abilities: Sealed[list[AbilitiesPart]] = field(default_factory=list)
    lengths: Sealed[list[LengthValue]] = field(default_factory=list)
    due: Here[list[int]] = field(default_factory=list)
    counts: Here[dict[str, int]] = field(default_factory=dict)
    retransmissions: Here[dict[str, int]] = field(default_factory=dict)


class LeftOut(CarriedPart, frozen=True, kw_only=True):
    """What is negotiated anew, and why. Nothing of it is secret."""

    tunnel: Sealed[str]
    spi_i: Sealed[bytes]
    why: Sealed[str]

    def __str__(self) -> str:
        return f"{self.tunnel} [{self.spi_i.hex()}]: {self.why}"


class ChoicePart(CarriedPart, frozen=True, kw_only=True):
    """`version_choice.VersionChoice` of a tunnel."""

    tunnel: Sealed[str]
    fallen: Sealed[bool]
    first: Here[float | None] = None
    reason: Sealed[str | None] = None
