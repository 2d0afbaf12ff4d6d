"""Routes by the thousand: rtnetlink messages of fixed layout, many in one send, and dumps read as they come.

pyroute2 takes about a third of a millisecond for each request and for each row, which a gateway with 10,000 prefixes feels at each
start, reload and end. The kernel carries out what a send holds before that send returns: nothing here waits, the answers are there.

    struct rtmsg     family 1, dst_len 1, src_len 1, tos 1, table 1, protocol 1, scope 1, type 1, flags 4
    struct ifaddrmsg family 1, prefixlen 1, flags 1, scope 1, index 4
    struct rtattr    length 2, type 2, then the value, padded to 4 octets
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ipsec_dp.host import HostError
from ipsec_dp.host.requests import HEADER, NLMSG_DONE, NLMSG_ERROR, REQUEST, NetlinkAnswer, NetlinkRefusedError, Requests, messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipsec_dp.ipsec.addresses import Network


# <linux/netlink.h>, <linux/rtnetlink.h>
NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK = 10, 12
ACK, DUMP_INTR, DUMP, REPLACE, EXCL, CREATE = 0x4, 0x10, 0x300, 0x100, 0x200, 0x400
NEWADDR, GETADDR = 20, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_TABLE = 1, 4, 6, 7, 8, 15
RTAX_MTU = 2
SCOPE_UNIVERSE, SCOPE_NOWHERE = 0, 255
UNICAST = 1

ROUTE, ATTRIBUTE, U32 = struct.Struct("=8BI"), struct.Struct("=HH"), struct.Struct("=I")
DONE_OCTETS = HEADER.size + 4
ADDRESS = struct.Struct("=4BI")
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ANYWHERE = {socket.AF_INET: bytes(4), socket.AF_INET6: bytes(16)}

AT_ONCE = 64  # requests in one send: their answers fit the default receive buffer several times over
DUMP_ATTEMPTS = 5
DIGEST_SEQUENCE = 0xE55EEDD1  # of requests whose answers are hashed; nothing in a table is likely to look like it
DIGEST_PORT = 0xE5 << 24
DIGEST_OCTETS = 16

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route as the kernel has it or should have it.

    `table` 32 bits; `kind` as in <linux/rtnetlink.h> (1 unicast, 7 unreachable); `interface` an index, 0: none; `mtu` octets, 0:
    that of the interface; `source` the preferred source address, packed, empty: none.
    """

    prefix: Network
    table: int
    metric: int
    protocol: int
    kind: int = UNICAST
    interface: int = 0
    source: bytes = b""
    mtu: int = 0


def attribute(number: int, value: bytes) -> bytes:
    """A netlink attribute, padded."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), number) + value + bytes(-len(value) % 4)


def _body(route: KernelRoute, scope: int) -> bytes:
    prefix = route.prefix
    parts = [
        ROUTE.pack(FAMILIES[prefix.version], prefix.prefixlen, 0, 0, 0, route.protocol, scope, route.kind, 0),
        attribute(RTA_DST, prefix.network_address.packed),
        attribute(RTA_TABLE, U32.pack(route.table)),
        attribute(RTA_PRIORITY, U32.pack(route.metric)),
    ]
    if route.interface:
        parts.append(attribute(RTA_OIF, U32.pack(route.interface)))
    if route.source:
        parts.append(attribute(RTA_PREFSRC, route.source))
    if route.mtu:
        parts.append(attribute(RTA_METRICS, attribute(RTAX_MTU, U32.pack(route.mtu))))
    return b"".join(parts)


def attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Number and value of each; none beyond `end`."""
    while at + ATTRIBUTE.size <= end:
        length, number = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            return
        yield number & 0x3FFF, data[at + ATTRIBUTE.size : at + length]  # without the flags NESTED and NET_BYTEORDER
        at += (length + 3) & ~3


