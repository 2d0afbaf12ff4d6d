"""Informational exchanges: DELETE, notifications, and whether the peer is there (RFC 2409 §5.7, RFC 3706).

One message each, acknowledged by nobody. Each is under a message ID that was never used before, so that one which was recorded and
is sent again does nothing.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.retransmission import wait_after
from ipsec_dp.ike.v1 import ipsec_sas, peerings, quick_mode, silence
from ipsec_dp.ike.v1.payloads import DeletePayload, NotificationPayload
from ipsec_dp.ike.v1.quick import QuickStage
from ipsec_dp.ike.v1.wire import ESP_SPI, NotifyCode, Protocol, notify_text

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

_NUMBER = 4  # octets of an R-U-THERE's data


def take(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """One whose hash holds."""
    for notification in message.all(NotificationPayload):
        _notified(context, notification, received.now)
    for deletion in message.all(DeletePayload):
        _deleted(context, deletion, received.now)


def _notified(context: IsakmpContext, notification: NotificationPayload, now: float) -> None:
    if notification.code == NotifyCode.R_U_THERE:
        if notification.spi == context.sa.cookies and len(notification.data) == _NUMBER:
            answer = NotificationPayload(Protocol.ISAKMP, NotifyCode.R_U_THERE_ACK, context.sa.cookies, notification.data)
            context.send_informational([answer])
    elif notification.code == NotifyCode.R_U_THERE_ACK:
        pass  # that it was heard is all there is to know
    elif notification.code == NotifyCode.INITIAL_CONTACT:
        peerings.began_anew(context, now)
    elif notification.is_error:
        _refused(context, notification, now)


def _refused(context: IsakmpContext, notification: NotificationPayload, now: float) -> None:
    """By the SPI that it names, else of the one quick mode of ours that is under way; but who we are concerns all of them."""
    asked = [one for one in context.exchanges.values() if one.initiator and one.stage is QuickStage.ASKED]
    named = [one for one in asked if notification.spi == one.spi_in.to_bytes(ESP_SPI, "big")]
    if not named and notification.code == NotifyCode.AUTHENTICATION_FAILED:
        peerings.end(context.peering, Cause.AUTHENTICATION, "the peer says that we are not who we say", again=True, quiet=True)
    elif not asked:
        context.report(Kind.WARNING, f"the peer says {notify_text(notification.code)}", exchange="informational")
    else:
        exchange = (named or asked)[0]
        quick_mode.refused(context, exchange, *quick_mode.refusal_text(context, exchange, notification.code), now)


def _deleted(context: IsakmpContext, deletion: DeletePayload, now: float) -> None:
    for spi in deletion.spis:
        if deletion.protocol == Protocol.ESP and len(spi) == ESP_SPI:
            ipsec_sas.deleted_by_peer(context, spi, now)
        elif deletion.protocol == Protocol.ISAKMP and context.peering is not None:
            for one in list(context.peering.sessions):
                if spi == one.sa.cookies:
                    peerings.deleted_by_peer(one, now)


# ---- is the peer there? --------------------------------------------------------------------------------------------------------


def ask(context: IsakmpContext, now: float) -> None:
    """R-U-THERE, for the first time or again; a peer that does not answer is dead after `liveness.retries` repetitions."""
    alive = context.liveliness
    if alive.attempts > context.peer.liveness.retries:
        text = f"{context.path.remote} did not answer R-U-THERE ({alive.attempts} times): it is down or the way to it is"
        peerings.end(context.peering, Cause.LIVENESS, text, again=True, quiet=True)
        return
    if alive.attempts == 0:
        alive.number, alive.asked_at = (alive.number + 1) & 0x7FFF_FFFF, now
    data = alive.number.to_bytes(_NUMBER, "big")
    context.send_informational([NotificationPayload(Protocol.ISAKMP, NotifyCode.R_U_THERE, context.sa.cookies, data)])
    context.deadlines.ask_at = now + wait_after(alive.attempts)
    if alive.attempts:
        context.host.retransmitted(context.peer.tunnel)
    alive.attempts += 1
    silence.tell(context, now, alive.attempts - 1)


def check(context: IsakmpContext, now: float) -> None:
    """Ask now, unless it is being asked, or never."""
    interval = context.peer.liveness.interval_s
    context.deadlines.check_at = now + interval if interval else inf
    if interval and context.abilities.dpd and context.deadlines.ask_at == inf:
        ask(context, now)
