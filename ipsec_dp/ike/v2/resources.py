"""Several CHILD_SAs with the same selectors, each for a resource of its own, which is a worker here (RFC 9611).

The first of them, resource 0, is made like any other and says by SA_RESOURCE_INFO that there may be more; a peer that says the same
may be asked for them. Whoever called asks, one after the other and only while packets go by the first one; the other side
takes them up to twice its own workers (§5) and refuses more by TS_MAX_QUEUE. A rekey stays with the resource of what it
rekeys. What its caller finds idle for IDLE ends. With one worker nothing of this is said, and nothing is heard.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.lifetimes import retry_after
from ipsec_dp.ike.v2.payloads import Notify, Payload
from ipsec_dp.ike.v2.sa import Child, ChildState, State
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message

FIRST: Final = 0  # takes the packets that have no other
SOON: Final = 1.0  # seconds after which it is asked whether the first one is used
LOOK: Final = 10.0  # seconds between two looks, and without packets after which none is asked for
IDLE: Final = 300.0  # seconds without packets after which one that is not the first ends
LENIENT: Final = 2  # CHILD_SAs for each worker that a peer may make: both may ask at once, and rekeys overlap (§5)


def wanted(peer: Peer) -> int | None:
    """The resource of a CHILD_SA that is the first of its selectors; None: there are to be no others."""
    return FIRST if peer.resources > 1 else None


def info(resource: int | None) -> list[Payload]:
    """SA_RESOURCE_INFO, of the first one without an identity, which only serves debugging anyway (RFC 9611 §4, §6.1)."""
    if resource is None:
        return []
    return [Notify(NotifyType.SA_RESOURCE_INFO, b"" if resource == FIRST else resource.to_bytes(4, "big"))]


def is_told(message: Message) -> bool:
    return message.notify(NotifyType.SA_RESOURCE_INFO) is not None


def group(context: Context, pairs: tuple[ProxyId, ...]) -> list[Child]:
    """The CHILD_SAs with these selectors that are for a resource each, oldest first."""
    of_same = context.children.near_any(pairs)
    return [one for one in of_same if one.resource is not None and one.state is ChildState.UP and set(one.pairs) == set(pairs)]


# ---- as responder


def has_room(context: Context, message: Message, pairs: tuple[ProxyId, ...]) -> bool:
    """False where a further one with these selectors is refused by TS_MAX_QUEUE. Never the first one, and half of what the peer
    may have is left to other selectors and to rekeys."""
    if context.peer.resources == 1 or not is_told(message):
        return True
    members = len(group(context, pairs))
    most = PEER_LIMITS.children + PEER_LIMITS.children_of_proxy_id * len(context.peer.proxy_ids)
    return not members or (members < LENIENT * context.peer.resources and context.host.children(context) < most // 2)


def assigned(context: Context, message: Message, pairs: tuple[ProxyId, ...], rekeys: Child | None) -> int | None:
    """The resource of a CHILD_SA that the peer asks for: the one with the fewest (RFC 9611 §5)."""
    if rekeys is not None:
        return rekeys.resource
    if context.peer.resources == 1 or not is_told(message):
        return None
    used = Counter(one.resource for one in group(context, pairs))
    return min(range(context.peer.resources), key=lambda each: (used[each], each))


# ---- as initiator


def agreed(resource: int | None, message: Message, rekeys: Child | None) -> int | None:
    """The resource of what the peer has made for an offer that was for `resource`."""
    if rekeys is not None:
        return rekeys.resource
    return resource if resource != FIRST or is_told(message) else None


def began(context: Context, new: Child, now: float) -> None:
    """A CHILD_SA is up: whoever called looks after further ones, and after their end."""
    if new.resource is None or not context.ends.called:
        return
    if new.resource == FIRST:
        new.more_at = now + SOON
    else:
        new.idle_at = min(new.idle_at, now + IDLE)


def missing(context: Context, first: Child) -> int | None:
    """The first resource that has none yet."""
    if first.state is not ChildState.UP or first.table is None:
        return None
    used = {one.resource for one in group(context, first.pairs)}
    return next((each for each in range(context.peer.resources) if each not in used), None)


def next_missing(context: Context, first: Child, now: float) -> int | None:
    """What is to be asked for now. It is looked again at `first.more_at` in any case."""
    first.more_at = now + LOOK
    if context.state is not State.ESTABLISHED or first.waits:
        return None
    activity = context.host.environment.activity(first.number)
    return missing(context, first) if max(activity.received, activity.sent) > now - LOOK else None


def made(first: Child, now: float) -> None:
    """One is there: the next one may be asked for at once."""
    first.more_at = now


def refused(context: Context, first: Child, kind: int | None, text: str, now: float) -> None:
    """There are no more until the first one is rekeyed; what the peer only puts off is asked for again."""
    if kind == NotifyType.TEMPORARY_FAILURE:
        first.more_at = now + retry_after(0, context.host.environment.rng)
        return
    first.more_at, expected = inf, kind == NotifyType.TS_MAX_QUEUE
    if expected:
        text = f"the peer takes no more ({iana.notify_text(NotifyType.TS_MAX_QUEUE)})"
    has = len(group(context, first.pairs))
    told = f"{has} CHILD_SAs like {spi_text(first.spi_in)} for {context.peer.resources} workers: {text}"
    context.report(Kind.NOTE if expected else Kind.WARNING, told, cause=Cause.REFUSED, child=first.number)


def idle_after(context: Context, child: Child) -> float:
    """Seconds without packets after which it ends; inf: it does not."""
    configured = context.peer.child_life.idle_s or inf
    return min(configured, IDLE) if child.resource and context.ends.called else configured


def others(context: Context, child: Child) -> list[Child]:
    """Those with the same selectors: while one of them is used, the first one stays, and what it is for has an SA without the
    others."""
    return [] if child.resource is None else [one for one in group(context, child.pairs) if one is not child]
