"""Routing policy rules, ours and others': their octets, made and taken away, shown as `ip rule` does, compared with a packet."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from ipsec_dp.host.bulk import (
    ACK,
    CREATE,
    DUMP,
    EXCL,
    FAMILIES,
    U32,
    attribute,
    attributes,
)
from ipsec_dp.host.requests import HEADER, REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.host.bulk import Bulk
    from ipsec_dp.ipsec.addresses import Address, Network

# <linux/rtnetlink.h>, <linux/fib_rules.h>
NEWRULE, DELRULE, GETRULE = 32, 33, 34
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_GOTO, FRA_PRIORITY, FRA_FWMARK = 1, 2, 3, 4, 6, 10
FRA_TUN_ID, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_OIFNAME = 12, 13, 14, 15, 16, 17
FRA_L3MDEV, FRA_UID_RANGE, FRA_PROTOCOL, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE = 19, 20, 21, 22, 23, 24
LOOKUP, GOTO, NOP, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 3, 6, 7, 8  # FR_ACT_*, named as `ip rule` does
REJECTS = {BLACKHOLE: "blackhole", UNREACHABLE: "unreachable", PROHIBIT: "prohibit"}
INVERT = 2
NONE = 0xFFFFFFFF
RULE = struct.Struct("=8BI")  # struct fib_rule_hdr: family, dst_len, src_len, tos, table, 2 reserved, action, flags
U8, PAIR16, PAIR32 = struct.Struct("=B"), struct.Struct("=HH"), struct.Struct("=II")
SHAPES = {
    **dict.fromkeys((FRA_GOTO, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK), U32),
    **dict.fromkeys((FRA_PROTOCOL, FRA_IP_PROTO), U8),
    **dict.fromkeys((FRA_SPORT_RANGE, FRA_DPORT_RANGE), PAIR16),
    FRA_UID_RANGE: PAIR32,
}
RARE = {FRA_TUN_ID, FRA_SUPPRESS_IFGROUP, FRA_L3MDEV}
VERSIONS = {family: version for version, family in FAMILIES.items()}
TABLE_NAMES = {253: "default", 254: "main", 255: "local"}
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
    """A rule as the kernel has it or should have it. None, "" and 0: not compared. `target`: a table, or under "goto" a priority.

    `mark`: value and mask. `suppress`: routes of the table up to this prefix length do not count. `rest`: number and value of each
    attribute that says more, which no rule of ours has. `owner`: the routing protocol number of who made it, which makes it no
    other rule: the kernel has one of a kind, and lets anybody's stand for ours.
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
    rest: tuple[tuple[int, bytes], ...] = ()
    owner: int = field(default=0, compare=False)

    @property
    def other(self) -> bool:
        """Whether it compares what only the packets of few devices have."""
        return any(number in RARE for number, _ in self.rest)

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
        if self.action == GOTO:
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


def routing_rule_of(data: bytes, at: int, end: int) -> RoutingRule | None:
    """From a message of rtnetlink (struct fib_rule_hdr, attributes); None: not of IP, or cut short."""
    if end > len(data) or at + RULE.size > end:
        return None
    family, to_length, from_length, tos, table, _, _, action, flags = RULE.unpack_from(data, at)
    if family not in VERSIONS:
        return None
    leads, unused = (FRA_GOTO, FRA_TABLE) if action == GOTO else (FRA_TABLE, FRA_GOTO)
    numbers: dict[int, tuple[int, ...]] = {}
    rest: dict[int, bytes] = {}
    for number, value in attributes(data, at + RULE.size, end):
        shape = SHAPES.get(number)
        if shape is not None and shape.size == len(value) and number != unused:
            numbers[number] = shape.unpack(value)
        else:
            rest[number] = value
    try:
        source = _network(VERSIONS[family], rest.pop(FRA_SRC, b""), from_length) if from_length else None
        destination = _network(VERSIONS[family], rest.pop(FRA_DST, b""), to_length) if to_length else None
    except ValueError:  # the kernel sends no such length, and no length without an address
        return None

    def one(number: int, otherwise: int = 0) -> int:
        return numbers[number][0] if number in numbers else otherwise

    def pair(number: int) -> Pair | None:
        return (numbers[number][0], numbers[number][1]) if number in numbers else None

    mark, suppress, uids = (one(FRA_FWMARK), one(FRA_FWMASK)), one(FRA_SUPPRESS_PREFIXLEN, NONE), pair(FRA_UID_RANGE)
    return RoutingRule(
        version=VERSIONS[family],
        priority=one(FRA_PRIORITY),
        action=action,
        target=one(leads, 0 if action == GOTO else table),
        source=source,
        destination=destination,
        iif=_text(rest.pop(FRA_IIFNAME, b"")),
        oif=_text(rest.pop(FRA_OIFNAME, b"")),
        mark=mark if any(mark) else None,
        invert=bool(flags & INVERT),
        suppress=None if suppress == NONE else suppress,
        tos=tos,
        protocol=one(FRA_IP_PROTO),
        sports=pair(FRA_SPORT_RANGE),
        dports=pair(FRA_DPORT_RANGE),
        uids=None if uids == (0, NONE) else uids,
        rest=tuple(sorted(each for each in rest.items() if _says_something(*each))),
        owner=one(FRA_PROTOCOL),
    )


