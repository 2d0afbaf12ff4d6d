"""What a gateway and its helper that stays root say to each other: one request at a time, a datagram of a socket that nobody else
has.

A request is an octet that says what, and a path. The answer is an error number with a text, and a descriptor; of several files that
are asked for at once, those that can be opened.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

BEGIN, OPEN, OPEN_NO_LINK, APPEND, TUN, READ, KEEP, LISTEN, REMOVE = b"B", b"O", b"N", b"A", b"T", b"R", b"K", b"L", b"X"
STAY = b"S"  # with whoever gets the channel that is the answer, too
OPEN_SEVERAL = b"M"  # paths with a zero between them; none by a link at its end
OPENED, NOT_OPENED = "+", "-"  # what the answer says of each
REQUEST_OCTETS_MAX: Final = 1 + 4096  # PATH_MAX, and what is opened ahead
ANSWER_OCTETS_MAX: Final = 4096
HEAD: Final = struct.Struct("=i")  # an error number, before the text


class KnownTunnels(msgspec.Struct, frozen=True):
    """`difference.ReadRequest` without its path."""

    known: dict[str, bytes]
    fingerprint_key: bytes
