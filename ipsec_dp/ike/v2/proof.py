"""The end of a proof ends the IKE SA: a certificate runs out or is revoked, a secret, an authority or an identity is withdrawn.
Where revocation is strict it also ends with the CRL that says that nothing is revoked, unless there is a newer one by then.

A rekey proves nothing anew, so an IKE SA would outlive what its peer has shown for weeks. Before a certificate of the peer's runs
out the side that may call authenticates again, make-before-break (`reauth`), in case the peer has another one by now. When the
proof is gone, CHILD_SAs end at once, whatever the peer answers.

Certificates end by the calendar, which may be set meanwhile; deadlines are of a clock that only goes on, also while the host is
suspended. So the calendar is looked at again and again, and the certificates themselves are judged before anything ends.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import certificates, lifetimes
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.v2 import delete, replacement

if TYPE_CHECKING:
    from datetime import datetime

    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v2.context import Context

LOOK: Final = 60.0  # seconds between two looks at the calendar
AHEAD: Final = 600.0  # seconds before the end from when on it is tried to authenticate again
TRY: Final = 30.0  # seconds at the least between two of these
SOON: Final = 0.1  # seconds at the least to the next look


def begin(context: Context, now: float) -> None:
    """The peer has proven itself. The next look is at the latest in LOOK seconds; never, where it proved itself by a shared key.

    Another certificate may be had by authenticating again, another CRL may not.
    """
    until = context.ends.until
    if until is None:
        return
    utc = context.host.environment.utc(now)
    left = (until - utc).total_seconds()
    ahead = AHEAD * lifetimes.jitter(context.host.environment.rng, 0.75, 1.25)
    _next(context, now, _left(context, utc), left - ahead if left > 2.0 * ahead else max(left / 2.0, TRY))


def _left(context: Context, utc: datetime) -> float:
    """Seconds of the calendar for which the proof still holds; negative: it may be over. Of a peer with certificates."""
    return min((until - utc).total_seconds() for until in (context.ends.until, context.ends.listed_until) if until is not None)


def look(context: Context, now: float) -> None:
    """At the calendar: is it time to authenticate again, or is the proof over?"""
    ends, deadlines = context.ends, context.deadlines
    if ends.until is None or ends.renew_at is None:
        return
    utc = context.host.environment.utc(now)
    left = _left(context, utc)
    if left < 0.0:
        if not judge(context, now):
            return
        left = _left(context, utc)
    to_renewal = (ends.renew_at - utc).total_seconds()
    if to_renewal <= 0.0:
        deadlines.reauth_at = min(deadlines.reauth_at, now)
        to_renewal = max((ends.until - utc).total_seconds() / 2.0, TRY)
    _next(context, now, left, to_renewal)


def _next(context: Context, now: float, left: float, to_renewal: float) -> None:
    """The end is in `left` seconds of the calendar, the next attempt in `to_renewal`."""
    context.ends.renew_at = context.host.environment.utc(now) + timedelta(seconds=to_renewal)
    context.deadlines.proof_at = now + max(min(left, to_renewal, LOOK), SOON)


def judge(context: Context, now: float) -> bool:
    """Judges the peer's certificates again, by what its tunnel says now; false, and the IKE SA is ended, where they do not hold any
    more."""
    peer, ends = context.peer, context.ends
    if not isinstance(peer.auth, SignatureAuth) or not ends.certificates or ends.theirs is None:
        return True
    try:
        found = certificates.judge(ends.certificates, ends.theirs, peer.auth.trust, context.host.environment.utc(now))
    except AuthenticationError as error:
        gone(context, f"the peer's certificate is no longer good: {error}", now)
        return False
    ends.hold(found)
    begin(context, now)
    return True


def gone(context: Context, text: str, now: float) -> None:
    """The proof is over: nothing is carried from now on. Another IKE SA that stands in its place has a proof of its own."""
    if replacement.replaced(context):
        delete.ike(context, Cause.REPLACED, "another IKE SA stands in its place", now)
        return
    context.report(Kind.IKE_DOWN, text, cause=Cause.AUTHENTICATION, again=True)
    delete.withdraw(context, now)


def withdrawn(context: Context, peer: Peer | None, now: float) -> str | None:
    """What a reload took away of that by which the peer of `context` has proven itself; None: nothing. `peer`: what its tunnel says
    now."""
    theirs, before = context.ends.theirs, context.peer
    if peer is None or theirs is None or not context.authenticated:
        return None
    if peer.remote_id != before.remote_id and (peer.remote_id is None or not peer.remote_id.matches(theirs)):
        return f"{theirs} is no longer admitted"
    if isinstance(before.auth, SharedKeyAuth):
        same = isinstance(peer.auth, SharedKeyAuth) and peer.auth.key.same_as(before.auth.key)
        return None if same else f"the shared key with {theirs} is another one now"
    if not isinstance(peer.auth, SignatureAuth):
        return f"{theirs} is to prove itself by a shared key now"
    try:
        certificates.judge(context.ends.certificates, theirs, peer.auth.trust, context.host.environment.utc(now))
    except AuthenticationError as error:
        return f"the certificate of {theirs} is no longer good: {error}"
    return None
