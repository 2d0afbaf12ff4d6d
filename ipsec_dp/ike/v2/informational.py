"""INFORMATIONAL requests of the peer: DELETEs, crossing ours or not, and the question whether we live (RFC 7296 §1.4, §2.25)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import child as children
from ipsec_dp.ike.v2 import child_create, delete
from ipsec_dp.ike.v2.payloads import Delete, Notify, Payload
from ipsec_dp.ike.v2.sa import ChildState
from ipsec_dp.ike.v2.wire import ESP_SPI, NotifyType
from ipsec_dp.ipsec.packet import selectors_of_packet

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import ReceivedMessage

# Instead of a DELETE, by an initiator that cannot use our IKE_AUTH response (RFC 7296 §2.21.2), and by whoever ends an IKE SA so.
_FAREWELLS: Final = {
    NotifyType.AUTHENTICATION_FAILED: (
        Cause.AUTHENTICATION,
        "the peer says that we did not prove who we are: compare secrets and identities; our certificate must lead to its `ca`",
    ),
    NotifyType.INVALID_SYNTAX: (Cause.SYNTAX, "the peer could not read what we sent (INVALID_SYNTAX), which ends the IKE SA"),
    NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD: (
        Cause.SYNTAX,
        "the peer does not know a payload that we sent (UNSUPPORTED_CRITICAL_PAYLOAD), which ends the IKE SA",
    ),
}
_COMPLAINTS: Final[dict[int, str]] = {
    NotifyType.INVALID_SPI: "the peer gets ESP packets by an SPI that it does not know (INVALID_SPI)",
    NotifyType.INVALID_SELECTORS: "the peer gets ESP packets whose selectors are not those of their SA (INVALID_SELECTORS)",
}


def answer(context: Context, received: ReceivedMessage) -> list[Payload]:
    """An INFORMATIONAL request: DELETEs, a farewell, or nothing at all, which asks whether we live."""
    message = received.message
    for kind, (cause, text) in _FAREWELLS.items():
        if message.notify(kind) is not None:
            context.fail(cause, text, again=True)
            return []
    for notify in message.all(Notify):
        _complaint(context, notify, received.now)
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


def _complaint(context: Context, notify: Notify, now: float) -> None:
    """About ESP packets of ours, which the peer does not take: told now and then, and nothing is done about it."""
    says = _COMPLAINTS.get(notify.notify_type)
    if says is None or not context.abilities.notes.complaints.take(now):
        return
    spi = notify.data if notify.notify_type == NotifyType.INVALID_SPI else notify.spi
    one = children.by_spi_out(context, spi) if len(spi) == ESP_SPI else None
    whose = "none that we send on now" if one is None else "one that we send on" if one.sending else "an older one of ours"
    about = f"SPI 0x{spi[:ESP_SPI].hex()}, {whose}"
    packet = selectors_of_packet(notify.data) if notify.notify_type == NotifyType.INVALID_SELECTORS else None
    about += "" if packet is None else f": {packet}"
    context.report(Kind.WARNING, f"{says} ({about})", cause=Cause.PEER, child=None if one is None else one.number)


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
