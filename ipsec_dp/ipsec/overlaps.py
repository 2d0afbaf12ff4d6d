"""Which of many ranges of addresses have something in common with another one, without a look at all of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

BITS: Final = {4: 32, 6: 128}


class Addresses(NamedTuple):
    """`start` to `end`, both included, of one IP version, as numbers."""

    version: int
    start: int
    end: int

    @property
    def length(self) -> int:
        """Of the smallest prefix that holds all of them."""
        return BITS[self.version] - (self.start ^ self.end).bit_length()

    def prefix(self, length: int) -> tuple[int, int, int]:
        """IP version, first address and length of the prefix of that length which begins where they do, or before."""
        free = BITS[self.version] - length
        return self.version, self.start >> free << free, length

    def meet(self, other: Addresses) -> bool:
        return self.version == other.version and self.start <= other.end and other.start <= self.end


V = TypeVar("V", bound="Hashable")


class Overlaps(Generic[V]):
    """Values, each under a range of addresses.

    Each range is kept under the smallest prefix that holds it: of two ranges with an address in common one has a prefix that holds
    the other's. So a search looks at the prefixes above its own, of which there are as many as there are lengths, and at those
    inside.
    """

    def __init__(self) -> None:
        self._under: dict[tuple[int, int, int], dict[V, Addresses]] = {}
        self._sorted: list[tuple[int, int, int]] = []  # the keys of `_under`
        self._lengths: Counter[tuple[int, int]] = Counter()  # how many of them, by IP version and length

    def __len__(self) -> int:
        return sum(map(len, self._under.values()))

    def add(self, addresses: Addresses, value: V) -> None:
        key = addresses.prefix(addresses.length)
        if key not in self._under:
            self._under[key] = {}
            insort(self._sorted, key)
            self._lengths[key[0], key[2]] += 1
        self._under[key][value] = addresses

    def discard(self, addresses: Addresses, value: V) -> None:
        """`value` was added under the same addresses, or is not here."""
        key = addresses.prefix(addresses.length)
        here = self._under.get(key, {})
        here.pop(value, None)
        if key in self._under and not here:
            del self._under[key]
            del self._sorted[bisect_left(self._sorted, key)]
            self._lengths[key[0], key[2]] -= 1
            if not self._lengths[key[0], key[2]]:
                del self._lengths[key[0], key[2]]

    def meeting(self, addresses: Addresses) -> Iterator[V]:
        """The values whose range has an address in common with these. What is here must not change before the last one."""
        for key in self._keys(addresses):
            for value, there in self._under[key].items():
                if there.meet(addresses):
                    yield value

    def _keys(self, addresses: Addresses) -> Iterator[tuple[int, int, int]]:
        own = addresses.length
        for version, length in self._lengths:
            if version == addresses.version and length <= own and (key := addresses.prefix(length)) in self._under:
                yield key
        version, first, _ = addresses.prefix(own)
        after = (version, first + (1 << BITS[version] - own), 0)
        for index in range(bisect_left(self._sorted, (version, first, 0)), bisect_left(self._sorted, after)):
            if self._sorted[index][2] > own:
                yield self._sorted[index]
