"""Peers that lie behind another tunnel (RFC 4301 Appendix E): found here and refused, for our ESP is not sealed a second time.

What we send to a peer is marked and passes by all tunnels. To a peer inside the remote addresses of another tunnel that would be
beside that tunnel, although policy says to protect it. Whoever reaches such a peer directly says so by a bypass policy. A tunnel
for everything (a default route) says nothing of where a peer is, so there it is told and not refused.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import count
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.util.few_changes import few_changes, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipsec_dp.config.model import Config, Policy, Route, Tunnel
    from ipsec_dp.ipsec.addresses import Address, Network
    from ipsec_dp.ipsec.selectors import SelectorPair

ESP, UDP = 50, 17
OUTER_PORTS = (500, 4500)
OTHERS_MAX = 8  # tunnels looked at over the same prefix: thousands may have one


class Holder(NamedTuple):
    """A tunnel that a peer lies behind, and the prefix of it that holds the peer."""

    tunnel: str
    prefix: Network

    def refusal(self, peer: Address) -> str:
        """Why there is no tunnel to this peer, and what would be right."""
        return (
            f'the peer {peer} lies behind tunnel "{self.tunnel}", which protects {self.prefix}; a tunnel inside it is not made, '
            f"and beside it nothing may leave: {self.remedy(peer)}"
        )

    def remedy(self, peer: Address) -> str:
        return f'take it out of what "{self.tunnel}" protects, or, where it is reached directly, {self.bypass(peer)}'

    @staticmethod
    def bypass(peer: Address) -> str:
        """The policy by which a person says that a peer is reached directly."""
        return f'write a [[policy]] with action = "bypass", protocol = 50 and remote = "{peer}/{peer.max_prefixlen}"'


class _Cover(NamedTuple):
    """One rule over a prefix. `order`: its place in the policy database. `tunnel` None: a bypass."""

    order: int
    tunnel: str | None
    selector: SelectorPair

    def on_this_side(self, peer: Address) -> bool:
        """Where local and remote overlap, remote is what is not local (as `host.guard.separate` has it)."""
        return self.selector.local.contains(peer) and not self.selector.local.covers(self.selector.remote)


def _is_outer(selector: SelectorPair) -> bool:
    """Whether ESP or IKE of this host may be what it holds, as far as protocol and ports tell."""
    protocol, ports = selector.protocol, selector.remote_ports
    if protocol.low <= ESP <= protocol.high:
        return True
    return protocol.low <= UDP <= protocol.high and (
        selector.opaque or any(ports.low <= port <= ports.high for port in OUTER_PORTS)
    )


class Nesting:
    """What lies behind which tunnel. Asked for each peer of thousands of tunnels, so prefixes are looked up by their length."""

    def __init__(self, policies: Sequence[Policy], tunnels: Sequence[Tunnel], routes: Iterable[Route]) -> None:
        self._given, self._written = tunnels, (tuple(policies), tuple(routes))
        self._tunnels = {tunnel.name: tunnel for tunnel in tunnels}
        self._covers: dict[tuple[int, int], dict[int, list[_Cover]]] = {}  # by IP version and length, then by address
        self._order = count(1)
        routed = _routed(tunnels, self._written[1])
        for policy in policies:
            for selector in policy.selectors:
                order = next(self._order)
                if policy.action == "bypass" or policy.tunnel in self._tunnels:
                    name = None if policy.action == "bypass" else policy.tunnel
                    self._add(order, name, selector, () if name is None else routed[name])
        for tunnel in tunnels:
            self._extend(tunnel, routed[tunnel.name])

    @classmethod
    def of(cls, config: Config) -> Nesting:
        return cls(config.policies, config.tunnels, config.routes)

    def adapt(self, config: Config) -> bool:
        """Becomes that of `config`, where few tunnels came or went, no others have prefixes of theirs, and those that stay are in
        the order they had. False, with nothing changed: it cannot.

        Order matters among the tunnels over one prefix, and between bypasses and tunnels, of which there are none without a policy.
        """
        changes = few_changes(self._given, config.tunnels)
        if changes is None or any(self._written) or config.policies or config.routes:
            return False
        if not in_order(self._given, config.tunnels, changes):
            return False
        gone = [(place, tunnel.name) for tunnel in changes.removed for place in _places(tunnel)]
        come = [place for tunnel in changes.added for place in _places(tunnel)]
        free = {place for place, _ in gone}
        if any({cover.tunnel for cover in self._at(place)} != {name} for place, name in gone):
            return False
        if len(set(come)) != len(come) or any(place not in free and self._at(place) for place in come):
            return False
        for version, length, low in free:
            del self._covers[version, length][low]
        for tunnel in changes.removed:
            del self._tunnels[tunnel.name]
        for tunnel in changes.added:
            self._tunnels[tunnel.name] = tunnel
            self._extend(tunnel, tunnel.routes)
        self._given = config.tunnels
        return True

    def _at(self, place: _Place) -> Sequence[_Cover]:
        return self._covers.get(place[:2], {}).get(place[2], ())

    def _extend(self, tunnel: Tunnel, routed: Sequence[Network]) -> None:
        for selector in tunnel.selectors:
            self._add(next(self._order), tunnel.name, selector, routed)

    def _add(self, order: int, tunnel: str | None, selector: SelectorPair, routed: Sequence[Network]) -> None:
        for length, low in _outer_prefixes(selector, None if tunnel is None else routed):
            covers = self._covers.setdefault((selector.version, length), {}).setdefault(low, [])
            if not covers or tunnel is None or sum(cover.tunnel not in (None, tunnel) for cover in covers) < OTHERS_MAX:
                covers.append(_Cover(order, tunnel, selector))

    def _over(self, peer: Address) -> Iterator[tuple[_Cover, int]]:
        """Every rule over a peer with the length of its prefix, the longest first."""
        for version, length in sorted(self._covers, reverse=True):
            if version == peer.version:
                rest = peer.max_prefixlen - length
                for cover in self._covers[version, length].get(int(peer) >> rest << rest, ()):
                    yield cover, length

    def _first(self, peer: Address, local: Address | None, shortest: int, exempt: Callable[[Tunnel], bool]) -> Holder | None:
        bypass, found = inf, list[tuple[int, str, int]]()
        for cover, length in self._over(peer):
            if cover.tunnel is not None:
                if length >= shortest and not cover.on_this_side(peer) and not exempt(self._tunnels[cover.tunnel]):
                    found.append((cover.order, cover.tunnel, length))
            elif local is None or cover.selector.local.contains(local):
                bypass = min(bypass, cover.order)
        first = next((one for one in found if one[0] < bypass), None)
        return None if first is None else Holder(first[1], ip_network((peer, first[2]), strict=False))

    def holder(self, name: str, peer: Address, local: Address | None = None, *, shortest: int = 1) -> Holder | None:
        """The other tunnel that a peer of this tunnel lies behind. `local`: our address towards it, None: not known yet.
        `shortest`: of the prefixes that count.

        A tunnel to the very same peer is none: what is sent to that peer cannot be inside.
        """
        mine = self._tunnels.get(name)
        same = {peer} if mine is None else {peer, *mine.remotes}
        return self._first(peer, local, shortest, lambda tunnel: tunnel.name == name or not same.isdisjoint(tunnel.remotes))

    def of_stranger(self, peer: Address) -> Holder | None:
        """The tunnel that somebody lies behind who cannot be that tunnel's own peer: an answer would leave beside it."""
        return self._first(peer, None, 1, lambda tunnel: peer in tunnel.remotes or not _peers_known(tunnel))

    def silent(self) -> list[AddressRange]:
        """Where nobody is who may have an answer at once, whatever he asks: what tunnels to known peers protect, those peers apart,
        in order. Bypasses make no difference here, so it may be more than `of_stranger` refuses."""
        known = {name for name, tunnel in self._tunnels.items() if _peers_known(tunnel)}
        found = list[_Span]()
        for (version, length), rows in self._covers.items():
            others = (1 << (32 if version == 4 else 128) - length) - 1
            for low, covers in rows.items() if length else ():
                if covers[0].tunnel in known or any(cover.tunnel in known for cover in covers):
                    found.append((version, low, low + others))
        addresses = (one for tunnel in self._tunnels.values() for one in tunnel.remotes if not isinstance(one, str))
        peers = {(one.version, int(one)): one for one in addresses}
        holes = sorted(place for place, one in peers.items() if self.of_stranger(one) is None)
        return [_range(*one) for one in _without(_merged(sorted(found)), holes)]


