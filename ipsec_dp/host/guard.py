"""The guard: an nftables table that lets no protected traffic past the tunnel, in neither direction.

Outbound, a packet between protected addresses that leaves by another interface than a tunnel interface is dropped. Inbound, a
packet that arrives in clear and claims to come from a protected remote address is dropped (RFC 4301 §5.2: what policy says must be
protected must have been). The table belongs to the kernel, not to the process: it holds while the daemon starts, after it crashed
or was killed, and, if asked for, after it stopped. All here is pure; `guard_table` hands the text to nft, a transaction at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipsec_dp.host import INTERFACE_NAME, nft
from ipsec_dp.host.exemptions import EXEMPT_IN, EXEMPT_OUT
from ipsec_dp.host.nft import Count, chain, named_set
from ipsec_dp.ipsec.addresses import AddressRange, merge, subtract
from ipsec_dp.ipsec.selectors import ANY_CODE, ANY_PORT, ANY_PROTOCOL, PORT_PROTOCOLS, SelectorPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TABLE_PREFIX = "ipsec_dp_"
STAND_IN_PREFIX = "ipsec_dp-closing_"
CLOSING_RANGES = 1000  # of addresses in that table, which nft takes in a few milliseconds
LARGE = 500  # entries of a guard that takes nft so long that another table closes first

# After the destination is final but before masquerading changes the source (srcnat is 100): postrouting sees forwarded and local
# packets and the interface they really leave by, also when a mark re-routed them.
OUTBOUND_PRIORITY = -150
# After destination translation (dstnat is -100), so that what the rules compare is where the packet goes.
INBOUND_PRIORITY = -90

ICMP = {4: "icmp", 6: "icmpv6"}  # by IP version

# Which fragments go with what a selector protects, by IP version and whether it names ports or an ICMP type: those that cannot be
# told apart from it (RFC 4301 §7). A later IPv4 fragment has no ports. Any IPv6 fragment may hide its protocol too, behind further
# headers (RFC 7112). Where connection tracking reassembles, there are none.
FRAGMENT = {
    (4, False): "",
    (4, True): "ip frag-off & 0x1fff != 0",
    (6, False): "exthdr frag exists",
    (6, True): "exthdr frag exists",
}

EVERYTHING = (AddressRange.of("0.0.0.0/0"), AddressRange.of("::/0"))

# The chains that the kernel calls.
BASE = {
    "outbound": (f"type filter hook postrouting priority {OUTBOUND_PRIORITY}; policy accept;",),
    "inbound": (f"type filter hook prerouting priority {INBOUND_PRIORITY}; policy accept;",),
}
GATES_MAX = 8  # prefixes of each IP version that packets are compared with one by one

Device = tuple[int, str]  # the kernel's number and the name of an interface

COUNTERS = ("cleartext_out4", "cleartext_out6", "cleartext_in4", "cleartext_in6")


@dataclass(frozen=True, slots=True)
class GuardRule:
    """One ordered entry of the policy. The first that holds a packet decides, as in the SPD (RFC 4301 §4.4.1).

    Ports only count under protocols that have them, or types (ICMP). `bypass` lets the packet through in clear.
    """

    selector: SelectorPair
    bypass: bool = False

    @property
    def local(self) -> AddressRange:
        return self.selector.local

    @property
    def remote(self) -> AddressRange:
        return self.selector.remote


def table_name(gateway: str) -> str:
    """The nftables table of a gateway, see `nft.escaped`. ValueError: name too long."""
    return TABLE_PREFIX + nft.escaped(gateway)


def stand_in_name(gateway: str) -> str:
    """The table that holds for the guard's while that is replaced. ValueError: name too long."""
    return STAND_IN_PREFIX + nft.escaped(gateway)


