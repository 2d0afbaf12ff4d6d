"""Several CHILD_SAs with the same selectors, each for a resource of its own, which is a worker here (RFC 9611).

The first of them, resource 0, is made like any other and says by SA_RESOURCE_INFO that there may be more; a peer that says the same
may be asked for them. Whoever called asks, one after the other and only while packets go by any of them; the other side
takes them up to twice its own workers (§5) and refuses more by TS_MAX_QUEUE. All are alike in suite and selectors, and idle
together. A rekey stays with the resource of what it rekeys. Whoever called ends all but the foremost when they were idle for
IDLE. With one worker nothing of this is said, and nothing is heard.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import negotiation, suites
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.lifetimes import retry_after
from ipsec_dp.ike.v2.payloads import Notify, Payload
from ipsec_dp.ike.v2.sa import Child, ChildState, State
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.suites import EspSuite
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message

FIRST: Final = 0  # takes the packets that have no other
SOON: Final = 1.0  # seconds after which it is asked whether the first one is used
LOOK: Final = 10.0  # seconds between two looks, and without packets after which none is asked for
WATCH: Final = 60.0  # seconds after which one looks whether it is the foremost now
IDLE: Final = 300.0  # seconds without packets of any of them after which all end but the foremost
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


def foremost(members: list[Child]) -> Child | None:
    """The one that stays when all are idle, and for which those that are missing are asked: the first one while it is there."""
    return min(members, key=lambda one: (one.resource or FIRST, one.number), default=None)


def is_alike(one: Child, suite: EspSuite, pairs: tuple[ProxyId, ...]) -> bool:
    """Key exchanges aside, of which IKE_AUTH has none."""
    return one.suite.transforms == suite.transforms and set(one.pairs) == set(pairs)


# ---- as responder


def has_room(context: Context, message: Message, pairs: tuple[ProxyId, ...]) -> bool:
    """False where a further one with these selectors is refused by TS_MAX_QUEUE. Never the first one, and half of what the peer
    may have is left to other selectors and to rekeys."""
    if context.peer.resources == 1 or not is_told(message):
        return True
    members = len(group(context, pairs))
    most = PEER_LIMITS.children + PEER_LIMITS.children_of_proxy_id * len(context.peer.proxy_ids)
    return not members or (members < LENIENT * context.peer.resources and context.host.children(context) < most // 2)


def of_others(
    context: Context, message: Message, pairs: tuple[ProxyId, ...], offered: Sequence[Proposal], mine: Proposal
) -> Proposal | None:
    """What a new one gets of what is offered: a further one the suite of the others. None: that is not offered. `mine`: what one
    gets that has no others."""
    members = group(context, pairs) if context.peer.resources > 1 and is_told(message) else []
    if not members:
        return mine
    chosen = negotiation.select_keeping(members[-1].suite, context.peer.esp_proposals, offered)
    if chosen is None or len(chosen.spi) != 4:
        return None
    return chosen if any(is_alike(one, suites.esp_suite(chosen), pairs) for one in members) else None


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
        new.more_at, new.idle_at = now + WATCH, min(new.idle_at, now + IDLE)


def missing(context: Context, beside: Child) -> int | None:
    """The first resource that has none yet."""
    if beside.state is not ChildState.UP or beside.table is None:
        return None
    used = {one.resource for one in group(context, beside.pairs)}
    return next((each for each in range(context.peer.resources) if each not in used), None)


def next_missing(context: Context, child: Child, now: float) -> int | None:
    """What the foremost is to ask for now. It is looked again at `child.more_at` in any case."""
    members = group(context, child.pairs)
    if foremost(members) is not child:
        child.more_at = now + WATCH
        return None
    child.more_at = now + LOOK
    idle = max(busy_at(context, one) for one in members) <= now - LOOK
    found = None if idle or child.waits or context.state is not State.ESTABLISHED else missing(context, child)
    child.alike = 0 if found is None else child.alike
    return found


def made(context: Context, beside: Child, now: float) -> None:
    """One is there. The next may be asked for at once while they become more than they were; a peer that ends one for each that it
    makes is looked at as ever."""
    members = len(group(context, beside.pairs))
    if members > beside.alike:
        beside.alike, beside.more_at = members, now
    else:
        beside.alike = 0


def refused(context: Context, beside: Child, kind: int | None, text: str, now: float) -> None:
    """There are no more until the foremost is another one; what the peer only puts off is asked for again."""
    beside.alike = 0
    if kind == NotifyType.TEMPORARY_FAILURE:
        beside.more_at = now + retry_after(0, context.host.environment.rng)
        return
    beside.more_at, expected = inf, kind == NotifyType.TS_MAX_QUEUE
    if expected:
        text = f"the peer takes no more ({iana.notify_text(NotifyType.TS_MAX_QUEUE)})"
    has = len(group(context, beside.pairs))
    told = f"{has} CHILD_SAs like {spi_text(beside.spi_in)} for {context.peer.resources} workers: {text}"
    context.report(Kind.NOTE if expected else Kind.WARNING, told, cause=Cause.REFUSED, child=beside.number)


def idle_after(context: Context, child: Child) -> float:
    """Seconds without packets of any like it after which it ends; inf: it does not."""
    configured = context.peer.child_life.idle_s or inf
    if child.resource is None or not context.ends.called or foremost(group(context, child.pairs)) is child:
        return configured
    return min(configured, IDLE)


def busy_at(context: Context, child: Child) -> float:
    """When packets last came or went by it."""
    activity = context.host.environment.activity(child.number)
    return max(activity.received, activity.sent)


def others(context: Context, child: Child) -> list[Child]:
    """Those with the same selectors: while one of them is used all stay, and what it is for has an SA without it."""
    return [] if child.resource is None else [one for one in group(context, child.pairs) if one is not child]
