"""IKE fragmentation of IKEv1 as message ladders: both ways, in clear and encrypted, every fragment lost, doubled, late."""

from random import Random

import pytest

from ipsec_dp.ike.actions import Kind, Send
from ipsec_dp.ike.certificates import load_certificates
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1 import proof, vendors
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, build_payloads
from ipsec_dp.ike.v1.payloads import CertRequestPayload, FragmentPayload
from ipsec_dp.ike.v1.wire import X509_SIGNATURE
from tests.ike.ladder import OTHER
from tests.ike.pki import CA, OpenSsl

from .gateways import Gateways, peer

SMALL = 200  # octets of a datagram: messages 3 and 4, and those of quick mode, do not fit
ROOM = SMALL - 28
FRAGMENT = 132
FAULTS = ["drop", "double", "delay"]
LENGTH = 12  # datagrams each side sends until both phases are up and phase 2 was renewed


def narrow(site, **changes):
    return peer(site, datagram=SMALL, **changes)


def gateways_of(a=narrow, b=narrow, seed=0):
    return Gateways([a("a")], [b("b")], seed)


def fragments(gateways, sender=None):
    """(number, whether it is the last) of each that was sent."""
    sent = [delivery.data[0] for delivery, _ in gateways.wire.log if sender in (None, delivery.sender)]
    return [(datagram[34], datagram[35] & 1) for datagram in sent if datagram[16] == FRAGMENT]


@pytest.mark.parametrize("site", ["a", "b"])
def test_what_does_not_fit_goes_in_fragments_both_ways_in_clear_and_encrypted(site):
    gateways = gateways_of().start(site)
    gateways.check()
    assert fragments(gateways, site) == [(1, 0), (2, 1)] * 2, "message 3, and the first of quick mode"
    assert fragments(gateways, OTHER[site]) == [(1, 0), (2, 1)] * 2, "message 4, and the second of quick mode"
    whole = [delivery.data[0] for delivery, _ in gateways.wire.log if delivery.data[0][16] != FRAGMENT]
    assert max(map(len, whole[1:])) <= ROOM, "but for message 1: whether the peer takes them is not known before"
    assert all(len(delivery.data[0]) <= ROOM for delivery, _ in gateways.wire.log[1:])
    assert gateways.faults() == {"a": {}, "b": {}}


def test_a_fragment_has_the_header_that_others_expect():
    """Main mode, no flags, no message ID, whatever it is a part of."""
    gateways = gateways_of().start("a")
    headers = {delivery.data[0][16:28] for delivery, _ in gateways.wire.log if delivery.data[0][16] == FRAGMENT}
    assert {header[:8] for header in headers} == {bytes.fromhex("84 10 02 00 00000000")}


def test_each_message_has_an_identifier_of_its_own_also_when_it_is_sent_again():
    gateways = gateways_of()
    gateways.wire.cut("b", "a")
    gateways.initiate("a")
    gateways.run(3)
    gateways.wire.mend("b", "a")
    gateways.run(30)
    gateways.check()
    sent = [delivery.data[0] for delivery, _ in gateways.wire.log if delivery.sender == "a"]
    identifiers = [datagram[32:34] for datagram in sent if datagram[16] == FRAGMENT]
    assert len(set(identifiers)) == 2
    assert all(identifiers)


@pytest.mark.parametrize("silent", ["a", "b"])
def test_nothing_is_sent_in_fragments_to_a_peer_that_has_not_announced_them(silent, monkeypatch):
    gateways = gateways_of(**{silent: peer})

    def without(offer):
        return lambda *args: [one for one in offer(*args) if not one.data.startswith(vendors.FRAGMENTATION.octets)]

    name = "offered" if silent == "a" else "answered"
    monkeypatch.setattr(vendors, name, without(getattr(vendors, name)))
    gateways.start("a")
    gateways.check()
    assert fragments(gateways, OTHER[silent]) == []


def test_and_none_is_taken_of_it(monkeypatch):
    """Of a peer that takes them and sends them, and has not said so."""
    offer = vendors.offered
    monkeypatch.setattr(vendors, "offered", lambda said: offer(said)[:-1])
    gateways = gateways_of()
    gateways.initiate("a")
    gateways.deliver("b")
    gateways.deliver("a")
    first = gateways.wire.log[1][0].data[0]
    give(gateways, "b", first[:16], FragmentPayload(1, 1, False, b"x"))
    assert gateways.faults()["b"] == {"out_of_window": 1}


def give(gateways, site, cookies, fragment, path=None):
    """A fragment from the address of the peer; how many datagrams go in answer."""
    who = gateways.sites[site]
    datagram = build_clear(IsakmpHeader(cookies[:8], cookies[8:], 2, 0, 0), [fragment])
    actions = who.core.receive(datagram, path or gateways.path(site), gateways.clock())
    return sum(isinstance(action, Send) for action in actions)