def narrow(rules: Iterable[GuardRule], routed: Sequence[AddressRange]) -> list[GuardRule]:
    """The rules, those that protect every remote address (0.0.0.0/0, ::/0) cut down to what is routed into the tunnel.

    With such proxy IDs it is the routes that say what is interesting; without this, a tunnel for one remote network would close the
    host to all others. Rules that name their remote addresses stay whole: they are protected however they are routed.
    """
    narrowed: list[GuardRule] = []
    for each in rules:
        if each.bypass or each.remote not in EVERYTHING:
            narrowed.append(each)
            continue
        parts = merge(part for part in routed if part.version == each.remote.version)
        narrowed += [_with_remote(each, part) for part in parts]
    return narrowed


def separate(rules: Iterable[GuardRule], inside: Sequence[AddressRange]) -> list[GuardRule]:
    """The rules with remote addresses taken out that are on this side, where local and remote overlap.

    Local 10.1.0.0/24 and remote 0.0.0.0/0: a packet from one local host to another is not for the tunnel, so remote is what is not
    local. Where that leaves nothing (0.0.0.0/0 on both sides, or a hub that is one part of 10.0.0.0/8), `inside` says which
    networks are on this side: those attached that the peer is not reached through.
    """
    separated: list[GuardRule] = []
    for each in rules:
        if each.bypass or not each.local.overlaps(each.remote):
            separated.append(each)
            continue
        parts = subtract(each.remote, [each.local]) or subtract(each.remote, inside)
        separated += [_with_remote(each, part) for part in parts]
    return separated


def narrows(rules: Sequence[GuardRule], prefix: AddressRange) -> bool:
    """Whether `separate` takes some of what is protected out, with `prefix` on this side, and no bypass names it."""
    if any(each.bypass and each.remote.covers(prefix) for each in rules):
        return False
    return any(not each.bypass and each.local.covers(each.remote) and each.remote.overlaps(prefix) for each in rules)


def _with_remote(rule: GuardRule, remote: AddressRange) -> GuardRule:
    return replace(rule, selector=replace(rule.selector, remote=remote))


def upper_match(selector: SelectorPair, local: str, remote: str) -> str:
    """The match of ports ("sport" or "dport" for either side) or ICMP types; empty: any. A space stands before it."""
    if selector.icmp is not None:
        (kind, codes), name = selector.icmp, ICMP[selector.version]
        return f" {name} type {kind}" + ("" if codes == ANY_CODE else f" {name} code {codes.low}-{codes.high}")
    if selector.protocol.single not in PORT_PROTOCOLS:
        return ""
    bounds = ((local, selector.local_ports), (remote, selector.remote_ports))
    return "".join(f" th {name} {ports.low}-{ports.high}" for name, ports in bounds if ports != ANY_PORT)


def _lines(rule: GuardRule, *, outbound: bool, passes: str = "accept") -> list[str]:
    """A rule as nft has it."""
    selector = rule.selector
    ip = "ip" if selector.version == 4 else "ip6"
    local, remote = ("saddr", "daddr") if outbound else ("daddr", "saddr")
    counter = f"counter name cleartext_{'out' if outbound else 'in'}{selector.version}"
    verdict = passes if rule.bypass else f"{counter} drop"
    addresses = f"{ip} {local} {selector.local} {ip} {remote} {selector.remote}"
    if selector.protocol == ANY_PROTOCOL:
        return [f"{addresses} {verdict}"]
    if selector.opaque:
        return [f"{addresses} {FRAGMENT[selector.version, True]} {verdict}"]
    upper = upper_match(selector, *(("sport", "dport") if outbound else ("dport", "sport")))
    lines = [f"{addresses} meta l4proto {selector.protocol}{upper} {verdict}"]
    fragment = FRAGMENT[selector.version, bool(upper)]
    return lines + ([f"{addresses} {fragment} {verdict}"] if fragment and not rule.bypass else [])


