"""The classes of faults that IKEv1 implementations have had (REFERENCES), each with its positive control."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Kind, Send
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.context import IsakmpContext
from ipsec_dp.ike.v1.keymat import encrypt, exchange_iv, phase2_hash
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, build_isakmp, build_payloads
from ipsec_dp.ike.v1.registry import METHOD_NAMES
from ipsec_dp.ike.v1.wire import ExchangeMode, HeaderFlag, Method, NotifyCode, PayloadKind, Protocol
from tests.ike.ladder import OTHER

from .gateways import Gateways, peer
from .isakmp_peer import sealed
from .test_ikev1_main_mode import behind_nat


@pytest.fixture
def up():
    return Gateways([peer("a", encapsulation="esp")]).start()


def session(gateways, site) -> IsakmpContext:
    return gateways.sites[site].core.ikev1.sessions(gateways.sites[site].tunnel)[-1]


def give(gateways, site, datagram):
    """As it comes from the address of the peer."""
    who = gateways.sites[site]
    who.do(who.core.receive(datagram, gateways.path(site), gateways.clock()))


def deletion(gateways, site):
    peering = session(gateways, OTHER[site]).peering
    assert peering is not None
    spi = peering.sas[1].spi_in
    return p.DeletePayload(Protocol.ESP, (spi.to_bytes(4, "big"),))


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_delete_without_authentication_does_nothing(up, site):
    one = deletion(up, site)
    context = session(up, site)
    header = IsakmpHeader(context.sa.cookie_i, context.sa.cookie_r, ExchangeMode.INFORMATIONAL, 0, 77)
    give(up, site, build_clear(header, [one]))
    give(up, site, build_clear(header, [p.HashPayload(bytes(32)), one]))
    wrong = sealed(context, [one], hashed=b"something else")
    give(up, site, wrong)
    assert up.sites[site].sad.sending == [1]
    assert up.faults()[site] == {"unauthenticated": 3}
    give(up, site, sealed(context, [one]))
    assert up.sites[site].sad.sending == []
    assert Kind.CHILD_DOWN in up.sites[site].kinds()


def test_a_hash_covers_all_that_follows_it(up):
    """A payload put behind those that the hash is over is not believed."""
    context, one = session(up, "b"), deletion(up, "b")
    _, covered = build_payloads([p.NotificationPayload(Protocol.ISAKMP, 9999)])
    give(up, "b", sealed(context, [p.NotificationPayload(Protocol.ISAKMP, 9999), one], hashed=covered))
    assert up.b.sad.sending == [1]
    assert up.faults()["b"] == {"unauthenticated": 1}


@pytest.mark.parametrize("octets", [0, 1, 200])
def test_padding_is_under_no_hash(up, octets):
    give(up, "b", sealed(session(up, "b"), [deletion(up, "b")], behind=bytes(octets)))
    assert up.b.sad.sending == []


def test_the_hash_comes_first(up):
    context = session(up, "b")
    suite, keys = context.keyed
    one = deletion(up, "b")
    first, plaintext = build_payloads((one, p.HashPayload(phase2_hash(suite.prf, keys.a, bytes(4)))))
    header = IsakmpHeader(context.sa.cookie_i, context.sa.cookie_r, 5, 1, 77)
    give(up, "b", build_isakmp(header, first, encrypt(keys.cipher, exchange_iv(suite.prf, context.sa.last_block, 77), plaintext)))
    assert up.b.sad.sending == [1]


def test_a_recorded_message_does_nothing_a_second_time(up):
    """A message ID is used once: neither a DELETE nor an R-U-THERE works again, nor a quick mode."""
    question = p.NotificationPayload(Protocol.ISAKMP, NotifyCode.R_U_THERE, session(up, "b").sa.cookies, bytes(4))
    datagram = sealed(session(up, "b"), [question])
    before = len(up.modes("b"))
    give(up, "b", datagram)
    assert len(up.modes("b")) == before + 1
    give(up, "b", datagram)
    assert len(up.modes("b")) == before + 1
    assert up.faults()["b"] == {"out_of_window": 1}
    quick = next(delivery.data[0] for delivery, _ in up.wire.log if delivery.data[0][18] == ExchangeMode.QUICK)
    up.run(120)  # the exchange is forgotten, its message ID is not
    give(up, "b", quick)
    assert up.faults()["b"] == {"out_of_window": 2}
    assert len(up.b.sad.inbound) == 1


@pytest.mark.parametrize("site", ["a", "b"])
def test_of_what_came_before_a_proof_no_more_than_a_digest_is_kept(up, site):
    """A stranger's message 3 may have 64 KB."""
    assert len(session(up, site).negotiation.last_in) == 32


def test_message_id_0_is_phase_1s(up):
    give(up, "b", sealed(session(up, "b"), [deletion(up, "b")], message_id=0))
    assert up.b.sad.sending == [1]


def test_a_message_that_fails_leaves_the_ivs_as_they_are():
    """IV chaining: what is not believed is no part of the chain."""
    gateways = Gateways()
    gateways.initiate("a")
    for receiver in ("b", "a") * 3 + ("b",):
        assert gateways.deliver(receiver)
    genuine, path = gateways.taken("a")
    give(gateways, "a", genuine[:40] + bytes([genuine[40] ^ 1]) + genuine[41:])
    give(gateways, "a", genuine[:-1] + bytes([genuine[-1] ^ 1]))
    assert gateways.faults()["a"] == {"unauthenticated": 2}
    gateways.a.do(gateways.a.core.receive(genuine, gateways.translate(path, "a"), gateways.clock()))
    gateways.settle()
    gateways.check()


