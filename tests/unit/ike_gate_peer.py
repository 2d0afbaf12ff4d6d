"""An IKE peer for tests of the data plane's gate: its messages, and requests with and without cookies, as the core makes them."""

from __future__ import annotations

import os
from ipaddress import ip_address

from ipsec_dp.dataplane import Endpoint, IkeRates
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.environment import IkeSaTraits, IncomingKey
from ipsec_dp.ike.strangers import Cookies
from ipsec_dp.ike.suites import IkeSuite
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.keymat import ike_keys
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.protect import protections, seal_message, seal_payload
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.transforms import ENCRYPTIONS, GROUPS, INTEGRITIES, PRFS
from ipsec_dp.keying.ike_watch import IkeWatch

MARKER = bytes(4)
SPI_I, SPI_R = b"initiatr", b"respondr"
NONCE = bytes(range(32))
PEER = Endpoint(ip_address("198.51.100.1"), 4500)
ELSEWHERE = Endpoint(ip_address("203.0.113.1"), 4500)
PEER6 = Endpoint(ip_address("2001:db8:1::1"), 4500)
COOKIES = Cookies(bytes)
RATES = IkeRates(
    begin=2, other=3, ikev1=2, ikev1_at_once=4, ikev1_in_all=7, isakmp=8, proven=4, proven_at_once=4, proven_in_all=6,
    repeats=2, repeats_at_once=5, cookies=10, cookies_on_nat_port=20, first_cookies=10, cookie_seen_seconds=8, cookie_seconds=60,
)  # fmt: skip
SUITES = [IkeSuite(encryption, PRFS[0], None, GROUPS[0]) for encryption in ENCRYPTIONS if encryption.is_aead] + [
    IkeSuite(encryption, PRFS[0], integrity, GROUPS[0])
    for encryption in ENCRYPTIONS
    if not encryption.is_aead
    for integrity in INTEGRITIES
]


class Peer:
    """The initiator of an IKE SA with the gateway."""

    def __init__(self, suite=SUITES[0]):
        self.suite = suite
        self.keys = ike_keys(suite, bytes(32), NONCE, NONCE, SPI_I, SPI_R)
        self.outgoing, _ = protections(suite, self.keys)

    def key(self):
        integrity = 0 if self.suite.integrity is None else self.suite.integrity.id
        return IncomingKey(self.suite.encryption.id, integrity, self.suite.encryption.key, self.keys.sk_ei + self.keys.sk_ai)

    def known_to(self, plane, *, natt=True, authenticated=True):
        traits = IkeSaTraits(SPI_R, SPI_I, initiator=False, natt=natt, authenticated=authenticated)
        IkeWatch(plane).known(traits, self.key() if authenticated else None)

    def message(self, message_id=0, *, response=False, payloads=(), exchange=ExchangeType.INFORMATIONAL):
        flags = Flag.INITIATOR | (Flag.RESPONSE if response else 0)
        return seal_message(self.outgoing, Header(SPI_I, SPI_R, exchange, flags, message_id), payloads, os.urandom)

    def fragment(self, message_id, number, total):
        shell = p.EncryptedFragment(0, number, total, b"")
        header = Header(SPI_I, SPI_R, ExchangeType.INFORMATIONAL, Flag.INITIATOR, message_id)
        return seal_payload(self.outgoing, header, shell, bytes(100), os.urandom)


def spoiled(message, at):
    octets = bytearray(message)
    octets[at] ^= 1
    return bytes(octets)


def request(cookie=None, spi=SPI_I, nonce=NONCE):
    first = () if cookie is None else (p.Notify(NotifyType.COOKIE, cookie),)
    rest = p.KeyExchangePayload(31, bytes(32)), p.Nonce(nonce)
    return build_message(Message(Header(spi, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0), (*first, *rest)))


def cookie_for(source, now, spi=SPI_I):
    return COOKIES.make(NONCE, spi, act.Endpoint(source.address, source.port), now)