@dataclass(frozen=True)
class Plan:
    """What the guard's table is to hold.

    `tunnels`: our own devices, by which protected packets go as they should. Both number and name, so that neither a device that
    took the name of ours nor one that got its number is exempt. `pairs`: local and remote addresses, disjoint, by IP version: what
    no entry before or after them can let through, in sets that are changed by difference and looked up at once, however many they
    are. `rules`: everything else, in policy order. `further`: entries that are asked first, while a configuration changes; they
    drop, or let the others decide.
    """

    tunnels: frozenset[Device]
    rules: tuple[GuardRule, ...]
    pairs: dict[int, frozenset[tuple[AddressRange, AddressRange]]]
    further: tuple[GuardRule, ...] = ()

    @property
    def large(self) -> bool:
        """Whether it takes nft long to make."""
        return len(self.rules) + len(self.further) + sum(map(len, self.pairs.values())) >= LARGE

    def remotes(self, version: int) -> list[AddressRange]:
        """Of what is not in `pairs`."""
        return merge(each.remote for each in (*self.rules, *self.further) if each.remote.version == version and not each.bypass)


def plan(rules: Sequence[GuardRule], tunnels: Iterable[Device]) -> Plan:
    """`rules` in policy order (see `narrow` and `separate`), `tunnels` our interfaces that there are.

    ValueError: a name that cannot be an interface's.
    """
    devices = frozenset(tunnels)
    for _, name in devices:
        if not INTERFACE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an interface")
    first = max((index + 1 for index, each in enumerate(rules) if each.bypass), default=0)  # a bypass must not come too early
    whole = [each for each in rules[first:] if each.selector.protocol == ANY_PROTOCOL]
    pairs, left = _disjoint(whole)
    kept = set(map(id, left))
    single = [each for each in rules[first:] if each.selector.protocol != ANY_PROTOCOL or id(each) in kept]
    by_version = {version: frozenset(pair for pair in pairs if pair[0].version == version) for version in (4, 6)}
    return Plan(devices, (*rules[:first], *single), by_version)


def _disjoint(rules: Sequence[GuardRule]) -> tuple[list[tuple[AddressRange, AddressRange]], list[GuardRule]]:
    """Pairs of which no two hold one packet, which is what a set takes, and the rules that are not in them."""
    groups: dict[AddressRange, list[GuardRule]] = {}
    for each in rules:
        groups.setdefault(each.local, []).append(each)
    chosen: list[AddressRange] = []
    for local in sorted(groups, key=lambda one: (one.version, int(one.low), int(one.high))):
        if chosen and chosen[-1].overlaps(local):  # of those that overlap, the one with most remote networks
            if len(groups[local]) > len(groups[chosen[-1]]) and not (len(chosen) > 1 and chosen[-2].overlaps(local)):
                chosen[-1] = local
            continue
        chosen.append(local)
    picked = set(chosen)
    pairs = [(local, remote) for local in chosen for remote in merge(each.remote for each in groups[local])]
    return pairs, [each for local, group in groups.items() if local not in picked for each in group]


def widen(now: Plan, then: Plan) -> Plan:
    """What holds back all that either of them does, as little changed from `now` as can be: `then` is asked first, and only
    drops."""
    new = [
        GuardRule(SelectorPair(local, remote))
        for version in (4, 6)
        for local, remote in sorted(then.pairs[version] - now.pairs[version], key=str)
    ]
    return Plan(now.tunnels | then.tunnels, now.rules, now.pairs, (*then.rules, *new))


def _device(device: Device) -> str:
    return f'{device[0]} . "{device[1]}"'


def _element(pair: tuple[AddressRange, AddressRange]) -> str:
    return f"{pair[0]} . {pair[1]}"


def _chains(wanted: Plan) -> dict[str, list[str]]:
    """The chains whose rules depend on the configuration, by name."""
    chains: dict[str, list[str]] = {}
    for direction in ("out", "in"):
        outbound = direction == "out"
        for version in (4, 6):
            counter = f"counter name cleartext_{direction}{version}"
            held = f"{_pair_match(direction, version)} {counter} drop"
            further = [each for each in wanted.further if each.local.version == version]
            rules = [line for each in further for line in _lines(each, outbound=outbound, passes="return")]
            chains[f"further_{direction}{version}"] = [*rules, held] if rules else []
            mine = [line for each in wanted.rules if each.local.version == version for line in _lines(each, outbound=outbound)]
            chains[f"{direction}{version}"] = [*_ours(direction), f"jump further_{direction}{version}", *mine, held]
        chains[f"{direction}bound"] = [gate for version in (4, 6) for gate in _gates(wanted, direction, version)]
    return chains


