"""The guard: an nftables table that lets no protected traffic past the tunnel, in neither direction.

Outbound, a packet between protected addresses that leaves by another interface than a tunnel interface is dropped. Inbound, a
packet that arrives in clear and claims to come from a protected remote address is dropped (RFC 4301 §5.2: what policy says must be
protected must have been). The table belongs to the kernel, not to the process: it holds while the daemon starts, after it crashed
or was killed, and, if asked for, after it stopped. `render` is a pure function; `Guard` hands its text to nft as one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.addresses import AddressRange, merge, subtract
from ipsec_dp.host import INTERFACE_NAME, MARK, nft
from ipsec_dp.host.nft import Count, chain, named_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TABLE_PREFIX = "ipsec_dp_"

Ports = tuple[int, int]

# After the destination is final but before masquerading changes the source (srcnat is 100): postrouting sees forwarded and local
# packets and the interface they really leave by, also when a mark re-routed them.
OUTBOUND_PRIORITY = -150
# After destination translation (dstnat is -100), so that what the rules compare is where the packet goes.
INBOUND_PRIORITY = -90

PORT_PROTOCOLS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
ICMP = {1: "icmp", 58: "icmpv6"}
IKE_PORTS = "{ 500, 4500 }"

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

COUNTERS = ("cleartext_out4", "cleartext_out6", "cleartext_in4", "cleartext_in6")

# What a link needs for itself and what carries the tunnel; only reached by packets between protected addresses, so it matters where
# selectors hold the host's own addresses (0.0.0.0/0). Nothing here lets a *forwarded* packet through: `fib … type local` says that
# the address is the host's own, and hop limit 255 that no router passed the packet on (RFC 4861 §7.1).
EXEMPT_OUT = (
    f"meta mark {MARK:#x} fib saddr type local accept",  # our ESP, IKE and ESP in UDP
    "ip daddr { 169.254.0.0/16, 224.0.0.0/24, 255.255.255.255 } fib saddr type local accept",
    "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
    "udp sport 68 udp dport 67 fib saddr type local accept",
    "ip6 daddr { fe80::/10, ff02::/16 } accept",  # never forwarded (RFC 4291 §2.5.6, §2.7)
    "icmpv6 type 133-137 ip6 hoplimit 255 accept",
)
EXEMPT_IN = (
    "meta l4proto 50 fib daddr type local accept",
    f"udp dport {IKE_PORTS} fib daddr type local accept",
    "ip frag-off & 0x1fff != 0 fib daddr type local accept",  # of no use without the first fragment, which has its port
    "frag frag-off != 0 fib daddr type local accept",
    "ip saddr 169.254.0.0/16 fib daddr type { local, broadcast } accept",
    "ip daddr { 224.0.0.0/24, 255.255.255.255 } accept",
    "udp sport 67 udp dport 68 fib daddr type { local, broadcast } accept",
    "ip6 saddr fe80::/10 accept",
    "icmpv6 type 133-137 ip6 hoplimit 255 accept",
    # ICMP errors about our own outer packets (path MTU): protocol and source port of the packet they quote
    "icmp type { 3, 11, 12 } fib daddr type local @th,136,8 50 accept",
    f"icmp type {{ 3, 11, 12 }} fib daddr type local @th,136,8 17 @th,224,16 {IKE_PORTS} accept",
    "icmpv6 type 1-4 fib daddr type local @th,112,8 50 accept",
    f"icmpv6 type 1-4 fib daddr type local @th,112,8 17 @th,384,16 {IKE_PORTS} accept",
)


@dataclass(frozen=True)
class Selector:
    """One ordered entry of the policy, of one IP version. The first that holds a packet decides, as in the SPD (RFC 4301 §4.4.1).

    `protocol` 0..255, None: any. Ports are bounds, both included; None: any, and they only count under protocols that have ports.
    Under ICMP both are one type with a range of codes, as type << 8 | code (RFC 4301 §4.4.1.1). `bypass` lets the packet through
    in clear. ValueError when local and remote are not of one IP version.
    """

    local: AddressRange
    remote: AddressRange
    protocol: int | None = None
    local_ports: Ports | None = None
    remote_ports: Ports | None = None
    bypass: bool = False

    def __post_init__(self) -> None:
        if self.local.version != self.remote.version:
            raise ValueError(f"{self.local} and {self.remote} are of different IP versions")


def table_name(gateway: str) -> str:
    """The nftables table of a gateway, see `nft.escaped`. ValueError: name too long."""
    return TABLE_PREFIX + nft.escaped(gateway)


def narrow(selectors: Iterable[Selector], routed: Sequence[AddressRange]) -> list[Selector]:
    """The selectors, those that protect every remote address (0.0.0.0/0, ::/0) cut down to what is routed into the tunnel.

    With such proxy IDs it is the routes that say what is interesting; without this, a tunnel for one remote network would close the
    host to all others. Selectors that name their remote addresses stay whole: they are protected however they are routed.
    """
    narrowed: list[Selector] = []
    for each in selectors:
        if each.bypass or each.remote not in EVERYTHING:
            narrowed.append(each)
            continue
        parts = merge(part for part in routed if part.version == each.remote.version)
        narrowed += [_with_remote(each, part) for part in parts]
    return narrowed


def separate(selectors: Iterable[Selector], inside: Sequence[AddressRange]) -> list[Selector]:
    """The selectors with remote addresses taken out that are on this side, where local and remote overlap.

    Local 10.1.0.0/24 and remote 0.0.0.0/0: a packet from one local host to another is not for the tunnel, so remote is what is not
    local. Where that leaves nothing (0.0.0.0/0 on both sides, or a hub that is one part of 10.0.0.0/8), `inside` says which
    networks are on this side: those attached that the peer is not reached through.
    """
    separated: list[Selector] = []
    for each in selectors:
        if each.bypass or not each.local.overlaps(each.remote):
            separated.append(each)
            continue
        parts = subtract(each.remote, [each.local]) or subtract(each.remote, inside)
        separated += [_with_remote(each, part) for part in parts]
    return separated


def _with_remote(selector: Selector, remote: AddressRange) -> Selector:
    ports = (selector.local_ports, selector.remote_ports)
    return Selector(selector.local, remote, selector.protocol, *ports, bypass=selector.bypass)


def upper_match(selector: Selector, local: str, remote: str) -> str:
    """The match of ports ("sport" or "dport" for either side) or ICMP types; empty: any. A space stands before it."""
    if selector.protocol in ICMP and selector.local_ports is not None:
        (low, high), name = selector.local_ports, ICMP[selector.protocol]
        codes = "" if (low & 255, high & 255) == (0, 255) else f" {name} code {low & 255}-{high & 255}"
        return f" {name} type {low >> 8}{codes}"
    if selector.protocol not in PORT_PROTOCOLS:
        return ""
    bounds = ((local, selector.local_ports), (remote, selector.remote_ports))
    return "".join(f" th {name} {low}-{high}" for name, ports in bounds if ports is not None for low, high in (ports,))


def _rules(selector: Selector, *, outbound: bool) -> list[str]:
    ip = "ip" if selector.local.version == 4 else "ip6"
    local, remote = ("saddr", "daddr") if outbound else ("daddr", "saddr")
    counter = f"counter name cleartext_{'out' if outbound else 'in'}{selector.local.version}"
    verdict = "accept" if selector.bypass else f"{counter} drop"
    addresses = f"{ip} {local} {selector.local} {ip} {remote} {selector.remote}"
    if selector.protocol is None:
        return [f"{addresses} {verdict}"]
    rule = f"{addresses} meta l4proto {selector.protocol}"
    upper = upper_match(selector, *(("sport", "dport") if outbound else ("dport", "sport")))
    fragment = FRAGMENT[selector.local.version, bool(upper)]
    return [f"{rule}{upper} {verdict}", *([f"{addresses} {fragment} {verdict}"] if fragment and not selector.bypass else [])]


def render(gateway: str, selectors: Sequence[Selector], tunnels: Iterable[str], counts: Mapping[str, Count] | None = None) -> str:
    """The guard as text for `nft -f -`: one transaction that replaces the table of this gateway, or makes it.

    `selectors` in policy order (see `narrow` and `separate`), `tunnels` the names of our tunnel interfaces, which need not exist.
    `counts` are the values that the counters go on from. ValueError: a name that cannot be an interface's.
    """
    names = sorted(set(tunnels))
    for name in names:
        if not INTERFACE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an interface")
    lines = [*named_set("tunnels", "ifname", (f'"{name}"' for name in names))]
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        remote = merge(each.remote for each in selectors if each.remote.version == version and not each.bypass)
        lines += named_set(f"remote{version}", kind, map(str, remote))
    for name in COUNTERS:
        count = (counts or {}).get(name, Count())
        lines.append(f"counter {name} {{ packets {count.packets} bytes {count.octets} }}")
    lines += chain("exempt_out", EXEMPT_OUT) + chain("exempt_in", EXEMPT_IN)
    for direction in ("out", "in"):
        for version in (4, 6):
            mine = [each for each in selectors if each.local.version == version]
            rules = [rule for each in mine for rule in _rules(each, outbound=direction == "out")]
            lines += chain(f"{direction}{version}", [f"jump exempt_{direction}", *rules])
    lines += _base_chain("out", "oif", "daddr", f"postrouting priority {OUTBOUND_PRIORITY}")
    lines += _base_chain("in", "iif", "saddr", f"prerouting priority {INBOUND_PRIORITY}")
    return nft.table(table_name(gateway), lines)


def _base_chain(direction: str, interface: str, address: str, hook: str) -> list[str]:
    rules = (
        f"type filter hook {hook}; policy accept;",
        f'{interface} "lo" accept',
        f"{interface}name @tunnels accept",
        f"ip {address} @remote4 jump {direction}4",
        f"ip6 {address} @remote6 jump {direction}6",
    )
    return chain(f"{direction}bound", rules)


async def leftovers() -> list[str]:
    """The names of all guard tables that there are, of running gateways too."""
    return sorted(name for name in await nft.tables() if name.startswith(TABLE_PREFIX))


class Guard:
    """The guard of one gateway in the network namespace of the calling thread. HostError when nft is missing or refuses."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.table = table_name(gateway)

    async def exists(self) -> bool:
        return self.table in await nft.tables()

    async def apply(self, selectors: Sequence[Selector], tunnels: Iterable[str]) -> None:
        """Makes the guard or replaces it, also one that a killed process left, in one transaction: there is no moment without."""
        await nft.transact(render(self.gateway, selectors, tunnels, await self.counts()))

    async def counts(self) -> dict[str, Count]:
        """What was dropped since the guard was first made, by COUNTERS; empty without a guard."""
        return await nft.counts(self.table)

    async def remove(self) -> None:
        """Takes the guard away, if there is one."""
        await nft.remove(self.table)
