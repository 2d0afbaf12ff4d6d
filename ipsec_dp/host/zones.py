"""Zones in the kernel: an nftables table of their own that judges each packet by where it comes from and where it goes.

What is judged, and how, is `ipsec_dp.config.zone_policy`. Here it becomes chains: one that leads on from each zone, and one for
each pair of zones that rules are about. Every packet of a flow's own direction is judged, so that a rule taken away ends what it
allowed; what comes back passes with the flow. `render` is a pure function, `Zones` hands its text to nft as one transaction, like
the guard.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.host import INTERFACE_NAME, PROTOCOL, nft
from ipsec_dp.host.exemptions import EXEMPT_IN, EXEMPT_OUT
from ipsec_dp.host.guard import upper_match
from ipsec_dp.host.kept_table import KeptTable
from ipsec_dp.host.nft import Count, chain, named_set
from ipsec_dp.ipsec.selectors import ANY_PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from ipsec_dp.ipsec.selectors import SelectorPair

TABLE_PREFIX = "ipsec_dp-zones_"  # begins no table of a guard, whatever the gateway's name
GATEWAY = "gateway"
DENIED = "denied"
LOG_GROUPS = PROTOCOL << 8
LOG_PREFIX = "zone_rule #"
LOG_LIMIT = "limit rate 10/second burst 20 packets"

# A flow's way back, and errors about it; the gateway's answers from the monitor's targets come without a flow (packet sockets).
PASSES = ("ct state related accept", "ct direction reply ct state established accept")
# Between the gateway and a zone: what the guard lets pass, and what else stays on a link.
LINK_OUT = (
    "ip daddr { 169.254.0.0/16, 224.0.0.0/24, 255.255.255.255 } fib saddr type local accept",
    "ip6 daddr { fe80::/10, ff02::/16 } accept",
)
LINK_IN = (
    "ip saddr 169.254.0.0/16 fib daddr type { local, broadcast } accept",
    "ip daddr { 224.0.0.0/24, 255.255.255.255 } accept",
    "ip6 saddr fe80::/10 accept",
)
ECHO_REPLIES = ("icmp type echo-reply accept", "icmpv6 type echo-reply accept")


@dataclass(frozen=True)
class Zone:
    """`interfaces`: names, or beginnings of names and "*"."""

    name: str
    interfaces: tuple[str, ...]


@dataclass(frozen=True)
class ZoneRule:
    """What from one zone to another is let through or dropped. In the selectors local is the source."""

    origin: str
    target: str
    selectors: tuple[SelectorPair, ...]
    allow: bool
    log: bool = False


def table_name(gateway: str) -> str:
    """The nftables table of a gateway's zones, see `nft.escaped`. ValueError: name too long."""
    return TABLE_PREFIX + nft.escaped(gateway)


def log_group(gateway: str) -> int:
    """The group of nfnetlink_log that a gateway's rules write to, 0xe500 to 0xe5ff, by its name."""
    return LOG_GROUPS | hashlib.sha256(gateway.encode()).digest()[0]


def counter_name(number: int, rule: ZoneRule) -> str:
    """The counter of a rule, numbered from 1: another text makes another counter, which begins at 0."""
    return f"rule/{number}/{hashlib.sha256(repr(rule).encode()).hexdigest()[:8]}"


def _match(selector: SelectorPair) -> str:
    """The packets of a selector, as nft says it."""
    ip = "ip" if selector.version == 4 else "ip6"
    parts = [f"{ip} saddr {selector.local} {ip} daddr {selector.remote}"]
    if selector.protocol != ANY_PROTOCOL:
        parts.append(f"meta l4proto {selector.protocol}")
    return " ".join(parts) + upper_match(selector, "sport", "dport")


def _rule(gateway: str, number: int, rule: ZoneRule) -> list[str]:
    verdict = "accept" if rule.allow else "drop"
    log = f'log prefix "{LOG_PREFIX}{number}" group {log_group(gateway)}'
    lines = []
    for selector in rule.selectors:
        if rule.log:
            first = "ct state new " if rule.allow else ""  # one line for a flow that passes
            lines.append(f"{_match(selector)} {first}{LOG_LIMIT} {log}")
        lines.append(f"{_match(selector)} counter name {counter_name(number, rule)} {verdict}")
    return lines


def _leads(key: str, zone: Zone, verdict: str) -> list[str]:
    """The rules that send what has an interface of `zone` to `verdict`."""
    names = ", ".join(f'"{name}"' for name in zone.interfaces)
    return [f"{key} {{ {names} }} {verdict}"]


