"""The SAs of a SAD as they are made, without a key and without what they have used: what another process has ready before they
come.

It is told all of them once, and then what has changed since; SAs and CHILD_SAs are named as their source names them.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
from typing import TYPE_CHECKING

from msgspec import Struct

from ipsec_dp.dataplane import Direction, Encapsulation, Limits, SaHandle, SaParams
from ipsec_dp.dataplane.carried import PathValue
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host import HostError
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import Range, SelectorPair
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.util.leaves import Here, Sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_records import ChildSa, SaRecord
    from ipsec_dp.dataplane import Endpoint, OuterPath

log = logging.getLogger(__name__)

_Addresses = tuple[bytes, bytes]
_Numbers = tuple[int, int]
PairShape = tuple[_Addresses, _Addresses, _Numbers, _Numbers, _Numbers]
"""`SelectorPair`: both sides' first and last address, protocols, and both sides' ports."""


class SaShape(Struct, frozen=True, array_like=True):
    """As `SaParams`. `tunnel`: its name; `installed`: seconds of this host's clock."""

    handle: Here[int]
    direction: Sealed[int]
    spi: Sealed[int]
    suite: Sealed[str]
    tunnel: Sealed[str]
    selectors: Sealed[tuple[PairShape, ...]]
    limits: Sealed[tuple[int, int, int, int]]
    replay_window: Sealed[int]
    fragments_also: Sealed[bool]
    path: Sealed[PathValue | None]
    installed: Here[float]
    resource: Sealed[int]


class ChildShape(Struct, frozen=True, array_like=True):
    """`ChildSa`, with the SAs that it receives and sends by."""

    number: Here[int]
    tunnel: Sealed[str]
    selectors: Sealed[tuple[PairShape, ...]]
    inbound: Here[int | None]
    outbound: Here[int | None]


class SadShape(Struct, frozen=True):
    """What has changed: SAs that are gone, that are there or send elsewhere now; CHILD_SAs that are gone, that are there or have
    other SAs now, in the order in which packets find them."""

    gone: Here[list[int]]
    sas: Here[list[SaShape]]
    ended: Here[list[int]]
    children: Here[list[ChildShape]]


def _addresses(some: AddressRange) -> _Addresses:
    return some.low.packed, some.high.packed


def _pairs(selectors: Iterable[SelectorPair]) -> tuple[PairShape, ...]:
    return tuple(
        (_addresses(one.local), _addresses(one.remote), one.protocol[:], one.local_ports[:], one.remote_ports[:])
        for one in selectors
    )


def _range(ends: _Addresses) -> AddressRange:
    return AddressRange(ipaddress.ip_address(ends[0]), ipaddress.ip_address(ends[1]))


def _selectors(pairs: tuple[PairShape, ...]) -> tuple[SelectorPair, ...]:
    """Raises ValueError."""
    return tuple(SelectorPair(_range(ours), _range(theirs), *map(Range._make, numbers)) for ours, theirs, *numbers in pairs)


class ToldSad:
    """What another process was told of a SAD. `names`: tunnels by number; an SA of another one belongs to nobody."""

    def __init__(self, sad: Sad, names: Mapping[int, str]) -> None:
        self._sad, self._names = sad, names
        self._paths: dict[SaHandle, OuterPath | None] = {}
        self._ends: dict[int, tuple[SaHandle | None, SaHandle | None]] = {}  # of CHILD_SAs

    def news(self) -> SadShape:
        """What has changed since the last call; all, at the first."""
        sas, children, paths, ends, names = self._sad.records, self._sad.children, self._paths, self._ends, self._names
        nowhere = object()
        new = [one for handle, one in sas.items() if paths.get(handle, nowhere) is not one.path and one.tunnel in names]
        now = [child for number, child in children.items() if ends.get(number) != (child.inbound, child.outbound)]
        now = [child for child in now if child.tunnel in names]
        said = SadShape(
            gone=[int(handle) for handle in paths if handle not in sas],
            sas=[self._sa(one) for one in new],
            ended=[number for number in ends if number not in children],
            children=[self._child(child) for child in now],
        )
        for gone in said.gone:
            del paths[SaHandle(gone)]
        for number in said.ended:
            del ends[number]
        paths.update((one.handle, one.path) for one in new)
        ends.update((child.number, (child.inbound, child.outbound)) for child in now)
        return said

    def _sa(self, one: SaRecord) -> SaShape:
        some = one.limits
        return SaShape(
            handle=int(one.handle),
            direction=int(one.direction),
            spi=one.spi,
            suite=str(one.suite),
            tunnel=self._names[one.tunnel],
            selectors=_pairs(one.selectors),
            limits=(some.soft_octets, some.hard_octets, some.soft_packets, some.hard_packets),
            replay_window=one.replay_window or 0,
            fragments_also=one.fragments_also,
            path=None if one.path is None else PathValue.of(one.path),
            installed=one.installed,
            resource=one.resource,
        )

    def _child(self, child: ChildSa) -> ChildShape:
        return ChildShape(child.number, self._names[child.tunnel], _pairs(child.selectors), child.inbound, child.outbound)


