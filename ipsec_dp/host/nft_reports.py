"""Who changes which nftables tables: nfnetlink's own reports of transactions, reduced to what this program acts on.

    struct nlmsghdr   length 4, type 2 (subsystem in the upper octet), flags 2, sequence 4, port 4
    struct nfgenmsg   family 1, version 1, generation 2 (the low half, big endian)

The kernel sends the messages of a transaction when it is carried out, and after them one of the new generation, with the name of
the program. The port is that of whoever asked for it; nft's is its process ID.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.host.bulk import attributes
from ipsec_dp.host.changes import AT_ONCE, open_reports, received
from ipsec_dp.host.requests import HEADER, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

# <linux/netfilter/nfnetlink.h>, <linux/netfilter/nf_tables.h>
NETLINK_NETFILTER = 12
GROUPS = 1 << 6  # NFNLGRP_NFTABLES is 7
SUBSYSTEM = 10
INET = 1  # NFPROTO_INET
NEWTABLE, DELTABLE, NEWGEN = 0, 2, 15
TABLE_OF_MESSAGE, GENERATION_PROCESS = 1, 3  # attributes: the table's name in all but NEWGEN, and the program's name there
GENMSG = struct.Struct("=BBH")
BUFFER_OCTETS = 4 << 20
NAME_OCTETS = 255


@dataclass
class Transaction:
    """What one program did at once. `tables`: those of the family inet that it touched, and the types of messages about each."""

    port: int = 0
    program: str = ""
    tables: dict[str, set[int]] = field(default_factory=dict)

    def deleted(self, table: str) -> bool:
        """Whether a table was taken away, and not made again."""
        return self.tables.get(table, set()) & {NEWTABLE, DELTABLE} == {DELTABLE}

    def remade(self, table: str) -> bool:
        """Whether a table was taken away and made, as a saved ruleset does that has it."""
        return {NEWTABLE, DELTABLE} <= self.tables.get(table, set())


@dataclass
class _Message:
    kind: int
    port: int
    family: int
    text: str  # the table, or the program


def _text(value: bytes) -> str:
    return value.rstrip(b"\0")[:NAME_OCTETS].decode(errors="replace")


def nft_messages(data: bytes) -> Iterator[_Message]:
    """Those of a datagram that are about tables or a generation; what is cut short is left out."""
    for kind, _, _, at, end in messages(data):
        if end > len(data) or kind >> 8 != SUBSYSTEM or end - at < GENMSG.size:
            continue
        number, (_, _, _, _, port) = kind & 0xFF, HEADER.unpack_from(data, at - HEADER.size)
        wanted = GENERATION_PROCESS if number == NEWGEN else TABLE_OF_MESSAGE
        text = next((value for each, value in attributes(data, at + GENMSG.size, end) if each == wanted), None)
        if text is not None:
            yield _Message(number, port, data[at], _text(text))


class NftReports:
    """Reports for the network namespace of the calling thread. HostError when the kernel refuses."""

    def __init__(self) -> None:
        self._socket = open_reports(NETLINK_NETFILTER, GROUPS, BUFFER_OCTETS)
        self._open = Transaction()
        self.empty = True  # nothing waited after the last `read`
        self.lost = False  # reports did not fit the buffer: anything may have changed; whoever sees it resets it

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> list[Transaction]:
        """Those that ended since the last call, or the first part of them: then the socket can still be read."""
        done: list[Transaction] = []
        read = 0
        for data in received(self._socket, AT_ONCE):
            read += 1
            if data is None:
                self.lost, self._open = True, Transaction()
            else:
                self._open = add_transactions(done, self._open, data)
        self.empty = read < AT_ONCE
        return done


def add_transactions(done: list[Transaction], begun: Transaction, data: bytes) -> Transaction:
    """Adds those that end in a datagram to `done`; the one that has begun and not ended."""
    for message in nft_messages(data):
        if message.kind == NEWGEN:
            begun.port, begun.program = message.port, message.text
            done.append(begun)
            begun = Transaction()
        elif message.family == INET:
            begun.tables.setdefault(message.text, set()).add(message.kind)
    return begun