def _ours(direction: str) -> tuple[str, ...]:
    """What comes before every selector: loopback, the tunnels themselves, what a link needs."""
    interface = f"{direction[0]}if"
    return f'{interface} "lo" accept', f"{interface} . {interface}name @tunnels accept", f"jump exempt_{direction}"


def _gates(wanted: Plan, direction: str, version: int) -> list[str]:
    """What every packet of the host meets, so as little as can be: only those with a protected remote address go on.

    A few prefixes are compared as they are, which costs a fraction of a look-up in a set, not to speak of one of pairs.
    """
    ip, address = "ip" if version == 4 else "ip6", "daddr" if direction == "out" else "saddr"
    onward = f"jump {direction}{version}"
    remotes = merge([*wanted.remotes(version), *(remote for _, remote in wanted.pairs[version])])
    if len(remotes) <= GATES_MAX and len(prefixes := [each for one in remotes for each in one.prefixes]) <= GATES_MAX:
        return [f"{ip} {address} {prefix} {onward}" for prefix in prefixes]
    return [f"{ip} {address} @remote{version} {onward}", f"{_pair_match(direction, version)} {onward}"]


def _pair_match(direction: str, version: int) -> str:
    ip = "ip" if version == 4 else "ip6"
    local, remote = ("saddr", "daddr") if direction == "out" else ("daddr", "saddr")
    return f"{ip} {local} . {ip} {remote} @pairs{version}"


def render(gateway: str, wanted: Plan, counts: Mapping[str, Count] | None = None, *, table: str | None = None) -> str:
    """The guard as text for `nft -f -`: one transaction that replaces the table of this gateway, or makes it.

    `counts` are the values that the counters go on from; `table` another name than the guard's.
    """
    lines = [*named_set("tunnels", "iface_index . ifname", map(_device, sorted(wanted.tunnels)))]
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        lines += named_set(f"remote{version}", kind, map(str, wanted.remotes(version)))
        lines += named_set(f"pairs{version}", f"{kind} . {kind}", sorted(map(_element, wanted.pairs[version])))
    for name in COUNTERS:
        count = (counts or {}).get(name, Count())
        lines.append(f"counter {name} {{ packets {count.packets} bytes {count.octets} }}")
    lines += chain("exempt_out", EXEMPT_OUT) + chain("exempt_in", EXEMPT_IN)
    for name, rules in _chains(wanted).items():
        lines += chain(name, [*BASE.get(name, ()), *rules])
    return nft.table(table or table_name(gateway), lines)


