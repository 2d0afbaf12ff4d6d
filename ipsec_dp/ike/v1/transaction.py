"""XAUTH and mode config are not spoken here: a peer that asks for them gets a refusal, and a person is told what it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.v1 import peerings
from ipsec_dp.ike.v1.offers import WANTS_XAUTH
from ipsec_dp.ike.v1.payloads import ConfigPayload, NotificationPayload
from ipsec_dp.ike.v1.sa_payload import parse_attributes
from ipsec_dp.ike.v1.wire import NotifyCode, Protocol

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage

WANTS_CONFIG: Final = "the peer asks for mode config, which gives a client its address and is not spoken here: set it to do without"
_HEAD: Final = 4  # octets in front of the attributes
_XAUTH: Final = range(16_520, 16_530)  # attributes, from XAUTH-TYPE to XAUTH-ANSWER


def refuse(context: IsakmpContext, message: IsakmpMessage) -> None:
    """One whose hash holds. A peer that waits for XAUTH makes no IPsec SA, so unless there are some the ISAKMP SA is of no use, and
    deleted."""
    peering = context.peering
    context.send_informational([NotificationPayload(Protocol.ISAKMP, NotifyCode.UNSUPPORTED_EXCHANGE_TYPE)])
    attributes = (attribute.type for one in message.all(ConfigPayload) for attribute in parse_attributes(one.data[_HEAD:]))
    if not any(attribute in _XAUTH for attribute in attributes):
        context.hint(WANTS_CONFIG)
    elif peering is None or peering.sas:
        context.hint(WANTS_XAUTH)
    else:
        peerings.end(peering, Cause.AUTHENTICATION, WANTS_XAUTH, again=True)
