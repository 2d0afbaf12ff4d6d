"""SA payloads as makers of appliances send them, lives in seconds and kilobytes, and RESPONDER-LIFETIME, whoever begins."""

from dataclasses import replace
from typing import Any

import pytest

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.v1 import offers, proxy
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.keymat import BLOCK, decrypt
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.registry import GROUP_OF, suites_phase2
from ipsec_dp.ike.v1.sa_payload import SaAttribute, SaPayload, SaProposal, SaTransform, attribute_octets, parse_attributes
from ipsec_dp.ike.v1.wire import HEADER, EncapsulationMode, ExchangeMode, NotifyCode, Phase1, Phase2, Protocol

from .gateways import Gateways, peer, texts
from .isakmp_peer import opened, sealed, second

SPI = b"\0\0\x20\0"
AES128, HMAC_SHA1, TUNNEL = 12, 2, 1
OURS = parse_esp(["aes128-sha1"])
SECONDS, KILOBYTES = 1, 2


def basic(kind, value):
    return SaAttribute.of(kind, value)


def long(kind, value, octets):
    return SaAttribute(kind, value.to_bytes(octets, "big"), basic=False)


def life(seconds, octets):
    """In so many octets: 2 in the place of a length, or 4 or 8 behind one."""
    said = basic(Phase2.LIFE_DURATION, seconds) if octets == 2 else long(Phase2.LIFE_DURATION, seconds, octets)
    return (basic(Phase2.LIFE_TYPE, SECONDS), said)


def transform(number, cipher=AES128, integrity=HMAC_SHA1, further=(), lives=None):
    """One of ESP: `cipher`, 128 bits where it is AES, HMAC, tunnel."""
    key = (basic(Phase2.KEY_LENGTH, 128),) if cipher == AES128 else ()
    shared = (basic(Phase2.ENCAPSULATION, TUNNEL), basic(Phase2.AUTHENTICATION, integrity))
    return SaTransform(number, cipher, (*shared, *key, *(life(3600, 4) if lives is None else lives), *further))


GOOD = transform(1)
UNKNOWN = SaTransform(7, 99, (SaAttribute(77, b"what is this", basic=False), basic(78, 1)))
OFFERS = {
    "the good one behind 3DES, an unknown cipher and one with MD5": [
        SaProposal(1, 3, SPI, (transform(1, 3), UNKNOWN, transform(3, integrity=1), transform(4))),
    ],
    "each transform in a proposal of its own": [
        SaProposal(1, 3, SPI, (transform(1, 3),)),
        SaProposal(2, 3, SPI, (UNKNOWN,)),
        SaProposal(3, 3, SPI, (GOOD,)),
    ],
    "AH, ESP with AH, ESP with IPCOMP, then ESP alone": [
        SaProposal(1, 2, SPI, (transform(1, 3),)),
        SaProposal(2, 3, SPI, (GOOD,)),
        SaProposal(2, 2, SPI, (transform(1, 3),)),
        SaProposal(3, 3, SPI, (GOOD,)),
        SaProposal(3, 4, b"\0\2", (SaTransform(1, 2, (basic(Phase2.ENCAPSULATION, TUNNEL),)),)),
        SaProposal(4, 3, SPI, (GOOD,)),
    ],
    "numbers that begin at 0": [SaProposal(0, 3, SPI, (transform(0),))],
    "an attribute that nobody knows in one, not in the other": [
        SaProposal(1, 3, SPI, (transform(1, further=(basic(99, 1),)), transform(2))),
    ],
    "nothing said of a life": [SaProposal(1, 3, SPI, (transform(1, lives=()),))],
    "kilobytes before seconds": [
        SaProposal(
            1,
            3,
            SPI,
            (transform(1, lives=(basic(Phase2.LIFE_TYPE, KILOBYTES), long(Phase2.LIFE_DURATION, 4_608_000, 4), *life(3600, 2))),),
        ),
    ],
    "a life of two octets": [SaProposal(1, 3, SPI, (transform(1, lives=life(28_800, 2)),))],
    "a life of four octets": [SaProposal(1, 3, SPI, (transform(1, lives=life(86_400, 4)),))],
    "a life of eight octets": [SaProposal(1, 3, SPI, (transform(1, lives=life(86_400, 8)),))],
    "the longest life of eight octets": [SaProposal(1, 3, SPI, (transform(1, lives=life(2**64 - 1, 8)),))],
}
REFUSED = {
    "a life of 0": [SaProposal(1, 3, SPI, (transform(1, lives=life(0, 4)),))],
    "a life of 2**64": [SaProposal(1, 3, SPI, (transform(1, lives=life(2**64, 9)),))],
    "a life of no octets": [
        SaProposal(1, 3, SPI, (transform(1, lives=(basic(Phase2.LIFE_TYPE, 1), long(Phase2.LIFE_DURATION, 0, 0))),)),
    ],
    "a life without its type": [SaProposal(1, 3, SPI, (transform(1, lives=(basic(Phase2.LIFE_DURATION, 3600),)),))],
    "a life of another type": [
        SaProposal(1, 3, SPI, (transform(1, lives=(basic(Phase2.LIFE_TYPE, 3), basic(Phase2.LIFE_DURATION, 3600))),)),
    ],
    "transport mode": [SaProposal(1, 3, SPI, (replace(GOOD, attributes=(basic(Phase2.ENCAPSULATION, 2), *GOOD.attributes[1:])),))],
    "ESP that always goes with AH": [SaProposal(1, 3, SPI, (GOOD,)), SaProposal(1, 2, SPI, (transform(1, 3),))],
    "nothing that is there": [SaProposal(1, 3, SPI, (transform(1, 3), UNKNOWN))],
}


