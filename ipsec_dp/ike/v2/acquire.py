"""Further CHILD_SAs of an IKE SA that is there: one for a packet that found none, or all that a tunnel is to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.proxy_ids import near
from ipsec_dp.ike.traffic_selectors import proxy_id_of
from ipsec_dp.ike.v2 import child_create
from ipsec_dp.ike.v2.exchanges import Priority
from ipsec_dp.ike.v2.sa import ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ipsec.selectors import SelectorPair


def acquire(context: Context, packet: SelectorPair | None, now: float) -> None:
    """For `packet`, or for everything that the tunnel is to have."""
    if packet is None:
        _for_all(context, now)
    else:
        _for_packet(context, packet)


def _for_packet(context: Context, packet: SelectorPair) -> None:
    """A CHILD_SA for a packet, unless one is there or on its way."""
    asked = proxy_id_of(packet)
    if context.state is not State.ESTABLISHED or any(
        child.holds(asked) and child.state in (ChildState.UP, ChildState.REKEYED) for child in context.children.near(asked)
    ):
        return
    proxy_id = next((p for p in near(context.peer.proxy_ids, asked) if p.covers(asked)), None)
    tasks = (*context.pending(Priority.NEW_CHILD), *(task for _, task in context.queue.delayed))
    if proxy_id is not None and not any(isinstance(task, child_create.ChildCreate) and proxy_id in task.pairs for task in tasks):
        context.enqueue(child_create.ChildCreate((proxy_id,), asked))


def _for_all(context: Context, now: float) -> None:
    """A CHILD_SA for every proxy ID that has none; at once, or when the IKE SA is up."""
    context.coverage.wanted = context.peer.proxy_ids
    if context.state is State.ESTABLISHED:
        context.coverage.ask_again()
        child_create.cover(context, now)
