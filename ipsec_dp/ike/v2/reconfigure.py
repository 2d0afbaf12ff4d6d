"""What a changed configuration means for an IKE SA that exists: the least that makes it what is written now."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import certificates
from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.v2 import child_create, delete, timers
from ipsec_dp.ike.v2.sa import ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v2.sa import Child
    from ipsec_dp.ike.v2.session import IkeSession


def follow(session: IkeSession, peer: Peer | None, effect: Effect, now: float) -> None:
    """`peer` is what its tunnel says now, None: that there is none any more."""
    if peer is None or effect is Effect.RESTART:
        withdraw(session, now)
        return
    interval, before = peer.liveness.interval_s, session.peer.liveness.interval_s
    session.candidates = tuple(peer if one.tunnel == peer.tunnel else one for one in session.candidates)
    if session.state is not State.ESTABLISHED:
        return
    if interval != before:
        session.deadlines.check_at = now + interval if interval else inf
    if effect >= Effect.RECHECK:
        _judge_again(session, peer, now)
    if effect >= Effect.SELECTORS:
        for child in list(session.children.values()):
            if child.state is ChildState.UP and not _configured(child, peer):
                delete.child(session, child, now)
        session.attempted.clear()
        child_create.cover(session, now)
    if effect >= Effect.REKEY:
        for child in list(session.children.values()):
            timers.rekey_child(session, child, now)


def withdraw(session: IkeSession, now: float) -> None:
    """Delete it at the peer, and here at once all that carries traffic. Nothing that still comes of it concerns its tunnel."""
    session.withdrawn = True
    delete.ike(session, Cause.LOCAL, "it is configured otherwise now", now)
    for child in list(session.children.values()):
        delete.forget(session, child)


def _judge_again(session: IkeSession, peer: Peer, now: float) -> None:
    """A peer whose certificate has been revoked since is ended."""
    if not isinstance(peer.auth, SignatureAuth) or not session.certificates or session.identities is None:
        return
    try:
        certificates.verify(session.certificates, session.identities[1], peer.auth.trust, session.host.environment.utc(now))
    except AuthenticationError as error:
        delete.ike(session, Cause.AUTHENTICATION, f"the peer's certificate is no longer good: {error}", now, again=True)


def _configured(child: Child, peer: Peer) -> bool:
    """Whether everything that may pass there is still written."""
    return all(any(one.covers(pair) for one in peer.proxy_ids) for pair in child.pairs)
