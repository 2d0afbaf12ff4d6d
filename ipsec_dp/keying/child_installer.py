"""CHILD_SAs of the IKE core in the SAD: carries out the actions that are about them.

The core names a CHILD_SA by a number that changes with each rekey. In the data plane a rekey of the same selectors keeps its CHILD
and switches it to the new outbound SA in one store, so that no packet finds it without one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp import dataplane
from ipsec_dp.dataplane import Direction, Encapsulation, Limits, OuterPath, SaParams
from ipsec_dp.ike.environment import NEVER, SILENT, Activity
from ipsec_dp.util.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_records import ChildSa
    from ipsec_dp.dataplane import SaHandle
    from ipsec_dp.ike.actions import (
        ChildLimits,
        Endpoint,
        ExpectInbound,
        InstallInbound,
        InstallOutbound,
        MovePath,
        Path,
        SwitchOutbound,
    )
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.ipsec.suites import Suite

NS_PER_S = 1e9


@dataclass(slots=True)
class IkeChild:
    """One CHILD_SA of the core. `child` is its place in the SAD while packets go by it."""

    tunnel: str
    suite: Suite
    selectors: tuple[SelectorPair, ...]
    path: Path
    udp: bool
    inbound: SaHandle
    outbound: SaHandle | None = None
    outer: OuterPath | None = None  # of `outbound`
    child: ChildSa | None = None

    @property
    def way(self) -> OuterWay:
        return OuterWay(self.suite, self.udp, self.path.remote.address, self.path.local.address)


def _limits(limits: ChildLimits) -> Limits:
    return Limits(limits.soft_octets, limits.hard_octets, limits.soft_packets, limits.hard_packets)


def outer_endpoint(endpoint: Endpoint, *, udp: bool = True) -> dataplane.Endpoint:
    """An end of IKE's as the data plane names it; without `udp` it has no port."""
    return dataplane.Endpoint(endpoint.address, endpoint.port if udp else 0, endpoint.scope)


class OuterWay(NamedTuple):
    """How packets of a CHILD_SA travel."""

    suite: Suite
    udp: bool
    remote: Address
    local: Address