def _network(version: int, address: bytes, length: int) -> Network:
    return (IPv4Network if version == 4 else IPv6Network)((address, length), strict=False)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _says_something(number: int, value: bytes) -> bool:
    """All bits 0 or all 1 is what the kernel shows where nothing is set; but there is an interface group 0."""
    return value != b"\xff\xff\xff\xff" and (any(value) or number == FRA_SUPPRESS_IFGROUP)


def body_of(rule: RoutingRule) -> bytes:
    """What asks for the rule, or for its end: struct fib_rule_hdr and attributes."""
    numbers: dict[int, tuple[int, ...] | None] = {
        FRA_PRIORITY: (rule.priority,),
        FRA_GOTO if rule.action == GOTO else FRA_TABLE: (rule.target,),
        FRA_PROTOCOL: (rule.owner,),
        FRA_FWMARK: None if rule.mark is None else rule.mark[:1],
        FRA_FWMASK: None if rule.mark is None else rule.mark[1:],
        FRA_SUPPRESS_PREFIXLEN: None if rule.suppress is None else (rule.suppress,),
        FRA_IP_PROTO: (rule.protocol,) if rule.protocol else None,
        FRA_SPORT_RANGE: rule.sports,
        FRA_DPORT_RANGE: rule.dports,
        FRA_UID_RANGE: rule.uids,
    }
    values = {number: SHAPES[number].pack(*value) for number, value in numbers.items() if value is not None} | dict(rule.rest)
    lengths = []
    for number, network in ((FRA_DST, rule.destination), (FRA_SRC, rule.source)):
        lengths.append(0 if network is None else network.prefixlen)
        values |= {} if network is None else {number: network.network_address.packed}
    for number, name in ((FRA_IIFNAME, rule.iif), (FRA_OIFNAME, rule.oif)):
        values |= {number: name.encode() + b"\0"} if name else {}
    head = RULE.pack(FAMILIES[rule.version], *lengths, rule.tos, 0, 0, 0, rule.action, INVERT if rule.invert else 0)
    return head + b"".join(attribute(number, value) for number, value in values.items())


def dump_request(version: int, sequence: int) -> bytes:
    """Asks for all rules of an IP version."""
    body = RULE.pack(FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)
    return HEADER.pack(HEADER.size + len(body), GETRULE, REQUEST | DUMP, sequence, 0) + body


async def present(bulk: Bulk, version: int) -> list[RoutingRule]:
    """All rules of an IP version. HostError."""
    rows = await bulk.dump(lambda sequence: dump_request(version, sequence), NEWRULE, routing_rule_of)
    return [row for row in rows if row is not None]


async def add(bulk: Bulk, rules: Iterable[RoutingRule]) -> None:
    """Makes each rule in this order; one that is there already is no error. HostError."""
    await _ask(bulk, NEWRULE, REQUEST | ACK | CREATE | EXCL, rules, (errno.EEXIST,))


async def remove(bulk: Bulk, rules: Iterable[RoutingRule]) -> None:
    """Takes each rule away in this order; one that is gone already is no error. HostError."""
    await _ask(bulk, DELRULE, REQUEST | ACK, rules, (errno.ENOENT,))


async def _ask(bulk: Bulk, kind: int, flags: int, rules: Iterable[RoutingRule], done: tuple[int, ...]) -> None:
    await bulk.ask(kind, flags, [(f"rule {rule.priority}", body_of(rule)) for rule in rules], done)
