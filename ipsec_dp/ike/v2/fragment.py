"""IKE fragmentation (RFC 7383): a message that does not fit one datagram leaves as several, each protected by itself.

What is collected is bounded in fragments, octets and time, and a fragment is only collected after its ICV held.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipsec_dp.ike.environment import Rng
from ipsec_dp.ike.octets import Writer
from ipsec_dp.ike.payload import build_chain
from ipsec_dp.ike.pieces import Pieces, message_room
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.message import Header
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment, Payload
from ipsec_dp.ike.v2.protect import Protection, seal_payload
from ipsec_dp.ike.v2.wire import IKE_HEADER, PAYLOAD_HEADER

_FRAGMENT_FIELDS: Final = 4


def seal_datagrams(
    protection: Protection, header: Header, payloads: Iterable[Payload], rng: Rng, *, room: int, fragment: bool, before: int = 0
) -> tuple[bytes, ...]:
    """`payloads` sealed as one SK message if it fits `room` octets or the peer takes no fragments, else as SKF messages.

    `before`: so many datagrams it was in before, and is to be in more now. ValueError when not even `LIMITS.fragments` fragments of
    that size hold the message.
    """
    writer = Writer()
    first = build_chain(writer, payloads)
    plaintext = writer.take()
    if not fragment or _sealed_octets(protection, len(plaintext)) <= room:
        return (seal_payload(protection, header, Encrypted(first, b""), plaintext, rng),)
    piece = _piece_octets(protection, room)
    needed = -(-len(plaintext) // piece) if piece > 0 else LIMITS.fragments + 1
    total = max(needed, before + 1)
    if total > LIMITS.fragments:
        raise ValueError(f"a message of {len(plaintext)} octets does not fit {LIMITS.fragments} fragments of {room} octets")
    ends = [number * piece if total == needed else number * len(plaintext) // total for number in range(total + 1)]
    return tuple(
        seal_payload(
            protection,
            header,
            EncryptedFragment(first if number == 1 else 0, number, total, b""),
            plaintext[ends[number - 1] : ends[number]],
            rng,
        )
        for number in range(1, total + 1)
    )


def plaintext_room(protection: Protection, ip_version: int, *, marker: bool, datagram: int) -> int:
    """Octets of payloads in the largest SK message that fits an IP datagram of `datagram` octets; negative when none does."""
    padded = message_room(ip_version, marker=marker, datagram=datagram) - IKE_HEADER - PAYLOAD_HEADER - protection.overhead
    return padded - padded % protection.block - 1


def datagram_octets(protection: Protection, ip_version: int, *, marker: bool, plaintext: int) -> int:
    """Octets of the IP datagram around an SK message with `plaintext` octets of payloads."""
    return _sealed_octets(protection, plaintext) - message_room(ip_version, marker=marker, datagram=0)


def _sealed_octets(protection: Protection, plaintext: int) -> int:
    padded = plaintext + 1 + -(plaintext + 1) % protection.block
    return IKE_HEADER + PAYLOAD_HEADER + protection.overhead + padded


def _piece_octets(protection: Protection, room: int) -> int:
    """The most plaintext one fragment can carry: whole blocks, less the Pad Length octet."""
    padded = room - IKE_HEADER - PAYLOAD_HEADER - _FRAGMENT_FIELDS - protection.overhead
    return padded - padded % protection.block - 1


@dataclass(slots=True)
class _Partial:
    total: int
    pieces: Pieces
    first_inner: int = 0
    longest: int = 0


@dataclass(frozen=True, slots=True)
class HeldFragments:
    """Of one message: how many there are to be, its first payload, until when they are kept, and those that are there by number."""

    total: int
    first_inner: int
    deadline: float
    parts: dict[int, bytes]
    longest: int  # octets of the longest datagram that one of them came in


class Reassembler:
    """Fragments of a peer's requests, or of its responses: one message at a time, the window being one (RFC 7296 §2.3).

    `longest`: octets of the longest datagram of the message that became whole last.
    """

    __slots__ = ("_message_id", "_partial", "longest")

    def __init__(self) -> None:
        self.longest = 0
        self._message_id = -1
        self._partial: _Partial | None = None

    def add(
        self, message_id: int, piece: EncryptedFragment, plaintext: bytes, now: float, datagram: int = 0
    ) -> tuple[int, bytes] | None:
        """One opened fragment; (first inner payload type, whole plaintext) once all are there, else None.

        `now` is in seconds; `datagram`: the octets it came in. A repeated fragment and one of an earlier message are ignored. A
        larger total replaces what is there: the peer has gone over to smaller fragments; a smaller one is ignored (RFC 7383 §2.6),
        as is one that no path could need. Beyond the bounds everything collected is given up.
        """
        self.expire(now)
        if message_id < self._message_id:
            return None
        if self._partial is None or message_id != self._message_id or piece.total > self._partial.total:
            self._message_id = message_id
            self._partial = _Partial(piece.total, Pieces(now))
        partial = self._partial
        if piece.total < partial.total or not partial.pieces.wants(piece.number, plaintext):
            return None
        if not partial.pieces.add(piece.number, plaintext):
            self._partial = None
            return None
        if piece.number == 1:
            partial.first_inner = piece.first_inner
        partial.longest = max(partial.longest, datagram)
        if len(partial.pieces) < partial.total:
            return None
        self._partial, self.longest = None, partial.longest
        return partial.first_inner, partial.pieces.joined()

    @property
    def held(self) -> tuple[int, HeldFragments | None]:
        """The message that it was last about, and what is there of it; None: nothing, or all was given out."""
        partial = self._partial
        if partial is None:
            return self._message_id, None
        pieces = partial.pieces
        return self._message_id, HeldFragments(partial.total, partial.first_inner, pieces.deadline, pieces.parts, partial.longest)

    def resume(self, message_id: int, held: HeldFragments | None) -> None:
        """It goes on from what another `held`."""
        self._message_id = message_id
        if held is not None:
            self._partial = _Partial(held.total, Pieces(held.deadline), held.first_inner, held.longest)
            self._partial.pieces.deadline = held.deadline
            for number, octets in held.parts.items():
                self._partial.pieces.add(number, octets)

    def expire(self, now: float) -> None:
        """Forget a message whose fragments did not all come in time."""
        if self._partial is not None and now >= self._partial.pieces.deadline:
            self._partial = None

    @property
    def octets(self) -> int:
        """Octets held."""
        return 0 if self._partial is None else self._partial.pieces.octets
