"""CHILD_SAs, and the tables in which IKE SAs have them."""

from __future__ import annotations

from msgspec import field

from ipsec_dp.ike.carried.model.values import LimitsValue, PairValue, SelectorValue, SuiteValue
from ipsec_dp.ike.carried.part import CarriedPart
from ipsec_dp.util.leaves import Here, Sealed


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
    resource: Sealed[int | None] = None
    alike: Sealed[int] = 0
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
