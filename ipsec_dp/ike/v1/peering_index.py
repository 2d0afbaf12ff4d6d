"""Where what there is with peers is found, however many there are: by identities, by tunnel, by address, by what they carry.

Each `Peering` is noted anew after whatever happened to it, so what is asked of the others is as it was when they acted last.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ipsec_dp.ike.selector_index import SelectorIndex
from ipsec_dp.ike.v1.states import IpsecSaState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.context import Peering
    from ipsec_dp.ipsec.addresses import Address

CARRYING = frozenset({IpsecSaState.UP, IpsecSaState.WAITING})


@dataclass(slots=True, eq=False)
class _Holder:
    """One identity that has IPsec SAs for a proxy ID by a tunnel; `peerings`: with how many of it."""

    pair: ProxyId
    identity: Identity
    meaning: object
    tunnel: str
    peerings: dict[Peering, None] = field(default_factory=dict)


class PeeringIndex:
    """Of one gateway."""

    def __init__(self) -> None:
        self._of_key: dict[object, Peering] = {}
        self._of_tunnel: dict[str, dict[Peering, None]] = {}
        self._of_child: WeakValueDictionary[int, Peering] = WeakValueDictionary()
        self._places: Counter[Address] = Counter()
        self._place: dict[Peering, Address] = {}
        self._holders: dict[object, _Holder] = {}
        self._selectors: SelectorIndex[_Holder] = SelectorIndex()
        self._held: dict[Peering, dict[object, None]] = {}  # keys of holders

    def __len__(self) -> int:
        return len(self._of_key)

    def __iter__(self) -> Iterator[Peering]:
        return iter(tuple(self._of_key.values()))

    @property
    def tunnels(self) -> tuple[str, ...]:
        """Those with a peer."""
        return tuple(self._of_tunnel)

    def of_key(self, key: object) -> Peering | None:
        return self._of_key.get(key)

    def of_tunnel(self, tunnel: str) -> tuple[Peering, ...]:
        """Oldest first."""
        return tuple(self._of_tunnel.get(tunnel, ()))

    def newest_of_tunnel(self, tunnel: str) -> Iterator[Peering]:
        """One by one."""
        return reversed(self._of_tunnel.get(tunnel, {}))

    def of_child(self, number: int) -> Peering | None:
        """With whom a pair of IPsec SAs is or was."""
        return self._of_child.get(number)

    def holds(self, number: int, peering: Peering) -> None:
        """A pair of IPsec SAs was made."""
        self._of_child[number] = peering

    def any_at(self, address: Address) -> bool:
        """Whether anything is held of somebody at this address."""
        return address in self._places

    def add(self, peering: Peering) -> None:
        self._of_key[peering.key] = peering
        self._of_tunnel.setdefault(peering.peer.tunnel, {})[peering] = None

    def discard(self, peering: Peering) -> None:
        """It is over."""
        if self._of_key.get(peering.key) is peering:
            del self._of_key[peering.key]
        same = self._of_tunnel.get(peering.peer.tunnel, {})
        same.pop(peering, None)
        if not same:
            self._of_tunnel.pop(peering.peer.tunnel, None)
        self._move(peering, None)
        for key in self._held.pop(peering, ()):
            self._let_go(key, peering)

    def note(self, peering: Peering) -> None:
        """Where it is, and what it carries now."""
        context = peering.current or peering.last
        self._move(peering, None if context is None else context.path.remote.address)
        identities = None if context is None else context.proven.identities
        if identities is None:
            return
        before, theirs = self._held.get(peering, {}), identities[1]
        meaning, tunnel = theirs.meaning(), peering.peer.tunnel
        carried = dict.fromkeys(sa.pair for sa in peering.sas.values() if sa.state in CARRYING)
        held: dict[object, None] = {(pair, meaning, tunnel): None for pair in carried}
        if held == before:
            return
        for key in before.keys() - held.keys():
            self._let_go(key, peering)
        for pair in carried:
            key = pair, meaning, tunnel
            if key not in self._holders:
                self._holders[key] = _Holder(pair, theirs, meaning, tunnel)
                self._selectors.add(pair, self._holders[key])
            self._holders[key].peerings[peering] = None
        self._held[peering] = held

    def _let_go(self, key: object, peering: Peering) -> None:
        holder = self._holders[key]
        del holder.peerings[peering]
        if not holder.peerings:
            self._selectors.discard(holder.pair, self._holders.pop(key))

    def _move(self, peering: Peering, to: Address | None) -> None:
        before = self._place.get(peering)
        if before == to:
            return
        if before is not None:
            del self._place[peering]
            self._places[before] -= 1
            if not self._places[before]:
                del self._places[before]
        if to is not None:
            self._place[peering] = to
            self._places[to] += 1

    def taken_by(self, ours: Identity, pair: ProxyId) -> str | None:
        """Why somebody who may call from anywhere gets no SA for `pair`: another identity has it. None: it may have it."""
        meaning = ours.meaning()
        for holder in self._selectors.meeting(pair):
            if holder.meaning != meaning and _meet(pair, holder.pair):
                return f'{ours} asks for {pair}, and {holder.identity} has it while it is up (tunnel "{holder.tunnel}")'
        return None


def _meet(one: ProxyId, other: ProxyId) -> bool:
    return one.local.intersection(other.local) is not None and one.remote.intersection(other.remote) is not None