def _ends(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """As `messages`, the first one of a datagram and that which ends a dump alone."""
    length, kind, flags, sequence, _ = HEADER.unpack_from(data, 0)
    yield kind, flags, sequence, HEADER.size, length
    at = len(data) - DONE_OCTETS
    if at > 0:
        last, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if (last, kind, sequence) == (DONE_OCTETS, NLMSG_DONE, DIGEST_SEQUENCE):
            yield kind, flags, sequence, at + HEADER.size, len(data)


def _raise(answer: NetlinkAnswer) -> None:
    """What ends a dump is no error, or that of a table that does not exist: it has no routes."""
    if answer.code not in (0, errno.ENOENT):
        raise NetlinkRefusedError("the kernel's tables cannot be read", answer.code)


def _routes_request(version: int, table: int | None, protocol: int, sequence: int) -> bytes:
    body = ROUTE.pack(FAMILIES[version], 0, 0, 0, 0, protocol, 0, 0, 0)
    if table is not None:
        body += attribute(RTA_TABLE, U32.pack(table))
    return HEADER.pack(HEADER.size + len(body), GETROUTE, REQUEST | DUMP, sequence, 0) + body


def table_request(version: int, table: int, sequence: int) -> bytes:
    """Asks for the routes of an IP version in one table."""
    return _routes_request(version, table, 0, sequence)


def route_of(data: bytes, at: int, end: int) -> KernelRoute:
    family, length, _, _, table, protocol, _, kind, _ = ROUTE.unpack_from(data, at)
    found = dict(attributes(data, at + ROUTE.size, end))
    address = found.get(RTA_DST, ANYWHERE[family])
    prefix = (IPv4Network if family == socket.AF_INET else IPv6Network)((int.from_bytes(address, "big"), length))
    metrics = dict(attributes(found.get(RTA_METRICS, b""), 0, len(found.get(RTA_METRICS, b""))))

    def number(value: bytes | None, otherwise: int = 0) -> int:
        return otherwise if value is None else int(U32.unpack(value)[0])

    return KernelRoute(
        prefix,
        number(found.get(RTA_TABLE), table),
        number(found.get(RTA_PRIORITY)),
        protocol,
        kind,
        number(found.get(RTA_OIF)) if kind == UNICAST else 0,  # IPv6 shows the loopback interface there
        found.get(RTA_PREFSRC, b""),
        number(metrics.get(RTAX_MTU)),
    )


class InterfaceAddress(NamedTuple):
    """An address of an interface (an index), packed."""

    interface: int
    address: bytes
    prefixlen: int


def address_of(data: bytes, at: int, end: int) -> InterfaceAddress:
    _, length, _, _, interface = ADDRESS.unpack_from(data, at)
    found = dict(attributes(data, at + ADDRESS.size, end))
    return InterfaceAddress(interface, found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b""), length)


