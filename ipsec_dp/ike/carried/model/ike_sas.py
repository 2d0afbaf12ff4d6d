"""An IKE SA with all that it has, all of IKEv2, and what is left out."""

from __future__ import annotations

from math import inf

from msgspec import field

from ipsec_dp.ike.carried.model.children import ChildPart, TablePart
from ipsec_dp.ike.carried.model.exchanges import TaskPart, TheirSeriesPart, WindowPart
from ipsec_dp.ike.carried.model.values import EndValue, IdentityValue, LengthValue, NatValue, PathValue, SuiteValue, WithstoodValue
from ipsec_dp.ike.carried.model.wishes import WantedPart
from ipsec_dp.ike.carried.part import CarriedPart
from ipsec_dp.util.leaves import Here, Sealed


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
    """Of all tunnels. `loose`: CHILD_SAs that are gone, and which something still names; `due`: places, the first due one first;
    `withstood`: of peers that have no IKE SA here."""

    sas: Sealed[list[IkeSaPart]] = field(default_factory=list)
    tables: Sealed[list[TablePart]] = field(default_factory=list)
    loose: Sealed[list[ChildPart]] = field(default_factory=list)
    wanted: Sealed[list[WantedPart]] = field(default_factory=list)
    abilities: Sealed[list[AbilitiesPart]] = field(default_factory=list)
    lengths: Sealed[list[LengthValue]] = field(default_factory=list)
    due: Here[list[int]] = field(default_factory=list)
    counts: Here[dict[str, int]] = field(default_factory=dict)
    retransmissions: Here[dict[str, int]] = field(default_factory=dict)
    withstood: Sealed[list[WithstoodValue]] = field(default_factory=list)


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
