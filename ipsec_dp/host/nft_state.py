"""What the kernel has of nftables tables, asked by nfnetlink itself: cheap enough to be asked again and again.

It goes without the program nft too: whoever takes away what is left of a gateway may not have it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
from typing import TYPE_CHECKING

from ipsec_dp.host import HostError
from ipsec_dp.host.bulk import (
    ACK,
    AT_ONCE,
    DUMP,
    DUMP_ATTEMPTS,
    DUMP_INTR,
    attribute,
    attributes,
)
from ipsec_dp.host.nft import Count
from ipsec_dp.host.nft_reports import DELTABLE, GENMSG, INET, NETLINK_NETFILTER, SUBSYSTEM
from ipsec_dp.host.requests import NLMSG_DONE, NLMSG_ERROR, REQUEST, NetlinkRefusedError, Requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

# <linux/netfilter/nfnetlink.h>, <linux/netfilter/nf_tables.h>
BATCH_BEGIN, BATCH_END = 16, 17  # around a transaction
GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM, GETGEN, GETOBJ = 1, 4, 7, 10, 13, 16, 19
NAME_OF_TABLE, NAME_OF_SET, FLAGS_OF_SET = 1, 2, 3  # attributes; every message about a table begins with the first
OBJECT_NAME, OBJECT_DATA, COUNTER_OCTETS, COUNTER_PACKETS, GENERATION = 2, 4, 1, 2, 1
ANONYMOUS = 1  # a set that belongs to its rule, and never changes
DIGEST_OCTETS = 16


class _ChangedError(Exception):
    """The tables changed while they were read."""


class NoNftablesError(HostError):
    """This kernel has no nftables, and so no table."""


# What a kernel answers to a whole request where its part for nfnetlink, or that for nftables, is missing.
ABSENT = frozenset((errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP))


class NftState(Requests):
    """A nfnetlink socket in the network namespace of the calling thread, for `with`. Every method may raise HostError."""

    def __init__(self) -> None:
        try:
            super().__init__(NETLINK_NETFILTER, "nfnetlink")
        except NetlinkRefusedError as error:
            if error.code in ABSENT:
                raise NoNftablesError(str(error)) from error
            raise

    async def generation(self) -> int:
        """The number of the rule set, which every transaction of anybody changes."""
        found = b""
        async for data, at, end in self._answers(GETGEN, REQUEST, b"", family=0):
            found = dict(attributes(data, at + GENMSG.size, end)).get(GENERATION, b"")
        return int.from_bytes(found, "big")

    async def exists(self, table: str) -> bool:
        """Whether there is a table of this name in the family inet."""
        name = attribute(NAME_OF_TABLE, table.encode() + b"\0")
        return bool([at async for _, at, _ in self._answers(GETTABLE, REQUEST, name)])

    async def tables(self) -> list[str]:
        """The names of all tables of the family inet."""
        for _ in range(DUMP_ATTEMPTS):
            try:
                found = [_name(data, at, end) async for data, at, end in self._answers(GETTABLE, REQUEST | DUMP, b"")]
            except _ChangedError:
                continue
            return found
        raise HostError("the nftables change faster than they can be read")

    async def delete(self, table: str) -> None:
        """Takes a table of the family inet away with all that is in it, if there is one."""
        name = attribute(NAME_OF_TABLE, table.encode() + b"\0")
        batch = _body(socket.AF_UNSPEC, SUBSYSTEM)
        begin = self.next_message(BATCH_BEGIN, REQUEST, batch)
        deletion = self.message(SUBSYSTEM << 8 | DELTABLE, REQUEST | ACK, _body(INET) + name)
        self.send(begin + deletion + self.message(BATCH_END, REQUEST, batch))
        async for _ in self._read(f"the table {table} cannot be taken away"):
            pass

    async def digest(self, table: str) -> bytes | None:
        """A hash of all that a table of the family inet holds but for what counters count; None: there is no such table.

        The same rules made anew have another: the kernel numbers them on.
        """
        for _ in range(DUMP_ATTEMPTS):
            try:
                return await self._digest(table.encode() + b"\0")
            except _ChangedError:
                continue
        raise HostError("the nftables change faster than they can be read")

    async def _digest(self, table: bytes) -> bytes | None:
        made, name = hashlib.blake2b(digest_size=DIGEST_OCTETS), attribute(NAME_OF_TABLE, table)
        there = False
        async for data, at, end in self._answers(GETTABLE, REQUEST, name):
            made.update(data[at + GENMSG.size : end])
            there = True
        if not there:
            return None
        sets: list[bytes] = []
        for kind in (GETCHAIN, GETRULE, GETSET):
            async for data, at, end in self._answers(kind, REQUEST | DUMP, b"" if kind == GETCHAIN else name):
                if not data.startswith(name, at + GENMSG.size):
                    continue  # of another table: not every kernel picks chains by table
                made.update(data[at + GENMSG.size : end])
                if kind == GETSET and (named := _named_set(data, at, end)) is not None:
                    sets.append(named)
        for each in sets:
            async for data, at, end in self._answers(GETSETELEM, REQUEST | DUMP, name + attribute(NAME_OF_SET, each)):
                made.update(data[at + GENMSG.size : end])
        return made.digest()

    async def counts(self, table: str) -> dict[str, Count]:
        """What the named counters of a table of the family inet have counted; empty without one."""
        try:
            name = attribute(NAME_OF_TABLE, table.encode() + b"\0")
            rows = [_counter(data, at, end) async for data, at, end in self._answers(GETOBJ, REQUEST | DUMP, name)]
        except _ChangedError:
            return {}
        return dict(row for row in rows if row is not None)

    async def _answers(self, kind: int, flags: int, body: bytes, *, family: int = INET) -> AsyncIterator[tuple[bytes, int, int]]:
        """Each message of an answer: its datagram, where it begins and ends. None where what is asked for does not exist."""
        self.send(self.next_message(SUBSYSTEM << 8 | kind, flags, _body(family) + body))
        async for each in self._read("the nftables cannot be read"):
            yield each

    async def _read(self, refused: str) -> AsyncIterator[tuple[bytes, int, int]]:
        whole = True
        for number, answer in enumerate(self.answers(), 1):
            whole = whole and not answer.flags & DUMP_INTR
            if answer.kind in (NLMSG_DONE, NLMSG_ERROR):
                if answer.code not in (0, errno.ENOENT):
                    raise (NoNftablesError if answer.code in ABSENT else HostError)(f"{refused}: {os.strerror(answer.code)}")
                if not whole:
                    raise _ChangedError
                return
            yield answer.data, answer.at, answer.end
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)


def _body(family: int, resource: int = 0) -> bytes:
    """What begins a message of nfnetlink."""
    return GENMSG.pack(family, 0, socket.htons(resource))


def _name(data: bytes, at: int, end: int) -> str:
    return dict(attributes(data, at + GENMSG.size, end)).get(NAME_OF_TABLE, b"").rstrip(b"\0").decode(errors="replace")


async def tables() -> list[str]:
    """The names of all tables of the family inet; none where the kernel has no nftables. HostError."""
    try:
        with NftState() as state:
            return await state.tables()
    except NoNftablesError:
        return []


async def delete(names: Iterable[str]) -> None:
    """Takes these tables of the family inet away, in order, those of them that there are. HostError."""
    there = await tables()
    for name in names:
        if name in there:
            with NftState() as state:
                await state.delete(name)


def _named_set(data: bytes, at: int, end: int) -> bytes | None:
    found = dict(attributes(data, at + GENMSG.size, end))
    anonymous = int.from_bytes(found.get(FLAGS_OF_SET, b""), "big") & ANONYMOUS
    return None if anonymous else found.get(NAME_OF_SET)


def _counter(data: bytes, at: int, end: int) -> tuple[str, Count] | None:
    """Name and value of a named counter; None: it is something else."""
    found = dict(attributes(data, at + GENMSG.size, end))
    inside = found.get(OBJECT_DATA, b"")
    values = dict(attributes(inside, 0, len(inside)))
    if OBJECT_NAME not in found or not {COUNTER_OCTETS, COUNTER_PACKETS} <= values.keys():
        return None
    packets, octets = (int.from_bytes(values[each], "big") for each in (COUNTER_PACKETS, COUNTER_OCTETS))
    return found[OBJECT_NAME].rstrip(b"\0").decode(errors="replace"), Count(packets, octets)
