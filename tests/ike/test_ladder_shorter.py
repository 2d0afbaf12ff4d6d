"""A path that loses long datagrams without a word, as message ladders: repetitions in smaller fragments (RFC 7383 §2.5.1).

a --(SK, 1,250 octets)--x        twice, as any request
a --(SKF 1 to 3, 576 octets)--> b, <--(SKF, 576 octets)-- b, and so from then on
"""

import os
from collections import defaultdict
from datetime import timedelta
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.certificates import Credential, Revocation, Trust, load_certificates
from ipsec_dp.ike.environment import Environment
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.fragment import Reassembler, seal_datagrams
from ipsec_dp.ike.v2.lengths import REMEMBERED, REMEMBERED_S, Lengths
from ipsec_dp.ike.v2.message import is_response, parse_message
from ipsec_dp.ike.v2.sealed import Content, Sealed
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

from .ladder import ADDRESSES, EPOCH, OTHER, Ladder, peer
from .pki import CA, NOW, OpenSsl
from .saying import says
from .test_fragment import reassemble
from .test_ladder_followup import ESP_ONE, ONE, ends, made_anew
from .test_ladder_rekey import rekey
from .test_protect import HEADER, SUITES, both_ends

UDP_IP = 28
DIVIDED_AFTER = 2.8  # seconds: the second retransmission
WAYS = {"there": ("a",), "back": ("b",), "both": ("a", "b")}


class Narrow:
    """A wire that loses IP datagrams beyond so many octets which these senders have sent."""

    def __init__(self, wire, most, senders):
        self.wire, self.most, self.senders, self.lost = wire, most, senders, []

    def send(self, sender, receiver, data):
        datagram, path = data
        if sender in self.senders and octets(datagram, path) > self.most:
            self.lost.append((sender, datagram))
        else:
            self.wire.send(sender, receiver, data)


def octets(datagram, path):
    return UDP_IP + 4 * path.natt + len(datagram)


def narrowed(ladder, most, senders=("a", "b")):
    """All that is sent from now on goes by such a wire."""
    hole = Narrow(ladder.wire, most, senders)
    for site in ladder.sites.values():
        site.wire = hole
    return hole


def ladder_of(seed=0, **changes):
    """On the port where it begins: on 4500 four octets more make two fragments of IKE_INTERMEDIATE."""
    common = {"ike_proposals": parse_ike([ONE]), "esp_proposals": parse_esp([ESP_ONE]), "encapsulation": "esp"} | changes
    return Ladder(a=[peer("a", **common)], b=[peer("b", **common)], seed=seed)


def sent_by(ladder, sender):
    return [delivery.data[0] for delivery, _ in ladder.wire.log if delivery.sender == sender]


def is_fragment(datagram):
    return parse_message(datagram).get(p.EncryptedFragment) is not None


def repeated(ladder):
    return ladder.a.core.counters().retransmissions


# --- what passes a black hole ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("natt", [False, True], ids=["500", "4500"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("most", [1200, 1000, 600])
def test_an_ike_sa_comes_up_whatever_length_is_lost(most, way, natt, first):
    ladder = ladder_of()
    hole = narrowed(ladder, most, WAYS[way])
    ladder.initiate(first, natt)
    ladder.run(2 * DIVIDED_AFTER)
    ladder.check()
    answers_alone = first not in WAYS[way]  # which have the ciphertext, of 1,088 octets: 1,200 are enough for them
    assert bool(hole.lost) != (most == 1200 and answers_alone)
    known = {site.core.sessions()[0].abilities.longest for site in ladder.sites.values()}
    assert known == ({576} if hole.lost else {float("inf")}), "both know by then"


def test_a_path_that_takes_everything_sees_no_fragments():
    """The positive control: nothing is repeated, and nothing divided."""
    ladder = ladder_of().up()
    assert not any(is_fragment(delivery.data[0]) for delivery, _ in ladder.wire.log)
    assert {site.core.sessions()[0].abilities.longest for site in ladder.sites.values()} == {float("inf")}


