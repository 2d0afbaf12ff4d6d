"""An IKE SA that was begun with us and goes no further: said long before it is forgotten, as `silence` says it of what we begin.

Only of one from the address where a tunnel has its peer, and while that tunnel has no IKE SA that is up. Nothing of it is proven:
the event is `CLAIMED`, one of few, and whatever else is due at the same time comes first.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import silence
from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.sa import HALF_OPEN, State

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context


def begins(context: Context, now: float) -> None:
    """IKE_SA_INIT was just answered."""
    context.deadlines.close_at = now + LIMITS.half_open_seconds
    if context.origin is Origin.CLAIMED:
        context.deadlines.tell_at = now + silence.HALF_OPEN_TOLD


def due(context: Context, now: float) -> None:
    """Says, once, that IKE_AUTH does not come."""
    context.deadlines.tell_at = inf
    if context.state in HALF_OPEN and context.host.lacks(context):
        path, repeats = context.path, context.handshake.repeated > 0
        why = silence.why_not(path, a_part=bool(context.window.requests.octets), repeats=repeats, floats=not path.natt)
        waited = now - context.sa.started
        exchange = "IKE_AUTH" if context.state is State.INIT_ANSWERED else "IKE_INTERMEDIATE"
        context.report(Kind.WARNING, silence.does_not_go_on(path.remote, "IKE_SA_INIT", waited, exchange, why))
