"""What sessions hold: one IKE SA with its keys, the CHILD_SAs, and a received message on its way to its handler."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipsec_dp.ike.actions import NO_SPI, ChildLimits
from ipsec_dp.ike.environment import Rng
from ipsec_dp.ike.post_quantum import UNPROTECTED
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2.protect import protections
from ipsec_dp.ike.v2.wire import IKE_SPI, Flag

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.post_quantum import IkeProtection, Withstands
    from ipsec_dp.ike.suites import EspSuite, IkeSuite
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.exchanges import Request
    from ipsec_dp.ike.v2.keymat import IkeKeys
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.protect import Protection

NO_LIMITS: Final = ChildLimits()
NONCE_OCTETS: Final = 32  # half the largest prf's key and more (RFC 7296 §2.10)


class State(StrEnum):
    """Of an IKE SA; `transitions` has the table of what may happen in each."""

    NEW = "new"
    INIT_SENT = "IKE_SA_INIT sent"
    INTERMEDIATE_AWAITED = "IKE_INTERMEDIATE awaited"
    INIT_ANSWERED = "IKE_SA_INIT answered"
    INTERMEDIATE_SENT = "IKE_INTERMEDIATE sent"
    AUTH_SENT = "IKE_AUTH sent"
    ESTABLISHED = "established"
    PROVISIONAL = "provisional"  # a rekey made it, and whether it is the one that stands is not decided yet
    EXPIRED = "expired"  # its time is over; its CHILD_SAs wait for those of another
    REKEYED = "rekeyed"  # another has the CHILD_SAs, and the peer is to delete this one
    DELETING = "deleting"  # our DELETE is next or under way
    LINGERING = "lingering"  # closed; only a duplicate of the last request is still answered
    CLOSED = "closed"


HALF_OPEN: Final = frozenset({State.INTERMEDIATE_AWAITED, State.INIT_ANSWERED})
"""Those in which whoever began it has proven nothing yet."""
CALLING: Final = frozenset({State.INIT_SENT, State.INTERMEDIATE_SENT, State.AUTH_SENT})
"""Those in which we began it, and the peer has proven nothing yet."""
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
    answered: Protection | None = field(default=None, repr=False)  # which the request came with that was answered last
    kept: tuple[bytearray, bytearray] | None = field(default=None, repr=False)  # SK_e, SK_a of `incoming`, when it lingers
    started: float = inf
    established_at: float = inf  # by IKE_AUTH, or by the rekey that made it
    lowest_nonce: bytes = field(default=b"", repr=False)  # of the exchange that made it
    post_quantum: IkeProtection = UNPROTECTED

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
        if self.keys is not None and keep_incoming:
            keys, ours = self.keys, self.initiator
            self.kept = (keys.sk_er[:], keys.sk_ar[:]) if ours else (keys.sk_ei[:], keys.sk_ai[:])
        if self.keys is not None:
            self.keys.wipe()
        self.keys = self.outgoing = None
        if not keep_incoming:
            for key in self.kept or ():
                key[:] = bytes(len(key))
            self.incoming = self.answered = self.kept = None


class Table(Protocol):
    """Where a CHILD_SA is held."""

    holder: Any  # the IKE SA that it is on

    def changed(self, child: Child) -> None:
        """A time or the state of one is another now."""


class _Due:
    """A time of a CHILD_SA at which it has something to do."""

    def __set_name__(self, owner: type[Child], name: str) -> None:
        self._name = name

    def __get__(self, child: Child, owner: type[Child] | None = None) -> float:
        return child.times.get(self._name, inf)

    def __set__(self, child: Child, at: float) -> None:
        child.times[self._name] = at
        child.tell()


@dataclass(slots=True, eq=False, weakref_slot=True)
class Child:
    """One CHILD_SA; times are those of `now`, inf: never. `lowest_nonce` decides between two of one origin (RFC 7296 §2.8.1).

    `ts_local`, `ts_remote`: as negotiated. `pairs`: what of that is configured, and so may pass. `table`: where it is held,
    and told when it has something to do at another time.
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
    table: Table | None = None
    times: dict[str, float] = field(default_factory=dict)
    state: ChildState = ChildState.UP
    installed: bool = True
    sending: bool = False
    switch_by: float = inf
    waits: bool = False  # one of the IKE SA before still sends (`replacement`)
    failures: int = 0  # attempts to rekey it in a row
    reprieved: bool = False  # its hard limit has made way for a rekey, which happens once
    asked: Request | None = None  # our last request for another in its place
    replaces: int | None = None
    successor: Child | None = None
    post_quantum: Withstands = "none"
    limits: ChildLimits = NO_LIMITS
    fragments_also: bool = False  # later fragments too, where selectors ask for ports
    resource: int | None = None  # one of several with the same selectors (`resources`)
    alike: int = 0  # the most there were of those since one more was last looked for; 0: none came

    soft = _Due()
    hard = _Due()
    idle_at = _Due()
    switch_at = _Due()
    remove_at = _Due()
    more_at = _Due()

    def tell(self) -> None:
        """Its state or a time is another now."""
        if self.table is not None:
            self.table.changed(self)

    @property
    def due_at(self) -> float:
        """When it has something to do next."""
        return min(self.times.values(), default=inf)

    def enter(self, state: ChildState) -> None:
        """It is in `state` from now on. RuntimeError, a fault of ours, when that leads back."""
        if _CHILD_ORDER.index(state) < _CHILD_ORDER.index(self.state):
            raise RuntimeError(f"no CHILD_SA goes from {self.state} to {state}")
        self.state = state
        self.tell()

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