def asked(proposals, **ours):
    """The pair up, and the peer's further quick mode has come to b."""
    gateways = Gateways([peer("a", esp_proposals=OURS, encapsulation="esp")], [peer("b", esp_proposals=OURS, **ours)]).start()
    context = gateways.b.core.ikev1.sessions("to-a")[-1]
    (pair,) = peer("a").proxy_ids
    ids = proxy.id_of(pair.local), proxy.id_of(pair.remote)
    message = sealed(context, (SaPayload(tuple(proposals)), p.NoncePayload(bytes(32)), *ids), ExchangeMode.QUICK)
    gateways.b.do(gateways.b.core.receive(message, gateways.path("b"), gateways.clock()))
    return gateways


def installed(gateways, child=2):
    return gateways.b.sad.outbound.get(child)


@pytest.mark.parametrize("offer", OFFERS)
def test_the_one_that_is_admitted_is_found(offer):
    gateways = asked(OFFERS[offer])
    found = installed(gateways)
    assert found is not None, texts(gateways.b, Kind.CHILD_FAILED)
    assert (found.suite.keyword, found.spi) == ("aes128-sha1", 0x2000)


@pytest.mark.parametrize("pfs", [False, True])
def test_a_peer_that_offers_both_gets_pfs_where_it_sends_a_key(pfs):
    """As strongSwan does: its KE payload, or that there is none, says which of its transforms are meant."""
    both = parse_esp(["aes128-sha1", "aes128-sha1-ecp256"])
    gateways: Any = Gateways(b=[peer("b", esp_proposals=both)], a=[peer("a", esp_proposals=OURS, encapsulation="esp")]).start()
    context = gateways.b.core.ikev1.sessions("to-a")[-1]
    (pair,) = peer("a").proxy_ids
    offered = SaProposal(1, 3, SPI, (GOOD, transform(2, further=(basic(Phase2.GROUP, 19),))))
    ke = (p.KePayload(bytes(dh.initiate(GROUP_OF[19], gateways.a.core.environment.rng).public)),) if pfs else ()
    payloads = (SaPayload((offered,)), p.NoncePayload(bytes(32)), *ke, proxy.id_of(pair.local), proxy.id_of(pair.remote))
    message = sealed(context, payloads, ExchangeMode.QUICK)
    gateways.b.do(gateways.b.core.receive(message, gateways.path("b"), gateways.clock()))
    assert installed(gateways) is not None, texts(gateways.b, Kind.CHILD_FAILED)
    assert (answered(gateways).get(p.KePayload) is not None) == pfs


@pytest.mark.parametrize("offer", REFUSED)
def test_what_cannot_be_is_refused_with_both_sides_proposals(offer):
    gateways = asked(REFUSED[offer])
    assert installed(gateways) is None
    (said,) = texts(gateways.b, Kind.CHILD_FAILED)
    assert said.startswith("no ESP proposal in common: ours: aes128-sha1-tunnel; peer's: ")
    assert "differs" in said
    assert gateways.modes()[-1] == "ba info"


