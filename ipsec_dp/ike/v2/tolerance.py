"""What stands in a message and nothing here acts on, in words: it is passed over, and the rest of the message counts.

The unit of refusal is the item, not the message (RFC 7296 §2.5, §3.3.6, §3.6, §3.7, §3.10.1, §3.11, §3.13.1). Nothing is decided
here: each item is passed over where it would be used. docs/ike-tolerance.md has all of them in one table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.strangers import Allowance
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.cert_payloads import unusable
from ipsec_dp.ike.v2.wire import NotifyType, PayloadType
from ipsec_dp.ipsec.transforms import ADDITIONAL_KEY_EXCHANGES, TransformType
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.v2.message import Message

SHOWN: Final = 8  # items of one message that are named
NOTED: Final = 16  # texts of one IKE SA
COMPLAINTS_A_MINUTE: Final = 2  # of a peer about ESP packets of ours
_KNOWN_NOTIFIES: Final = frozenset(NotifyType)
_WITH_SPI: Final = (NotifyType.REKEY_SA, NotifyType.INVALID_SELECTORS, NotifyType.CHILD_SA_NOT_FOUND)
_KNOWN_TRANSFORMS: Final = frozenset({*TransformType, *ADDITIONAL_KEY_EXCHANGES})


class Notes:
    """What was told of this kind of one IKE SA, and of those that it is rekeyed to: each text once, and not many."""

    def __init__(self) -> None:
        self.told: set[str] = set()
        self.complaints = Allowance(COMPLAINTS_A_MINUTE / 60.0, COMPLAINTS_A_MINUTE)

    def first(self, text: str) -> bool:
        """True when this one was not told before."""
        if text in self.told or len(self.told) == NOTED:
            return False
        self.told.add(text)
        return True


def passed_over(message: Message) -> str:
    """One line; empty: everything in it means something here."""
    found = dict.fromkeys(_items(message))
    return f"passed over: {named(list(found), SHOWN)}" if found else ""


def _items(message: Message) -> Iterator[str]:
    for kind in message.unknown:
        yield f"payload type {kind}"
    for payload in message.payloads:
        match payload:
            case p.SecurityAssociation():
                yield from _of_proposals(payload)
            case p.Certificate() if (why := unusable(payload)) is not None:
                yield why
            case p.CertificateRequest() if not payload.usable:
                yield f"CERTREQ of encoding {payload.encoding} with {len(payload.authorities)} octets"
            case p.Notify():
                yield from _of_notify(payload, response=message.header.is_response)
            case p.Delete() if payload.protocol not in (ProtocolId.IKE, ProtocolId.ESP):
                yield f"DELETE for protocol {payload.protocol}"
            case p.TrafficSelectorsInitiator() | p.TrafficSelectorsResponder():
                yield from (f"traffic selector of type {kind}" for kind in payload.unknown)
            case p.Configuration():
                yield f"CP payload of type {payload.cfg_type}"
            case p.VendorId():
                yield f"vendor ID {payload.data[:20].hex()}"
            case p.Eap():
                yield PayloadType.EAP.name


def _of_proposals(payload: p.SecurityAssociation) -> Iterator[str]:
    for one in payload.proposals:
        if one.protocol not in (ProtocolId.IKE, ProtocolId.ESP):
            yield f"proposal for protocol {one.protocol}"
        elif not one.spi_holds:
            yield f"proposal with an SPI of {len(one.spi)} octets"
        if not one.transforms:
            yield "proposal without transforms"
        for transform in one.transforms:
            if transform.type not in _KNOWN_TRANSFORMS:
                yield f"proposal with transform type {transform.type}"
            yield from (f"transform with attribute {kind & 0x7FFF}" for kind, _ in transform.unknown)


def _of_notify(notify: p.Notify, *, response: bool) -> Iterator[str]:
    """Errors in a response are no items: they refuse the request."""
    if notify.notify_type not in _KNOWN_NOTIFIES and not (notify.is_error and response):
        yield f"notify type {notify.notify_type}"
    elif notify.spi and notify.notify_type not in _WITH_SPI:
        yield f"SPI of {len(notify.spi)} octets for protocol {notify.protocol} in notify {NotifyType(notify.notify_type).name}"
