"""What aggressive mode gives to strangers, and what it does not: each threat by name, with its positive control."""

import hmac
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Kind, Path
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1.message import build_clear, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.payloads import HashPayload
from ipsec_dp.ike.v1.wire import HEADER, HeaderFlag
from tests.ike.ladder import OTHER

from .gateways import Gateways, aggressive, peer, texts
from .isakmp_peer import bodies


def both():
    return Gateways([aggressive("a")], [aggressive("b")])


def begun(number=0):
    """Message 1 of a, with another cookie for each number."""
    gateways = both()
    gateways.initiate("a")
    first, _ = gateways.taken("b")
    return number.to_bytes(7, "big") + b"x" + first[8:]


def give(gateways, site, datagram, path=None):
    """As it comes from the address of the peer, or by another path."""
    who = gateways.sites[site]
    who.do(who.core.receive(datagram, path or gateways.path(site), gateways.clock()))


def test_whoever_listens_can_try_secrets_offline():
    """Why it is off unless written, and why `check` wants 32 octets: two datagrams in clear tell a right guess from a wrong one.
    Main mode shows no hash to anybody who has no keys."""
    gateways = both().start()
    one, two = (delivery.data[0] for delivery, _ in gateways.wire.log[:2])
    (sa_i, ke_i, ni, _), (_, ke_r, nr, id_r) = bodies(one), bodies(two)
    header, first = parse_isakmp_header(two)
    seen = parse_payloads(header, first, two[HEADER:]).get(HashPayload)

    def guess(secret):
        return HashPayload(
            hmac.digest(hmac.digest(secret, ni + nr, "sha256"), ke_r + ke_i + two[8:16] + two[:8] + sa_i + id_r, "sha256")
        )

    assert guess(b"a secret both of them know") == seen
    assert guess(b"a secret none of them knows") != seen
    main = Gateways().start()
    clear = [delivery.data[0] for delivery, _ in main.wire.log if not delivery.data[0][19] & HeaderFlag.ENCRYPTED]
    assert len(clear) == 4
    for datagram in clear:
        header, first = parse_isakmp_header(datagram)
        assert parse_payloads(header, first, datagram[HEADER:]).get(HashPayload) is None


def test_message_2_is_never_sent_again_unasked():
    """Amplification (CVE-2016-5361): for somebody who only ever begins one datagram leaves, whatever time passes."""
    gateways = both()
    give(gateways, "b", begun())
    assert gateways.modes() == ["ba aggressive"]
    gateways.run(LIMITS.half_open_seconds + 10)
    assert gateways.modes("b") == ["ba aggressive"]
    assert gateways.b.core.counters().half_open == gateways.b.core.counters().sessions == 0


def test_a_duplicate_of_message_1_gets_the_stored_reply_and_few_of_them():
    gateways, first = both(), begun()
    give(gateways, "b", first)
    for count in range(2, 4):
        give(gateways, "b", first)
        answers = {delivery.data[0] for delivery, _ in gateways.wire.log}
        assert (len(answers), len(gateways.modes())) == (1, count), "one datagram each, the same octets"
    for _ in range(100):
        give(gateways, "b", first)
    assert len(gateways.modes()) == 1 + LIMITS.repeats_a_second
    assert gateways.b.core.counters().half_open == 1


def test_key_exchanges_for_strangers_are_rationed():
    """In one peer's name so many a second, whatever comes; the next second there are others."""
    gateways = both()
    for number in range(100):
        give(gateways, "b", begun(number))
    assert len(gateways.modes()) == LIMITS.aggressive_of_network_a_second
    assert gateways.faults()["b"] == {"limited": 100 - LIMITS.aggressive_of_network_a_second}
    (told,) = texts(gateways.b, Kind.WARNING)
    assert told == "192.0.2.1:500 begins aggressive mode more often than is answered, or somebody in its name"
    gateways.clock.advance(1.0)
    give(gateways, "b", begun(1000))
    assert len(gateways.modes()) == 1 + LIMITS.aggressive_of_network_a_second


def test_a_flood_in_one_peers_name_leaves_others_their_own():
    many = [f"198.51.100.{number}" for number in range(1, 5)]
    peers = [aggressive("b", tunnel=f"to-{each}", remotes=(ip_address(each),)) for each in many]
    gateways = Gateways([aggressive("a")], [aggressive("b"), *peers])
    for number in range(200):
        gateways.b.core.receive(begun(number), gateways.path("b"), gateways.clock())
    before = gateways.b.core.counters().half_open
    for number, each in enumerate(many):
        path = gateways.path("b")
        gateways.b.core.receive(begun(1000 + number), Path(path.local, Endpoint(ip_address(each), 500), False), gateways.clock())
    assert gateways.b.core.counters().half_open == before + len(many)


