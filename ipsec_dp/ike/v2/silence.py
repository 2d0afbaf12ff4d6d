"""A request of ours that has no answer: said after its second retransmission, long before it is given up (RFC 7296 §2.4).

It changes nothing. `tell` is for the log, once; `text` is what holds at the moment, for as long as it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import IKE_PORT, Kind
from ipsec_dp.ike.retransmission import TOLD_AFTER
from ipsec_dp.ike.v2.exchanges import Priority, Shape
from ipsec_dp.ike.v2.message import is_response
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context, Task
    from ipsec_dp.ike.v2.exchanges import OutstandingRequest

_OURS: Final = "this host itself refuses to send"
LONG: Final = 1200  # octets of a datagram that may be fragmented on the way

_INFORMATIONAL: Final = {
    Priority.DELETE_CHILD: "DELETE of CHILD_SAs",
    Priority.LIVENESS: "liveness check",
    Priority.PROBE: "liveness check",  # what a probe becomes when it was repeated
}


def tell(context: Context, now: float) -> None:
    """Our request was just sent once more."""
    outstanding = context.window.outstanding
    if outstanding is not None and outstanding.attempt == TOLD_AFTER and (said := text(context, now)) is not None:
        context.report(Kind.WARNING, said)


def text(context: Context, now: float) -> str | None:
    """What is waited for, from whom and since when, and what may be the cause; None: nothing is, or not for long."""
    outstanding = context.window.outstanding
    if outstanding is None or outstanding.attempt < TOLD_AFTER:
        return None
    if context.state is State.DELETING or context.succession.handed_over:  # nobody depends on the answer
        return None
    if (ours := kept_back(context)) is not None:
        return ours
    waits = (
        f"{context.path.remote} has not answered {_name(outstanding.task)} (message {outstanding.message_id}) for "
        f"{max(now - outstanding.began, 0.0):.0f} s, sent {outstanding.attempt + 1} times"
    )
    if context.handshake.hints:
        return f"{waits}, in a way that can be used; what came is not authenticated: {context.handshake.hints[-1]}"
    return f"{waits}: {_cause(context, outstanding, now)}"


def kept_back(context: Context) -> str | None:
    """What this host says to our request, where it let the last attempt not leave; None: it did, as far as anybody knows."""
    outstanding = context.window.outstanding
    if outstanding is None or outstanding.kept_back is None or outstanding.kept_back[0] < outstanding.attempt - 1:
        return None
    request = f"{_name(outstanding.task)} (message {outstanding.message_id})"
    return f"{request} to {context.path.remote} does not leave: {_OURS}: {outstanding.kept_back[1]}"


def unsent(context: Context, datagram: bytes, why: str) -> None:
    """This host refused to send one of ours. A request is repeated, and told when it was so often; of answers it is told once."""
    outstanding = context.window.outstanding
    if outstanding is not None and datagram in outstanding.datagrams:
        outstanding.kept_back = outstanding.attempt, why
    if not is_response(datagram):
        return
    text = f"our answers to {context.path.remote} do not leave: {_OURS}: {why}"
    if context.abilities.notes.first(text):
        context.report(Kind.WARNING, text)


def _name(task: Task) -> str:
    """ "CREATE_CHILD_SA (CHILD_SA rekey)"."""
    purpose = task.shape.value if task.shape is not Shape.ANY else ""
    if task.exchange is ExchangeType.INFORMATIONAL:
        purpose = _INFORMATIONAL.get(task.priority, "")
    return f"{task.name} ({purpose})" if purpose else task.name


def _cause(context: Context, outstanding: OutstandingRequest[Task], now: float) -> str:
    port, local = context.path.remote.port, context.path.local.address
    match outstanding.task.exchange:
        case ExchangeType.IKE_SA_INIT:
            return (
                f"is that its address, or is it down (ping it)? Does IKE run there, and does it expect {local}? Let UDP port"
                f" {port} pass, there and back (look there with: tcpdump -n -i any udp port {port})"
            )
        case ExchangeType.IKE_AUTH if context.handshake.int_auth.of_initiator:
            return (
                f"it did answer IKE_INTERMEDIATE, so most likely the two sides have other keys since: somebody changed its key "
                f"exchange on the way, or one of them computes it otherwise; its log may tell more{_fragments(outstanding)}"
            )
        case ExchangeType.IKE_AUTH | ExchangeType.IKE_INTERMEDIATE if context.path.natt and not context.peer.natt_first:
            return (
                f"it did answer IKE_SA_INIT on UDP port {IKE_PORT}, so most likely UDP port {port} is blocked: let UDP port {port}"
                f" pass, there and back{_fragments(outstanding)}"
            )
        case ExchangeType.IKE_AUTH | ExchangeType.IKE_INTERMEDIATE:
            lost = _fragments(outstanding) or "; what differs now is only that the message is longer, and protected"
            return f"it did answer IKE_SA_INIT on UDP port {port}, so its log may tell more{lost}"
    heard = context.deadlines.heard
    activity = context.host.environment.activity
    if heard < outstanding.began and any(activity(number).received >= outstanding.began for number in context.children):
        way = f"it passes over this one, or UDP port {port} is blocked, there or back{_fragments(outstanding)}"
        return f"packets do come by its SAs, so it is up and the way is there: {way}; its log may tell more"
    if heard >= outstanding.began:
        return f"its own messages do come, so ours are lost on the way, or it passes over this one{_fragments(outstanding)}"
    return (
        f"it was last heard {now - heard:.0f} s ago; it is down, has lost this IKE SA, or UDP port {port} is blocked now: ping it,"
        f" and look there with: tcpdump -n -i any udp port {port}"
    )


def _fragments(outstanding: OutstandingRequest[Task]) -> str:
    octets = max(map(len, outstanding.datagrams), default=0)
    return f"; or datagrams of {octets} octets are lost, as fragments are behind some firewalls" if octets > LONG else ""
