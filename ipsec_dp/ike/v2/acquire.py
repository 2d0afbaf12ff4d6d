"""Further CHILD_SAs of an IKE SA that is there: what lacks of what is wanted (`wanted`), asked for when the window is free."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.traffic_selectors import asked_by
from ipsec_dp.ike.v2 import child_create, delete, followup, replacement
from ipsec_dp.ike.v2.sa import ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import Context, Task
    from ipsec_dp.ipsec.selectors import SelectorPair


def want(context: Context, asked: ProxyId | None) -> None:
    """What traffic asks for, or, None, everything that the tunnel is to have."""
    if asked is None:
        context.wanted.ask_for_all()
    else:
        context.wanted.ask_for(asked)


def acquire(context: Context, packet: SelectorPair | None) -> None:
    """A CHILD_SA for `packet`, unless one is there that may carry it, or for everything."""
    asked = None if packet is None else asked_by(packet, context.peer.proxy_ids)
    if asked is not None and any(
        child.holds(asked) and child.state in (ChildState.UP, ChildState.REKEYED) for child in context.children.near(asked)
    ):
        return
    want(context, asked)


def look(context: Context, now: float) -> None:
    """A CHILD_SA may have come, gone or changed. An IKE SA of ours for which the peer makes no CHILD_SA at all is given up."""
    if context.state is not State.ESTABLISHED or context.succession.handed_over:
        return
    wanted = context.wanted
    if wanted.look(*context.children.take_changes(), now, context.host.environment.rng):
        context.report(Kind.WHOLE, "everything that is wanted has a CHILD_SA again")
    if context.sa.initiator and not context.children and wanted.refused and not any(context.pending()):
        delete.ike(context, Cause.SELECTORS, "the peer makes no CHILD_SA", now, again=True)


def _may_ask(context: Context) -> bool:
    """Whether what lacks is this IKE SA's to ask for."""
    free = context.state is State.ESTABLISHED and context.window.outstanding is None and context.queue.empty
    free = free and not context.withdrawn and not context.succession.handed_over and not replacement.replaced(context)
    return free and followup.awaited(context) is None


def next_wanted(context: Context, now: float) -> Task | None:
    """The request for the next CHILD_SA that lacks; None: none is due."""
    found = context.wanted.next(now) if _may_ask(context) else None
    if found is None:
        return None
    proxy_id, packet = found
    return child_create.ChildCreate((proxy_id,), packet)


def next_due(context: Context) -> float:
    """When `next_wanted` has something to ask for; inf: never, or when the window is free."""
    return context.wanted.next_due() if _may_ask(context) else inf