# --- phase 1 ---------------------------------------------------------------------------------------------------------

AES_CBC, SHA1, PSK, MODP2048 = 7, 2, 1, 14


def phase_1(number, cipher=AES_CBC, digest=SHA1, method=PSK, lives=None):
    """A transform with group 14; 128 bits where it is AES; a life as makers have it."""
    key = (basic(Phase1.KEY_LENGTH, 128),) if cipher == AES_CBC else ()
    words = ((Phase1.ENCRYPTION, cipher), (Phase1.HASH, digest), (Phase1.GROUP, MODP2048), (Phase1.AUTHENTICATION, method))
    said = (basic(Phase1.LIFE_TYPE, SECONDS), long(Phase1.LIFE_DURATION, 86_400, 4)) if lives is None else lives
    return SaTransform(number, 1, (*(basic(kind, value) for kind, value in words), *key, *said))


AMOUNT = (basic(Phase1.LIFE_TYPE, KILOBYTES), long(Phase1.LIFE_DURATION, 2**40, 8))
OFFERS_1 = {
    "behind 3DES, DES with MD5, and one with XAUTH": [
        SaProposal(1, 1, b"", (phase_1(1, 5), phase_1(2, 1, 1), phase_1(3, method=65_001), phase_1(4))),
    ],
    "in the second proposal, with cookies as SPI": [
        SaProposal(1, 1, bytes(8), (phase_1(1, 5),)),
        SaProposal(2, 1, b"initiate", (phase_1(1),)),
    ],
    "behind one that nobody knows": [SaProposal(1, 1, b"", (UNKNOWN, phase_1(8)))],
    "with a life of two octets": [
        SaProposal(1, 1, b"", (phase_1(1, lives=(basic(Phase1.LIFE_TYPE, 1), basic(Phase1.LIFE_DURATION, 28_800))),)),
    ],
    "with a life of eight octets": [
        SaProposal(1, 1, b"", (phase_1(1, lives=(basic(Phase1.LIFE_TYPE, 1), long(Phase1.LIFE_DURATION, 2**64 - 1, 8))),)),
    ],
    "with a life in kilobytes": [SaProposal(1, 1, b"", (phase_1(1, lives=AMOUNT),))],
    "without a life": [SaProposal(1, 1, b"", (phase_1(1, lives=()),))],
}


@pytest.mark.parametrize("offer", OFFERS_1)
def test_phase_1_as_makers_offer_it(offer):
    """The responder sends it back as it came, in a proposal of the same number, and never lives longer than it says itself."""
    gateways = Gateways(b=[peer("b", ike_proposals=parse_ike(["aes128-sha1-modp2048"]))])
    header = IsakmpHeader(b"initiate", bytes(8), ExchangeMode.MAIN, 0, 0)
    datagram = build_clear(header, [SaPayload(tuple(OFFERS_1[offer])), p.VendorIdPayload(b"who made it")])
    gateways.b.do(gateways.b.core.receive(datagram, gateways.path("b"), gateways.clock()))
    sent, _ = gateways.taken("a")
    answer_header, first = parse_isakmp_header(sent)
    own = parse_payloads(answer_header, first, sent[HEADER:]).get(SaPayload)
    assert own is not None
    assert own.proposals == (replace(OFFERS_1[offer][-1], transforms=OFFERS_1[offer][-1].transforms[-1:]),)


# --- how long it lives -----------------------------------------------------------------------------------------------


def with_life(seconds, kilobytes=None):
    amount = () if kilobytes is None else (basic(Phase2.LIFE_TYPE, KILOBYTES), long(Phase2.LIFE_DURATION, kilobytes, 8))
    return [SaProposal(1, 3, SPI, (transform(1, lives=(*life(seconds, 4), *amount)),))]


# The peer's life, ours, and what the peer is told of it: seconds and kilobytes.
LIVES = [
    (with_life(3600), Life(3600.0), None),
    (with_life(1800), Life(3600.0), None),
    (with_life(7200), Life(3600.0), (3600, None)),
    (with_life(3600, 5000), Life(3600.0), None),
    (with_life(3600, 5000), Life(3600.0, octets=1024 * 9000), None),
    (with_life(3600, 5000), Life(3600.0, octets=1024 * 4000), (3600, 4000)),
    (with_life(1800), Life(3600.0, octets=1024 * 4000), (1800, 4000)),
    (with_life(7200, 5000), Life(3600.0, octets=1024 * 9000), (3600, 5000)),
    (with_life(3600, 2**64 - 1), Life(3600.0, octets=1024 * 4000), (3600, 4000)),
    (OFFERS["nothing said of a life"], Life(3600.0), (3600, None)),
    (OFFERS["nothing said of a life"], Life(90_000.0), None),
]


