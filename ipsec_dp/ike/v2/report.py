"""What a session looks like from outside."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.interface import ChildStatus, IkeState, IkeStatus
from ipsec_dp.ike.proposal import suite_of
from ipsec_dp.ike.traffic_selectors import selector_pairs
from ipsec_dp.ike.v2.exchanges import Shape
from ipsec_dp.ike.v2.sa import ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.sa import Child
    from ipsec_dp.ike.v2.session import IkeSession

_STATES: Final[dict[State, IkeState]] = {State.ESTABLISHED: "up", State.REKEYED: "rekeying", State.DELETING: "closing"}


def status(session: IkeSession, now: float) -> IkeStatus:
    """One IKE SA with the CHILD_SAs that carry traffic."""
    state = _STATES.get(session.state, "negotiating")
    if session.task is not None and session.task.shape in (Shape.REKEY_IKE, Shape.REKEY_CHILD):
        state = "rekeying"
    began = session.started if session.established_at == inf else session.established_at
    return IkeStatus(
        state,
        session.sa.spi_i,
        session.sa.spi_r,
        "initiator" if session.sa.initiator else "responder",
        "" if session.sa.suite is None else str(session.sa.suite),
        session.path,
        session.nat.sides,
        "" if session.identities is None else str(session.identities[1]),
        now - began,
        _remaining(session.deadlines.soft, now),
        tuple(_child(child, now) for child in session.children.values() if child.state is ChildState.UP or child.sending),
    )


def _child(child: Child, now: float) -> ChildStatus:
    suite = suite_of(child.suite)
    return ChildStatus(
        child.number,
        child.spi_in,
        child.spi_out,
        suite.keyword,
        suite.esn,
        selector_pairs(child.pairs),
        now - child.created,
        _remaining(child.soft, now),
    )


def _remaining(at: float, now: float) -> float:
    return 0.0 if at == inf else max(at - now, 0.0)
