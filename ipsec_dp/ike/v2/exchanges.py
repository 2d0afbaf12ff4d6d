"""Exchanges of one IKE SA: message IDs of a window of one, retransmission, the stored reply, what waits (RFC 7296 §2.1 to §2.3)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.retransmission import FIRST_WAIT, TRIES, wait_after
from ipsec_dp.ike.strangers import LIMITS, Allowance
from ipsec_dp.ike.v2.fragment import Reassembler
from ipsec_dp.ike.v2.sealed import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.sealed import Sealed
    from ipsec_dp.ike.v2.wire import ExchangeType

LAST_MESSAGE_ID: Final = 0xFFFF_FFFF
REKEY_MESSAGE_ID: Final = LAST_MESSAGE_ID - 0x1_0000  # the IKE SA is rekeyed from here on: IDs never wrap (RFC 7296 §2.2)


class UnprovenError(IkeError):
    """An unauthenticated message that is not to be acted on; the exchange goes on as if it had never come. `cause`: its hint."""

    def __init__(self, text: str, cause: Cause | None = None) -> None:
        super().__init__(text)
        self.cause = cause


class Shape(StrEnum):
    """What a message is about, where one exchange type serves several purposes."""

    ANY = "any"
    NEW_CHILD = "new CHILD_SA"
    REKEY_CHILD = "CHILD_SA rekey"
    REKEY_IKE = "IKE SA rekey"


class Priority(IntEnum):
    """Which of our requests goes first."""

    DELETE_IKE = 0
    DELETE_CHILD = 1
    REKEY_CHILD = 2
    REKEY_IKE = 3
    NEW_CHILD = 4
    LIVENESS = 5
    PROBE = 6


class Request:
    """What one request of ours is on the wire; a `context.Task` makes it and takes its answer."""

    exchange: ExchangeType
    shape: Shape = Shape.ANY
    priority: Priority = Priority.NEW_CHILD
    tries: int = TRIES
    first_wait: float = FIRST_WAIT
    waits: bool = False  # for the window to be free
    whole: bool = False  # it leaves in one datagram that nobody may fragment

    def instead(self) -> list[Payload] | None:
        """Payloads to send under the same message ID when it was sent often enough without an answer; None: it is given up."""
        return None

    @property
    def name(self) -> str:
        """The exchange, as events name it."""
        return self.exchange.name


R = TypeVar("R", bound=Request)


@dataclass(slots=True)
class OutstandingRequest(Generic[R]):
    """Our request that is not answered yet."""

    message_id: int
    task: R
    sealed: Sealed
    attempt: int
    deadline: float
    began: float = inf  # when it was sent first
    kept_back: tuple[int, str] | None = None  # the last attempt that this host itself refused to send, and why
    last: bool = False  # it is not sent again: the peer, as it seems, refuses

    @property
    def datagrams(self) -> tuple[bytes, ...]:
        """Those that it left in first."""
        return self.sealed.datagrams

    def again(self, now: float) -> bool:
        """True when it is to be sent once more, with the next deadline set; false when it was sent often enough."""
        if self.last or self.attempt >= self.task.tries:
            return False
        self.attempt += 1
        self.deadline = now + wait_after(self.attempt, self.task.first_wait)
        return True

    def restart(self, sealed: Sealed, now: float) -> None:
        """Another message takes the place of the one that was sent (see `Request.instead`)."""
        self.sealed, self.attempt, self.deadline, self.began = sealed, 0, now + self.task.first_wait, now


class Window(Generic[R]):
    """Both directions' message IDs. Ours: one request at a time. The peer's: the next one, and the last one's reply."""

    __slots__ = (
        "asked_again",
        "asked_in",
        "expected",
        "next_id",
        "outstanding",
        "repeats",
        "requests",
        "responses",
        "sealed_reply",
    )

    def __init__(self, *, next_id: int = 0, expected: int = 0) -> None:
        self.next_id = next_id
        self.expected = expected
        self.outstanding: OutstandingRequest[R] | None = None
        self.sealed_reply: Sealed = NOTHING
        self.asked_again = 0  # times that the peer, or whoever recorded it, sent the request of that reply once more
        self.asked_in = 0  # octets of the longest datagram that that request came in, in the shortest form of it
        self.repeats = Allowance(LIMITS.repeats_a_second)  # of that reply
        self.requests, self.responses = Reassembler(), Reassembler()  # fragments of the peer's

    @property
    def reply(self) -> tuple[bytes, ...]:
        """The datagrams of the last reply, as they left first."""
        return self.sealed_reply.datagrams

    @property
    def deadline(self) -> float:
        """When our request is due again, inf without one."""
        return inf if self.outstanding is None else self.outstanding.deadline

    @property
    def exhausted(self) -> bool:
        """True when no message ID is left in one direction."""
        return max(self.next_id, self.expected) > LAST_MESSAGE_ID

    @property
    def nearly_exhausted(self) -> bool:
        """True when the IKE SA must be rekeyed for want of message IDs."""
        return max(self.next_id, self.expected) >= REKEY_MESSAGE_ID

    def sent(self, task: R, sealed: Sealed, now: float) -> None:
        """Our request `next_id` is on its way."""
        self.outstanding = OutstandingRequest(self.next_id, task, sealed, 0, now + task.first_wait, now)
        self.next_id += 1

    def replied(self, sealed: Sealed, asked_in: int) -> None:
        """The peer's request `expected` is answered, which came in datagrams of so many octets at the most."""
        self.sealed_reply, self.asked_again, self.asked_in = sealed, 0, asked_in
        self.expected += 1

    def wipe(self) -> None:
        """No key is left here; the reply stays, as the octets that it left in."""
        self.outstanding = None
        self.sealed_reply.content = None


class Queue(Generic[R]):
    """Requests of ours that wait for the window to be free.

    It refuses none, so none is lost, and it needs no bound of its own: each is about something that is held already, and about each
    such thing one waits at the most (a rekey or DELETE of a CHILD_SA; a rekey, DELETE, liveness check or probe of the IKE SA).
    CHILD_SAs that are wanted do not wait here: `wanted.Wanted` finds the next one when the window is free.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Priority, deque[R]] = {}  # without empty ones

    @property
    def empty(self) -> bool:
        return not self._waiting

    def waiting(self, *priorities: Priority) -> Iterator[R]:
        """Those that wait, the most urgent first; of these `priorities`, none: of all."""
        for priority in priorities or sorted(self._waiting):
            yield from self._waiting.get(priority, ())

    def add(self, request: R) -> None:
        self._waiting.setdefault(request.priority, deque()).append(request)
        request.waits = True

    def take_all(self) -> list[R]:
        """All that wait, which are then off the queue."""
        taken = list(self.waiting())
        self._waiting.clear()
        for request in taken:
            request.waits = False
        return taken

    def pop(self) -> R:
        """The oldest of the most urgent, which is then off the queue."""
        priority = min(self._waiting)
        first = self._waiting[priority].popleft()
        if not self._waiting[priority]:
            del self._waiting[priority]
        first.waits = False
        return first