_Span = tuple[int, int, int]  # IP version, first and last address
_Place = tuple[int, int, int]  # IP version, length and first address of a prefix


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    """The same addresses without overlaps; `spans` are in order."""
    merged: list[_Span] = []
    for version, low, high in spans:
        if merged and merged[-1][0] == version and low <= merged[-1][2] + 1:
            merged[-1] = version, merged[-1][1], max(high, merged[-1][2])
        else:
            merged.append((version, low, high))
    return merged


def _without(spans: Iterable[_Span], holes: Sequence[tuple[int, int]]) -> Iterator[_Span]:
    """What is left when single addresses are taken out; both are in order."""
    for version, low, high in spans:
        begin = low
        for _, hole in holes[bisect_left(holes, (version, low)) : bisect_right(holes, (version, high))]:
            if begin < hole:
                yield version, begin, hole - 1
            begin = hole + 1
        if begin <= high:
            yield version, begin, high


def _range(version: int, low: int, high: int) -> AddressRange:
    kind = IPv4Address if version == 4 else IPv6Address
    return AddressRange(kind(low), kind(high))


def _outer_prefixes(selector: SelectorPair, routed: Sequence[Network] | None) -> list[tuple[int, int]]:
    """Length and first address of the prefixes to which a rule decides on ESP or IKE of this host. `routed`: into the tunnel that
    the rule is for; None: a bypass."""
    if not _is_outer(selector):
        return []
    prefixes = _prefixes(selector.remote)
    if routed is None or (0, 0) not in prefixes:
        return prefixes
    version = selector.version  # the routes say what of everything is meant
    return [(prefix.prefixlen, int(prefix.network_address)) for prefix in routed if prefix.version == version]