@pytest.mark.parametrize("ike", [False, True], ids=["CHILD_SA", "IKE SA"])
@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("way", WAYS)
def test_what_comes_after_goes_so_from_the_beginning(way, site, ike):
    """CREATE_CHILD_SA and IKE_FOLLOWUP_KE with ML-KEM, whoever asks: nothing more is lost, and nothing repeated."""
    ladder = ladder_of()
    hole = narrowed(ladder, 1000, WAYS[way])
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    lost, before = len(hole.lost), ends(ladder)
    for asks in (site, OTHER[site]):
        before = ends(ladder)
        rekey(ladder, asks, ike=ike)
        ladder.settle()
        ladder.check()
        made_anew(ladder, before, ike=ike)
    assert len(hole.lost) == lost
    exchanges = {parse_message(delivery.data[0]).header.exchange for delivery, _ in ladder.wire.log}
    assert ExchangeType.IKE_FOLLOWUP_KE in exchanges


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("ike", [False, True], ids=["CHILD_SA", "IKE SA"])
def test_a_path_that_grows_narrow_later_is_found_by_the_next_rekey(ike, site, way):
    ladder = ladder_of().up()
    hole, before = narrowed(ladder, 1000, WAYS[way]), ends(ladder)
    rekey(ladder, site, ike=ike)
    ladder.run(20)
    ladder.check()
    made_anew(ladder, before, ike=ike)
    assert hole.lost


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    openssl.certificate("ca", "/CN=Test CA", extensions=CA)
    for site in OTHER:
        openssl.certificate(f"gw{site}", f"/CN=gw{site}", "ca", f"subjectAltName=DNS:gw{site}.example", "ec")
    trust = Trust(load_certificates(openssl.path("ca.crt")), (), Revocation.OFF)
    credentials = {site: Credential.from_files(openssl.path(f"gw{site}.crt"), openssl.path(f"gw{site}.key")) for site in OTHER}
    return {site: SignatureAuth(credentials[site], trust) for site in OTHER}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["a", "b"])
def test_certificates_pass_too(certificates, first, way):
    peers = {site: [peer(site, auth=certificates[site])] for site in OTHER}
    ladder = Ladder(**peers, epoch=NOW - timedelta(seconds=1000))
    hole = narrowed(ladder, 600, WAYS[way])
    ladder.initiate(first)
    ladder.run(2 * DIVIDED_AFTER)
    ladder.check()
    assert hole.lost


# --- what is as it was -----------------------------------------------------------------------------------------------


def test_the_first_repetition_is_the_same_octets_and_the_others_begin_with_them():
    """Most of what is lost was not too long; and a peer may know a repeated request by nothing but its octets."""
    ladder = ladder_of()
    hole = narrowed(ladder, 600)
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    (whole,) = {datagram for sender, datagram in hole.lost if sender == "a"}
    assert [datagram for sender, datagram in hole.lost if sender == "a"] == [whole] * 3
    divided = [datagram for datagram in sent_by(ladder, "a") if is_fragment(datagram)]
    assert {parse_message(datagram).header.message_id for datagram in divided} == {1}
    assert max(map(len, divided)) + UDP_IP <= 576


def without_fragmentation(_header, payloads):
    kind = NotifyType.IKEV2_FRAGMENTATION_SUPPORTED
    return [one for one in payloads if not isinstance(one, p.Notify) or one.notify_type != kind]


def test_a_peer_that_takes_no_fragments_gets_the_same_octets_every_time(monkeypatch):
    ladder = ladder_of()
    says(monkeypatch, ladder.b.core, without_fragmentation)
    hole = narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(30)
    assert len(hole.lost) >= 5
    assert len(set(hole.lost)) == 1
    assert not any(is_fragment(delivery.data[0]) for delivery, _ in ladder.wire.log)
    (told,) = [event.text for event in ladder.a.events if event.kind is Kind.WARNING]
    assert "it takes none of IKE's own fragments: let fragments of IP pass on the way" in told


