"""Routing policy rules as rtnetlink has them: read, made and taken away as octets, by the sockets of `bulk`."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.host.bulk import ACK, CREATE, DUMP, EXCL, FAMILIES, HEADER, REQUEST, U32, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.host.bulk import Bulk

# <linux/rtnetlink.h>, <linux/fib_rules.h>
NEWRULE, DELRULE, GETRULE = 32, 33, 34
RULE = struct.Struct("=8BI")
FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL = 6, 10, 14, 15, 16, 21
LOOKUP = 1  # the action FR_ACT_TO_TBL
INVERT = 2
UNSUPPRESSED = 0xFFFFFFFF
NUMBERS = {FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL}
VERSIONS = {family: version for version, family in FAMILIES.items()}


class KernelRule(NamedTuple):
    """A rule as the kernel has it or should have it, but for who made it.

    `table` 32 bits; `mark` and `mask` 32 bits, 0: any mark; `suppress`: routes of the table up to this prefix length do not count;
    `rest`: whatever else it compares or does, which no rule of ours has.
    """

    version: int
    priority: int
    table: int
    mark: int = 0
    mask: int = 0
    suppress: int | None = None
    invert: bool = False
    action: int = LOOKUP
    rest: tuple[bytes, ...] = ()


def rule_of(data: bytes, at: int, end: int) -> tuple[KernelRule, int] | None:
    """A rule and its routing protocol; None: not of IP, or cut short."""
    if end > len(data) or at + RULE.size > end:
        return None
    family, to_length, from_length, tos, table, _, _, action, flags = RULE.unpack_from(data, at)
    if family not in VERSIONS:
        return None
    numbers: dict[int, int] = {}
    rest = [data[at + 1 : at + 4]] if to_length or from_length or tos else []
    for number, value in attributes(data, at + RULE.size, end):
        if number == FRA_PROTOCOL:
            numbers[number] = value[0] if value else 0
        elif number in NUMBERS and len(value) == U32.size:
            numbers[number] = int(U32.unpack(value)[0])
        elif any(value) and value != b"\xff\xff\xff\xff":  # that is what the kernel shows where nothing is set
            rest.append(number.to_bytes(2, "big") + value)
    suppress = numbers.get(FRA_SUPPRESS_PREFIXLEN, UNSUPPRESSED)
    mark = numbers.get(FRA_FWMARK, 0)
    rule = KernelRule(
        VERSIONS[family],
        numbers.get(FRA_PRIORITY, 0),
        numbers.get(FRA_TABLE, table),
        mark,
        numbers.get(FRA_FWMASK, 0) if mark or FRA_FWMASK in numbers else 0,
        None if suppress == UNSUPPRESSED else suppress,
        bool(flags & INVERT),
        action,
        tuple(sorted(rest)),
    )
    return rule, numbers.get(FRA_PROTOCOL, 0)


def _body(rule: KernelRule, protocol: int) -> bytes:
    flags = INVERT if rule.invert else 0
    parts = [
        RULE.pack(FAMILIES[rule.version], 0, 0, 0, 0, 0, 0, rule.action, flags),
        attribute(FRA_PRIORITY, U32.pack(rule.priority)),
        attribute(FRA_TABLE, U32.pack(rule.table)),
        attribute(FRA_PROTOCOL, bytes([protocol])),
    ]
    if rule.mask:
        parts += [attribute(FRA_FWMARK, U32.pack(rule.mark)), attribute(FRA_FWMASK, U32.pack(rule.mask))]
    if rule.suppress is not None:
        parts.append(attribute(FRA_SUPPRESS_PREFIXLEN, U32.pack(rule.suppress)))
    return b"".join(parts)


def dump_request(version: int, sequence: int) -> bytes:
    """Asks for all rules of an IP version."""
    body = RULE.pack(FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)
    return HEADER.pack(HEADER.size + len(body), GETRULE, REQUEST | DUMP, sequence, 0) + body


async def present(bulk: Bulk, version: int) -> list[tuple[KernelRule, int]]:
    """All rules of an IP version with their protocols. HostError."""
    rows = await bulk.dump(lambda sequence: dump_request(version, sequence), NEWRULE, rule_of)
    return [row for row in rows if row is not None]


async def add(bulk: Bulk, rules: Iterable[KernelRule], protocol: int) -> None:
    """Makes each rule in this order; one that is there already is no error. HostError."""
    await _ask(bulk, NEWRULE, REQUEST | ACK | CREATE | EXCL, rules, protocol, (errno.EEXIST,))


async def remove(bulk: Bulk, rules: Iterable[KernelRule], protocol: int) -> None:
    """Takes each rule away in this order; one that is gone already is no error. HostError."""
    await _ask(bulk, DELRULE, REQUEST | ACK, rules, protocol, (errno.ENOENT,))


async def _ask(bulk: Bulk, kind: int, flags: int, rules: Iterable[KernelRule], protocol: int, done: tuple[int, ...]) -> None:
    await bulk.ask(kind, flags, [(f"rule {rule.priority}", _body(rule, protocol)) for rule in rules], done)
