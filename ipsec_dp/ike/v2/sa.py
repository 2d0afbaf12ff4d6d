"""What sessions hold: one IKE SA with its keys, the CHILD_SAs, and a received message on its way to its handler."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.environment import Rng
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2.protect import protections
from ipsec_dp.ike.v2.wire import IKE_SPI, Flag

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.proposal import EspSuite, IkeSuite
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.keymat import IkeKeys
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.protect import Protection

NONCE_OCTETS: Final = 32  # half the largest prf's key and more (RFC 7296 §2.10)


class State(StrEnum):
    """Of an IKE SA; `transitions` has the table of what may happen in each."""

    NEW = "new"
    INIT_SENT = "IKE_SA_INIT sent"
    INIT_ANSWERED = "IKE_SA_INIT answered"
    AUTH_SENT = "IKE_AUTH sent"
    ESTABLISHED = "established"
    PROVISIONAL = "provisional"  # a rekey made it, and whether it is the one that stands is not decided yet
    EXPIRED = "expired"  # its time is over; its CHILD_SAs wait for those of another
    REKEYED = "rekeyed"  # another has the CHILD_SAs, and the peer is to delete this one
    DELETING = "deleting"  # our DELETE is next or under way
    LINGERING = "lingering"  # closed; only a duplicate of the last request is still answered
    CLOSED = "closed"


CARRYING: Final = frozenset({State.ESTABLISHED, State.EXPIRED})
"""Those in which CHILD_SAs are its own and carry packets."""


class ChildState(StrEnum):
    """Of a CHILD_SA."""

    UP = "up"
    REKEYED = "rekeyed"  # another took its place, and the peer is to delete it
    DELETING = "deleting"  # we are to delete it
    DELETED = "deleted"  # deleted; what was under way may still come in


_CHILD_ORDER: Final = tuple(ChildState)


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message at its handler: opened, with the octets and the path it came by."""

    message: Message
    datagram: bytes
    path: Path
    now: float


@dataclass(slots=True, eq=False)
class IkeSa:
    """SPIs, algorithms and keys of one IKE SA; `initiator` when we are its original initiator."""

    initiator: bool
    spi_i: bytes
    spi_r: bytes = NO_SPI
    suite: IkeSuite | None = None
    keys: IkeKeys | None = field(default=None, repr=False)
    outgoing: Protection | None = field(default=None, repr=False)
    incoming: Protection | None = field(default=None, repr=False)
    started: float = inf
    established_at: float = inf  # by IKE_AUTH, or by the rekey that made it
    lowest_nonce: bytes = field(default=b"", repr=False)  # of the exchange that made it

    @property
    def own_spi(self) -> bytes:
        """The SPI that distinguishes messages to us."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def request_flags(self) -> int:
        """Flags of our requests; those of our responses have RESPONSE besides."""
        return Flag.INITIATOR if self.initiator else 0

    def install(self, suite: IkeSuite, keys: IkeKeys) -> None:
        """From now on messages can be protected."""
        self.suite, self.keys = suite, keys
        of_initiator, of_responder = protections(suite, keys)
        self.outgoing, self.incoming = (of_initiator, of_responder) if self.initiator else (of_responder, of_initiator)

    def wipe(self, *, keep_incoming: bool = False) -> None:
        """Forget the keys; `keep_incoming` leaves what duplicates are checked with."""
        if self.keys is not None:
            self.keys.wipe()
        self.keys = self.outgoing = None
        if not keep_incoming:
            self.incoming = None


@dataclass(slots=True, eq=False)
class Child:
    """One CHILD_SA; times are those of `now`, inf: never. `lowest_nonce` decides between two of one origin (RFC 7296 §2.8.1).

    `ts_local`, `ts_remote`: as negotiated. `pairs`: what of that is configured, and so may pass.
    """

    number: int
    spi_in: int
    spi_out: int
    suite: EspSuite
    initiator: bool
    ts_local: tuple[TrafficSelector, ...]
    ts_remote: tuple[TrafficSelector, ...]
    pairs: tuple[ProxyId, ...]
    created: float
    used: float
    lowest_nonce: bytes
    state: ChildState = ChildState.UP
    installed: bool = True
    sending: bool = False
    soft: float = inf
    hard: float = inf
    idle_at: float = inf
    switch_at: float = inf
    switch_by: float = inf
    waits: bool = False  # one of the IKE SA before still sends (`replacement`)
    remove_at: float = inf
    failures: int = 0  # attempts to rekey it in a row
    reprieved: bool = False  # its hard limit has made way for a rekey, which happens once
    replaces: int | None = None
    successor: Child | None = None

    def enter(self, state: ChildState) -> None:
        """It is in `state` from now on. RuntimeError, a fault of ours, when that leads back."""
        if _CHILD_ORDER.index(state) < _CHILD_ORDER.index(self.state):
            raise RuntimeError(f"no CHILD_SA goes from {self.state} to {state}")
        self.state = state

    def holds(self, pair: ProxyId) -> bool:
        """True when all of `pair` may pass here."""
        return any(mine.covers(pair) for mine in self.pairs)


def nonzero_spi(rng: Rng) -> bytes:
    """A fresh SPI of an IKE SA: zero means "none yet" (RFC 7296 §3.1)."""
    while True:
        spi = rng(IKE_SPI)
        if spi != NO_SPI:
            return spi


def nonce(rng: Rng) -> bytes:
    """Ni or Nr."""
    return rng(NONCE_OCTETS)
