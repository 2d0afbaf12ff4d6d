"""What an IKE SA looks like from outside."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.interface import ChildStatus, IkeState, IkeStatus
from ipsec_dp.ike.post_quantum import PostQuantum
from ipsec_dp.ike.suites import suite_of
from ipsec_dp.ike.traffic_selectors import selector_pairs
from ipsec_dp.ike.v2 import silence
from ipsec_dp.ike.v2.exchanges import Shape
from ipsec_dp.ike.v2.sa import ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child

_STATES: Final[dict[State, IkeState]] = {
    State.ESTABLISHED: "up",
    State.EXPIRED: "rekeying",
    State.REKEYED: "rekeying",
    State.DELETING: "closing",
}


def status(context: Context, now: float) -> IkeStatus:
    """One IKE SA with the CHILD_SAs that carry traffic."""
    children = tuple(_child(child, now) for child in context.children.values() if _carries(child))
    return summary(context, now)._replace(children=children)


def summary(context: Context, now: float) -> IkeStatus:
    """One IKE SA without its CHILD_SAs: thousands of tunnels are looked at, and to list them costs more than all else."""
    began = context.sa.started if context.sa.established_at == inf else context.sa.established_at
    return IkeStatus(
        state(context),
        context.sa.spi_i,
        context.sa.spi_r,
        "initiator" if context.sa.initiator else "responder",
        "" if context.sa.suite is None else str(context.sa.suite),
        context.path,
        context.nat.sides,
        "" if context.ends.identities is None else str(context.ends.identities[1]),
        now - began,
        _remaining(context.deadlines.soft, now),
        (),
        context.wanted.lacking(),
        context.udp,
        context.udp and context.peer.encapsulation == "udp",
        silence.text(context, now),
        context.deadlines.heard,
        post_quantum=PostQuantum(context.sa.post_quantum.own, context.sa.post_quantum.child()),
        local_id="" if context.ends.identities is None else str(context.ends.identities[0]),
        certificates=context.ends.certificates,
        fragmentation=context.abilities.fragmentation,
        encapsulation_why=context.nat.why(context.peer.encapsulation),
        carries=any(map(_carries, context.children.values())),
    )


def state(context: Context) -> IkeState:
    """As `status` tells it."""
    if context.task is not None and context.task.shape in (Shape.REKEY_IKE, Shape.REKEY_CHILD):
        return "rekeying"
    return _STATES.get(context.state, "negotiating")


def rekey_in(child: Child, now: float) -> float | None:
    """Seconds until a CHILD_SA that carries traffic is rekeyed; None: it carries none."""
    return _remaining(child.soft, now) if _carries(child) else None


def post_quantum(child: Child) -> PostQuantum:
    """Of it and of the IKE SA that has it."""
    return PostQuantum("none" if child.table is None else child.table.holder.sa.post_quantum.own, child.post_quantum)


def _carries(child: Child) -> bool:
    return child.state is ChildState.UP or child.sending


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
        post_quantum(child),
    )


def _remaining(at: float, now: float) -> float:
    return 0.0 if at == inf else max(at - now, 0.0)