def test_nobody_is_answered_who_comes_from_elsewhere():
    gateways, here = both(), Gateways().path("b")
    give(gateways, "b", begun(), Path(here.local, Endpoint(ip_address("203.0.113.9"), 500), False))
    assert gateways.modes() == []
    assert gateways.faults()["b"] == {"no_peer": 1}
    assert gateways.b.core.counters().sessions == 0


def test_half_open_ones_are_counted_with_those_of_main_mode():
    gateways = both()
    for number in range(LIMITS.half_open_of_network + 5):
        gateways.clock.advance(0.1)
        gateways.b.core.receive(begun(number), gateways.path("b"), gateways.clock())
    counted = gateways.b.core.counters()
    assert counted.half_open == LIMITS.half_open_of_network
    assert counted.refused == 5


def test_a_stranger_that_begins_leaves_what_is_up_alone():
    """Until it has authenticated: it goes as it came."""
    gateways = both().start()
    give(gateways, "b", begun())
    assert gateways.b.core.counters().half_open == 1
    gateways.run(40)
    gateways.check()
    assert gateways.b.kinds() == [Kind.IKE_UP, Kind.CHILD_UP]


def test_forged_answers_cost_few_key_exchanges_and_change_nothing(monkeypatch):
    """Whoever sees message 1 may answer it, as often as he likes: the genuine answer is still taken."""
    gateways = both()
    gateways.initiate("a")
    gateways.deliver("b")
    genuine, path = gateways.taken("a")
    header, first = parse_isakmp_header(genuine)
    payloads = parse_payloads(header, first, genuine[HEADER:]).payloads
    forged = [HashPayload(bytes(32)) if type(one) is HashPayload else one for one in payloads]
    for number in range(1, 51):
        give(gateways, "a", build_clear(type(header)(header.cookie_i, number.to_bytes(8, "big"), header.exchange, 0, 0), forged))
    assert gateways.faults()["a"] == {"limited": 50 - LIMITS.repeats_a_second}
    assert not gateways.a.ups
    gateways.clock.advance(0.9)
    gateways.a.do(gateways.a.core.receive(genuine, gateways.translate(path, "a"), gateways.clock()))
    assert gateways.a.kinds()[-1] is Kind.IKE_UP
    gateways.settle()
    gateways.check()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_altered_datagram_brings_nobody_else_up(number):
    """Any octet behind the header of any message: it comes to nothing, or to what would have been."""
    for octet in (HEADER, HEADER + 2, HEADER + 9, 60, 200, -1):
        gateways = both()
        sender, place = {1: ("a", 1), 2: ("b", 1), 3: ("a", 2)}[number]

        def alter(data, octet=octet):
            changed = bytearray(data[0])
            changed[octet % len(changed)] ^= 0x55
            return bytes(changed), data[1]

        gateways.wire.alter(sender, OTHER[sender], place, alter)
        gateways.initiate("a")
        gateways.run(100)
        if gateways.a.ups:
            gateways.check()
        for site in gateways.sites.values():
            assert Kind.CHILD_DOWN not in site.kinds()
            assert site.core.counters().half_open == 0


@pytest.mark.parametrize("flags", [HeaderFlag.ENCRYPTED, HeaderFlag.COMMIT | HeaderFlag.ENCRYPTED])
def test_message_1_is_never_encrypted(flags):
    gateways, first = both(), begun()
    give(gateways, "b", first[:19] + bytes([flags]) + first[20:])
    assert gateways.modes() == []
    assert gateways.faults()["b"] == {"unknown_spi": 1}


def test_nothing_of_phase_2_happens_before_message_3():
    gateways = both()
    gateways.wire.hold("a", "b", 2)
    gateways.initiate("a")
    gateways.settle()
    assert "InstallInbound" not in gateways.installs("b")
    assert gateways.faults()["b"] == {"out_of_window": 1}
    gateways.wire.release("a", "b", 2)
    gateways.run(10)
    gateways.check()


def test_a_tunnel_in_main_mode_computes_nothing_for_it():
    """The positive control of all above: it is off unless it is written."""
    gateways = Gateways([aggressive("a")], [peer("b")])
    give(gateways, "b", begun())
    assert gateways.modes() == ["ba info"]
    assert gateways.b.core.counters().half_open == gateways.b.core.counters().sessions == 0
    for number in range(1, 100):
        give(gateways, "b", begun(number))
    assert len(gateways.modes()) == LIMITS.answers_a_second
