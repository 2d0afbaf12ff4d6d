"""The routing policy rules of this host, whoever made them: read as `ip rule` shows them, and compared with a packet."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from ipsec_dp.host.bulk import FAMILIES, HEADER, REQUEST, ROUTE, U32, attributes

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address, Network

# <linux/rtnetlink.h>, <linux/fib_rules.h>
NEWRULE, DELRULE, GETRULE, DUMP = 32, 33, 34, 0x300
DST, SRC, IIF, GOTO, PRIORITY, MARK, TUN_ID = 1, 2, 3, 4, 6, 10, 12
SUPPRESS_GROUP, SUPPRESS, TABLE, MASK, OIF, L3MDEV, UIDS, OWNER, IP_PROTOCOL, SPORTS, DPORTS = (
    13,
    14,
    15,
    16,
    17,
    19,
    20,
    21,
    22,
    23,
    24,
)
LOOKUP, GO, NOTHING, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 3, 6, 7, 8
REJECTS = {BLACKHOLE: "blackhole", UNREACHABLE: "unreachable", PROHIBIT: "prohibit"}
INVERT = 2
NONE = 0xFFFFFFFF
TABLE_NAMES = {253: "default", 254: "main", 255: "local"}
PAIR32, PAIR16 = struct.Struct("=II"), struct.Struct("=HH")
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp", 58: "ipv6-icmp", 132: "sctp"}

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RouteQuestion:
    """A packet without a mark, unless it has one. `iif`: the interface by which it comes, "": this host's own."""

    destination: Address
    source: Address | None = None
    iif: str = ""
    mark: int = 0
    protocol: int | None = None
    sport: int | None = None
    dport: int | None = None
    uid: int | None = None
    tos: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRule:
    """One rule. None, "" and 0: not compared. `target`: a table, or under "goto" a priority. `mark`: value and mask.

    `suppress`: routes of the table up to this prefix length do not count. `owner`: the routing protocol number of who made it.
    `other`: it compares what only the packets of few devices have.
    """

    version: int
    priority: int = 0
    action: int = LOOKUP
    target: int = 0
    source: Network | None = None
    destination: Network | None = None
    iif: str = ""
    oif: str = ""
    mark: Pair | None = None
    invert: bool = False
    suppress: int | None = None
    tos: int = 0
    protocol: int = 0
    sports: Pair | None = None
    dports: Pair | None = None
    uids: Pair | None = None
    other: bool = False
    owner: int = 0

    def holds(self, question: RouteQuestion) -> bool:
        """Whether the rule is for this packet, as far as it is known."""
        return self._matches(question) is not self.invert

    def _matches(self, asked: RouteQuestion) -> bool:
        if self.other or self.oif or (self.mark is not None and (asked.mark ^ self.mark[0]) & self.mark[1]):
            return False
        if self.iif and self.iif != (asked.iif or "lo"):
            return False
        for network, address in ((self.source, asked.source), (self.destination, asked.destination)):
            if network is not None and (address is None or address not in network):
                return False
        for ports, port in ((self.sports, asked.sport), (self.dports, asked.dport)):
            if ports is not None and not (port is not None and ports[0] <= port <= ports[1]):
                return False
        if self.uids is not None and (asked.iif or not self.uids[0] <= (asked.uid or 0) <= self.uids[1]):
            return False
        return self.protocol in (0, asked.protocol) and self.tos in (0, asked.tos)

    @property
    def words(self) -> str:
        """As `ip rule add` takes it, without the priority."""
        parts = ["not"] if self.invert else []
        parts += [f"from {self.source or 'all'}"]
        parts += [f"{name} {value}" for name, value in (("to", self.destination), ("iif", self.iif), ("oif", self.oif)) if value]
        parts += [f"tos {self.tos:#x}"] if self.tos else []
        if self.mark is not None:
            parts.append(f"fwmark {self.mark[0]:#x}" + ("" if self.mark[1] == NONE else f"/{self.mark[1]:#x}"))
        parts += [f"uidrange {self.uids[0]}-{self.uids[1]}"] if self.uids is not None else []
        parts += [f"ipproto {PROTOCOL_NAMES.get(self.protocol, self.protocol)}"] if self.protocol else []
        for name, ports in (("sport", self.sports), ("dport", self.dports)):
            if ports is not None:
                parts.append(f"{name} {ports[0]}" + (f"-{ports[1]}" if ports[1] != ports[0] else ""))
        return " ".join([*parts, self._does])

    @property
    def _does(self) -> str:
        if self.action == GO:
            return f"goto {self.target}"
        if self.action != LOOKUP:
            return REJECTS.get(self.action, "nop")
        return f"lookup {table_name(self.target)}" + ("" if self.suppress is None else f" suppress_prefixlength {self.suppress}")

    @property
    def command(self) -> str:
        """`ip rule`, for its IP version."""
        return "ip -6 rule" if self.version == 6 else "ip rule"


def table_name(table: int) -> str:
    """As `ip` writes it where no file of names says otherwise."""
    return TABLE_NAMES.get(table, str(table))


def dump_request(version: int, sequence: int) -> bytes:
    """Asks for all rules of an IP version."""
    body = ROUTE.pack(FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)
    return HEADER.pack(HEADER.size + len(body), GETRULE, REQUEST | DUMP, sequence, 0) + body


def _network(version: int, address: bytes | None, length: int) -> Network | None:
    if address is None or not length:
        return None
    kind = IPv4Network if version == 4 else IPv6Network
    return kind((int.from_bytes(address, "big"), length), strict=False)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None, otherwise: int = 0) -> int:
    return int(U32.unpack(value)[0]) if value is not None and len(value) == U32.size else otherwise


def _pair(value: bytes | None, shape: struct.Struct) -> Pair | None:
    if value is None or len(value) != shape.size:
        return None
    low, high = shape.unpack(value)
    return low, high


def routing_rule_of(data: bytes, at: int, end: int) -> RoutingRule | None:
    """From a message of rtnetlink (struct fib_rule_hdr, attributes); None: not of IP, or cut short."""
    if end > len(data) or at + ROUTE.size > end:
        return None
    family, to_length, from_length, tos, table, _, _, action, flags = ROUTE.unpack_from(data, at)
    version = next((version for version, number in FAMILIES.items() if number == family), None)
    if version is None:
        return None
    found = dict(attributes(data, at + ROUTE.size, end))
    uids, suppress = _pair(found.get(UIDS), PAIR32), _number(found.get(SUPPRESS), NONE)
    mark, mask = _number(found.get(MARK)), _number(found.get(MASK))
    one = {number: (found.get(number) or b"\0")[0] for number in (L3MDEV, OWNER, IP_PROTOCOL)}
    return RoutingRule(
        version=version,
        priority=_number(found.get(PRIORITY)),
        action=action,
        target=_number(found.get(GOTO)) if action == GO else _number(found.get(TABLE), table),
        source=_network(version, found.get(SRC), from_length),
        destination=_network(version, found.get(DST), to_length),
        iif=_text(found.get(IIF)),
        oif=_text(found.get(OIF)),
        mark=(mark, mask) if mark or mask else None,
        invert=bool(flags & INVERT),
        suppress=None if suppress == NONE else suppress,
        tos=tos,
        protocol=one[IP_PROTOCOL],
        sports=_pair(found.get(SPORTS), PAIR16),
        dports=_pair(found.get(DPORTS), PAIR16),
        uids=None if uids == (0, NONE) else uids,
        other=bool(one[L3MDEV] or any(found.get(TUN_ID, b"")) or _number(found.get(SUPPRESS_GROUP), NONE) != NONE),
        owner=one[OWNER],
    )