@pytest.mark.parametrize("cookie_r", [bytes(8), b"anything"])
def test_a_strangers_first_message_is_never_a_fragment(cookie_r):
    gateways = gateways_of()
    gateways.initiate("a")
    first = gateways.wire.log[0][0].data[0]
    for number in (1, 2):
        piece = FragmentPayload(1, number, number == 2, first[(number - 1) * 100 : number * 100])
        assert give(gateways, "b", first[:8] + cookie_r, piece) == 0
    counted = gateways.b.core.counters()
    assert (counted.half_open, counted.sessions, counted.malformed + counted.unknown_spi) == (0, 0, 2)
    gateways.settle()
    gateways.check()
    assert give(gateways, "b", first[:8] + bytes(8), FragmentPayload(1, 1, False, b"x")) == 0, "nor of one that is known"
    gateways.check()


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_fragment_changes_nothing_in_the_end(fault, first):
    for sender in ("a", "b"):
        for number in range(1, LENGTH + 1):
            gateways = gateways_of(seed=number)
            getattr(gateways.wire, fault)(sender, OTHER[sender], number)
            script(gateways, first)
            assert gateways.wire.sent(sender, OTHER[sender]) >= min(number, 9)
            converged(gateways)


def script(gateways, first):
    gateways.initiate(first)
    gateways.run(60)
    other = gateways.sites[OTHER[first]]
    other.do(other.core.rekey(other.tunnel, gateways.clock()))
    gateways.run(120)


def converged(gateways):
    gateways.check()
    for site in gateways.sites.values():
        assert len(site.sad.sending) == 1
        assert not {Kind.IKE_DOWN, Kind.CHILD_DOWN, Kind.IKE_FAILED} & set(site.kinds())


class Shuffled(Gateways):
    """Whatever waits for a gateway arrives in any order."""

    order = Random(1)

    def deliver(self, receiver):
        waiting = []
        while (delivery := self.wire.take(receiver)) is not None:
            waiting.append(delivery.data)
        self.order.shuffle(waiting)
        for datagram, path in waiting:
            self.sites[receiver].do(self.sites[receiver].core.receive(datagram, self.translate(path, receiver), self.clock()))
        return bool(waiting)


@pytest.mark.parametrize("seed", range(8))
def test_in_any_order_and_every_fourth_lost(seed):
    gateways = Shuffled([narrow("a")], [narrow("b")], seed)
    gateways.order = Random(seed)
    for sender in ("a", "b"):
        gateways.wire.drop(sender, OTHER[sender], *range(3 + seed % 2, 300, 4))
    script(gateways, "ab"[seed % 2])
    converged(gateways)


def test_a_repetition_in_fragments_gets_the_stored_reply_and_does_nothing_else():
    gateways = gateways_of()
    gateways.initiate("a")
    gateways.deliver("b")
    gateways.deliver("a")
    third = [gateways.wire.take("b") for _ in range(2)]
    datagrams = [delivery.data[0] for delivery in third if delivery]

    def again():
        return sum(
            isinstance(action, Send)
            for datagram in datagrams
            for action in gateways.b.core.receive(datagram, gateways.path("b"), gateways.clock())
        )

    assert again() == 2, "message 4, in two"
    assert [again() for _ in range(6)] == [2] * int(LIMITS.repeats_a_second) + [0, 0]


# --- what it costs ---------------------------------------------------------------------------------------------------


def answered(gateways, number):
    """b has answered another message 1, which announced fragments: its two cookies."""
    first = gateways.wire.log[0][0].data[0]
    begun = number.to_bytes(7, "big") + b"x" + first[8:]
    (sent,) = (one for one in gateways.b.core.receive(begun, gateways.path("b"), gateways.clock()) if isinstance(one, Send))
    return sent.datagram[:16]


def test_before_a_proof_a_network_has_so_much_kept():
    """Each message 1 is answered, and each that was may have a part of a message kept, until it is too much of its network."""
    gateways = gateways_of()
    gateways.initiate("a")
    part, each = 4000, 6
    for number in range(40):
        cookies = answered(gateways, number)
        for count in range(1, each + 1):
            assert give(gateways, "b", cookies, FragmentPayload(1, count, False, bytes(part))) == 0
    kept = LIMITS.fragments_of_network // part
    assert gateways.b.core.counters().refused == 40 * each - kept
    assert gateways.faults()["b"] == {"refused": 40 * each - kept}
    gateways.run(LIMITS.half_open_seconds + 1)
    before = gateways.b.core.counters().refused
    cookies = answered(gateways, 41)
    give(gateways, "b", cookies, FragmentPayload(1, 1, False, bytes(part)))
    assert gateways.b.core.counters().refused == before, "what was kept has gone with its time"


