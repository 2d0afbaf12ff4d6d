"""What an IKE SA that is there is asked for besides: a CHILD_SA for a packet, or all that a tunnel is to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.traffic_selectors import of_packet
from ipsec_dp.ike.v2 import child_create
from ipsec_dp.ike.v2.sa import ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.session import IkeSession
    from ipsec_dp.ipsec.selectors import SelectorPair


def for_packet(session: IkeSession, packet: SelectorPair) -> None:
    """A CHILD_SA for a packet, unless one is there or on its way."""
    asked = of_packet(packet)
    if session.state is not State.ESTABLISHED or any(
        child.holds(asked) and child.state in (ChildState.UP, ChildState.REKEYED) for child in session.children.values()
    ):
        return
    proxy_id = next((p for p in session.peer.proxy_ids if p.covers(asked)), None)
    tasks = (session.task, *session.queue, *(task for _, task in session.delayed))
    if proxy_id is not None and not any(isinstance(task, child_create.CreateChild) and proxy_id in task.pairs for task in tasks):
        session.enqueue(child_create.CreateChild((proxy_id,), asked))


def for_all(session: IkeSession, now: float) -> None:
    """A CHILD_SA for every proxy ID that has none; at once, or when the IKE SA is up."""
    session.wanted = session.peer.proxy_ids
    if session.state is State.ESTABLISHED:
        session.attempted.clear()
        child_create.cover(session, now)
