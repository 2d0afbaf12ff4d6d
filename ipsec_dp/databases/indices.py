"""The numbers by which the data plane knows tunnels and interfaces: kept over reloads, and not given again too early."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ipsec_dp.errors import IpsecDpError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class IndicesUsedUpError(IpsecDpError):
    """More things of one kind than the data plane was made for."""


class Indices:
    """Indices 0..capacity-1 of things with names.

    A number given back rests until `reuse`: policy snapshots, packets that wait and messages under way may still have it.
    """

    def __init__(self, capacity: int, kind: str) -> None:
        self.capacity, self._kind = capacity, kind
        self.of: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self._fresh = 0
        self._resting: list[int] = []
        self._free: deque[int] = deque()

    def begin_with(self, of: Mapping[str, int]) -> None:
        """These have their numbers already, before any other has one; what cannot have its own gets a new one when it is taken."""
        self.of.clear()
        self.names.clear()
        for name, number in of.items():
            if 0 <= number < self.capacity and number not in self.names:
                self.of[name], self.names[number] = number, name
        self._fresh = max(self.names, default=-1) + 1
        self._free = deque(number for number in range(self._fresh) if number not in self.names)

    def take(self, name: str) -> int:
        """The number of `name`, a new one where it has none. Raises IndicesUsedUpError."""
        if name in self.of:
            return self.of[name]
        if self._fresh < self.capacity:
            number = self._fresh
            self._fresh += 1
        elif self._free:
            number = self._free.popleft()
        else:
            raise IndicesUsedUpError(f"more than {self.capacity} {self._kind}s since the gateway started; restart it")
        self.of[name], self.names[number] = number, name
        return number

    def release(self, names: Iterable[str]) -> list[int]:
        """These have no number any more; the numbers they had."""
        numbers = [self.of.pop(name) for name in names if name in self.of]
        for number in numbers:
            del self.names[number]
        self._resting += numbers
        return numbers

    def reuse(self) -> None:
        """Nothing has released numbers any more."""
        self._free.extend(self._resting)
        self._resting.clear()