def render_closing(gateway: str, wanted: Plan) -> str:
    """A small table that keeps closed what a guard does, as text like that of `render`: it is there in a tenth of the time.

    It compares merged local and remote addresses alone, so it holds back more: also what is between a local network of one selector
    and a remote one of another, by any protocol, and what lies between more than CLOSING_RANGES of them.
    """
    first = max((index + 1 for index, each in enumerate(wanted.rules) if each.bypass), default=0)
    before = wanted.rules[:first] if first < LARGE else ()
    lines = [*named_set("tunnels", "iface_index . ifname", map(_device, sorted(wanted.tunnels)))]
    lines += [f"counter {name} {{ packets 0 bytes 0 }}" for name in COUNTERS]
    lines += chain("exempt_out", EXEMPT_OUT) + chain("exempt_in", EXEMPT_IN)
    gates: dict[str, list[str]] = {"out": [], "in": []}
    for version, kind, ip in ((4, "ipv4_addr", "ip"), (6, "ipv6_addr", "ip6")):
        protected = [each for each in (*wanted.rules, *wanted.further) if not each.bypass and each.local.version == version]
        locals_ = [*(each.local for each in protected), *(local for local, _ in wanted.pairs[version])]
        remotes = [*(each.remote for each in protected), *(remote for _, remote in wanted.pairs[version])]
        if not remotes:
            continue
        lines += named_set(f"local{version}", kind, map(str, _coarsened(merge(locals_))))
        lines += named_set(f"remote{version}", kind, map(str, _coarsened(merge(remotes))))
        for direction, near, far in (("out", "saddr", "daddr"), ("in", "daddr", "saddr")):
            held = f"{ip} {near} @local{version} {ip} {far} @remote{version}"
            passed = [
                line for each in before if each.local.version == version for line in _lines(each, outbound=direction == "out")
            ]
            drop = f"{held} counter name cleartext_{direction}{version} drop"
            lines += chain(f"{direction}{version}", [*_ours(direction), *passed, drop])
            gates[direction].append(f"{ip} {far} @remote{version} jump {direction}{version}")
    for direction, jumps in gates.items():
        lines += chain(f"{direction}bound", [*BASE[f"{direction}bound"], *jumps])
    return nft.table(stand_in_name(gateway), lines)


def _coarsened(ranges: list[AddressRange]) -> list[AddressRange]:
    """At the most CLOSING_RANGES that hold these: those with the least between them are joined."""
    gaps = sorted(range(1, len(ranges)), key=lambda index: int(ranges[index].low) - int(ranges[index - 1].high))
    joined = set(gaps[: max(0, len(ranges) - CLOSING_RANGES)])
    found: list[AddressRange] = []
    for index, each in enumerate(ranges):
        if index in joined:
            found[-1] = AddressRange(found[-1].low, each.high)
        else:
            found.append(each)
    return found


def render_change(gateway: str, now: Plan, wanted: Plan) -> list[str]:
    """What makes the guard of `now` that of `wanted`: transactions, in order. Elements by difference, whole chains that differ.

    The kernel asks new chains a moment before it shows what a set of ranges got in the same transaction, so what chains rely on is
    in the sets before them, and leaves after them. Where pairs differ, `further` of `now` holds back the new ones (see `widen`).
    Counters go on counting. It fails when somebody took the table away, even if nothing differs.
    """
    table = table_name(gateway)
    grown, trimmed = [], []
    for version in (4, 6):
        before, after = now.remotes(version), wanted.remotes(version)
        both = merge([*before, *after])
        grown += _replaced(table, f"remote{version}", before, both)
        trimmed += _replaced(table, f"remote{version}", both, after)
        gone, come = now.pairs[version] - wanted.pairs[version], wanted.pairs[version] - now.pairs[version]
        grown += _elements(table, f"pairs{version}", set(map(_element, gone)), set(map(_element, come)))
    chains = _elements(table, "tunnels", set(map(_device, now.tunnels)), set(map(_device, wanted.tunnels)))
    present = _chains(now)
    for name, rules in _chains(wanted).items():
        if rules != present[name] or name == "further_out4":
            chains.append(f"flush chain inet {table} {name}")
            chains += [f"add rule inet {table} {name} {rule}" for rule in rules]
    return ["".join(f"{line}\n" for line in lines) for lines in (grown, chains, trimmed) if lines]


def _replaced(table: str, name: str, before: list[AddressRange], after: list[AddressRange]) -> list[str]:
    """The lines that give a set of addresses other elements; none where they are the same."""
    if before == after:
        return []
    return [f"flush set inet {table} {name}", *_elements(table, name, set(), set(map(str, after)))]


def _elements(table: str, name: str, before: set[str], after: set[str]) -> list[str]:
    stale, new = sorted(before - after), sorted(after - before)
    return [
        f"{verb} element inet {table} {name} {{ {', '.join(elements)} }}"
        for verb, elements in (("delete", stale), ("add", new))
        if elements
    ]
