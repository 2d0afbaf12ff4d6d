"""IKE fragmentation of IKEv1, which is in no standard: as Cisco, strongSwan and Libreswan do it.

A message as it would leave, encrypted or not, is cut; each part goes in a datagram with the ISAKMP SA's header and one payload.
Nothing protects a part, so whoever knows the cookies can send some. They are taken of a peer alone that has announced them, for an
ISAKMP SA whose two cookies they bear, so that the first message of a stranger is never one; of one message at a time, bounded in
octets and in time, and while nobody has proven who he is also in what a network, and all, may have us keep (`strangers.Limits`).
What became whole is a datagram like any other. Who sends may give each message the same identifier, and most do: so a part that
contradicts what is there begins another message.
"""

from __future__ import annotations

import zlib
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike.pieces import Pieces
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1.message import build_clear
from ipsec_dp.ike.v1.payloads import FragmentPayload
from ipsec_dp.ike.v1.wire import GENERIC_HEADER, HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.v1.message import IsakmpHeader

FRAGMENT_FIELDS: Final = 4  # octets: identifier, number, flags
LENGTH_AT: Final = 24  # in the header
_IDENTIFIERS: Final = 65_535


# ---- ours ----------------------------------------------------------------------------------------------------------------------


def cut(datagram: bytes, header: IsakmpHeader, room: int) -> tuple[bytes, ...]:
    """The datagrams of at most `room` octets that a message leaves in, or itself where it fits, or no number of them does.

    `header`: of phase 1 and without a message ID, as others send them and expect them. One message has one identifier, also when
    it is sent again: what got there of the first time counts.
    """
    piece = room - HEADER - GENERIC_HEADER - FRAGMENT_FIELDS
    if len(datagram) <= room or len(datagram) > piece * LIMITS.fragments:
        return (datagram,)
    number, total = zlib.crc32(datagram) % _IDENTIFIERS + 1, -(-len(datagram) // piece)
    parts = [datagram[at : at + piece] for at in range(0, len(datagram), piece)]
    return tuple(build_clear(header, [FragmentPayload(number, count, count == total, part)]) for count, part in enumerate(parts, 1))


# ---- the peer's ----------------------------------------------------------------------------------------------------------------


class HeldParts(NamedTuple):
    """What is kept of one ISAKMP SA's fragments: the parts of one message by number, and the last message that was whole."""

    whose: object
    parts: dict[int, bytes] | None
    deadline: float
    total: int
    last: bytes
    last_ends: tuple[int, ...]


class IsakmpFragments:
    """Of one ISAKMP SA: what has come of one message, and the last one that became whole, whose parts may come again."""

    __slots__ = ("_last", "_last_ends", "_pieces", "_total", "_whose", "deadline")

    def __init__(self) -> None:
        self.deadline = inf  # when nothing is kept any more
        self._whose: object = None
        self._pieces: Pieces | None = None
        self._total = 0  # 0: the last part has not come
        self._last = b""
        self._last_ends: tuple[int, ...] = ()

    @property
    def held(self) -> HeldParts:
        """All of it, for `resume` of another."""
        pieces = self._pieces
        parts = None if pieces is None else pieces.parts
        return HeldParts(self._whose, parts, 0.0 if pieces is None else pieces.deadline, self._total, self._last, self._last_ends)

    def resume(self, held: HeldParts) -> None:
        """It goes on from what another `held`."""
        self._whose, self._total, self._last, self._last_ends = held.whose, held.total, held.last, held.last_ends
        if held.parts is not None:
            self._pieces = Pieces(held.deadline)
            self._pieces.deadline = held.deadline
            for number, octets in held.parts.items():
                self._pieces.add(number, octets)

    @property
    def octets(self) -> int:
        """Octets held."""
        return len(self._last) + (0 if self._pieces is None else self._pieces.octets)

    @property
    def collecting(self) -> bool:
        """Whether a part of a message is there, and others lack."""
        return self._pieces is not None

    def expire(self, now: float) -> None:
        """Forget what is not whole in time."""
        if now >= self.deadline:
            self._pieces, self._last, self._last_ends, self.deadline = None, b"", (), inf

    def add(self, whose: object, piece: FragmentPayload, now: float, may_hold: Callable[[int], bool]) -> bytes | None:
        """One part; the message when all are there, or when the first one of the message before comes again.

        `whose`: what the parts of a message have in common. `may_hold`: whether so many octets may be kept.
        """
        self.expire(now)
        if self._is_of_last(piece):
            return self._last if piece.number == 1 else None
        if self._pieces is None or whose != self._whose or self._contradicts(self._pieces, piece):
            self._whose, self._pieces, self._total = whose, Pieces(now), 0
        pieces = self._pieces
        if not pieces.wants(piece.number, piece.data) or not may_hold(self.octets + len(piece.data)):
            return None
        self.deadline = pieces.deadline
        if not pieces.add(piece.number, piece.data):
            self._pieces = None
            return None
        if piece.last:
            self._total = piece.number
        if len(pieces) != self._total:
            return None
        whole = pieces.joined()
        if not is_whole(whole):  # parts of two messages: the newest is the one that counts
            self._begin(whose, piece, now)
            return None
        self._last, self._last_ends, self._pieces = whole, pieces.ends(), None
        return whole

    def _begin(self, whose: object, piece: FragmentPayload, now: float) -> None:
        self._whose, self._pieces, self._total = whose, Pieces(now), piece.number if piece.last else 0
        self._pieces.add(piece.number, piece.data)

    def _is_of_last(self, piece: FragmentPayload) -> bool:
        ends = (0, *self._last_ends)
        if piece.number >= len(ends) or piece.last != (piece.number == len(ends) - 1):
            return False
        return self._last[ends[piece.number - 1] : ends[piece.number]] == piece.data

    def _contradicts(self, pieces: Pieces, piece: FragmentPayload) -> bool:
        """It cannot be a part of the same message."""
        known = pieces.get(piece.number)
        if piece.last:
            return self._total not in (0, piece.number) or pieces.last > piece.number or known not in (None, piece.data)
        return (self._total != 0 and piece.number >= self._total) or known not in (None, piece.data)


def is_whole(octets: bytes) -> bool:
    """Whether it has the length that its header says."""
    return len(octets) >= HEADER and int.from_bytes(octets[LENGTH_AT:HEADER], "big") == len(octets)
