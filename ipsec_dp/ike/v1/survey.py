"""What a gateway answers to message 1 of IKEv1's main mode: which proposal, and what its vendor IDs say.

A responder that takes it keeps a half-open ISAKMP SA for a while, so that no more is asked than what shows whether it speaks IKEv1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.survey import Question
from ipsec_dp.ike.v1 import offers, vendors
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.payloads import NotificationPayload, VendorIdPayload
from ipsec_dp.ike.v1.registry import DEFAULT_PHASE1, METHOD_NAMES, suites_phase1
from ipsec_dp.ike.v1.sa import fresh_cookie
from ipsec_dp.ike.v1.sa_payload import SaPayload
from ipsec_dp.ike.v1.wire import COOKIE, HEADER, ExchangeMode, Method, notify_text

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ike.survey import Interview

SUITES_MOST: Final = 24  # transforms of a question: it fits into a datagram that nobody fragments
_OLDER: Final = ("aes256-aes128-sha256-sha1-modp2048-modp1536-modp1024",)
_LIFE: Final = Life(28_800.0)


@dataclass(slots=True)
class Ikev1Found:
    """What is known of a gateway by IKEv1. `method`: by which it wants to authenticate."""

    spoken: bool = False
    says: str = ""
    suite: str | None = None
    legacy: bool = False
    method: str | None = None
    vendors: tuple[str, ...] = ()
    unknown_vendors: int = 0
    fragmentation: bool = False


class Ikev1Survey:
    """`found` fills while it goes on."""

    def __init__(self, rng: Rng) -> None:
        self.found = Ikev1Found()
        self._rng = rng

    def interview(self) -> Interview:
        for texts, legacy in ((DEFAULT_PHASE1, False), (_OLDER, True)):
            for method in (Method.SHARED_KEY, Method.RSA):
                yield from self._message_1(texts, method, legacy=legacy)
                if not self.found.spoken or self.found.suite is not None:
                    return

    def _message_1(self, texts: tuple[str, ...], method: Method, *, legacy: bool) -> Interview:
        suites = suites_phase1(parse_ike(texts, legacy=legacy))[:SUITES_MOST]
        cookie = fresh_cookie(self._rng)
        header = IsakmpHeader(cookie, NO_SPI, ExchangeMode.MAIN, 0, 0)
        datagram = build_clear(header, [offers.phase1_offer(suites, method, _LIFE), *vendors.offered()])
        answer = yield Question(datagram, lambda came: came[:COOKIE] == cookie)
        if answer is None:
            return
        found = self.found
        try:
            message = parse_payloads(*parse_isakmp_header(answer), memoryview(answer)[HEADER:])
            sa = message.get(SaPayload)
            if sa is not None:
                choice = offers.phase1_accept(suites, method, sa)
                found.suite = f"{choice.suite.encryption.keyword}-{choice.suite.prf.hash}-{choice.suite.group.keyword}"
                found.method, found.legacy = METHOD_NAMES.get(method, str(int(method))), legacy
        except IkeError as error:
            found.says = f"its answer cannot be used: {error}"
            return
        notifications = message.all(NotificationPayload)
        found.says = ", ".join(notify_text(one.code) for one in notifications)
        found.spoken = True
        sent = dict.fromkeys(one.data for one in message.all(VendorIdPayload))
        names = [vendors.name_of(octets) for octets in sent]
        found.vendors = tuple(dict.fromkeys(name for name in names if name))
        found.unknown_vendors = names.count("")
        found.fragmentation |= any(map(vendors.takes_fragments, sent))