def test_short_requests_are_never_divided():
    ladder = ladder_of(ike_proposals=parse_ike(["aes128gcm16-prfsha256-x25519"]))
    narrowed(ladder, 100)
    ladder.initiate("a")
    ladder.run(60)
    assert not any(is_fragment(delivery.data[0]) for delivery, _ in ladder.wire.log)


def test_no_iv_protects_two_contents():
    """Under one key each IV belongs to the same octets, however often and however divided they leave (RFC 5282 §3)."""
    ladder = ladder_of()
    hole = narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    under = defaultdict(set)
    sent = [(delivery.sender, delivery.data[0]) for delivery, _ in ladder.wire.log] + hole.lost
    for sender, datagram in sent:
        message = parse_message(datagram)
        sealed = message.get(p.Encrypted) or message.get(p.EncryptedFragment)
        if sealed is not None:
            stage = message.header.exchange == ExchangeType.IKE_INTERMEDIATE  # the keys of one round, or those after it
            under[sender, stage, bytes(sealed.data[:8])].add(datagram)
    assert len(under) > 6
    assert all(len(datagrams) == 1 for datagrams in under.values())


def kept(ladder, site):
    """Octets that are known of the way to the other one's address."""
    return ladder.sites[site].core.lengths.of(ladder.path(site).remote.address, ladder.clock())[0]


# --- what is kept ----------------------------------------------------------------------------------------------------


def again(ladder, seconds):
    """A new IKE SA, so long after the first has ended; how many of its requests were repeated."""
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.settle()
    ladder.clock.advance(seconds)
    before = repeated(ladder)
    ladder.initiate("a")
    ladder.run(20)
    ladder.check()
    return repeated(ladder) - before


def test_a_new_ike_sa_to_the_same_peer_begins_with_what_is_known_for_ten_minutes():
    ladder = ladder_of()
    narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    assert again(ladder, 500) == 0
    assert again(ladder, REMEMBERED_S + 1) == 2


def test_what_is_kept_of_addresses_is_bounded_and_the_oldest_goes():
    lengths, (oldest, *others) = Lengths(), [ip_address(number) for number in range(REMEMBERED + 1)]
    for remote in (oldest, *others):
        lengths.note(remote, 576, 600.0)
    assert lengths.of(oldest, 1.0) == (float("inf"), float("inf"))
    assert {lengths.of(remote, 1.0) for remote in others} == {(576, 600.0)}
    assert lengths.of(others[0], 600.0) == (float("inf"), float("inf"))


def test_nothing_is_kept_of_an_address_before_the_peer_has_proven_who_it_is():
    ladder = ladder_of()
    narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(DIVIDED_AFTER - 0.1)
    ladder.wire.drop("a", "b", ladder.wire.sent("a", "b") + 4)  # IKE_AUTH, after three fragments
    ladder.run(0.2)
    assert [site.core.sessions()[0].abilities.longest for site in ladder.sites.values()] == [576, 576], "of this IKE SA it is"
    assert {kept(ladder, site) for site in OTHER} == {float("inf")}
    ladder.run(5)
    ladder.check()
    assert {kept(ladder, site) for site in OTHER} == {576}


def test_what_is_tried_is_told_and_what_came_of_it():
    ladder = ladder_of()
    narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    tried, came = [event.text for event in ladder.a.events if event.kind is Kind.WARNING]
    octets = max(len(datagram) for datagram in sent_by(ladder, "a") if is_fragment(datagram))
    assert (
        f"octets are lost, as fragments are behind some firewalls: it is sent in ones of {octets} octets at the most besides"
        in tried
    )
    assert came.startswith(f"{ADDRESSES['b']}:500 answers what was sent in datagrams of 576 octets at the most besides")
    assert "for 10 minutes nothing goes in longer ones; ike.fragment_size = 576, not 1280, has it so always" in came


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_peer_that_sends_short_ones_gets_short_ones():
    """Its fragment_size is 600, ours the usual one: an answer is no longer than its request, the first time already."""
    common = {"ike_proposals": parse_ike([ONE]), "esp_proposals": parse_esp([ESP_ONE])}
    ladder = Ladder(a=[peer("a", datagram=600, **common)], b=[peer("b", **common)]).up()
    assert max(UDP_IP + len(datagram) for datagram in sent_by(ladder, "b")[1:]) <= 600
    assert repeated(ladder) == 0


