"""The MTU of every tunnel: what the path to its peer takes, and what its suites leave of that. No I/O, no clock."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.config.packets import IPV6_MTU_MIN, Packets
from ipsec_dp.dataplane import TunnelSettings
from ipsec_dp.ipsec.suites import Suite, inner_mtu
from ipsec_dp.network.peer_routes import OUTER_MTU
from ipsec_dp.services.path_mtu_state import TunnelMtus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.services.path_mtu_state import PathMtu

TCP_IP = {4: 40, 6: 60}  # octets of headers before a TCP payload without options
MET = 1024  # suites on paths of some MTU that are remembered: thousands of tunnels have the same few
WHOLE = 65535  # octets: whatever the kernel has, it is handed over as it is


class OuterEnds(NamedTuple):
    """A path: a peer, and our address towards it, which may decide the way. `local` None: the one that the kernel chooses."""

    remote: Address
    local: Address | None = None

    def __str__(self) -> str:
        return f"{self.remote}" if self.local is None else f"{self.remote} from {self.local}"


@lru_cache(MET)
def _inner_mtu(outer: int, suite: Suite, udp: bool, version: int) -> int:
    return inner_mtu(outer, suite, "udp" if udp else "esp", version)


class OuterShape(NamedTuple):
    """What is put around an inner packet. `remote` None: a peer that is not known yet."""

    suite: Suite
    udp: bool
    remote: Address | None
    local: Address | None = None

    @property
    def ends(self) -> OuterEnds | None:
        """The path it takes."""
        return None if self.remote is None else OuterEnds(self.remote, self.local)

    def inner(self, outer: int) -> int:
        """Octets of the largest inner packet in an outer one of `outer` octets."""
        version = 4 if self.remote is None else self.remote.version
        return _inner_mtu(outer, self.suite, self.udp, version)


def settings_of(packets: Packets, mtu: int) -> TunnelSettings:
    """What the data plane has to know of a tunnel whose largest inner packet has `mtu` octets."""
    mss = packets.mss_clamp
    fixed = 0 if isinstance(mss, str) else mss
    mss4, mss6 = (mtu - TCP_IP[4], mtu - TCP_IP[6]) if mss == "auto" else (fixed, fixed)
    return TunnelSettings(mtu, mss4, mss6, packets.fragment == "after", packets.dscp_in == "copy")


def ends_of(shapes: Iterable[OuterShape]) -> set[OuterEnds]:
    """The paths to peers that are known."""
    return {ends for shape in shapes if (ends := shape.ends) is not None}


def _by_path(shapes: Iterable[OuterShape]) -> dict[OuterEnds | None, list[OuterShape]]:
    """Addresses are slow to look up, and the shapes of a tunnel mostly go by one path."""
    found: dict[OuterEnds | None, list[OuterShape]] = {}
    last, several = None, list[OuterShape]()
    for shape in shapes:
        if last is None or shape[2:] != last[2:]:
            several = found.setdefault(shape.ends, [])
        several.append(shape)
        last = shape
    return found


class MtuTable:
    """`paths`: what is believed of each path; the caller adds it before the first shape that goes there."""

    def __init__(self) -> None:
        self.paths: dict[OuterEnds, PathMtu] = {}
        self._shapes: dict[str, dict[OuterShape, int]] = {}  # of each tunnel, with the largest inner packet that each leaves
        self._inner: dict[str, dict[int, int]] = {}  # how often each of those, of each tunnel: few, however many peers
        self._at: dict[OuterEnds, dict[str, dict[OuterShape, None]]] = {}  # the shapes that go by a path, of each tunnel
        self._assumed: set[str] = set()  # tunnels whose shapes are not those of SAs that are there
        self._bound: dict[OuterEnds, set[str]] = {}  # tunnels whose packets must fit a path
        self._mtus: dict[str, int] = {}
        self._cut_outside: set[str] = set()  # tunnels whose outer packets may have to be fragmented
        self._whole: tuple[Config, frozenset[str]] | None = None  # `_whole_interfaces` of that configuration

    def __getitem__(self, name: str) -> int:
        """The largest inner packet of a tunnel, in octets."""
        return self._mtus[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the tunnels."""
        return iter(self._mtus)

    def shapes(self, name: str) -> AbstractSet[OuterShape]:
        """Of a tunnel; empty when it has none yet."""
        return self._shapes.get(name, {}).keys()

    def bound(self, ends: OuterEnds) -> AbstractSet[str]:
        """The tunnels whose packets must fit a path."""
        return self._bound.get(ends, set())

    def used(self, ends: OuterEnds) -> bool:
        """Whether packets of any tunnel go by a path."""
        return bool(self._at.get(ends))

    def set_shapes(self, tunnel: Tunnel, shapes: AbstractSet[OuterShape]) -> None:
        """A tunnel's packets look like these from now on, and must fit the paths to their peers."""
        self._take_out(tunnel.name, set(self.shapes(tunnel.name)))
        self._put_in(tunnel, shapes)
        self._assumed.discard(tunnel.name)
        self._settle(tunnel)
        cut = tunnel.packets.fragment == "after" or asks_ports(tunnel)
        (self._cut_outside.add if cut else self._cut_outside.discard)(tunnel.name)

    def assume(self, tunnel: Tunnel, shapes: AbstractSet[OuterShape]) -> None:
        """`set_shapes`, until there is an SA."""
        self.set_shapes(tunnel, shapes)
        self._assumed.add(tunnel.name)

    def reconsider(self, tunnel: Tunnel) -> None:
        """It is configured otherwise: the same shapes leave it something else."""
        assumed = tunnel.name in self._assumed
        self.set_shapes(tunnel, set(self.shapes(tunnel.name)))
        if assumed:
            self._assumed.add(tunnel.name)

    def change_shapes(self, tunnel: Tunnel, came: AbstractSet[OuterShape], gone: AbstractSet[OuterShape]) -> None:
        """SAs with these shapes came or went; the last ones that a tunnel had are assumed while it has none."""
        if tunnel.name in self._assumed:
            if came:
                self.set_shapes(tunnel, came)
            return
        if not came and len(gone) == len(self.shapes(tunnel.name)):
            self._assumed.add(tunnel.name)
            return
        self._take_out(tunnel.name, came)
        self._put_in(tunnel, came)
        self._take_out(tunnel.name, gone)
        self._settle(tunnel)

    def _put_in(self, tunnel: Tunnel, shapes: Iterable[OuterShape]) -> None:
        """Shapes that the tunnel does not have."""
        name = tunnel.name
        inner, counts = self._shapes.setdefault(name, {}), self._inner.setdefault(name, {})
        for ends, several in _by_path(shapes).items():
            outer = self._outer(tunnel, ends)
            for shape in several:
                octets = inner[shape] = shape.inner(outer)
                counts[octets] = counts.get(octets, 0) + 1
            if ends is not None:
                self._at.setdefault(ends, {}).setdefault(name, {}).update(dict.fromkeys(several))
                if _must_fit(tunnel, ends):
                    self._bound.setdefault(ends, set()).add(name)

    def _take_out(self, name: str, shapes: AbstractSet[OuterShape]) -> None:
        """Shapes that the tunnel may have."""
        inner, counts = self._shapes.get(name, {}), self._inner.get(name, {})
        for ends, several in _by_path(shapes & inner.keys()).items():
            for shape in several:
                octets = inner.pop(shape)
                counts[octets] -= 1
                if not counts[octets]:
                    del counts[octets]
            if ends is not None:
                self._leave(name, ends, several)

    def _leave(self, name: str, ends: OuterEnds, shapes: Iterable[OuterShape]) -> None:
        """A tunnel's packets of these shapes go by a path no more."""
        at = self._at[ends]
        for shape in shapes:
            del at[name][shape]
        if not at[name]:
            del at[name]
            self._bound.get(ends, set()).discard(name)

    def forget(self, config: Config) -> None:
        """Drops the tunnels that `config` has no more."""
        for name in [name for name in self._shapes if not config.has_tunnel(name)]:
            self._take_out(name, set(self.shapes(name)))
            del self._shapes[name], self._mtus[name], self._inner[name]
            self._assumed.discard(name)
            self._cut_outside.discard(name)

    def update(self, tunnel: Tunnel, ends: OuterEnds) -> bool:
        """The path changed; whether the tunnel's MTU did."""
        before = self._mtus[tunnel.name]
        shapes = set(self._at.get(ends, {}).get(tunnel.name, ()))
        self._take_out(tunnel.name, shapes)
        self._put_in(tunnel, shapes)
        self._settle(tunnel)
        return self._mtus[tunnel.name] != before

    def _settle(self, tunnel: Tunnel) -> None:
        self._mtus[tunnel.name] = tunnel.packets.mtu or min(self._inner[tunnel.name])

    def _outer(self, tunnel: Tunnel, ends: OuterEnds | None) -> int:
        """Octets of the largest outer packet by a path."""
        if ends is None:
            return OUTER_MTU
        path = self.paths[ends]
        return path.outer if _must_fit(tunnel, ends) else path.link

    def of_host(self, config: Config) -> dict[str, int]:
        """The largest packet that the kernel is to hand over, by tunnel: more than fits where the outer packet is fragmented, and
        everything whole where a rule of the interface asks for ports, which fragments would not show."""
        wanted, whole = {}, self._whole_interfaces(config)
        for tunnel in config.tunnels:
            mtu = self._mtus[tunnel.name]
            if tunnel.interface in whole:
                mtu = WHOLE
            elif tunnel.packets.fragment == "after" and not tunnel.packets.mtu:
                mtu = max([mtu, *(self.paths[ends].link for ends in ends_of(self._shapes[tunnel.name]))])
            wanted[tunnel.name] = mtu
        return wanted

    def _whole_interfaces(self, config: Config) -> frozenset[str]:
        if self._whole is None or self._whole[0] is not config:
            self._whole = config, whole_interfaces(config)
        return self._whole[1]

    def needs_fragments(self, ends: OuterEnds) -> bool:
        """Whether bare ESP by this path must be fragmented: IPv6 packets of 1280 octets no longer fit whole, or what does not fit
        is fragmented outside and it takes less than its first hop."""
        if ends.remote.version != 6:
            return False
        path = self.paths[ends]
        return any(
            shape.inner(path.outer) < IPV6_MTU_MIN or (name in self._cut_outside and path.outer < path.link)
            for name in self.bound(ends)
            for shape in self._at[ends][name]
            if not shape.udp
        )

    def status(self, name: str) -> TunnelMtus:
        """What `status` says of a tunnel."""
        ways = (shape.ends for shape in self.shapes(name))
        paths = [path for ends in ways if ends is not None and (path := self.paths.get(ends)) is not None]
        return TunnelMtus(self._mtus.get(name), min([path.outer for path in paths], default=None))


def asks_ports(tunnel: Tunnel) -> bool:
    """Whether it has a selector that holds no packet without ports: then nothing that came whole is fragmented before it is sealed,
    unless its peer agrees (RFC 4301 §7)."""
    return any(selector.asks_ports for selector in tunnel.selectors)


def whole_interfaces(config: Config) -> frozenset[str]:
    """Those that have a rule which protects certain ports only."""
    named = {policy.tunnel for policy in config.policies if any(selector.asks_ports for selector in policy.selectors)}
    return frozenset(tunnel.interface for tunnel in config.tunnels if tunnel.name in named or asks_ports(tunnel))


def _must_fit(tunnel: Tunnel, ends: OuterEnds) -> bool:
    """Whether its outer packets must fit the path: a fixed MTU is taken as it is, and without DF routers fragment IPv4."""
    return not tunnel.packets.mtu and (tunnel.packets.df != "clear" or ends.remote.version == 6)