class Bulk(Requests):
    """An rtnetlink socket in the network namespace of the calling thread, for `with`. Every method may raise HostError."""

    def __init__(self, port: int = 0) -> None:
        """`port`: the netlink port to ask from, 0: any."""
        super().__init__(socket.NETLINK_ROUTE, "rtnetlink", port=port, options=(NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK))

    async def replace(self, routes: Sequence[KernelRoute]) -> None:
        """Makes each route, in this order, in the place of one with the same table, prefix and metric."""
        await self._change(NEWROUTE, REQUEST | ACK | CREATE | REPLACE, routes, SCOPE_UNIVERSE, ())

    async def remove(self, routes: Sequence[KernelRoute]) -> None:
        """Takes each route away, in this order; one that is gone already is no error."""
        await self._change(DELROUTE, REQUEST | ACK, routes, SCOPE_NOWHERE, (errno.ESRCH, errno.ENODEV))

    async def addresses(self) -> list[InterfaceAddress]:
        """Every address of this host, of all interfaces."""
        body = ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)

        def request(sequence: int) -> bytes:
            return HEADER.pack(HEADER.size + len(body), GETADDR, REQUEST | DUMP, sequence, 0) + body

        return await self.dump(request, NEWADDR, address_of)

    async def _change(self, kind: int, flags: int, routes: Sequence[KernelRoute], scope: int, done: tuple[int, ...]) -> None:
        for start in range(0, len(routes), AT_ONCE):
            several = routes[start : start + AT_ONCE]
            await self.ask(kind, flags, [(f"route {route.prefix}", _body(route, scope)) for route in several], done)

    async def routes(self, version: int, *, table: int | None = None, protocol: int = 0) -> list[KernelRoute]:
        """The routes of an IP version, of one table or all, of one routing protocol or all (0); read again if they change."""
        return await self.dump(lambda sequence: _routes_request(version, table, protocol, sequence), NEWROUTE, route_of)

    async def ask(self, kind: int, flags: int, requests: Sequence[tuple[str, bytes]], done: tuple[int, ...]) -> None:
        """Sends requests, each with what a refusal is to be called and its body, and takes in their answers.

        The first refusal is raised when all are in; error numbers in `done` are none.
        """
        for start in range(0, len(requests), AT_ONCE):
            several = requests[start : start + AT_ONCE]
            first, packed = self._sequence + 1, []
            for _, body in several:
                packed.append(self.next_message(kind, flags, body))
            self.send(b"".join(packed))
            self._answers(first, several, done)
            await asyncio.sleep(0)

    def _answers(self, first: int, requests: Sequence[tuple[str, bytes]], done: tuple[int, ...]) -> None:
        waiting, refused = len(requests), None
        while waiting:
            data = self.receive()
            for kind, _, sequence, at, _ in messages(data):
                if kind != NLMSG_ERROR or not 0 <= sequence - first < len(requests):
                    continue
                waiting -= 1
                code = -int(struct.unpack_from("=i", data, at)[0])
                if code and code not in done and refused is None:
                    refused = f"{requests[sequence - first][0]}: {os.strerror(code)}"
        if refused is not None:
            raise HostError(refused)

    async def dump(self, request: Callable[[int], bytes], kind: int, read: Callable[[bytes, int, int], Row]) -> list[Row]:
        """What `read` makes of each message of a dump; `request` makes the request by its sequence number."""
        for _ in range(DUMP_ATTEMPTS):
            self._sequence += 1
            found = await self._dumped(request(self._sequence), kind, read)
            if found is not None:
                return found
        raise HostError("the kernel's tables change faster than they can be read")

    async def _dumped(self, request: bytes, wanted: int, read: Callable[[bytes, int, int], Row]) -> list[Row] | None:
        """None when the tables changed while they were read."""
        self.send(request)
        found: list[Row] = []
        whole = True
        for number, answer in enumerate(self.answers(), 1):
            whole = whole and not answer.flags & DUMP_INTR
            if answer.kind in (NLMSG_DONE, NLMSG_ERROR):
                _raise(answer)
            elif answer.kind == wanted:
                found.append(read(answer.data, answer.at, answer.end))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return found if whole else None

    async def hash(self, request: bytes, into: hashlib.blake2b) -> bool:
        """Adds the whole answer to a dump request of DIGEST_SEQUENCE to a hash; False: it changed while it was read.

        As cheap as can be: in the kernel's own order, without a look at each message.
        """
        self.send(request)
        whole = True
        while True:
            data = self.receive()
            into.update(data)
            for kind, flags, _, at, end in _ends(data):
                whole = whole and not flags & DUMP_INTR
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    _raise(NetlinkAnswer(kind, flags, data, at, end))
                    return whole
            await asyncio.sleep(0)


async def digest(requests: Iterable[Callable[[int], bytes]]) -> bytes | None:
    """A hash of the answers to dump requests, the same for the same answers; None: they changed meanwhile. HostError."""
    made = hashlib.blake2b(digest_size=DIGEST_OCTETS)
    try:
        bulk = Bulk(DIGEST_PORT | os.getpid() & 0xFFFFFF)  # the port is in each message
    except HostError:  # somebody else has it: as if something had changed
        return None
    with bulk:
        for request in requests:
            if not await bulk.hash(request(DIGEST_SEQUENCE), made):
                return None
    return made.digest()
