"""A gateway's IKE in pieces, of which one is imported while the next is exported. What names each other stays together."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike.v2.child_create import ChildCreate
from ipsec_dp.ike.v2.delete import ChildDelete
from ipsec_dp.ike.v2.ike_rekey import IkeRekey

if TYPE_CHECKING:
    from collections.abc import Iterator, KeysView, Sequence

    from ipsec_dp.ike.v1.context import Peering
    from ipsec_dp.ike.v2.sa import Child
    from ipsec_dp.ike.v2.session import IkeSession

AT_ONCE: Final = 512
"""IKE SAs and CHILD_SAs of a piece: about half a megabyte, and a few hundredths of a second."""


class Piece(NamedTuple):
    """All IKE SAs of some tunnels."""

    sessions: list[IkeSession]
    peerings: list[Peering]

    @property
    def tunnels(self) -> KeysView[str]:
        """In their order."""
        of_ikev2, of_ikev1 = (one.peer.tunnel for one in self.sessions), (one.peer.tunnel for one in self.peerings)
        return dict.fromkeys(chain(of_ikev2, of_ikev1)).keys()

    @property
    def size(self) -> int:
        """IKE SAs and CHILD_SAs."""
        children = sum(len(one.children) for one in self.sessions if one.children.holder is one)
        return len(self.sessions) + children + sum(len(one.sessions) + len(one.sas) for one in self.peerings)


def pieces_of(sessions: Sequence[IkeSession], peerings: Sequence[Peering], at_once: int) -> list[Piece]:
    """Each of `at_once` SAs and no more than one family more; one at least, be there nothing."""
    families: dict[str, Piece] = {}
    roots = _roots(sessions)
    for session in sessions:
        families.setdefault(roots.get(session.peer.tunnel, session.peer.tunnel), Piece([], [])).sessions.append(session)
    for peering in peerings:
        families.setdefault(roots.get(peering.peer.tunnel, peering.peer.tunnel), Piece([], [])).peerings.append(peering)
    pieces, size = [Piece([], [])], 0
    for family in families.values():
        if size >= at_once:
            pieces, size = [*pieces, Piece([], [])], 0
        pieces[-1].sessions.extend(family.sessions)
        pieces[-1].peerings.extend(family.peerings)
        size += family.size
    return pieces


def _roots(sessions: Sequence[IkeSession]) -> dict[str, str]:
    """By tunnel, one tunnel for all that belong together; a tunnel that is not here belongs to no other."""
    above: dict[str, str] = {}
    for session in sessions:
        for other in _named_by(session):
            one, two = _root(above, session.peer.tunnel), _root(above, other)
            if one != two:
                above[two] = one
    return {tunnel: _root(above, tunnel) for tunnel in above}


def _root(above: dict[str, str], tunnel: str) -> str:
    while tunnel in above:
        tunnel = above[tunnel]
    return tunnel


def _named_by(session: IkeSession) -> Iterator[str]:
    """The other tunnels whose IKE SAs it names, or has CHILD_SAs with: two tunnels may be between the same two identities."""
    rivals = (task.rival for task in session.pending() if isinstance(task, IkeRekey))
    holders = (child.table.holder for child in _children(session) if child is not None and child.table is not None)
    for other in (session.succession.before, session.succession.after, session.children.holder, *rivals, *holders):
        if other is not None and other.peer.tunnel != session.peer.tunnel:
            yield other.peer.tunnel


def _children(session: IkeSession) -> Iterator[Child | None]:
    """The CHILD_SAs that its requests and the peer's series name: another IKE SA may hold them by now."""
    for task in session.pending():
        if isinstance(task, ChildCreate):
            yield from (task.rekeys, task.rival, task.beside)
        elif isinstance(task, ChildDelete):
            yield task.child
    yield from (series.rekeys for series in session.series.values())
