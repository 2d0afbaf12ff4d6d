"""An IKE SA that was begun with us and goes no further: said long before it is forgotten, as `silence` says it of what we begin.

Only of one from the address where a tunnel has its peer, and while that tunnel has no IKE SA that is up. Nothing of it is proven:
the event is `CLAIMED`, one of few, and whatever else is due at the same time comes first.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NATT_PORT, Kind, Origin
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.sa import HALF_OPEN, State

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context

TOLD_AFTER: Final = 5.0  # seconds: of an initiator that got the answer, IKE_AUTH comes within one


def begins(context: Context, now: float) -> None:
    """IKE_SA_INIT was just answered."""
    context.deadlines.close_at = now + LIMITS.half_open_seconds
    if context.origin is Origin.CLAIMED:
        context.deadlines.tell_at = now + TOLD_AFTER


def due(context: Context, now: float) -> None:
    """Says, once, that IKE_AUTH does not come."""
    context.deadlines.tell_at = inf
    if context.state in HALF_OPEN and context.host.lacks(context):
        waited = now - context.sa.started
        began = f"{context.path.remote} began (IKE_SA_INIT) and was answered {waited:.0f} s ago"
        exchange = "IKE_AUTH" if context.state is State.INIT_ANSWERED else "IKE_INTERMEDIATE"
        text = f"{began}, and no {exchange} that can be read came since (not authenticated): {_cause(context)}"
        context.report(Kind.WARNING, text)


def _cause(context: Context) -> str:
    """What may be wrong, by what did come."""
    port = context.path.local.port
    if context.window.requests.octets:
        return "a part of its fragments did: are others lost, being too long for the way? write a smaller ike.fragment_size there"
    if context.handshake.repeated:
        return (
            f"it repeats its request, so our answers do not get there: let UDP port {port} pass from here to there, and "
            f"UDP port {NATT_PORT}, there and back, for what follows"
        )
    if context.path.natt:
        return (
            f"did the answer not get there, or is a longer message lost, as fragments are behind some firewalls? "
            f"let UDP port {port} pass, there and back; its log may tell more"
        )
    return (
        f"is UDP port {NATT_PORT} blocked between you, or did the answer not get there? let UDP ports {port} and {NATT_PORT} pass, "
        "there and back; its log may tell more"
    )