@pytest.mark.parametrize("exchange", [ExchangeMode.QUICK, ExchangeMode.INFORMATIONAL])
@pytest.mark.parametrize("messages", range(1, 6))
def test_nothing_of_phase_2_happens_before_phase_1_is_done(exchange, messages):
    gateways = Gateways()
    gateways.initiate("a")
    for receiver in (("b", "a") * 3)[:messages]:
        gateways.deliver(receiver)
    sent = gateways.wire.log[-1][0].data[0]
    header = IsakmpHeader(sent[:8], sent[8:16], exchange, HeaderFlag.ENCRYPTED, 77)
    for site in gateways.sites:
        give(gateways, site, build_isakmp(header, PayloadKind.HASH, bytes(64)))
        assert not gateways.sites[site].sad.log
    gateways.settle()
    gateways.check()


def test_a_second_main_mode_by_a_stranger_leaves_the_first_one_alone(up):
    """Until it has authenticated: it goes as it came."""
    first = up.wire.log[0][0].data[0]
    give(up, "b", b"stranger" + first[8:])
    assert up.b.core.counters().half_open == 1
    up.b.do(up.b.core.timer(up.clock()))
    up.check()
    up.run(40)
    up.check()
    assert up.b.core.counters().half_open == 0
    assert up.b.kinds() == [Kind.IKE_UP, Kind.CHILD_UP]


def test_quick_mode_in_clear_is_none(up):
    context = session(up, "b")
    header = IsakmpHeader(context.sa.cookie_i, context.sa.cookie_r, ExchangeMode.QUICK, 0, 77)
    give(up, "b", build_clear(header, [p.HashPayload(bytes(32)), p.NoncePayload(bytes(16))]))
    assert up.faults()["b"] == {"unauthenticated": 1}


@pytest.mark.parametrize("exchange", [6, 1, 99], ids=["transaction", "base", "unknown"])
def test_other_exchanges_get_no_answer(up, exchange):
    first = up.wire.log[0][0].data[0]
    before = len(up.modes("b"))
    give(up, "b", b"stranger" + first[8:18] + bytes([exchange]) + first[19:])
    assert len(up.modes("b")) == before
    assert up.faults()["b"] == {"unknown_spi": 1}


def test_there_is_no_decryption_by_rsa():
    """Neither are the encrypted-nonce modes there (RFC 2409 §5.2, §5.3), whose answers tell about padding."""
    assert {METHOD_NAMES[method] for method in Method} == {"psk", "rsa", "ecdsa256", "ecdsa384", "ecdsa521"}


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_quick_modes_that_ask_too_much_get_nothing(up, number):
    """Payloads doubled, an SPI of SAs that cannot be, a nonce too short, a KE without PFS: one reason each, and no SA."""
    from ipsec_dp.ike.v1 import offers, proxy, registry
    from ipsec_dp.ike.v1.wire import EncapsulationMode

    context, ours = session(up, "b"), peer("a")
    suites = registry.suites_phase2(ours.esp_proposals)

    def sa(spi):
        return offers.phase2_offer(suites, spi, EncapsulationMode.TUNNEL, ours.child_life)

    (pair,) = ours.proxy_ids
    ids, nonce = (proxy.id_of(pair.local), proxy.id_of(pair.remote)), p.NoncePayload(bytes(32))
    good = sa(b"\0\0\x20\0")
    asks = [
        (good, good, nonce, *ids),
        (sa(b"\0\0\0\7"), nonce, *ids),
        (good, nonce, p.KePayload(bytes(64)), *ids),
        (good, nonce, ids[0]),
    ][number]
    before = len(up.b.sad.log)
    give(up, "b", sealed(context, asks, ExchangeMode.QUICK))
    assert [name for name, _ in up.b.sad.log[before:] if name.startswith("Install")] == []
    give(up, "b", sealed(context, (good, nonce, *ids), ExchangeMode.QUICK, 78))
    assert [name for name, _ in up.b.sad.log[before:] if name.startswith("Install")] == ["InstallInbound", "InstallOutbound"]


def test_a_peer_is_slowed_down_that_asks_for_more_than_its_share(up):
    context = session(up, "b")
    question = p.NotificationPayload(Protocol.ISAKMP, NotifyCode.R_U_THERE, context.sa.cookies, bytes(4))
    for number in range(1, 2000):
        give(up, "b", sealed(context, [question], message_id=number))
    answered = len([mode for mode in up.modes("b") if mode == "ba info"])
    assert 100 < answered < 500
    assert up.faults()["b"]["limited"] == 1999 - answered
    up.run(10)
    give(up, "b", sealed(context, [question], message_id=5000))
    assert len([mode for mode in up.modes("b") if mode == "ba info"]) == answered + 1


@pytest.mark.parametrize("site", ["a", "b"])
def test_nothing_that_was_there_before_moves_a_mapping_or_is_answered_elsewhere(site):
    """Every message of the first minute again, recorded, from another address: of both phases, and questions and answers."""
    gateways = behind_nat(Gateways(a=[peer("a", liveness=Liveness(10.0, 2))])).start("a")
    gateways.run(60)
    other = OTHER[site]
    recorded = [delivery.data for delivery, _ in gateways.wire.log if delivery.sender == other]
    who, elsewhere = gateways.sites[site], Endpoint(ip_address("192.0.2.66"), 4500)
    there = who.status[0].path.remote
    for datagram, path in recorded:
        seen = gateways.translate(path, site)
        actions = who.core.receive(datagram, replace(seen, remote=elsewhere), gateways.clock())
        answers = [action.path.remote for action in actions if isinstance(action, Send)]
        assert elsewhere not in answers or datagram[8:16] == bytes(8), "but for a first message, which is anybody's"
    assert len(recorded) >= 9
    assert who.status[0].path.remote == there
    assert who.moved == []
    gateways.settle()
    gateways.check()
