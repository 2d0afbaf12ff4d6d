"""A message of ours that has no answer, and a peer that began and does not go on: said early, as of IKEv2 (`ike.silence`).

It changes nothing here. `tell` is for the log, once; `text` is what holds at the moment, for as long as it does.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike import silence as say
from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.ike.retransmission import TOLD_AFTER, gives_udp_up
from ipsec_dp.ike.v1.quick import QuickStage
from ipsec_dp.ike.v1.states import IsakmpState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.sa import Waiting

DIFFER: Final = "the shared keys or the identities differ (a peer says so in its log alone)"
_ALIKE: Final = ", as it has none where the shared keys or the identities differ"
_NUMBERS: Final = {IsakmpState.SA_SENT: 1, IsakmpState.KE_SENT: 3, IsakmpState.AUTH_SENT: 5, IsakmpState.AGGRESSIVE_SENT: 1}
_AWAITED: Final = {IsakmpState.SA_ANSWERED: 3, IsakmpState.KE_ANSWERED: 5, IsakmpState.AGGRESSIVE_ANSWERED: 3}


class _Asked(NamedTuple):
    """What has no answer. `attempt`: how often it was sent again."""

    what: str
    began: float
    attempt: int
    datagram: bytes = b""
    kept_back: tuple[int, str] | None = None


def asked_for(context: IsakmpContext) -> str:
    """The message of phase 1 that waits for an answer."""
    return f"message {_NUMBERS.get(context.state, 3)} of {context.mode}"


def _all_asked(context: IsakmpContext) -> Iterator[tuple[str, Waiting]]:
    if context.waiting is not None and not context.established:  # nobody answers message 3 of aggressive mode
        yield asked_for(context), context.waiting
    for exchange in context.exchanges.values():
        if exchange.waiting is not None and exchange.stage is QuickStage.ASKED:
            yield f"quick mode for {exchange.pair}", exchange.waiting


def _asked(context: IsakmpContext) -> _Asked | None:
    if context.replaced or not context.alive:  # nobody depends on the answer
        return None
    for what, one in _all_asked(context):
        if one.attempt >= TOLD_AFTER:
            return _Asked(what, one.began, one.attempt, one.datagram, one.kept_back)
    alive = context.liveliness
    return _Asked("R-U-THERE", alive.asked_at, alive.attempts - 1) if alive.attempts > TOLD_AFTER else None


def tell(context: IsakmpContext, now: float, attempt: int) -> None:
    """Something was just sent again, for the `attempt`-th time."""
    if attempt == TOLD_AFTER and (said := text(context, now)) is not None:
        context.report(Kind.WARNING, said)
    refused = context.negotiation.unreachable
    if gives_udp_up(attempt, refused=refused) and _udp_in_vain(context):
        alike = "" if refused else _ALIKE
        context.report(Kind.NO_UDP, say.udp_spared(context.path.remote, "message 3", refused=refused) + alike)


def _udp_in_vain(context: IsakmpContext) -> bool:
    """Whether nothing at all came back from port 4500, to which only ESP in UDP led, which is not needed."""
    led_there = context.negotiation.floated and context.nat.spares_udp(context.peer.encapsulation)
    came = context.negotiation.hints and not context.negotiation.unreachable
    return led_there and not came and context.state is IsakmpState.AUTH_SENT


def text(context: IsakmpContext, now: float) -> str | None:
    """What is waited for, from whom and since when, and what may be the cause; None: nothing is, or not for long."""
    asked = _asked(context)
    if asked is None:
        return None
    if (ours := _kept_back(context, asked)) is not None:
        return ours
    waits = say.waits(context.path.remote, asked.what, now - asked.began, asked.attempt + 1)
    if context.waiting is not None and context.negotiation.hints:
        return say.unusable(waits, context.negotiation.hints[-1][0])
    return f"{waits}: {_cause(context, asked, now)}"


def kept_back(context: IsakmpContext) -> str | None:
    """What this host says to it, where it let the last attempt not leave; None: it did, as far as anybody knows."""
    asked = _asked(context)
    return None if asked is None else _kept_back(context, asked)


def _kept_back(context: IsakmpContext, asked: _Asked) -> str | None:
    if asked.kept_back is None or asked.kept_back[0] < asked.attempt - 1:
        return None
    return say.does_not_leave(asked.what, context.path.remote, asked.kept_back[1])


def unsent(context: IsakmpContext, datagram: bytes, why: str) -> None:
    """This host refused to send one of ours. What waits is sent again, and told when it was so often; of others it is told once."""
    for _, waiting in _all_asked(context):
        if datagram in context.datagrams(waiting.datagram):
            waiting.kept_back = waiting.attempt, why
            return
    if not context.negotiation.answers_kept_back:
        context.negotiation.answers_kept_back = True
        context.report(Kind.WARNING, say.answers_do_not_leave(context.path.remote, why))


def _cause(context: IsakmpContext, asked: _Asked, now: float) -> str:
    remedy = say.SMALLER_SIZE if context.abilities.fragmentation else say.NO_FRAGMENTS
    port, lost = context.path.remote.port, say.long_ones_lost(context.datagrams(asked.datagram), remedy)
    match context.state:
        case IsakmpState.SA_SENT | IsakmpState.AGGRESSIVE_SENT:
            return say.nobody_there(context.path, "IKEv1")
        case IsakmpState.KE_SENT:
            return f"{say.its_log('message 1', port)}: it may have no secret for our address{lost}"
        case IsakmpState.AUTH_SENT if context.negotiation.floated:
            return say.keys_or_port(DIFFER, "message 3", port) + lost
        case IsakmpState.AUTH_SENT:
            return DIFFER + lost
    heard, activity = context.liveliness.heard, context.host.environment.activity
    numbers = () if context.peering is None else context.peering.sas
    if heard < asked.began and any(activity(number).received >= asked.began for number in numbers):
        return say.packets_come(port, lost)
    return say.messages_come(lost) if heard >= asked.began else say.went_down(port, now - heard)


# ---- the called side -------------------------------------------------------------------------------------------------------------


def answered(context: IsakmpContext, now: float) -> None:
    """A message of an initiator that has proven nothing was just answered."""
    context.negotiation.repeated = False
    if context.origin is Origin.CLAIMED:
        context.deadlines.tell_at = now + say.HALF_OPEN_TOLD


def does_not_go_on(context: IsakmpContext) -> None:
    """Says, once, that the next message does not come, unless it did and could not be read."""
    context.deadlines.tell_at = inf
    awaited = _AWAITED.get(context.state)
    if awaited is None or context.negotiation.hints or not context.host.lacks(context):
        return
    path, held = context.path, context.fragments
    floats = context.udp and not path.natt
    a_part = held is not None and held.collecting
    why = say.why_not(path, a_part=a_part, repeats=context.negotiation.repeated, floats=floats)
    context.report(Kind.WARNING, say.does_not_go_on(path.remote, context.mode, say.HALF_OPEN_TOLD, f"message {awaited}", why))
