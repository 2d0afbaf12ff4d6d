"""What is held: one ISAKMP SA with its keys, pairs of IPsec SAs, a message on its way, one of ours that waits for an answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NO_SPI, ChildLimits
from ipsec_dp.ike.retransmission import FIRST_WAIT, TRIES, wait_after
from ipsec_dp.ike.v1.states import ORDER, IpsecSaState
from ipsec_dp.ike.v1.wire import ExchangeMode

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ike.suites import EspSuite, IkeSuite
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.keymat import Skeyids
    from ipsec_dp.ike.v1.message import IsakmpHeader

NONCE: Final = 32  # octets of ours


@dataclass(slots=True, eq=False)
class IsakmpSa:
    """Cookies, algorithms and keys. `last_block`: of phase 1, from which the IVs of exchanges under it follow; `exchange`: by which
    it is made."""

    initiator: bool
    cookie_i: bytes
    cookie_r: bytes = NO_SPI
    suite: IkeSuite | None = None
    method: int = 0
    exchange: ExchangeMode = ExchangeMode.MAIN
    keys: Skeyids | None = field(default=None, repr=False)
    last_block: bytes = b""
    started: float = inf
    established_at: float = inf
    life_s: float = inf  # as agreed on
    retired: bool = False  # it was carried to another gateway, which has its keys

    @property
    def own_cookie(self) -> bytes:
        return self.cookie_i if self.initiator else self.cookie_r

    @property
    def cookies(self) -> bytes:
        """CKY-I | CKY-R."""
        return self.cookie_i + self.cookie_r

    def wipe(self) -> None:
        if self.keys is not None:
            self.keys.wipe()
        self.keys = None


@dataclass(slots=True, eq=False)
class IpsecSa:
    """A pair of IPsec SAs, one in each direction. Times are those of `now`, inf: never. `initiator`: we began the quick mode.

    `lowest_nonce` decides between two for the same proxy ID that were made at once.
    """

    number: int
    spi_in: int
    spi_out: int
    suite: EspSuite
    initiator: bool
    pair: ProxyId
    created: float
    used: float
    lowest_nonce: bytes
    state: IpsecSaState = IpsecSaState.WAITING
    sending: bool = False
    spent: bool = False  # octets or packets are soon used up
    asked: bool = False  # a quick mode for another in its place is due or under way
    failures: int = 0  # of such in a row
    reprieved: bool = False
    told: bool = False  # by a DELETE of ours, which is repeated once since nobody acknowledges it
    replaces: int | None = None
    soft: float = inf
    hard: float = inf
    idle_at: float = inf
    look_at: float = inf  # whether the peer uses it
    tell_at: float = inf  # the peer is told that it is deleted
    remove_at: float = inf
    limits: ChildLimits = field(default_factory=ChildLimits)

    @property
    def due_at(self) -> float:
        return min(self.soft, self.hard, self.idle_at, self.look_at, self.tell_at, self.remove_at)

    def enter(self, state: IpsecSaState) -> None:
        """It is in `state` from now on. RuntimeError, a fault of ours, when that leads back."""
        if ORDER.index(state) < ORDER.index(self.state):
            raise RuntimeError(f"no IPsec SA goes from {self.state} to {state}")
        self.state = state


@dataclass(frozen=True, slots=True)
class ReceivedDatagram:
    """One message before anybody has opened it."""

    header: IsakmpHeader
    first: int
    datagram: bytes
    path: Path
    now: float
    arrived: bytes = b""  # the last fragment of it

    @property
    def outside(self) -> bytes:
        """The datagram that came from outside."""
        return self.arrived or self.datagram

    @property
    def digest(self) -> bytes:
        """By which the same is known again."""
        return hashlib.sha256(self.datagram).digest()


@dataclass(slots=True)
class Waiting:
    """A message of ours whose answer is awaited, since `began`."""

    datagram: bytes = field(repr=False)
    deadline: float
    tries: int = TRIES
    attempt: int = 0
    kept_back: tuple[int, str] | None = None  # the last attempt that this host itself refused to send, and why
    began: float = inf

    @classmethod
    def sent(cls, datagram: bytes, now: float, tries: int = TRIES) -> Waiting:
        return cls(datagram, now + FIRST_WAIT, tries, began=now)

    def again(self, now: float) -> bool:
        """True when it is to be sent once more, with the next deadline set; false when it was sent often enough."""
        if self.attempt >= self.tries:
            return False
        self.attempt += 1
        self.deadline = now + wait_after(self.attempt)
        return True


def fresh_cookie(rng: Rng) -> bytes:
    """Zero means "none yet"."""
    while (cookie := rng(8)) == NO_SPI:
        pass
    return cookie