def _places(tunnel: Tunnel) -> set[_Place]:
    """The prefixes of a tunnel that no [[route]] names."""
    return {(selector.version, *prefix) for selector in tunnel.selectors for prefix in _outer_prefixes(selector, tunnel.routes)}


def _prefixes(remote: AddressRange) -> list[tuple[int, int]]:
    """Length and first address of the prefixes that are the same addresses; quick where it is one, as it is mostly."""
    low = int(remote.low)
    differing = low ^ int(remote.high)
    if differing & (differing + 1) == 0 and low & differing == 0:
        return [(remote.low.max_prefixlen - differing.bit_length(), low)]
    return [(prefix.prefixlen, int(prefix.network_address)) for prefix in remote.prefixes]


def _peers_known(tunnel: Tunnel) -> bool:
    """Whether a tunnel's peers are addresses, neither "any" nor names."""
    return bool(tunnel.remotes) and str not in map(type, tunnel.remotes)


def _routed(tunnels: Iterable[Tunnel], routes: Iterable[Route]) -> dict[str, list[Network]]:
    """The prefixes that are routed into each tunnel."""
    routed = {tunnel.name: list(tunnel.routes) for tunnel in tunnels}
    for route in routes:
        routed.setdefault(route.tunnel, []).append(route.prefix)
    return routed
