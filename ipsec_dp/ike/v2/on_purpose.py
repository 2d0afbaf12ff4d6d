"""Refusals that a rig asks for: nothing is done of what is refused, as by a peer that means it (RFC 7296 §2.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.v2 import delete
from ipsec_dp.ike.v2.child import by_spi_out
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.payloads import Notify, Payload

_FATAL: Final = frozenset({NotifyType.INVALID_SYNTAX, NotifyType.AUTHENTICATION_FAILED})  # RFC 7296 §2.21.2, §2.21.3


def refusal(context: Context, message: Message, *, child: bool = False) -> list[Payload] | None:
    """What a request gets instead of an answer; None: it is answered. `child`: of IKE_AUTH only its CHILD_SA is refused."""
    notify: Notify | None = context.host.environment.interference.refused(message, child=child)
    if notify is None:
        return None
    whole_auth = message.header.exchange == ExchangeType.IKE_AUTH and not child
    if whole_auth or (notify.notify_type in _FATAL and message.header.exchange != ExchangeType.IKE_SA_INIT):
        context.fail(Cause.REFUSED, f"refused on purpose: {NotifyType(notify.notify_type).name}")
    lost = by_spi_out(context, notify.spi) if notify.notify_type == NotifyType.CHILD_SA_NOT_FOUND and notify.spi else None
    if lost is not None:
        delete.forget(context, lost)
    return [notify]