@pytest.mark.parametrize(("offer", "ours", "told"), LIVES)
def test_the_shorter_life_counts_and_the_peer_is_told_where_it_is_ours(offer, ours, told):
    """RESPONDER-LIFETIME says all that counts, so that who takes it as it is has no longer life than was agreed on."""
    gateways = asked(offer, child_life=ours)
    assert installed(gateways) is not None
    (notification,) = answered(gateways).all(p.NotificationPayload) or (None,)
    said = None if notification is None else offers.life_of(parse_attributes(notification.data))
    assert said == (None if told is None else offers.SaLife(*told))
    if notification is not None:
        own = answered(gateways).get(SaPayload)
        assert own is not None
        assert (notification.code, notification.protocol) == (NotifyCode.RESPONDER_LIFETIME, Protocol.ESP)
        assert notification.spi == own.proposals[0].spi


def answered(gateways):
    """Message 2 of b's, read by who has asked."""
    context = gateways.b.core.ikev1.sessions("to-a")[-1]
    (exchange,) = (one for one in context.exchanges.values() if not one.initiator and one.message_id == 77)
    datagram = exchange.last_out
    header, first = parse_isakmp_header(datagram)
    plaintext = decrypt(context.keyed[1].cipher, exchange.last_in[-BLOCK:], datagram[HEADER:])
    return parse_payloads(header, first, plaintext, padded=True)


def test_a_limit_of_more_octets_than_are_counted_is_none():
    """A peer may say 2**64 - 1 kilobytes: 74 bits of octets."""
    gateways = asked(with_life(3600, 2**64 - 1))
    limits = installed(gateways).limits
    assert (limits.hard_octets, limits.soft_octets) == (0, 0)
    assert installed(asked(with_life(3600, 2**54 - 1))).limits.hard_octets == (2**54 - 1) * 1024


def test_a_limit_of_kilobytes_counts_for_both():
    limits = installed(asked(with_life(3600, 5000), child_life=Life(3600.0, octets=1024 * 9000))).limits
    assert limits.hard_octets == 1024 * 5000
    assert 0.8 * limits.hard_octets < limits.soft_octets < limits.hard_octets


# --- as initiator ----------------------------------------------------------------------------------------------------


def calling():
    """a has sent message 1 of quick mode, and b's answer is another's to make: (gateways, b's ISAKMP SA, message 1)."""
    gateways: Any = Gateways([peer("a", esp_proposals=OURS, encapsulation="esp")], [peer("b", esp_proposals=OURS)])
    gateways.initiate("a")
    for receiver in ("b", "a") * 3:
        assert gateways.deliver(receiver)
    (context,) = gateways.b.core.ikev1.sessions("to-a")
    datagram, _ = gateways.taken("b")
    return gateways, context, datagram


def answer(change=lambda payloads: payloads):
    """What comes of message 2 with what `change` makes of its payloads: SA, nonce, both IDs."""
    gateways, context, datagram = calling()
    asks = opened(context, datagram)
    offered = asks.get(SaPayload)
    assert offered is not None
    own = SaPayload((replace(offered.proposals[0], spi=SPI, transforms=offered.proposals[0].transforms[:1]),))
    payloads = change([own, p.NoncePayload(bytes(range(32))), *asks.all(p.IdPayload)])
    gateways.a.do(gateways.a.core.receive(second(context, datagram, payloads), gateways.path("a"), gateways.clock()))
    return gateways


def told(*attributes):
    data = b"".join(map(attribute_octets, attributes))
    return p.NotificationPayload(Protocol.ESP, NotifyCode.RESPONDER_LIFETIME, SPI, data)


def test_an_answer_is_taken():
    gateways = answer()
    assert gateways.a.sad.sending == [1]
    assert gateways.a.sad.outbound[1].spi == 0x2000