def recorded():
    """B has answered IKE_INTERMEDIATE, and that answer is lost: the request that a stranger has recorded, and B's session."""
    ladder = ladder_of()
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")
    (request,) = [datagram for datagram in sent_by(ladder, "a") if not is_response(datagram)][1:]
    ladder.wire.cut("b", "a")
    ladder.deliver("b")
    (session,) = ladder.b.core.sessions()
    return ladder, request, session


def test_recorded_requests_make_us_encrypt_once_for_a_length_and_change_nothing_else():
    ladder, request, session = recorded()
    began = len(sent_by(ladder, "b"))
    for _ in range(200):
        ladder.clock.advance(0.1)
        ladder.b.do(ladder.b.core.receive(request, ladder.path("b"), ladder.clock()))
    answers = sent_by(ladder, "b")[began:]
    assert len(answers) >= 80, "it is answered, as often as a stored reply is"
    assert len(set(answers)) == 1 + 3, "the reply as it was, and its three fragments"
    assert session.abilities.longest == float("inf")
    assert not [event for event in ladder.b.events if event.kind is Kind.NOTE]


def test_what_does_not_authenticate_has_no_part_in_it():
    ladder, request, session = recorded()
    for _ in range(20):
        ladder.clock.advance(1)
        ladder.b.do(ladder.b.core.receive(request[:-1] + bytes([request[-1] ^ 1]), ladder.path("b"), ladder.clock()))
    assert session.window.asked_again == 0
    assert not session.window.sealed_reply.divided


# --- the message itself ----------------------------------------------------------------------------------------------

LONG = (p.VendorId(bytes(range(256)) * 9),)
ENVIRONMENT = Environment(os.urandom, lambda _tunnel: None, lambda _now: EPOCH)


@pytest.mark.parametrize("name", ["aes128gcm16", "aes128-sha256"])
def test_each_division_has_more_fragments_than_the_one_before(name):
    """By their number alone a receiver tells them from those that it has (RFC 7383 §2.6): 2,304 octets are two at both lengths."""
    sealing, opening = both_ends(SUITES[name])
    first = seal_datagrams(sealing, HEADER, LONG, os.urandom, room=1372, fragment=True)
    sealed = Sealed(first, Content(sealing, HEADER, LONG))
    second, third = sealed.within(1252, ENVIRONMENT), sealed.within(548, ENVIRONMENT)
    assert len(first) == 2 < len(second) < len(third)
    assert [max(map(len, one)) <= room for one, room in ((second, 1252), (third, 548))] == [True, True]
    reassembler = Reassembler()
    assert reassemble(opening, first[:1], reassembler) is None
    assert reassemble(opening, second[1:], reassembler) is None
    assert reassemble(opening, first[1:], reassembler) is None, "late ones of the division before"
    assert reassemble(opening, third, reassembler) == LONG


def test_a_division_is_made_once_and_never_taken_back():
    sealing, _ = both_ends(SUITES["aes128gcm16"])
    first = seal_datagrams(sealing, HEADER, LONG, os.urandom, room=1372, fragment=True)
    sealed = Sealed(first, Content(sealing, HEADER, LONG))
    assert sealed.within(1372, ENVIRONMENT) is first
    short = sealed.within(548, ENVIRONMENT)
    assert sealed.within(1252, ENVIRONMENT) is short, "those are short enough, and there is no way back"
    assert sealed.within(20, ENVIRONMENT) is first, "no number of fragments is short enough for that"
    assert all(datagram in sealed for datagram in (*first, *short))
    assert bytes(100) not in sealed