class IkeChildren:
    """All of a gateway. `link` opens or finds the data plane's link for a local end; numbers come from the SPD. `outer_header`
    gives a tunnel's path the outer headers that its configuration says; `keyed` hears of each SA with its key."""

    def __init__(
        self,
        sad: Sad,
        link: Callable[[dataplane.Endpoint, Encapsulation], int],
        tunnel_numbers: Mapping[str, int],
        interfaces: Mapping[str, int],
        outer_header: Callable[[str, OuterPath], OuterPath] = lambda _, path: path,
        keyed: Callable[[SaParams], None] = lambda _: None,
    ) -> None:
        self._sad = sad
        self._outer_header, self._keyed = outer_header, keyed
        self._link = link
        self._tunnels = tunnel_numbers
        self._interfaces = interfaces
        self._children: dict[int, IkeChild] = {}
        self._by_handle: dict[SaHandle, int] = {}
        self._of_tunnel: dict[str, dict[int, IkeChild]] = {}
        self._ways: dict[str, Counter[OuterWay]] = {}  # of each tunnel's CHILD_SAs
        self._touched: dict[str, dict[OuterWay, bool]] = {}  # whether there was such a one at the last `new_ways`

    def named(self, handle: SaHandle) -> tuple[str, int] | None:
        """Tunnel and number of the CHILD_SA that an SA belongs to."""
        number = self._by_handle.get(handle)
        return None if number is None else (self._children[number].tunnel, number)

    def of(self, tunnel: str) -> list[IkeChild]:
        """Those of a tunnel, oldest first."""
        return list(self._of_tunnel.get(tunnel, {}).values())

    def new_ways(self, tunnel: str) -> tuple[set[OuterWay], set[OuterWay]]:
        """The ways that its CHILD_SAs have now and had not at the last call; those that no CHILD_SA has any more."""
        touched = self._touched.pop(tunnel, {})
        ways: Mapping[OuterWay, int] = self._ways.get(tunnel, {})
        return {way for way, had in touched.items() if way in ways and not had}, {
            way for way, had in touched.items() if had and way not in ways
        }

    def _count_way(self, tunnel: str, way: OuterWay, more: int) -> None:
        ways = self._ways.setdefault(tunnel, Counter())
        self._touched.setdefault(tunnel, {}).setdefault(way, way in ways)
        ways[way] += more
        if not ways[way]:
            del ways[way]
        if not ways:
            del self._ways[tunnel]

    def spis(self) -> Iterator[tuple[int, int, OuterPath]]:
        """Of each CHILD_SA that has both its SAs: the inbound and the outbound SPI, and where it sends."""
        records = self._sad.records
        for child in self._children.values():
            if child.outbound is not None and child.outer is not None:
                yield records[child.inbound].spi, records[child.outbound].spi, child.outer

    def sends(self, tunnel: str) -> bool:
        """Whether packets of a tunnel find an SA."""
        return any(child.child is not None for child in self._of_tunnel.get(tunnel, {}).values())

    def paths(self) -> dict[str, OuterPath]:
        """Each tunnel's newest way out."""
        return {child.tunnel: child.outer for child in self._children.values() if child.outer is not None}

    def _path(self, tunnel: str, path: Path, *, udp: bool) -> OuterPath:
        encapsulation = Encapsulation.UDP if udp else Encapsulation.ESP
        local = outer_endpoint(path.local, udp=udp)
        return self._outer_header(
            tunnel, OuterPath(local, outer_endpoint(path.remote, udp=udp), encapsulation, self._link(local, encapsulation))
        )

    def expect(self, action: ExpectInbound) -> None:
        """What comes on this SPI from the peer is kept for the SA that is under negotiation. Raises DataPlaneError."""
        self._path(action.tunnel, action.path, udp=action.udp)  # it must find a socket
        self._sad.expect_spi(action.spi, outer_endpoint(action.path.remote))

    def install_inbound(self, action: InstallInbound) -> None:
        """Receives from now on. Raises DataPlaneError."""
        self._path(action.tunnel, action.path, udp=action.udp)  # what the peer sends must find a socket
        handle = self._install(
            SaParams(
                direction=Direction.INBOUND,
                spi=action.spi,
                suite=action.suite,
                keymat=action.keymat,
                tunnel=self._tunnels[action.tunnel],
                limits=_limits(action.limits),
                interface=self._interfaces[action.tunnel],
                selectors=action.selectors,
                replay_window=action.replay_window,
                peer=outer_endpoint(action.path.remote, udp=action.udp),
                fragments_also=action.fragments_also,
                resource=action.resource,
            )
        )
        child = IkeChild(action.tunnel, action.suite, action.selectors, action.path, action.udp, handle)
        self._children[action.child] = self._of_tunnel.setdefault(action.tunnel, {})[action.child] = child
        self._count_way(action.tunnel, child.way, 1)
        self._by_handle[handle] = action.child

    def install_outbound(self, action: InstallOutbound) -> None:
        child = self._children[action.child]
        child.outer = self._path(action.tunnel, action.path, udp=action.udp)
        child.outbound = self._install(
            SaParams(
                direction=Direction.OUTBOUND,
                spi=action.spi,
                suite=action.suite,
                keymat=action.keymat,
                tunnel=self._tunnels[action.tunnel],
                limits=_limits(action.limits),
                path=child.outer,
                fragments_also=action.fragments_also,
                resource=action.resource,
            )
        )
        self._by_handle[child.outbound] = action.child

    def _install(self, params: SaParams) -> SaHandle:
        if not self._sad.adopts:  # its key was told when it was made
            self._keyed(params)
        return self._sad.install(params)

    def switch(self, action: SwitchOutbound) -> None:
        new = self._children[action.child]
        old = None if action.replaces is None else self._children.get(action.replaces)
        if old is not None and old.child is not None and set(old.selectors) == set(new.selectors):
            new.child, old.child = old.child, None
        if new.child is None:
            there = self._sad.adopted_child(new.outbound)
            new.child = self._sad.add_child(self._tunnels[action.tunnel], new.selectors) if there is None else there
        self._sad.switch(new.child, new.outbound, new.inbound)

    def remove_outbound(self, number: int) -> None:
        child = self._children.get(number)
        if child is not None and child.outbound is not None:
            handle, child.outbound = child.outbound, None
            self._forget(handle)

    def remove(self, number: int) -> None:
        """All that is left of it; a number that is gone already is none of our business any more."""
        child = self._children.pop(number, None)
        if child is None:
            return
        self._count_way(child.tunnel, child.way, -1)
        del self._of_tunnel[child.tunnel][number]
        if not self._of_tunnel[child.tunnel]:
            del self._of_tunnel[child.tunnel]
        if child.child is not None:
            self._sad.switch(child.child, None)
            child.child.inbound = None
            self._sad.remove_child(child.child)
        for handle in (child.outbound, child.inbound):
            if handle is not None:
                self._forget(handle)

    def _forget(self, handle: SaHandle) -> None:
        del self._by_handle[handle]
        self._sad.remove(handle)

    def move(self, action: MovePath) -> None:
        """Outbound SAs follow the peer to its new address."""
        for number in action.children:
            child = self._children.get(number)
            if child is not None and child.outbound is not None:
                self._count_way(child.tunnel, child.way, -1)
                child.path = action.path
                self._count_way(child.tunnel, child.way, 1)
                child.outer = self._path(child.tunnel, action.path, udp=child.udp)
                self._sad.set_path(child.outbound, child.outer)

    async def set_outer_headers(self) -> None:
        """The configuration changed: SAs that stay get the outer headers that it says now."""
        async for child in in_slices(tuple(self._children.values())):
            if child.outbound is not None and child.outer is not None:
                outer = self._outer_header(child.tunnel, child.outer)
                if outer != child.outer:
                    child.outer = outer
                    self._sad.set_path(child.outbound, outer)

    def release_spi(self, spi: int) -> None:
        """No SA was made of it."""
        self._sad.release_spi(spi)

    def activity(self, number: int) -> Activity:
        """When ESP was last received and sent, in seconds of the monotonic clock."""
        child = self._children.get(number)
        if child is None:
            return SILENT
        received, sent = (NEVER if handle is None else self._last(handle) for handle in (child.inbound, child.outbound))
        return Activity(received, sent)

    def _last(self, handle: SaHandle) -> float:
        last = self._sad.last_use(handle)
        return last / NS_PER_S if last else NEVER
