"""What a request of a peer costs us, in milliseconds of processor time: estimates that are rather too high (`authenticated`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.proxy_ids import count_near
from ipsec_dp.ike.v2.payloads import Delete, KeyExchangePayload, TrafficSelectorsInitiator, TrafficSelectorsResponder
from ipsec_dp.ike.v2.wire import ExchangeType
from ipsec_dp.ipsec.transforms import GROUP_OF_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.message import Message

FRAGMENT: Final = 0.1  # opened and kept
OF_EXCHANGE: Final = {ExchangeType.INFORMATIONAL: 0.2, ExchangeType.CREATE_CHILD_SA: 1.0, ExchangeType.IKE_FOLLOWUP_KE: 1.0}
OTHER: Final = 0.2
SELECTOR: Final = 0.02
SELECTOR_AND_PROXY_ID: Final = 0.001  # each is compared with each that it may meet, and with all of them where it meets none
SPI: Final = 0.002  # of a DELETE
# A key exchange as responder: two operations with the group. Those that are not here cost as much as the last one.
OF_GROUP: Final = {
    "x25519": 0.3,
    "x448": 1.0,
    "ecp256": 0.3,
    "ecp384": 2.0,
    "ecp521": 2.0,
    "mlkem768": 0.3,
    "mlkem1024": 0.3,
    "modp2048": 3.0,
    "modp3072": 6.0,
    "modp4096": 10.0,
    "modp6144": 30.0,
    "modp8192": 60.0,
}


def price(request: Message, proxy_ids: Sequence[ProxyId]) -> float:
    """Of a request that was opened; `proxy_ids`: those of its tunnel."""
    exchange = request.header.exchange
    total = OF_EXCHANGE.get(ExchangeType(exchange), OTHER) if exchange in list(ExchangeType) else OTHER
    theirs, ours = (
        () if side is None else side.selectors
        for side in (request.get(TrafficSelectorsInitiator), request.get(TrafficSelectorsResponder))
    )
    selectors = len(theirs) + len(ours)
    compared = selectors * count_near(proxy_ids, ours, theirs) if selectors else 0
    ke = request.get(KeyExchangePayload)
    if ke is not None:
        group = GROUP_OF_ID.get(ke.group)
        total += 0.0 if group is None else OF_GROUP.get(group.keyword, OF_GROUP["modp8192"])
    spis = sum(len(payload.spis) for payload in request.all(Delete))
    return total + selectors * SELECTOR + compared * SELECTOR_AND_PROXY_ID + spis * SPI


def of_explanation(selectors: int, proxy_ids: Sequence[ProxyId]) -> float:
    """Besides, where nothing that is asked for is configured, and the log is to say what is."""
    return selectors * len(proxy_ids) * SELECTOR_AND_PROXY_ID
