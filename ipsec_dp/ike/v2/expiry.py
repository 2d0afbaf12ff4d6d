"""The hard limit of an IKE SA with a request of ours under way: another one is made beside it at once (RFC 7296 §2.8).

Nothing new is asked or answered on it, but its CHILD_SAs carry packets until the new IKE SA has authenticated and is in its place
(`replacement`), each to its own hard limit. They do so for KEEP seconds at the most, and no longer than the peer's last proof of
who it is holds: `reauth_s`, its certificates (`proof`). A failure to authenticate ends them at once (`reauth.ended`).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.v2 import delete, reauth
from ipsec_dp.ike.v2.sa import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.v2.context import Context

KEEP: Final = 60.0
TEXT: Final = "the IKE SA reached its hard limit"


def reached(context: Context, now: float) -> None:
    """The hard limit. With no request under way a DELETE tells the peer at once, and then whoever wants it calls anew."""
    task, until = context.task, min(_good_until(context, now))
    if task is None or context.succession.handed_over or not context.children or until <= now:
        if not context.succession.handed_over:
            for child in list(context.children.values()):  # now, for the DELETE waits for what is under way
                delete.forget(context, child)
        delete.ike(context, Cause.LIFETIME, TEXT, now, again=True)
        return
    for waiting in context.queue.take_all():
        waiting.dropped(context)
    context.enter(State.EXPIRED)
    context.deadlines.check_at, context.deadlines.keep_until = inf, until
    text = f"{TEXT} while {context.path.remote} had not answered {task.name}; its CHILD_SAs go on for at most {until - now:.0f} s"
    context.report(Kind.WARNING, f"{text}, until another IKE SA is authenticated", cause=Cause.LIFETIME)
    if reauth.may_call(context):
        context.deadlines.reauth_at = now


def due(context: Context, now: float) -> None:
    """Ends one that has expired when nobody has taken over in time, or when nothing is left on it."""
    if context.state is not State.EXPIRED or context.succession.handed_over:
        return
    if now >= context.deadlines.keep_until or not any(child.installed for child in context.children.values()):
        context.deadlines.keep_until = inf
        delete.ike(context, Cause.LIFETIME, TEXT, now, again=True)


def _good_until(context: Context, now: float) -> Iterator[float]:
    yield now + KEEP
    deadlines, peer = context.deadlines, context.peer
    if deadlines.proof_until < inf:
        yield deadlines.proof_until - peer.reauth_s * (lifetimes.UNPROVEN - 1.0)
