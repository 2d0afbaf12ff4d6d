"""How long our IKE_SA_INIT request is: IKE cannot divide it (RFC 7383 §2.1), so that IP must where a path takes less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import negotiation
from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.auth import hash_algorithms_data
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.payloads import KeyExchangePayload, Nonce, Notify, SecurityAssociation
from ipsec_dp.ike.v2.sa import NONCE_OCTETS
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ipsec.transforms import Group

_SHA1 = 20  # octets of a NAT detection hash (RFC 7296 §2.23)


def octets(proposals: tuple[Proposal, ...], group: Group) -> int:
    """Without the headers of IP and UDP, and without a cookie. `group`: the first key exchange."""
    payloads: list[Payload] = [
        SecurityAssociation(proposals),
        KeyExchangePayload(group.id, bytes(group.public)),
        Nonce(bytes(NONCE_OCTETS)),
        Notify(NotifyType.NAT_DETECTION_SOURCE_IP, bytes(_SHA1)),
        Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, bytes(_SHA1)),
        Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, hash_algorithms_data()),
    ]
    if negotiation.with_additional(proposals):
        payloads.append(Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
    header = Header(NO_SPI, NO_SPI, ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0)
    return len(build_message(Message(header, tuple(payloads))))
