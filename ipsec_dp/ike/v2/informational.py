"""INFORMATIONAL requests of the peer: DELETEs, crossing ours or not, and the question whether we live (RFC 7296 §1.4, §2.25)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import child as children
from ipsec_dp.ike.v2 import child_create, delete
from ipsec_dp.ike.v2.payloads import Delete, Payload
from ipsec_dp.ike.v2.sa import ChildState
from ipsec_dp.ike.v2.wire import NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import ReceivedMessage


def answer(context: Context, received: ReceivedMessage) -> list[Payload]:
    """An INFORMATIONAL request: DELETEs, a farewell, or nothing at all, which asks whether we live."""
    message = received.message
    if message.notify(NotifyType.AUTHENTICATION_FAILED) is not None:
        context.fail(
            Cause.AUTHENTICATION, "the peer says that we did not prove who we are: compare secrets and identities", again=True
        )
        return []
    payloads: list[Payload] = []
    spis: list[bytes] = []
    for payload in message.all(Delete):
        if payload.protocol == ProtocolId.IKE:
            context.fail(Cause.PEER, "the peer deleted it", again=True)
            return []
        if payload.protocol == ProtocolId.ESP:
            spis += payload.spis
    answered = [spi for spi in (_deleted(context, spi, received.now) for spi in dict.fromkeys(spis)) if spi is not None]
    if answered:
        payloads.append(Delete(ProtocolId.ESP, tuple(spi.to_bytes(4, "big") for spi in answered)))
    return payloads


def _deleted(context: Context, spi: bytes, now: float) -> int | None:
    """The peer no longer receives on `spi`; our SPI of the pair, unless our own DELETE for it is under way (RFC 7296 §2.25.1)."""
    one = children.by_spi_out(context, spi)
    if one is None or one.state is ChildState.DELETED:
        return None
    crossing = one.state is ChildState.DELETING
    task = context.task if isinstance(context.task, child_create.ChildCreate) else None
    rekeying = task is not None and task.rekeys is one
    successor = task.rival if task is not None and rekeying and one.successor is None else one.successor
    if successor is not None:
        children.switch(context, successor)
    if crossing or successor is not None or rekeying:
        delete.finish(context, one, now)
    else:
        redundant = one.state is ChildState.REKEYED or (task is not None and task.rival is one)
        delete.forget(context, one)
        if not redundant:
            context.report(Kind.CHILD_DOWN, "the peer deleted it", cause=Cause.PEER, child=one.number, again=True)
    return None if crossing else one.spi_in
