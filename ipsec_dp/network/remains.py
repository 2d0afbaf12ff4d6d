"""What the kernel has of a gateway, whether that runs or not: what keeps its traffic from leaving in clear, and how that goes.

Everything is found by our own names and numbers alone: the nftables tables of the gateway's name, the numbers of its routing
tables with routing protocol 229. Nobody else's is looked at, and nobody else's goes. None of it needs the program nft, but for
listing what a guard holds: a gateway that could not be started because nft is missing can be opened without it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ipsec_dp.host import PROTOCOL, HostError, claim, guard, nft, nft_state, zones
from ipsec_dp.host.bulk import FAMILIES
from ipsec_dp.host.bypass import OWNER, BypassRules
from ipsec_dp.host.netlink import dump, open_netlink
from ipsec_dp.host.routes import RouteTable, of_all, table_base
from ipsec_dp.ipsec.addresses import AddressRange, Network, merge
from ipsec_dp.util.text import named

NAMED_MOST: Final = 20  # prefixes in a line
ESCAPE = re.compile(r"_([0-9a-f]{2})")


@dataclass(frozen=True)
class Remains:
    """Of one gateway. `guarded`: remote addresses that the guard holds; `unlisted`: why those are not known, or empty.

    `unseen`: why nftables could not be looked at, or empty.
    `routed` are prefixes that lead into an interface, which only a gateway that runs has; `rules` counts those of routing.
    """

    gateway: str
    guard: bool = False
    zones: bool = False
    guarded: tuple[AddressRange, ...] = ()
    unreachable: tuple[Network, ...] = ()
    routed: tuple[Network, ...] = ()
    rules: int = 0
    unseen: str = ""
    unlisted: str = ""

    def __bool__(self) -> bool:
        return self.guard or self.zones or bool(self.unreachable or self.routed or self.rules)

    @property
    def held(self) -> list[str]:
        """The remote prefixes that something keeps from leaving in clear, in order."""
        ranges = [*self.guarded, *map(AddressRange.of, self.unreachable)]
        of_version = ([each for each in ranges if each.version == version] for version in (4, 6))
        return [str(prefix) for several in of_version for whole in merge(several) for prefix in whole.prefixes]

    @property
    def text(self) -> str:
        """What holds protected traffic back now, and nothing that does not."""
        unseen = f"whether the guard does cannot be seen ({self.unseen})"
        match bool(self.guard), bool(self.unreachable):
            case True, True:
                return "the guard and unreachable routes keep protected traffic from leaving in clear"
            case True, False:
                return "the guard alone keeps protected traffic from leaving in clear: there are no unreachable routes"
            case False, True:
                which = unseen if self.unseen else "there is no guard"
                return f"unreachable routes alone keep protected traffic from leaving in clear: {which}"
        if self.unseen:
            return f"no unreachable routes keep protected traffic from leaving in clear, and {unseen}"
        return "nothing keeps protected traffic from leaving in clear: there is neither guard nor unreachable route"

    @property
    def advice(self) -> str:
        """`text`, and what a person can do next."""
        return f"{self.text}; {advice(self.gateway)}" if self or self.unseen else self.text


def advice(gateway: str) -> str:
    """What a person can do about what a gateway that does not run left closed."""
    return (
        f"the next `ipsec-dp up` goes on from there, and `ipsec-dp open {gateway}` takes all of it away, so that the traffic may "
        "leave in clear"
    )


async def find(gateway: str) -> Remains:
    """What there is of a gateway in the network namespace of the calling thread. Raises HostError for what is not nftables."""
    async with open_netlink() as ipr:
        routes, base = RouteTable(gateway), table_base(gateway)
        unreachable, routed, rules = await routes.unreachable(), await routes.routed(), 0
        for family in FAMILIES.values():
            rows = await dump(ipr.rule, "dump", family=family)
            rules += sum(
                row.get("FRA_PROTOCOL") == PROTOCOL and base <= (row.get("FRA_TABLE") or 0) <= base + OWNER for row in rows
            )
    found = Remains(gateway, unreachable=tuple(unreachable), routed=tuple(routed), rules=rules)
    try:
        names = await nft_state.tables()
    except HostError as error:
        return replace(found, unseen=str(error))
    tables = [name for name in (guard.table_name(gateway), guard.stand_in_name(gateway)) if name in names]
    found = replace(found, guard=bool(tables), zones=zones.table_name(gateway) in names)
    try:
        return replace(found, guarded=tuple([each for table in tables for each in await _guarded(table)]))
    except HostError as error:
        return replace(found, unlisted=str(error))


async def remove(gateway: str) -> None:
    """Takes all of it away: routes and rules first, the guard last. Raises HostError."""
    await RouteTable(gateway).remove()
    await BypassRules(gateway).remove()
    await nft_state.delete([zones.table_name(gateway), guard.table_name(gateway), guard.stand_in_name(gateway)])


async def dead(candidates: Iterable[str] = ()) -> list[Remains]:
    """Of gateways that do not run, what holds their traffic back. `candidates`: names to ask for beside those that tables have.

    Raises HostError.
    """
    names = await _names(candidates)
    return [remains for name in names if claim.holder(name) is None and (remains := await find(name))]


@dataclass(frozen=True, slots=True)
class Nameless:
    """Unreachable routes that a gateway left alone, in whose tables nothing tells its name. `table`: the first number of them."""

    table: int
    unreachable: tuple[Network, ...]

    @property
    def advice(self) -> str:
        return (
            f"a gateway whose name is not known here left unreachable routes to {named(self.unreachable, NAMED_MOST)} (routing "
            f"tables from {self.table}): its next `ipsec-dp up` goes on from there, and `ipsec-dp open NAME`, with the name in "
            "its configuration, takes them away, so that the traffic may leave in clear"
        )


async def nameless(candidates: Iterable[str] = ()) -> list[Nameless]:
    """What `dead` cannot find, since nobody says the name. One that runs has routes that lead into its tunnels.

    Raises HostError.
    """
    known = {table_base(name) for name in (*await _names(candidates), *await asyncio.to_thread(_living))}
    found = await of_all()
    return [
        Nameless(base, tuple(sorted({row.prefix for row in rows}, key=lambda each: (each.version, each))))
        for base, rows in sorted(found.items())
        if base not in known and all(row.interface == 0 for row in rows)
    ]


def _living() -> list[str]:
    try:
        return claim.names(Path("/proc/self/net/unix").read_text(errors="replace"))
    except OSError:
        return []


async def _names(candidates: Iterable[str]) -> dict[str, None]:
    """Those, and the names that the tables of guards and zones have."""
    names = dict.fromkeys(candidates)
    for table in await nft_state.tables():
        for prefix in (guard.TABLE_PREFIX, guard.STAND_IN_PREFIX, zones.TABLE_PREFIX):
            if table.startswith(prefix):
                names[_unescaped(table.removeprefix(prefix))] = None
    return names


def _unescaped(text: str) -> str:
    """The name of which `nft.escaped` made this."""
    octets = b"".join(
        bytes([int(part, 16)]) if index % 2 else part.encode() for index, part in enumerate(ESCAPE.split(text)) if part != ""
    )
    return octets.decode(errors="replace")


async def _guarded(table: str) -> list[AddressRange]:
    """The remote addresses in the sets of a guard's table."""
    sets = [row for row in await nft.listed("sets", "table", "inet", table) if row["name"].startswith(("remote", "pairs"))]
    return [_range_of(element) for row in sets for element in row.get("elem", ())]


def _range_of(element: str | Mapping[str, Any]) -> AddressRange:
    """An address, a prefix or a range as nft's JSON has it; of a pair the second."""
    if isinstance(element, str):
        return AddressRange.of(element)
    if "concat" in element:
        return _range_of(element["concat"][1])
    if "prefix" in element:
        return AddressRange.of(f"{element['prefix']['addr']}/{element['prefix']['len']}")
    return AddressRange.of("-".join(element["range"]))
