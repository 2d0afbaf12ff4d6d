"""What changes on the host while a gateway runs: rtnetlink's own reports, reduced to what this program acts on."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from ipsec_dp.host import PROTOCOL, HostError
from ipsec_dp.host.bulk import (
    ANYWHERE,
    DELROUTE,
    NEWROUTE,
    ROUTE,
    U32,
    KernelRoute,
    route_of,
)
from ipsec_dp.host.requests import READ_OCTETS, messages
from ipsec_dp.host.routing_rules import DELRULE, NEWRULE, RoutingRule, routing_rule_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ipsec.addresses import Network

# <linux/rtnetlink.h>
LINKS, ADDRESSES = (16, 17), (20, 21)  # NEW and DEL
RULES = 0x80 | 0x40000  # groups of IPv4 and IPv6: RTNLGRP_IPV4_RULE is 8, RTNLGRP_IPV6_RULE 19
ROUTES = 0x40 | 0x400
GROUPS = 0x1 | 0x10 | 0x100 | ROUTES | RULES  # links and addresses beside them
MAIN, LOCAL = 254, 255
TABLE_AT, PROTOCOL_AT = 4, 5  # in struct rtmsg
RT_TABLE_COMPAT = 252  # stands there for a table with a number of more than 8 bits
SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>
LOSSES_OCTETS = 4 << 20  # some ten thousand reports
SKIP_AT_ONCE = 1000
AT_ONCE = 64  # datagrams, before the rest of the control plane has its turn


@dataclass
class Changes:
    """What changed since it was last asked. `routes`: prefixes of the host's main table. What of ours went is among `Losses`."""

    links: bool = False
    addresses: bool = False
    rules: bool = False  # one of somebody else's came or went, or a route of a table that only a rule leads to
    lost: bool = False  # reports did not fit the buffer: anything may have changed
    routes: set[Network] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.links or self.addresses or self.rules or self.lost or bool(self.routes)


@dataclass
class Losses:
    """What was taken away: routes with our protocol's number, or with another in place of one like ours, and anybody's rules.

    With each the netlink port of who did it, 0: the kernel itself.
    """

    routes: list[tuple[KernelRoute, int]] = field(default_factory=list)
    rules: list[tuple[RoutingRule, int]] = field(default_factory=list)
    lost: bool = False  # reports did not fit the buffer: anything may have gone


class RouteReports:
    """Reports of rtnetlink for the network namespace of the calling thread. HostError when the kernel refuses."""

    def __init__(self, groups: int, buffer_octets: int = 0) -> None:
        """`groups` as in bind(2); `buffer_octets`: how many reports may wait, 0: as many as the host's default."""
        self._socket = open_reports(socket.NETLINK_ROUTE, groups, buffer_octets)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _received(self, most: int | None = None) -> Iterator[bytes | None]:
        """Datagrams that wait, `most` at the most; None where some did not fit the buffer."""
        return received(self._socket, most)


class ChangesSocket(RouteReports):
    """Everything that changes."""

    def __init__(self) -> None:
        super().__init__(GROUPS)

    def read(self, into: Changes) -> None:
        """Adds what was reported since the last call, or the first part of it: then the socket can still be read."""
        for data in self._received(AT_ONCE):
            if data is None:
                into.lost = True
                continue
            for kind, _, _, at, end in messages(data):
                _add(into, kind, data, at, end)


class LossesSocket(RouteReports):
    """What of ours was taken away, by us too."""

    def __init__(self) -> None:
        super().__init__(ROUTES | RULES, LOSSES_OCTETS)

    def read(self) -> Losses:
        """What was reported since the last call, or the first part of it: then the socket can still be read."""
        into = Losses()
        for data in self._received(AT_ONCE):
            if data is None:
                into.lost = True
            else:
                add_losses(into, data)
        return into

    def skip(self) -> Losses:
        """As `read`, of so many reports that all has to be looked at anyway."""
        return Losses(lost=len(list(self._received(SKIP_AT_ONCE))) > 0)


def open_reports(family: int, groups: int, buffer_octets: int) -> socket.socket:
    """A netlink socket that gets reports. HostError when the kernel refuses."""
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, family)
        if buffer_octets:
            with contextlib.suppress(PermissionError):  # then it is lost sooner, and looked for
                made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer_octets)
        made.bind((0, groups))
    except OSError as error:
        raise HostError(f"netlink: {error.strerror or error}") from error
    return made


def received(source: socket.socket, most: int | None = None) -> Iterator[bytes | None]:
    """Datagrams that wait at a netlink socket, `most` at the most; None where some did not fit the buffer."""
    for _ in count() if most is None else range(most):
        try:
            yield source.recv(READ_OCTETS)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield None


def _add(into: Changes, kind: int, data: bytes, at: int, end: int) -> None:
    if kind in LINKS:
        into.links = True
    elif kind in ADDRESSES:
        into.addresses = True
    elif kind in (NEWROUTE, DELROUTE):
        if data[at + PROTOCOL_AT] == PROTOCOL:
            return
        if (route := route_of(data, at, end)).table == MAIN:
            into.routes.add(route.prefix)
        elif route.table != LOCAL:
            into.rules = True
    elif kind in (NEWRULE, DELRULE) and (found := routing_rule_of(data, at, end)) is not None:
        into.rules |= found.owner != PROTOCOL


def _takes_ours(kind: int, data: bytes, at: int) -> bool:
    """Whether a route that goes may be ours, or one that comes may have taken its place; cheap, for hosts with many."""
    if data[at] not in ANYWHERE:
        return False
    mine = data[at + PROTOCOL_AT] == PROTOCOL
    return mine if kind == DELROUTE else not mine and data[at + TABLE_AT] == RT_TABLE_COMPAT


def add_losses(into: Losses, data: bytes) -> None:
    """What a datagram of rtnetlink says was taken away; anything that is no such report adds nothing."""
    for kind, _, _, at, end in messages(data):
        if end > len(data):
            return
        (port,) = U32.unpack_from(data, at - U32.size)
        if kind in (NEWROUTE, DELROUTE) and end - at >= ROUTE.size and _takes_ours(kind, data, at):
            try:
                into.routes.append((route_of(data, at, end), port))
            except (ValueError, struct.error):  # the kernel sends no such route, whoever did
                continue
        elif kind == DELRULE and (found := routing_rule_of(data, at, end)) is not None:
            into.rules.append((found, port))  # the kernel lets anybody's rule that is the same stand for ours
