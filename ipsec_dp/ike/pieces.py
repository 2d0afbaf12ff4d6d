"""A message that does not fit one datagram, in every version of IKE: the room that there is, and what is kept until it is whole."""

from __future__ import annotations

from typing import Final

from ipsec_dp.ike.peer import DEFAULT_DATAGRAM
from ipsec_dp.ike.strangers import LIMITS

_IP_HEADER: Final = {4: 20, 6: 40}
_UDP_HEADER: Final = 8
_NON_ESP_MARKER: Final = 4


def message_room(ip_version: int, *, marker: bool, datagram: int = DEFAULT_DATAGRAM) -> int:
    """Octets of IKE message that fit an IP datagram of `datagram` octets, on port 4500 behind a non-ESP `marker`."""
    return datagram - _IP_HEADER[ip_version] - _UDP_HEADER - (_NON_ESP_MARKER if marker else 0)


class Pieces:
    """Fragments of one message by their numbers, bounded in octets and in time. `deadline`: when they are forgotten."""

    __slots__ = ("_of", "deadline", "octets")

    def __init__(self, now: float) -> None:
        self.deadline = now + LIMITS.fragment_seconds
        self.octets = 0
        self._of: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._of)

    @property
    def parts(self) -> dict[int, bytes]:
        """All of them by their numbers."""
        return dict(self._of)

    def get(self, number: int) -> bytes | None:
        return self._of.get(number)

    @property
    def last(self) -> int:
        """The highest number that is there; 0: none is."""
        return max(self._of, default=0)

    def wants(self, number: int, octets: bytes) -> bool:
        """False for one that is there already, and for one that no path could need."""
        return number not in self._of and len(octets) <= LIMITS.fragment_most

    def add(self, number: int, octets: bytes) -> bool:
        """One that is wanted. False when all of them together are more than any message has: they are to be given up."""
        self.octets += len(octets)
        if self.octets > LIMITS.fragment_octets:
            return False
        self._of[number] = octets
        return True

    def joined(self) -> bytes:
        """In their order."""
        return b"".join(self._of[number] for number in sorted(self._of))

    def ends(self) -> tuple[int, ...]:
        """Where in `joined` each of them ends."""
        found, end = [], 0
        for number in sorted(self._of):
            end += len(self._of[number])
            found.append(end)
        return tuple(found)