class StandingSad:
    """The SAs of another process, ready in ours, where each waits for its record. `tunnels` and `interfaces`: our numbers, by
    tunnel; `link` finds the link of a path."""

    def __init__(
        self,
        sad: Sad,
        tunnels: Mapping[str, int],
        interfaces: Mapping[str, int],
        link: Callable[[Endpoint, Encapsulation], int],
    ) -> None:
        self._sad, self._tunnels, self._interfaces, self._link = sad, tunnels, interfaces, link
        self.handles: dict[int, SaHandle] = {}
        self._children: dict[int, ChildSa] = {}
        self._suite = functools.cache(parse_suite)
        self._selectors = functools.cache(_selectors)  # an SA that receives has those of its CHILD_SA

    def take(self, said: SadShape) -> list[str]:
        """Makes it so. What cannot be made and why, which leaves the rest as it is to be."""
        failed: list[str] = []
        sad = self._sad
        for number in said.ended:
            if (ended := self._children.pop(number, None)) is not None:
                sad.forget_child(ended)
        for gone in said.gone:
            if (handle := self.handles.pop(gone, None)) is not None:
                sad.remove(handle)
        with sad.awaiting():
            for one in said.sas:
                try:
                    self._take_sa(one)
                except (DataPlaneError, HostError, LookupError, ValueError) as error:
                    failed.append(f'an SA of tunnel "{one.tunnel}": {error}')
            for child in said.children:
                try:
                    self._take_child(child)
                except (DataPlaneError, LookupError, ValueError) as error:
                    failed.append(f'a CHILD_SA of tunnel "{child.tunnel}": {error}')
        return failed

    def _take_sa(self, one: SaShape) -> None:
        direction = Direction(one.direction)
        path = None
        if one.path is not None:
            local, encapsulation = one.path.local.endpoint, Encapsulation(one.path.encapsulation)
            path = one.path.over(self._link(local, encapsulation))
        if one.handle in self.handles:
            if path is not None:
                self._sad.set_path(self.handles[one.handle], path)
            return
        params = SaParams(
            direction=direction,
            spi=one.spi,
            suite=self._suite(one.suite),
            keymat=b"",
            tunnel=self._tunnels[one.tunnel],
            limits=Limits(*one.limits),
            fragments_also=one.fragments_also,
            resource=one.resource,
            selectors=self._selectors(one.selectors),
            path=path,
            interface=self._interfaces[one.tunnel] if direction is Direction.INBOUND else None,
            replay_window=one.replay_window,
        )
        self.handles[one.handle] = handle = self._sad.install(params)
        self._sad.records[handle].installed = one.installed

    def _take_child(self, one: ChildShape) -> None:
        child = self._children.get(one.number)
        if child is None:
            child = self._sad.add_child(self._tunnels[one.tunnel], self._selectors(one.selectors))
            self._children[one.number] = child
        outbound, inbound = (None if each is None else self.handles.get(each) for each in (one.outbound, one.inbound))
        self._sad.switch(child, outbound, inbound)
