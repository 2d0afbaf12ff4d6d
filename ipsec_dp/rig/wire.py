"""An in-memory wire between named endpoints that loses, doubles, holds back and alters exactly the datagrams that a test chooses.

    wire: LadderWire[bytes] = LadderWire()
    wire.drop("a", "b", 2)             # the second datagram from a to b
    wire.send("a", "b", request)
    answer(wire.take("b"))

Datagrams are numbered from 1 in each direction, in the order of sending. Nothing here is random and nothing waits: a ladder of
messages runs the same way each time. What a datagram is does not matter: octets for IKE, `MemoryDatagram` for a data plane's link.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Way = tuple[str, str]  # from, to


@dataclass(frozen=True, slots=True)
class Delivery(Generic[T]):
    """One datagram as it was sent; `number` counts those of its direction from 1."""

    sender: str
    receiver: str
    number: int
    data: T


class Fate(Enum):
    """What became of a datagram when it was sent."""

    CARRIED = "carried"
    DROPPED = "dropped"
    DOUBLED = "doubled"
    HELD = "held"


class LadderWire(Generic[T]):
    """Queues between endpoints, with faults. `log` has every datagram sent, in order, with its fate."""

    def __init__(self) -> None:
        self.log: list[tuple[Delivery[T], Fate]] = []
        self._queues: defaultdict[str, list[Delivery[T]]] = defaultdict(list)
        self._sent: defaultdict[Way, int] = defaultdict(int)
        self._faults: dict[tuple[str, str, int], Fate] = {}
        self._alterations: dict[tuple[str, str, int], Callable[[T], T]] = {}
        self._held: dict[tuple[str, str, int], Delivery[T]] = {}
        self._release_after: defaultdict[tuple[str, str, int], list[int]] = defaultdict(list)
        self._cut: set[Way] = set()

    # ---- faults, chosen in advance

    def drop(self, sender: str, receiver: str, *numbers: int) -> None:
        """Loses these datagrams."""
        self._set(sender, receiver, numbers, Fate.DROPPED)

    def double(self, sender: str, receiver: str, *numbers: int) -> None:
        """Delivers these datagrams twice, one right after the other."""
        self._set(sender, receiver, numbers, Fate.DOUBLED)

    def hold(self, sender: str, receiver: str, *numbers: int) -> None:
        """Keeps these datagrams back until `release`."""
        self._set(sender, receiver, numbers, Fate.HELD)

    def delay(self, sender: str, receiver: str, number: int, by: int = 1) -> None:
        """Delivers a datagram behind the `by` (≥ 1) that follow it: reordering."""
        if by < 1:
            raise ValueError("a datagram is delayed by at least one other")
        self.hold(sender, receiver, number)
        self._release_after[sender, receiver, number + by].append(number)

    def alter(self, sender: str, receiver: str, number: int, change: Callable[[T], T]) -> None:
        """Delivers what `change` makes of a datagram."""
        self._number(number)
        self._alterations[sender, receiver, number] = change

    def cut(self, sender: str, receiver: str) -> None:
        """Loses everything in this direction until `mend`."""
        self._cut.add((sender, receiver))

    def mend(self, sender: str, receiver: str) -> None:
        self._cut.discard((sender, receiver))

    def release(self, sender: str, receiver: str, number: int) -> None:
        """Delivers a datagram that was held. Raises KeyError when none is held under this number."""
        self._queues[receiver].append(self._held.pop((sender, receiver, number)))

    # ---- traffic

    def send(self, sender: str, receiver: str, data: T) -> Fate:
        """Puts a datagram on the wire; what became of it."""
        self._sent[sender, receiver] += 1
        number = self._sent[sender, receiver]
        key = (sender, receiver, number)
        change = self._alterations.pop(key, None)
        delivery = Delivery(sender, receiver, number, data if change is None else change(data))
        fate = Fate.DROPPED if (sender, receiver) in self._cut else self._faults.pop(key, Fate.CARRIED)
        self.log.append((delivery, fate))
        if fate is Fate.HELD:
            self._held[key] = delivery
        elif fate is not Fate.DROPPED:
            self._queues[receiver].extend([delivery] * (2 if fate is Fate.DOUBLED else 1))
        for earlier in self._release_after.pop(key, ()):
            self.release(sender, receiver, earlier)
        return fate

    def take(self, receiver: str) -> Delivery[T] | None:
        """The oldest datagram waiting for an endpoint, or None."""
        queue = self._queues[receiver]
        return queue.pop(0) if queue else None

    def waiting(self, receiver: str) -> int:
        """How many datagrams wait for an endpoint."""
        return len(self._queues[receiver])

    def sent(self, sender: str, receiver: str) -> int:
        """How many datagrams were sent in a direction, whatever became of them."""
        return self._sent[sender, receiver]

    def _set(self, sender: str, receiver: str, numbers: tuple[int, ...], fate: Fate) -> None:
        for number in numbers:
            self._number(number)
            self._faults[sender, receiver, number] = fate

    @staticmethod
    def _number(number: int) -> None:
        if number < 1:
            raise ValueError("datagrams are numbered from 1")


Wire = LadderWire  # the name that it had first
