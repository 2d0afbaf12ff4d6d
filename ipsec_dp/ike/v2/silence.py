"""A request of ours that has no answer: said after its second retransmission, long before it is given up (RFC 7296 §2.4).

It changes nothing here. `tell` is for the log, once; `text` is what holds at the moment, for as long as it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import silence as say
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.retransmission import TOLD_AFTER, gives_udp_up
from ipsec_dp.ike.v2.exchanges import Priority, Shape
from ipsec_dp.ike.v2.message import is_response
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context, Task
    from ipsec_dp.ike.v2.exchanges import OutstandingRequest

_INFORMATIONAL: Final = {
    Priority.DELETE_CHILD: "DELETE of CHILD_SAs",
    Priority.LIVENESS: "liveness check",
    Priority.PROBE: "liveness check",  # what a probe becomes when it was repeated
}


def tell(context: Context, now: float) -> None:
    """Our request was just sent once more."""
    outstanding = context.window.outstanding
    if outstanding is None:
        return
    if outstanding.attempt == TOLD_AFTER and (said := text(context, now)) is not None:
        context.report(Kind.WARNING, said)
    refused = context.handshake.unreachable
    if gives_udp_up(outstanding.attempt, refused=refused) and _udp_in_vain(context, outstanding.task):
        context.report(Kind.NO_UDP, say.udp_spared(context.path.remote, "IKE_SA_INIT", refused=refused))


def _udp_in_vain(context: Context, task: Task) -> bool:
    """Whether nothing at all came back from port 4500, to which only ESP in UDP led, which is not needed."""
    led_there = context.handshake.floated and context.nat.spares_udp(context.peer.encapsulation)
    came = context.handshake.int_auth.of_responder or (context.handshake.hints and not context.handshake.unreachable)
    return led_there and not came and task.exchange in (ExchangeType.IKE_AUTH, ExchangeType.IKE_INTERMEDIATE)


def text(context: Context, now: float) -> str | None:
    """What is waited for, from whom and since when, and what may be the cause; None: nothing is, or not for long."""
    outstanding = context.window.outstanding
    if outstanding is None or outstanding.attempt < TOLD_AFTER:
        return None
    if context.state is State.DELETING or context.succession.handed_over:  # nobody depends on the answer
        return None
    if (ours := kept_back(context)) is not None:
        return ours
    request = f"{_name(outstanding.task)} (message {outstanding.message_id})"
    waits = say.waits(context.path.remote, request, now - outstanding.began, outstanding.attempt + 1)
    if context.handshake.hints:
        return say.unusable(waits, str(context.handshake.hints[-1]))
    return f"{waits}: {_cause(context, outstanding, now)}"


def kept_back(context: Context) -> str | None:
    """What this host says to our request, where it let the last attempt not leave; None: it did, as far as anybody knows."""
    outstanding = context.window.outstanding
    if outstanding is None or outstanding.kept_back is None or outstanding.kept_back[0] < outstanding.attempt - 1:
        return None
    request = f"{_name(outstanding.task)} (message {outstanding.message_id})"
    return say.does_not_leave(request, context.path.remote, outstanding.kept_back[1])


def unsent(context: Context, datagram: bytes, why: str) -> None:
    """This host refused to send one of ours. A request is repeated, and told when it was so often; of answers it is told once."""
    outstanding = context.window.outstanding
    if outstanding is not None and datagram in outstanding.sealed:
        outstanding.kept_back = outstanding.attempt, why
    if not is_response(datagram):
        return
    text = say.answers_do_not_leave(context.path.remote, why)
    if context.abilities.notes.first(text):
        context.report(Kind.WARNING, text)


def _name(task: Task) -> str:
    """ "CREATE_CHILD_SA (CHILD_SA rekey)"."""
    purpose = task.shape.value if task.shape is not Shape.ANY else ""
    if task.exchange is ExchangeType.INFORMATIONAL:
        purpose = _INFORMATIONAL.get(task.priority, "")
    return f"{task.name} ({purpose})" if purpose else task.name


def _remedy(context: Context, outstanding: OutstandingRequest[Task]) -> str:
    """Of what is long, and may be lost for that."""
    if outstanding.sealed.divided:
        return say.shorter_are_tried(outstanding.sealed.shortest)
    return say.SMALLER_SIZE if context.abilities.fragmentation else say.NO_FRAGMENTS


def _cause(context: Context, outstanding: OutstandingRequest[Task], now: float) -> str:
    port, lost = context.path.remote.port, say.long_ones_lost(outstanding.datagrams, _remedy(context, outstanding))
    match outstanding.task.exchange:
        case ExchangeType.IKE_SA_INIT:
            return say.nobody_there(context.path)
        case ExchangeType.IKE_AUTH if context.handshake.int_auth.of_initiator:
            return say.OTHER_KEYS + lost
        case ExchangeType.IKE_AUTH | ExchangeType.IKE_INTERMEDIATE if context.handshake.floated:
            return say.port_blocked("IKE_SA_INIT", port) + lost
        case ExchangeType.IKE_AUTH | ExchangeType.IKE_INTERMEDIATE:
            return say.its_log("IKE_SA_INIT", port) + (
                lost or "; what differs now is only that the message is longer, and protected"
            )
    heard = context.deadlines.heard
    activity = context.host.environment.activity
    if heard < outstanding.began and any(activity(number).received >= outstanding.began for number in context.children):
        return say.packets_come(port, lost)
    return say.messages_come(lost) if heard >= outstanding.began else say.went_down(port, now - heard)