@pytest.mark.parametrize(
    ("notification", "seconds", "octets"),
    [
        (told(*life(600, 2)), 600, 0),
        (told(*life(600, 4)), 600, 0),
        (told(*life(600, 8)), 600, 0),
        (told(*life(7200, 4)), 3600, 0),
        (told(basic(Phase2.LIFE_TYPE, KILOBYTES), basic(Phase2.LIFE_DURATION, 5000)), 3600, 5000 * 1024),
        (told(*life(0, 4)), 3600, 0),
        (told(*life(2**64, 9)), 3600, 0),
        (told(), 3600, 0),
    ],
    ids=["2 octets", "4 octets", "8 octets", "longer than ours", "kilobytes", "0", "2**64", "nothing"],
)
def test_responder_lifetime_shortens_and_never_lengthens(notification, seconds, octets):
    gateways = answer(lambda payloads: [*payloads, notification])
    assert gateways.a.sad.sending == [1]
    assert gateways.a.sad.outbound[1].limits.hard_octets == octets
    assert seconds * 0.8 <= gateways.a.status[0].children[0].rekey_in_s <= seconds * 0.85


def without(kind):
    return lambda payloads: [one for one in payloads if not isinstance(one, kind)]


def alters_sa(change):
    return lambda payloads: [SaPayload((change(payloads[0].proposals[0]),)), *payloads[1:]]


OTHER_ID = p.IdPayload(4, 0, 0, bytes([10, 2, 0, 0, 255, 255, 0, 0]))
LIES = {
    "no SA": (without(SaPayload), "message 2 without SA or nonce"),
    "no nonce": (without(p.NoncePayload), "message 2 without SA or nonce"),
    "no proxy IDs": (without(p.IdPayload), "it answers with other proxy IDs than it was asked for: ours: 10.1.0.0/24"),
    "another proxy ID": (
        lambda payloads: [*payloads[:3], OTHER_ID],
        "the peer's: 10.1.0.0/24 <-> 10.2.0.0/16; differs from 10.1.0.0/24 <-> 10.2.0.0/24 in remote addresses",
    ),
    "exchanged": (lambda payloads: [*payloads[:2], *reversed(payloads[2:])], "local and remote are exchanged on one side"),
    "a proxy ID backwards": (
        lambda payloads: [*payloads[:3], p.IdPayload(7, 0, 0, bytes([10, 2, 0, 9, 10, 2, 0, 1]))],
        "run backwards",
    ),
    "a KE without PFS": (lambda payloads: [*payloads, p.KePayload(bytes(64))], "another PFS"),
    "an SPI that cannot be": (alters_sa(lambda one: replace(one, spi=b"\0\0\0\7")), "an SPI that cannot be"),
    "an SPI of three octets": (alters_sa(lambda one: replace(one, spi=b"\0\0\7")), "no transform that can be"),
    "two transforms": (
        alters_sa(lambda one: replace(one, transforms=one.transforms * 2)),
        "the peer chose 2 transforms in 1 proposals, where an answer has one",
    ),
    "another cipher": (
        alters_sa(lambda one: replace(one, transforms=(transform(1, 3),))),
        "the peer chose no transform that can be: 3des-sha1-tunnel",
    ),
    "what was not offered": (
        alters_sa(lambda one: replace(one, transforms=(transform(1, integrity=5),))),
        "the peer chose what was not offered: aes128-sha256-tunnel",
    ),
    "RESPONDER-LIFETIME that is no list": (
        lambda payloads: [*payloads, p.NotificationPayload(3, NotifyCode.RESPONDER_LIFETIME, SPI, b"\x00\x02\xff\xff")],
        "octets wanted",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_cannot_be_makes_nothing_and_is_explained(lie):
    change, said = LIES[lie]
    gateways = answer(change)
    assert not gateways.a.sad.inbound
    assert not gateways.a.sad.reserved, "the SPI is given back"
    (text,) = texts(gateways.a, Kind.CHILD_FAILED)
    assert said in text
    assert gateways.modes()[-1] == "ab info", "the responder believes that it stands, and is told"


def test_what_is_offered_has_each_suite_and_both_lives():
    """Seconds and kilobytes, the mode, and one SPI for all."""
    gateways, context, datagram = calling()
    sa = opened(context, datagram).get(SaPayload)
    assert sa is not None
    (proposal,) = sa.proposals
    assert len(proposal.transforms) == len(suites_phase2(OURS))
    assert proposal.transforms[0].numbers()[Phase2.ENCAPSULATION] == (EncapsulationMode.TUNNEL,)
    assert int.from_bytes(proposal.spi, "big") in gateways.a.sad.reserved
