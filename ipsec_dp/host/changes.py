"""What changes on the host while a gateway runs: rtnetlink's own reports, reduced to what this program acts on."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.host import PROTOCOL, HostError
from ipsec_dp.host.bulk import DELROUTE, NEWROUTE, messages, route_of
from ipsec_dp.host.routing_rules import DELRULE, NEWRULE, routing_rule_of

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Network

# <linux/rtnetlink.h>
LINKS, ADDRESSES = (16, 17), (20, 21)  # NEW and DEL
RULES = 0x80 | 0x40000  # groups of IPv4 and IPv6: RTNLGRP_IPV4_RULE is 8, RTNLGRP_IPV6_RULE 19
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | RULES  # links; IPv4 and IPv6 addresses and routes
MAIN, LOCAL = 254, 255
READ_OCTETS = 1 << 16


@dataclass
class Changes:
    """What changed since it was last asked. `routes`: prefixes of the host's main table; `own`: one of our routes went."""

    links: bool = False
    addresses: bool = False
    own: bool = False
    rules: bool = False  # one of somebody else's came or went, or a route of a table that only a rule leads to
    lost: bool = False  # reports did not fit the buffer: anything may have changed
    routes: set[Network] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.links or self.addresses or self.own or self.rules or self.lost or bool(self.routes)


class ChangesSocket:
    """Reports for the network namespace of the calling thread. HostError when the kernel refuses."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
            )
            self._socket.bind((0, GROUPS))
        except OSError as error:
            raise HostError(f"rtnetlink: {error.strerror or error}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, into: Changes) -> None:
        """Adds what was reported since the last call."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._socket.recv(READ_OCTETS)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    into.lost = True
                    continue
                for kind, _, _, at, end in messages(data):
                    _add(into, kind, data, at, end)


def _add(into: Changes, kind: int, data: bytes, at: int, end: int) -> None:
    if kind in LINKS:
        into.links = True
    elif kind in ADDRESSES:
        into.addresses = True
    elif kind in (NEWROUTE, DELROUTE):
        route = route_of(data, at, end)
        if route.protocol == PROTOCOL:
            into.own |= kind == DELROUTE
        elif route.table == MAIN:
            into.routes.add(route.prefix)
        elif route.table != LOCAL:
            into.rules = True
    elif kind in (NEWRULE, DELRULE) and (rule := routing_rule_of(data, at, end)) is not None:
        into.rules |= rule.owner != PROTOCOL
