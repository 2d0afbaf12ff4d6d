"""Re-authentication, make-before-break: another IKE SA from the beginning, then the old one goes (RFC 7296 §2.8.3).

A rekey proves nothing anew: `Peer.reauth_s` seconds after the last proof the side that called calls again, beside the IKE SA that
is up. When every CHILD_SA of the new one is up, packets take them in one step each, and the old IKE SA is deleted; what was under
way is received for a while (`delete.hand_over`). The other half, that of the responder, is in `replacement`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.v2 import child as children
from ipsec_dp.ike.v2 import delete, replacement
from ipsec_dp.ike.v2.sa import CARRYING, IkeSa, State, nonzero_spi

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context

UNPROVEN: Final = frozenset({Cause.AUTHENTICATION, Cause.IDENTITY})


def due(old: Context, now: float) -> None:
    """Begin; or end an IKE SA that was replaced and not deleted, or whose peer has not proven itself again for too long."""
    deadlines = old.deadlines
    if now >= deadlines.leave_at and not replacement.lacking(old, now):
        deadlines.leave_at = inf
        delete.ike(old, Cause.REPLACED, "another IKE SA stands in its place, and the peer has not deleted it", now)
    if now >= deadlines.proof_until:
        deadlines.proof_until = deadlines.reauth_at = inf
        text = "nobody has authenticated again in time (ike.reauth_after)"
        delete.ike(old, Cause.AUTHENTICATION, text, now, again=True)
    elif now >= deadlines.reauth_at:
        deadlines.reauth_at = inf
        if old.succession.after is None and may_call(old):
            _begin(old, now)


def may_call(old: Context) -> bool:
    """Whether another IKE SA beside it is for us to begin, be it that the peer does not."""
    return old.ends.called or old.peer.start != "respond"


def demand(one: Context, now: float) -> None:
    """What we prove ourselves with is another thing now: the peer is to see it, without a break. IKE_AUTH that is still to come
    shows it anyway."""
    if one.state not in (*CARRYING, State.AUTH_SENT) or replacement.replaced(one):
        return
    if may_call(one):
        one.deadlines.reauth_at = now
        return
    text = "our certificate or key is another one now; the peer, which calls, sees it when it authenticates again"
    one.report(Kind.WARNING, text, cause=Cause.LOCAL)


def _begin(old: Context, now: float) -> None:
    peer = old.host.configured(old.peer)
    sa = IkeSa(initiator=True, spi_i=nonzero_spi(old.host.environment.rng))
    new = old.host.spawn(Candidates((peer,)), sa, old.path, now)
    new.succession.before, old.succession.after = old, new
    new.wanted.inherit(old.wanted)
    old.emit(*new.initiate(now, new.wanted.all))


def finish(new: Context, now: float) -> None:
    """As initiator, once no request of ours waits: the CHILD_SAs that there will be are up."""
    if not new.sa.initiator or new.state is not State.ESTABLISHED or new.succession.handed_over or replacement.replaced(new):
        return
    if not new.queue.empty or not new.children or new.wanted.untried:
        return
    for old in tuple(replacement.before(new)):
        children.switch_waiting(new)
        delete.ike(old, Cause.REPLACED, "another is in its place", now)
        old.send_next(now)
        new.emit(*old.take())


def ended(one: Context, cause: Cause, now: float) -> None:
    """`one` ends, and why. The IKE SA that it was to replace goes on and is replaced another time, or goes too when it no longer
    sends, or when it has expired and `one` did not authenticate."""
    if one.succession.after is not None:
        one.succession.after.succession.before = None
    old, one.succession.before = one.succession.before, None
    if old is None or old.succession.after is not one:
        return
    old.succession.after = None
    if old.state is State.EXPIRED and cause in UNPROVEN:
        delete.ike(old, cause, "the IKE SA that was to take its place did not authenticate", now, again=True)
        old.send_next(now)
        one.emit(*old.take())
    elif any(child.waits for child in old.children.values()):  # it never came to send, and can
        old.deadlines.leave_at = inf
        children.switch_waiting(old)
        one.emit(*old.take())
    elif any(child.sending for child in one.children.values()):
        old.deadlines.leave_at = now
    else:
        old.deadlines.leave_at = inf
        old.deadlines.retry_reauth(now, old.host.environment.rng)
