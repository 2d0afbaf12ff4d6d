"""Selectors belong to identities: whose a prefix is while an IKE SA that carries it lives (RFC 4301 §4.4.3.4).

A peer that may call from anywhere is known by its identity alone, and what it may ask for is often wider than what it is to have:
the first one that asks for the prefix of another would get its packets. So what one identity holds no other one gets, until nobody
holds it any more. The same identity may have it as often as `unique` says, from wherever it calls.

Where one proxy ID lies within another, the operator has nested them: each may hold exactly what is written for it, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.ike.proxy_ids import near
from ipsec_dp.ike.selector_index import SelectorIndex
from ipsec_dp.ike.v2.sa import ChildState

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.sa import Child


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """One pair of selectors of a CHILD_SA, and whose it is."""

    pair: ProxyId
    child: Child
    peer: Peer
    identity: Identity
    meaning: object

    @property
    def key(self) -> Hashable:
        """The same for all that are looked at as one."""
        return self.pair, self.meaning, self.peer.tunnel

    @property
    def stands(self) -> bool:
        """False once packets of it may only still arrive."""
        return self.child.installed and self.child.state in (ChildState.UP, ChildState.REKEYED)


class Holdings:
    """Of all IKE SAs of a gateway. However many carry one pair for one identity and tunnel, they are looked at as one."""

    def __init__(self) -> None:
        self._same: dict[Hashable, dict[Holding, None]] = {}
        self._index: SelectorIndex[dict[Holding, None]] = SelectorIndex()
        self._of_child: dict[int, tuple[Holding, ...]] = {}
        self.beside: Callable[[ProxyId, Peer, Identity], str | None] = lambda *_: None  # the same as `held`, by another version

    def __len__(self) -> int:
        return len(self._of_child)

    def hold(self, child: Child, peer: Peer, theirs: Identity | None) -> None:
        """A CHILD_SA has been made, or is configured otherwise now."""
        self.let_go(child)
        if theirs is None:
            return
        meaning = theirs.meaning()
        held = tuple(Holding(pair, child, peer, theirs, meaning) for pair in child.pairs)
        self._of_child[child.number] = held
        for one in held:
            if one.key not in self._same:
                self._same[one.key] = {}
                self._index.add(one.pair, self._same[one.key])
            self._same[one.key][one] = None

    def let_go(self, child: Child) -> None:
        """It sends no more."""
        for one in self._of_child.pop(child.number, ()):
            same = self._same[one.key]
            del same[one]
            if not same:
                self._index.discard(one.pair, self._same.pop(one.key))

    def refusal(self, pairs: Iterable[ProxyId], peer: Peer, theirs: Identity | None) -> str | None:
        """Why a peer that may call from anywhere gets none of `pairs`: another identity has one of them. None: it may have them."""
        if peer.remotes or peer.named or theirs is None:
            return None
        found = (self.held(pair, peer, theirs) or self.beside(pair, peer, theirs) for pair in pairs)
        return next((text for text in found if text is not None), None)

    def held(self, pair: ProxyId, peer: Peer, theirs: Identity) -> str | None:
        """Who has a part of `pair` here, and is somebody else."""
        meaning = theirs.meaning()
        for same in self._index.meeting(pair):
            one = next((one for one in same if one.meaning == meaning or one.stands), None)
            if one is not None and one.meaning != meaning and _collide(pair, peer, one):
                return (
                    f"{theirs} asks for {pair}, and {one.pair.remote} is that of {one.identity} while it is up "
                    f'(tunnel "{one.peer.tunnel}")'
                )
        return None


def _collide(pair: ProxyId, peer: Peer, held: Holding) -> bool:
    if pair.local.intersection(held.pair.local) is None or pair.remote.intersection(held.pair.remote) is None:
        return False
    ours, theirs = _written(peer, pair), _written(held.peer, held.pair)
    return not (_nested(pair, ours, theirs) or _nested(held.pair, theirs, ours))


def _nested(outer: ProxyId, written: ProxyId | None, inner: ProxyId | None) -> bool:
    """True when `outer` is just what is written for it, and holds all that is written for the other."""
    return inner is not None and outer == written and outer != inner and outer.covers(inner)


def _written(peer: Peer, pair: ProxyId) -> ProxyId | None:
    """The proxy ID that a pair came of: itself, or the narrowest that holds it."""
    found: ProxyId | None = None
    for one in near(peer.proxy_ids, pair):
        if one == pair:
            return pair
        if one.covers(pair) and (found is None or found.covers(one)):
            found = one
    return found