def test_once_it_is_proven_nothing_counts_against_the_network():
    gateways = gateways_of().start("a")
    cookies = gateways.wire.log[-1][0].data[0][:16]
    for count in range(1, 9):
        give(gateways, "b", cookies, FragmentPayload(1, count, False, bytes(4000)))
    assert gateways.faults()["b"] == {}
    gateways.run(LIMITS.fragment_seconds + 1)
    gateways.check()


def test_what_becomes_whole_is_of_the_same_isakmp_sa_and_no_fragment_again():
    gateways = gateways_of().start("a")
    cookies = gateways.wire.log[-1][0].data[0][:16]
    header = IsakmpHeader(cookies[:8], cookies[8:], 2, 0, 0)
    nested = build_clear(header, [FragmentPayload(1, 1, True, b"x")])
    foreign = gateways.wire.log[0][0].data[0]
    for number, whole in enumerate((nested, foreign, b"x" * 24 + (50).to_bytes(4, "big") + b"x" * 22), 1):
        give(gateways, "b", cookies, FragmentPayload(number, 1, True, whole))
    assert gateways.faults()["b"] == {"malformed": 3}
    gateways.check()


def test_an_authentic_message_in_fragments_alone_moves_a_mapping():
    """From where its last fragment came; fragments from elsewhere are another message's, and a repetition moves nothing."""
    from ipaddress import ip_address

    from ipsec_dp.ike.actions import Endpoint, Path

    from .test_ikev1_main_mode import behind_nat

    gateways = behind_nat(gateways_of()).start("a")
    gateways.run(30)
    behind_nat(gateways, 32000)
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    sent = [gateways.taken("b") for _ in range(2)]
    assert [datagram[16] for datagram, _ in sent] == [FRAGMENT] * 2
    elsewhere = Path(sent[0][1].remote, Endpoint(ip_address("192.0.2.66"), 7), natt=True)
    gateways.b.do(gateways.b.core.receive(sent[0][0], gateways.translate(sent[0][1], "b"), gateways.clock()))
    gateways.b.do(gateways.b.core.receive(sent[1][0], elsewhere, gateways.clock()))
    assert gateways.b.moved == [], "two halves from two places are no message"
    for datagram, path in sent:
        gateways.b.do(gateways.b.core.receive(datagram, gateways.translate(path, "b"), gateways.clock()))
    assert [moved.path.remote.port for moved in gateways.b.moved] == [32001]
    gateways.clock.advance(2.0)
    for datagram, _ in sent:
        gateways.b.do(gateways.b.core.receive(datagram, elsewhere, gateways.clock()))
    assert [moved.path.remote.port for moved in gateways.b.moved] == [32001]


def test_what_this_host_refuses_of_a_message_in_fragments_is_told():
    gateways = gateways_of()
    gateways.initiate("a")
    gateways.deliver("b")
    gateways.deliver("a")
    site, why = gateways.a, "EPERM: its own packet filter"
    for _ in range(3):
        while (delivery := gateways.wire.take("b")) is not None:
            site.do(site.core.unsent(delivery.data[0], why, gateways.clock()))
        gateways.clock.advance(4)
        site.do(site.core.timer(gateways.clock()))
    assert f"message 3 of main mode to 192.0.2.2:500 does not leave: this host itself refuses to send: {why}" in [
        event.text for event in site.events
    ]


def test_message_4_asks_for_certificates_by_names_that_fit_one_datagram(tmp_path):
    """One answer of one datagram: for more authorities it asks for a certificate of whomever."""
    openssl = OpenSsl(tmp_path)
    authorities = tuple(
        load_certificates(openssl.certificate(f"ca{number}", f"/CN=authority {number}", extensions=CA))[0] for number in range(3)
    )
    named = proof.certificate_requests(authorities)
    fits = sum(len(build_payloads([payload])[1]) for payload in named)
    assert len(named) == 3
    assert proof.certificate_requests(authorities, fits) == named
    assert proof.certificate_requests(authorities, fits - 1) == [CertRequestPayload(X509_SIGNATURE, b"")]
    assert proof.certificate_requests((), 0) == []


@pytest.mark.parametrize("site", ["a", "b"])
def test_aggressive_mode_answers_a_first_message_in_one_datagram_whatever_it_takes(site):
    """Who begins may be anybody: what follows his proof goes in fragments."""
    gateways = Gateways([narrow("a", mode="aggressive")], [narrow("b", mode="aggressive")]).start(site)
    gateways.check()
    other = OTHER[site]
    first = next(delivery.data[0] for delivery, _ in gateways.wire.log if delivery.sender == other)
    assert len(first) > ROOM
    assert first[16] != FRAGMENT
    assert fragments(gateways, other) == [(1, 0), (2, 1)], "the second message of quick mode"
    assert {delivery.data[0][18] for delivery, _ in gateways.wire.log if delivery.data[0][16] == FRAGMENT} == {4}
