"""What the kernel's routing decides about one packet: asked with all that the packet has, answered with who decided."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from ipsec_dp.host import PROTOCOL
from ipsec_dp.host.bulk import (
    FAMILIES,
    GETROUTE,
    NEWROUTE,
    ROUTE,
    RTA_DST,
    RTA_OIF,
    RTA_TABLE,
    U32,
    attribute,
    attributes,
    route_of,
)
from ipsec_dp.host.requests import NLMSG_ERROR, REQUEST, Requests
from ipsec_dp.host.routing_rules import GOTO, LOOKUP, NEWRULE, REJECTS, RouteQuestion, RoutingRule, dump_request, routing_rule_of

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Network

# <linux/rtnetlink.h>
RTA_SRC, RTA_IIF, RTA_MARK, RTA_UID, RTA_IP_PROTO, RTA_SPORT, RTA_DPORT = 2, 3, 16, 25, 27, 28, 29
LOOKUP_TABLE, FIB_MATCH = 0x1000, 0x2000
ASKABLE = (1, 6, 17, 58)  # protocols that the kernel takes in such a question
# What an error of the answer means where the packet comes from another host; <errno.h> is about system calls.
FORWARDED = {
    errno.EXDEV: "the reverse path filter of {} refuses its source, which is not reached by it",
    errno.EINVAL: "the kernel takes its source for impossible on {}: the reverse path filter, or an address of this host",
    errno.EHOSTUNREACH: "no route, a route that says unreachable, or forwarding is off on {}",
}


@dataclass(frozen=True, slots=True)
class Way:
    """`interface` None: the kernel refuses, by `code` (errno). `rule`: the first that is for the packet and leads to `table`."""

    interface: str | None
    table: int = 0
    rule: RoutingRule | None = None
    code: int = 0
    why: str = ""


class Decisions(Requests):
    """A netlink socket to ask by, in the network namespace of the calling thread, for `with`. Every method may raise HostError."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE, "rtnetlink")
        self._rules: dict[int, list[RoutingRule]] = {}

    def rules(self, version: int) -> list[RoutingRule]:
        """All rules of an IP version in their order, read once."""
        if version not in self._rules:
            self._sequence += 1
            self.send(dump_request(version, self._sequence))
            found = [routing_rule_of(each.data, each.at, each.end) for each in self.answers() if each.kind == NEWRULE]
            self._rules[version] = [rule for rule in found if rule is not None]
        return self._rules[version]

    def way(self, asked: RouteQuestion) -> Way:
        """Where the packet goes. What the kernel takes no question about (ports of ESP, say) is left out of it."""
        found = self._route(asked, LOOKUP_TABLE)
        if isinstance(found, int) and found == errno.EOPNOTSUPP and asked.protocol is not None:
            return self.way(replace(asked, protocol=None, sport=None, dport=None))
        if isinstance(found, int):
            rule = next(
                (rule for rule in self.rules(asked.destination.version) if rule.action in REJECTS and rule.holds(asked)), None
            )
            return Way(None, 0, rule, found, self._why(asked, found))
        data, at, end = found
        row = dict(attributes(data, at + ROUTE.size, end))
        table = int(U32.unpack(row[RTA_TABLE])[0]) if RTA_TABLE in row else data[at + 4]
        return Way(_name(row.get(RTA_OIF)), table, self._leading(asked, table))

    def prefix(self, asked: RouteQuestion) -> Network | None:
        """That of the route which decides; None: the kernel refuses."""
        found = self._route(asked, FIB_MATCH)
        if isinstance(found, int):
            return None
        data, at, end = found
        if RTA_DST not in dict(attributes(data, at + ROUTE.size, end)):
            return ip_network("0.0.0.0/0" if asked.destination.version == 4 else "::/0")
        return route_of(data, at, end).prefix

    def _leading(self, asked: RouteQuestion, table: int) -> RoutingRule | None:
        """The rule that leads to a table; a goto of somebody else's that led past others is the one to name."""
        jumped, past, length = None, 0, -1
        for rule in self.rules(asked.destination.version):
            if rule.priority < past or not rule.holds(asked):
                continue
            if rule.action == GOTO:
                past, jumped = rule.target, jumped or (rule if rule.owner != PROTOCOL else None)
            elif rule.action == LOOKUP and rule.target == table:
                if rule.suppress is not None and length < 0:
                    length = 0 if (prefix := self.prefix(asked)) is None else prefix.prefixlen
                if rule.suppress is None or length > rule.suppress:
                    return jumped or rule
        return jumped

    def _why(self, asked: RouteQuestion, code: int) -> str:
        if asked.iif and code in FORWARDED:
            return FORWARDED[code].format(asked.iif)
        return os.strerror(code)

    def _route(self, asked: RouteQuestion, flags: int) -> tuple[bytes, int, int] | int:
        """A message with the route, its body's begin and end; or the number of an error."""
        try:
            iif = socket.if_nametoindex(asked.iif) if asked.iif else 0
        except OSError:
            return errno.ENODEV
        self.send(self.next_message(GETROUTE, REQUEST, _request(asked, iif, flags)))
        for answer in self.answers():
            if answer.kind == NLMSG_ERROR:
                return answer.code
            if answer.kind == NEWROUTE:
                return answer.data, answer.at, answer.end
        return errno.EPROTO


def _request(asked: RouteQuestion, iif: int, flags: int) -> bytes:
    bits, version = asked.destination.max_prefixlen, asked.destination.version
    source = b"" if asked.source is None else attribute(RTA_SRC, asked.source.packed)
    parts = [
        ROUTE.pack(FAMILIES[version], bits, bits if source else 0, asked.tos, 0, 0, 0, 0, flags),
        attribute(RTA_DST, asked.destination.packed),
        source,
    ]
    for number, value in ((RTA_IIF, iif), (RTA_MARK, asked.mark)):
        parts += [attribute(number, U32.pack(value))] if value else []
    if asked.uid is not None:
        parts.append(attribute(RTA_UID, U32.pack(asked.uid)))
    if asked.protocol in ASKABLE:
        parts.append(attribute(RTA_IP_PROTO, bytes([asked.protocol or 0])))
        for number, port in ((RTA_SPORT, asked.sport), (RTA_DPORT, asked.dport)):
            parts += [attribute(number, struct.pack("!H", port))] if port else []
    return b"".join(parts)


def _name(index: bytes | None) -> str | None:
    if index is None:
        return None
    try:
        return socket.if_indextoname(int(U32.unpack(index)[0]))
    except OSError:  # it has just gone
        return None
