"""DELETE of CHILD_SAs and IKE SAs by us, and what either side's DELETE leaves (RFC 7296 §1.4.1, §2.25)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind, RemoveChild, RemoveOutbound
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import child as children
from ipsec_dp.ike.v2 import replacement
from ipsec_dp.ike.v2.child_table import ChildTable
from ipsec_dp.ike.v2.context import Task
from ipsec_dp.ike.v2.exchanges import Priority, Shape
from ipsec_dp.ike.v2.payloads import Delete, Payload
from ipsec_dp.ike.v2.sa import CARRYING, HALF_OPEN, ChildState, State
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child, ReceivedMessage


class ChildDelete(Task):
    """Our request to delete a CHILD_SA by the SPI we receive on: one that we never installed, too."""

    exchange = ExchangeType.INFORMATIONAL
    shape = Shape.ANY
    priority = Priority.DELETE_CHILD

    def __init__(self, spi: int, child: Child | None = None) -> None:
        self.spi, self.child = spi, child

    def build(self, context: Context, now: float) -> list[Payload] | None:
        del context, now
        if self.child is not None and self.child.state is not ChildState.DELETING:
            return None  # the peer was faster
        return [Delete(ProtocolId.ESP, (self.spi.to_bytes(4, "big"),))]

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        if self.child is not None and self.child.state is ChildState.DELETING:
            finish(context, self.child, received.now)


class IkeDelete(Task):
    """Our request to delete the IKE SA with all its CHILD_SAs."""

    exchange = ExchangeType.INFORMATIONAL
    shape = Shape.ANY
    priority = Priority.DELETE_IKE
    tries = 4

    def __init__(self, cause: Cause, text: str, *, again: bool = False) -> None:
        self.cause, self.text, self.again = cause, text, again

    def build(self, context: Context, now: float) -> list[Payload]:
        context.enter(State.DELETING)
        if not context.succession.handed_over and not hand_over(context, now):
            for one in list(context.children.values()):
                forget(context, one)
        return [Delete(ProtocolId.IKE)]

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        context.end(self.cause, self.text, received.now, again=self.again)


def ike(context: Context, cause: Cause, text: str, now: float, *, again: bool = False) -> None:
    """End an IKE SA properly: by a DELETE once it is up, by forgetting it before. One that has expired waits for no answer."""
    waits = context.state is State.EXPIRED and context.window.outstanding is not None
    if context.state is State.EXPIRED and not context.succession.handed_over and not hand_over(context, now) and waits:
        context.end(cause, text, now, again=again)
    elif context.state in (*CARRYING, State.AUTH_SENT):
        if not any(isinstance(task, IkeDelete) for task in context.queue.waiting(Priority.DELETE_IKE)):
            context.queue.add(IkeDelete(cause, text, again=again))
    elif context.state in (State.INIT_SENT, State.INTERMEDIATE_SENT, *HALF_OPEN):
        context.end(cause, text, now, again=again)


def withdraw(context: Context, now: float) -> None:
    """Delete it at the peer, and here at once all that carries traffic. Nothing that still comes of it concerns its tunnel."""
    context.withdrawn = True
    ike(context, Cause.LOCAL, "it is withdrawn", now)
    for one in list(context.children.values()):
        forget(context, one)


def child(context: Context, one: Child, now: float, *, at_once: bool = False) -> None:
    """Delete a CHILD_SA. What is under way to us may still come in for a while, unless it must end `at_once`."""
    del now
    if one.state in (ChildState.DELETING, ChildState.DELETED):
        return
    if one.successor is not None:
        children.switch(context, one.successor)
    one.enter(ChildState.DELETING)
    one.soft = one.idle_at = one.switch_at = lifetimes.NEVER_DUE
    if at_once:
        remove(context, one)
    elif one.sending:
        one.sending = False
        context.emit(RemoveOutbound(context.peer.tunnel, one.number))
    context.queue.add(ChildDelete(one.spi_in, one))


def finish(context: Context, one: Child, now: float, longer: float = 0.0) -> None:
    """Both sides have deleted it. It receives for a little longer: ESP may be slower than IKE (RFC 7296 §2.8).

    Where the peer is told only later, that is up to `longer` seconds more, if its hard limit allows.
    """
    if one.sending:
        one.sending = False
        context.emit(RemoveOutbound(context.peer.tunnel, one.number))
    if not one.installed:
        context.children.discard(one.number)
        return
    context.host.holdings.let_go(one)
    one.enter(ChildState.DELETED)
    one.remove_at = now + lifetimes.GRACE + max(min(longer, one.hard - now - lifetimes.GRACE), 0.0)
    one.soft = one.hard = one.idle_at = one.switch_at = lifetimes.NEVER_DUE


def remove(context: Context, one: Child) -> None:
    """Take its SAs out of the data plane."""
    context.host.holdings.let_go(one)
    if one.installed:
        one.installed = one.sending = False
        context.emit(RemoveChild(context.peer.tunnel, one.number))


def forget(context: Context, one: Child) -> None:
    """Remove it and know it no more."""
    remove(context, one)
    one.enter(ChildState.DELETED)
    context.children.discard(one.number)


def hand_over(old: Context, now: float) -> bool:
    """Where another IKE SA is in the place of `old` (RFC 7296 §2.8.3): its CHILD_SAs send from now on, and it receives for a little
    longer what is under way on the old ones. False where there is none."""
    new = old.succession.after
    if new is None or not replacement.replaced(old):
        return False
    children.switch_waiting(new)
    longer = replacement.PATIENCE if old.state is State.EXPIRED else 0.0
    for one in list(old.children.values()):
        finish(old, one, now, longer)
    together = ChildTable(new)
    for one in (*old.children.values(), *new.children.values()):
        together[one.number] = one
    together.goes_on_from(new.children)
    new.children, old.children = together, ChildTable(old)
    new.succession.before, old.succession.before = old.succession.before, None
    if new.succession.before is not None:
        new.succession.before.succession.after = new
    old.succession.after = None
    old.succession.handed_over = True
    at_once = replacement.overlap(old, new)
    if not at_once:
        new.report(Kind.IKE_REAUTHENTICATED, f"in place of {old.sa.spi_i.hex()}_{old.sa.spi_r.hex()}, {new.sa.suite}")
    old.emit(*new.take())
    if at_once:
        old.report(Kind.IKE_DOWN, "both sides began at once; the other IKE SA stays", cause=Cause.REPLACED)
    return True