class _Table:
    """The text of one table, put together."""

    def __init__(self, gateway: str, zones: Sequence[Zone], rules: Sequence[ZoneRule], tunnels: Iterable[str]) -> None:
        self._gateway, self._zones, self._tunnels = gateway, zones, sorted(set(tunnels))
        for name in [name for zone in zones for name in zone.interfaces] + self._tunnels:
            if not INTERFACE_NAME.fullmatch(name.removesuffix("*")):
                raise ValueError(f"{name!r} is not the name of an interface")
        self._pairs: dict[tuple[str, str], list[str]] = {}
        for number, rule in enumerate(rules, 1):
            self._pairs.setdefault((rule.origin, rule.target), []).extend(_rule(gateway, number, rule))

    def lines(self) -> list[str]:
        zoned = [tunnel for tunnel in self._tunnels if any(_covers(zone, tunnel) for zone in self._zones)]
        lines = [
            *named_set("tunnels", "ifname", (f'"{name}"' for name in zoned)),
            *chain(DENIED, [f"counter name {DENIED} drop"]),
        ]
        lines += chain("exempt_in", EXEMPT_IN + LINK_IN) + chain("exempt_out", EXEMPT_OUT + LINK_OUT)
        for pair in self._pairs:
            lines += self._pair(*pair)
        for zone in self._zones:
            lines += self._from(zone)
        return lines + self._forward() + self._own("input", "iif") + self._own("output", "oif")

    def _pair(self, origin: str, target: str) -> list[str]:
        """From one zone to another, without a rule that holds a packet: dropped, but within a zone and outside tunnels."""
        before, after = [], [f"goto {DENIED}"]
        if origin == target:
            after = ["accept"]
        elif GATEWAY in (origin, target):
            key, exempt = ("iifname", "exempt_in") if target == GATEWAY else ("oifname", "exempt_out")
            before, after = [f"{key} != @tunnels jump {exempt}"], [f"{key} @tunnels goto {DENIED}", "accept"]
        return chain(f"pair/{origin}/{target}", [*before, *self._pairs[origin, target], *after])

    def _from(self, zone: Zone) -> list[str]:
        rules: list[str] = []
        for other in self._zones:
            if (zone.name, other.name) in self._pairs:
                rules += _leads("oifname", other, f"goto pair/{zone.name}/{other.name}")
            elif other == zone:
                rules += _leads("oifname", other, "accept")
        return chain(f"from/{zone.name}", [*rules, f"goto {DENIED}"])

    def _forward(self) -> list[str]:
        rules = ["type filter hook forward priority 0; policy accept;", *PASSES]
        for zone in self._zones:
            rules += _leads("iifname", zone, f"goto from/{zone.name}")
        for zone in self._zones:
            rules += _leads("oifname", zone, f"goto {DENIED}")
        return chain("forward", rules)

    def _own(self, hook: str, key: str) -> list[str]:
        """What comes to the gateway itself, or from it."""
        rules = [f"type filter hook {hook} priority 0; policy accept;", f'{key} "lo" accept', *PASSES]
        rules += ECHO_REPLIES if hook == "input" else ()
        for zone in self._zones:
            pair = (zone.name, GATEWAY) if hook == "input" else (GATEWAY, zone.name)
            if pair in self._pairs:
                rules += _leads(f"{key}name", zone, f"goto pair/{pair[0]}/{pair[1]}")
        return chain(hook, [*rules, f"{key}name @tunnels goto {DENIED}"])


def _covers(zone: Zone, interface: str) -> bool:
    return any(interface.startswith(each[:-1]) if each.endswith("*") else interface == each for each in zone.interfaces)


def render(
    gateway: str,
    zones: Sequence[Zone],
    rules: Sequence[ZoneRule],
    tunnels: Iterable[str],
    counts: Mapping[str, Count] | None = None,
) -> str:
    """The zones as text for `nft -f -`: one transaction that replaces the table of this gateway, or makes it.

    `tunnels` are the names of our tunnel interfaces, `counts` what the counters go on from. ValueError: a name that cannot be an
    interface's.
    """
    names = (DENIED, *(counter_name(number, rule) for number, rule in enumerate(rules, 1)))
    found = {name: (counts or {}).get(name, Count()) for name in names}
    counters = [f"counter {name} {{ packets {count.packets} bytes {count.octets} }}" for name, count in found.items()]
    return nft.table(table_name(gateway), counters + _Table(gateway, zones, rules, tunnels).lines())


class Zones:
    """The zones of one gateway in the network namespace of the calling thread. HostError when nft is missing or refuses."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self._kept = KeptTable(table_name(gateway))
        self._asked: tuple[Sequence[Zone], Sequence[ZoneRule], frozenset[str]] | None = None

    @property
    def table(self) -> str:
        return self._kept.table

    async def apply(self, zones: Sequence[Zone], rules: Sequence[ZoneRule], tunnels: Iterable[str]) -> None:
        """Makes, replaces or (without zones) takes away the table, whoever left it, in one transaction."""
        if not zones:
            await self.remove()
            return
        self._asked = zones, rules, frozenset(tunnels)
        await self._write(nft.transact)

    async def is_whole(self) -> bool:
        """Whether the kernel has the zones as they should be, or somebody is writing them just now. HostError."""
        return self._asked is None or self._kept.turn.locked() or await self._kept.is_as_written()

    async def restore(self) -> bool:
        """Makes the table as it was last asked for, whatever became of it; False: there is to be none."""
        return await self._write(self._kept.make_again)

    async def _write(self, transact: Callable[[str], Awaitable[None]]) -> bool:
        async with self._kept.turn:
            if self._asked is None:
                return False
            self._kept.forget()
            await transact(render(self.gateway, *self._asked, await self._kept.carried_over()))
            await self._kept.written()
            return True

    async def counts(self) -> dict[str, Count]:
        """By counter: DENIED, and `counter_name` of each rule; empty without a table."""
        return await self._kept.counts()

    async def remove(self) -> None:
        """Takes the table away, if there is one."""
        async with self._kept.turn:
            self._asked = None
            self._kept.forget()
            if await self._kept.is_there():
                await nft.remove(self.table)
