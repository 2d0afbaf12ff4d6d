"""The blocks of a pcapng file (draft-ietf-opsawg-pcapng): those that open and close one, and a stream of them cut into blocks."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
LINKTYPE_RAW: Final = 101  # an IP packet, of either version
BLOCK_MOST: Final = 1 << 18  # octets of a block that is believed
_BYTE_ORDER: Final = 0x1A2B3C4D
_COMMENT, _APPLICATION, _NAME, _DESCRIPTION, _RESOLUTION, _RECEIVED, _DROPPED = 1, 4, 2, 3, 9, 4, 5
_NANOSECONDS: Final = bytes((9,))
_PACKET_HEADER, _FLAGS_OPTION = 28, 8


class PcapngError(ValueError):
    """What was read is no pcapng."""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes, *options: bytes) -> bytes:
    whole = body + b"".join(options) + bytes(4)
    total = struct.pack("<I", len(whole) + 12)
    return struct.pack("<I", kind) + total + whole + total


def section(application: str) -> bytes:
    """What a file begins with."""
    return _block(SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1), _option(_APPLICATION, application.encode()))


def interface(name: str, description: str, octets: int = 0) -> bytes:
    """One whose packets begin with their IP header, and have times in nanoseconds; `octets` kept of each, 0: all. The first of a
    file has number 0."""
    texts = _option(_NAME, name.encode()), _option(_DESCRIPTION, description.encode())
    return _block(INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, octets), *texts, _option(_RESOLUTION, _NANOSECONDS))


def statistics(number: int, when: int, packets: int, missed: int) -> bytes:
    """What became of an interface's packets until `when` (ns since 1970): all there were, and those of them that are not there."""
    body = struct.pack("<III", number, when >> 32, when & 0xFFFFFFFF)
    return _block(STATISTICS, body, _option(_RECEIVED, struct.pack("<Q", packets)), _option(_DROPPED, struct.pack("<Q", missed)))


class Block(NamedTuple):
    """One, whole."""

    kind: int
    octets: bytes

    @property
    def commented(self) -> bool:
        """Of a packet: whether it has a comment, behind its flags."""
        (kept,) = struct.unpack_from("<I", self.octets, 20)
        at = _PACKET_HEADER + kept + -kept % 4 + _FLAGS_OPTION
        return len(self.octets) >= at + 2 and struct.unpack_from("<H", self.octets, at) == (_COMMENT,)

    @property
    def missed(self) -> int:
        """Of statistics that `statistics` made."""
        return int(struct.unpack_from("<Q", self.octets, 36)[0])


class Blocks:
    """Cuts a stream into blocks. What has not come whole waits."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, octets: bytes) -> Iterator[Block]:
        """Those that are whole now. Raises PcapngError."""
        self._rest += octets
        at = 0
        while len(self._rest) - at >= 12:
            kind, total = struct.unpack_from("<II", self._rest, at)
            if total % 4 or not 12 <= total <= BLOCK_MOST:
                raise PcapngError(f"a block of {total} octets")
            if len(self._rest) - at < total:
                break
            yield Block(kind, bytes(self._rest[at : at + total]))
            at += total
        del self._rest[:at]
