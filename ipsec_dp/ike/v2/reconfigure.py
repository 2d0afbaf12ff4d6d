"""What a changed configuration means for an IKE SA that exists: the least that makes it what is written now."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import certificates
from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.proxy_ids import near
from ipsec_dp.ike.v2 import child_create, delete, timers
from ipsec_dp.ike.v2.sa import ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child


def reconfigure(context: Context, peer: Peer | None, effect: Effect, now: float) -> None:
    """`peer` is what its tunnel says now, None: that there is none any more."""
    if peer is None or effect is Effect.RESTART:
        withdraw(context, now)
        return
    interval, before = peer.liveness.interval_s, context.peer.liveness.interval_s
    context.settle_on(peer)
    if context.state is not State.ESTABLISHED:
        return
    if interval != before:
        context.deadlines.check_at = now + interval if interval else inf
    if effect >= Effect.RECHECK:
        _judge_again(context, peer, now)
    if effect >= Effect.SELECTORS:
        for child in list(context.children.values()):
            if child.state is ChildState.UP and not _configured(child, peer):
                delete.child(context, child, now)
        context.coverage.ask_again()
        child_create.cover(context, now)
    if effect >= Effect.REKEY:
        for child in list(context.children.values()):
            timers.rekey_child(context, child, now)


def withdraw(context: Context, now: float) -> None:
    """Delete it at the peer, and here at once all that carries traffic. Nothing that still comes of it concerns its tunnel."""
    context.withdrawn = True
    delete.ike(context, Cause.LOCAL, "it is configured otherwise now", now)
    for child in list(context.children.values()):
        delete.forget(context, child)


def _judge_again(context: Context, peer: Peer, now: float) -> None:
    """A peer whose certificate has been revoked since is ended."""
    if not isinstance(peer.auth, SignatureAuth) or not context.ends.certificates or context.ends.identities is None:
        return
    try:
        certificates.verify(
            context.ends.certificates, context.ends.identities[1], peer.auth.trust, context.host.environment.utc(now)
        )
    except AuthenticationError as error:
        delete.ike(context, Cause.AUTHENTICATION, f"the peer's certificate is no longer good: {error}", now, again=True)


def _configured(child: Child, peer: Peer) -> bool:
    """Whether everything that may pass there is still written."""
    return all(any(one.covers(pair) for one in near(peer.proxy_ids, pair)) for pair in child.pairs)
