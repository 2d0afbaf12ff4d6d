"""Which IKE messages the data plane passes on: a peer's always, a stranger's few, and cookies that it makes and knows by itself.

Port 4500 by a link in memory, port 500 by a socket of loopback. Keys, messages and cookies are those of the control plane.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import Channel, DataPlane, Endpoint, IkeSaKey, MemoryDatagram
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.inspection import gateway_status
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.keying.ike_watch import ike_rates
from ipsec_dp.rig.plane import PlaneRig
from tests.unit.ike_gate_peer import (
    COOKIES,
    ELSEWHERE,
    MARKER,
    NONCE,
    PEER,
    PEER6,
    RATES,
    SPI_I,
    SPI_R,
    SUITES,
    Peer,
    cookie_for,
    request,
    spoiled,
)
from tests.unit.sites import arrive


@pytest.fixture
def gateway():
    """The peer is the initiator of the IKE SA that a test tells of; each network of strangers has 4 at once, all together fewer."""
    with PlaneRig("b", "192.0.2.2", stranger_rate=1, stranger_burst=4, ike=RATES) as made:
        made.plane.set_cookie_secret(COOKIES.secret)
        yield made


def came(gateway, message, count=1, source=PEER):
    """How many of these reach the control plane."""
    arrive(gateway, *[MemoryDatagram(MARKER + message, gateway.endpoint, source)] * count)
    return len(gateway.events(Channel.STRANGER))


# ---- of an IKE SA whose peer is authenticated


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_a_peers_messages_pass_whatever_comes_beside_them_and_forged_ones_do_not(gateway, suite):
    peer = Peer(suite)
    peer.known_to(gateway.plane)
    for message_id in range(100):
        message = peer.message(message_id, payloads=(p.Nonce(bytes(16 + message_id)),))
        forged = [spoiled(message, -1), spoiled(message, 33), spoiled(message, 40), spoiled(message, 20), spoiled(message, 18)]
        assert [came(gateway, each) for each in forged] == [0] * len(forged)
        assert came(gateway, message) == 1, message_id
    assert gateway.drops == {"ike_icv": 500}


def test_forged_messages_do_not_use_up_anything(gateway):
    """They have all that is visible on the way, from the peer's own address."""
    peer = Peer()
    peer.known_to(gateway.plane)
    forged = spoiled(peer.message(0), -1)
    assert came(gateway, forged, 3000) == 0
    assert came(gateway, peer.message(0)) == 1
    assert came(gateway, peer.message(0, response=True)) == 1
    assert gateway.drops == {"ike_icv": 3000}


def test_an_authentic_message_passes_once_and_then_from_a_bucket(gateway):
    peer = Peer()
    peer.known_to(gateway.plane)
    recorded = [peer.message(message_id) for message_id in range(20)]
    assert [came(gateway, each) for each in recorded] == [1] * 20
    assert sum(came(gateway, each, 10) for each in recorded) == RATES.repeats_at_once
    assert gateway.drops == {"ike_limited": 200 - RATES.repeats_at_once}
    assert came(gateway, peer.message(20)) == 1, "what is new passes beside them"
    gateway.clock.advance(1)
    assert came(gateway, recorded[19], 10) == RATES.repeats


def test_what_was_recorded_is_not_new_again_after_the_path_changed(gateway):
    peer = Peer()
    peer.known_to(gateway.plane)
    recorded = [peer.message(message_id) for message_id in range(20)]
    assert [came(gateway, each) for each in recorded] == [1] * 20
    peer.known_to(gateway.plane, natt=False)
    peer.known_to(gateway.plane, natt=True)
    assert sum(came(gateway, each) for each in recorded) == RATES.repeats_at_once


def test_fragments_of_a_message_pass_together(gateway):
    peer = Peer()
    peer.known_to(gateway.plane)
    assert sum(came(gateway, peer.fragment(7, number, 6)) for number in range(1, 7)) == 6
    assert came(gateway, spoiled(peer.fragment(7, 1, 6), 34)) == 0, "the number of a fragment is protected too"


def test_requests_and_responses_have_message_ids_of_their_own(gateway):
    peer = Peer()
    peer.known_to(gateway.plane)
    assert came(gateway, peer.message(9)) == 1
    assert [came(gateway, peer.message(message_id, response=True)) for message_id in range(9)] == [1] * 9


@pytest.mark.parametrize(
    "change",
    [
        {"spi_i": b"somebody"},
        {"flags": 0},
        {"exchange": ExchangeType.IKE_SA_INIT},
    ],
    ids=["another peer's SPI", "in the wrong direction", "not protected"],
)
def test_what_only_looks_like_a_peers_is_a_strangers(gateway, change):
    peer = Peer()
    peer.known_to(gateway.plane)
    header = replace(Header(SPI_I, SPI_R, ExchangeType.INFORMATIONAL, Flag.INITIATOR, 0), **change)
    message = build_message(Message(header, (p.Nonce(NONCE),)))
    assert came(gateway, message, 10) == RATES.other
    assert gateway.drops == {"ike_limited": 10 - RATES.other}


def test_an_ike_sa_that_ended_is_nobodys(gateway):
    peer = Peer()
    peer.known_to(gateway.plane)
    gateway.plane.remove_ike_sa(SPI_R)
    assert sum(came(gateway, peer.message(number)) for number in range(10)) == RATES.other
    assert gateway.drops == {"ike_limited": 10 - RATES.other}
    with pytest.raises(DataPlaneError) as refused:
        gateway.plane.remove_ike_sa(SPI_R)
    assert refused.value.errno == errno.ENOENT


def test_keys_lie_in_the_arena_and_are_wiped_when_nobody_holds_them(gateway):
    before = gateway.plane.arena().in_use
    Peer().known_to(gateway.plane)
    assert gateway.plane.arena().in_use > before
    gateway.plane.remove_ike_sa(SPI_R)
    gateway.plane.reclaim()
    assert gateway.plane.arena().in_use == before


@pytest.mark.parametrize(
    ("key", "reason"), [(IkeSaKey(20, 0, 16, bytes(19)), errno.EINVAL), (IkeSaKey(99, 0, 16, bytes(20)), errno.ENOTSUP)]
)
def test_keys_that_do_not_fit_are_refused(gateway, key, reason):
    with pytest.raises(DataPlaneError) as refused:
        gateway.plane.set_ike_sa(SPI_R, SPI_I, initiator=False, nat_port=True, key=key)
    assert refused.value.errno == reason


def test_65536_ike_sas_are_known_and_no_more():
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1) as plane:
        for number in range(65536):
            plane.set_ike_sa(number.to_bytes(8), bytes(8), initiator=True, nat_port=True, key=None)
        with pytest.raises(DataPlaneError) as refused:
            plane.set_ike_sa(bytes([1] * 8), bytes(8), initiator=True, nat_port=True, key=None)
        assert refused.value.errno == errno.ENOSPC
        plane.set_ike_sa(bytes(8), SPI_R, initiator=True, nat_port=True, key=None)
        plane.remove_ike_sa(bytes(8))
        plane.set_ike_sa(bytes([1] * 8), bytes(8), initiator=True, nat_port=True, key=None)


# ---- of one that is begun, and requests with a good cookie


def test_who_knows_the_spis_of_a_begun_ike_sa_has_buckets_apart_from_strangers(gateway):
    """IKE_AUTH gets through while the same address is forged by others, but not without end."""
    peer = Peer()
    peer.known_to(gateway.plane, authenticated=False)
    assert came(gateway, b"\1" * 60, 100) == RATES.other
    assert came(gateway, peer.message(1, exchange=ExchangeType.IKE_AUTH), 10) == RATES.proven_at_once
    assert came(gateway, peer.message(1), 10, source=ELSEWHERE) == RATES.proven_in_all - RATES.proven_at_once


def isakmp(cookie_i, cookie_r, octets=60, exchange=5, first=8):
    """A message of IKEv1, of which nobody can say more before it is decrypted."""
    return cookie_i + cookie_r + bytes([first, 0x10, exchange, 1]) + bytes(4) + octets.to_bytes(4, "big") + bytes(octets - 28)


@pytest.mark.parametrize("initiator", [False, True])
def test_who_knows_the_cookies_of_an_isakmp_sa_has_them_too(gateway, initiator):
    """A flood of strangers keeps no peer away that speaks IKEv1; other cookies are a stranger's, as is half of them."""
    own, peer = (SPI_I, SPI_R) if initiator else (SPI_R, SPI_I)
    gateway.plane.set_ike_sa(own, peer, initiator=initiator, nat_port=False, key=None)
    assert came(gateway, isakmp(SPI_I, bytes(8)), 100) == RATES.other
    assert came(gateway, isakmp(SPI_I, b"another!"), 10) == 0
    assert came(gateway, isakmp(SPI_I, SPI_R)[:-1], 10) == 0
    assert came(gateway, isakmp(SPI_I, SPI_R), 10) == RATES.proven_at_once


def first_of_main_mode(number=0):
    return isakmp(b"begin%03d" % number, bytes(8), exchange=2)


def flooded(gateway):
    """How much passes of strangers who use up all that there is for them."""
    strangers = [Endpoint(ip_address(f"203.0.113.{number}"), 4500) for number in range(1, 6)]
    return sum(came(gateway, b"\1" * 60, 100, source=one) for one in strangers)


@pytest.mark.parametrize("peer", [PEER, PEER6], ids=["IPv4", "IPv6"])
def test_where_a_peer_with_ikev1_is_expected_main_mode_begins_beside_any_flood(gateway, peer):
    """It has no cookie to show. What is reserved is small, and a network's own."""
    gateway.plane.set_ikev1_peer(peer.address, there=True)
    gateway.plane.set_ikev1_peer(peer.address, there=True)
    assert flooded(gateway) == RATES.other
    assert came(gateway, first_of_main_mode(), 100, source=ELSEWHERE) == 0, "of anybody else"
    assert came(gateway, isakmp(SPI_I, bytes(8), exchange=4), 10, source=peer) == 0, "aggressive mode, which costs more"
    assert came(gateway, first_of_main_mode(), 100, source=peer) == RATES.ikev1_at_once
    gateway.clock.advance(1)
    assert flooded(gateway) == RATES.other
    assert came(gateway, first_of_main_mode(), 100, source=peer) == RATES.ikev1
    gateway.clock.advance(10)
    gateway.plane.set_ikev1_peer(peer.address, there=False)
    assert flooded(gateway) == RATES.other
    assert came(gateway, first_of_main_mode(), 100, source=peer) == 0


def test_all_peers_with_ikev1_together_have_so_much_and_take_nothing_from_ikev2(gateway):
    peers = [Endpoint(ip_address(f"198.51.100.{number}"), 500) for number in range(1, 10)]
    for peer in peers:
        gateway.plane.set_ikev1_peer(peer.address, there=True)
    assert flooded(gateway) == RATES.other
    assert sum(came(gateway, first_of_main_mode(), 100, source=peer) for peer in peers) == RATES.ikev1_in_all
    assert came(gateway, request(), 100, source=peers[0]) == RATES.begin
    gateway.plane.set_ike_sa(SPI_R, SPI_I, initiator=False, nat_port=True, key=None)
    assert came(gateway, isakmp(SPI_I, SPI_R), 10) == RATES.proven_at_once


def test_an_isakmp_sa_that_is_up_has_a_share_that_no_other_takes_from(gateway):
    """Beside those that are begun, whoever floods for them."""
    begun, others = b"begun..!", [b"other%03d" % number for number in range(9)]
    gateway.plane.set_ike_sa(begun, SPI_I, initiator=False, nat_port=True, key=None)
    for own in (SPI_R, *others):
        gateway.plane.set_ike_sa(own, SPI_I, initiator=False, nat_port=True, key=None, isakmp=True)
    assert came(gateway, isakmp(SPI_I, begun), 100) == RATES.proven_at_once
    assert came(gateway, isakmp(SPI_I, SPI_R), 100) == RATES.repeats_at_once
    assert sum(came(gateway, isakmp(SPI_I, own), 100) for own in others) == RATES.isakmp - RATES.repeats_at_once
    gateway.clock.advance(1)
    assert came(gateway, isakmp(SPI_I, begun), 100) == RATES.proven
    assert came(gateway, isakmp(SPI_I, SPI_R), 100) == RATES.repeats


def test_fragments_of_ikev1_pass_for_an_isakmp_sa_alone(gateway):
    """Nothing is kept of a message that nobody began: a stranger's first message is no fragment."""
    assert came(gateway, isakmp(SPI_I, bytes(8), first=132), 10) == 0
    assert came(gateway, isakmp(SPI_I, SPI_R, first=132), 10) == 0
    assert came(gateway, isakmp(SPI_I, bytes(8))) == 1
    gateway.plane.set_ike_sa(SPI_R, SPI_I, initiator=False, nat_port=False, key=None)
    assert came(gateway, isakmp(SPI_I, SPI_R, first=132), 10) == RATES.proven_at_once


def test_the_keys_of_an_ike_sa_are_not_gone_round_by_a_header_of_ikev1(gateway):
    Peer().known_to(gateway.plane)
    assert came(gateway, b"\1" * 60, 100) == RATES.other
    assert came(gateway, isakmp(SPI_I, SPI_R), 10) == 0


def test_the_answer_to_our_own_request_is_awaited_before_the_peers_spi_is_known(gateway):
    gateway.plane.set_ike_sa(SPI_I, bytes(8), initiator=True, nat_port=True, key=None)
    answer = build_message(Message(Header(SPI_I, SPI_R, ExchangeType.IKE_SA_INIT, Flag.RESPONSE, 0), (p.Nonce(NONCE),)))
    assert came(gateway, b"\1" * 60, 100) == RATES.other
    assert came(gateway, answer) == 1


@pytest.mark.parametrize("source", [PEER, PEER6], ids=["IPv4", "IPv6"])
def test_a_cookie_that_came_back_opens_a_way_of_its_own(gateway, source):
    now = gateway.clock.seconds
    came(gateway, request(), 100, source)
    gateway.sent()
    good = request(cookie_for(source, now))
    bad = [
        request(cookie_for(ELSEWHERE, now)),
        request(cookie_for(source, now, b"another_")),
        request(cookie_for(source, now - 2 * RATES.cookie_seconds)),
        request(bytes(32)),
        request(cookie_for(source, now)[:-1]),
        request(cookie_for(source, now), nonce=NONCE[:-1]),
    ]
    assert [came(gateway, each, source=source) for each in bad] == [0] * len(bad)
    assert came(gateway, request(cookie_for(source, now - RATES.cookie_seconds)), source=source) == 1
    assert came(gateway, good, 10, source) == RATES.proven_at_once - 1


def test_after_a_new_secret_no_cookie_of_the_old_one_is_good(gateway):
    came(gateway, request(), 100)
    good = request(cookie_for(PEER, gateway.clock.seconds))
    gateway.plane.set_cookie_secret(bytes([9] * 32))
    assert came(gateway, good) == 0
    gateway.plane.set_cookie_secret(COOKIES.secret)
    assert came(gateway, good) == 1


# ---- requests of new IKE SAs


@pytest.mark.parametrize("source", [PEER, PEER6], ids=["IPv4", "IPv6"])
def test_beyond_what_is_passed_on_the_answer_is_a_cookie_that_the_control_plane_takes(gateway, source):
    assert came(gateway, request(), 5, source) == RATES.begin
    answers = gateway.sent()
    assert [(each.remote, each.data[:4]) for each in answers] == [(source, MARKER)] * 3
    answer = parse_message(answers[0].data[4:])
    assert answer.header == Header(SPI_I, bytes(8), ExchangeType.IKE_SA_INIT, Flag.RESPONSE, 0)
    cookie = answer.notify(NotifyType.COOKIE)
    assert cookie is not None
    remote = act.Endpoint(source.address, source.port)
    assert COOKIES.good(cookie.data, NONCE, SPI_I, remote, gateway.clock.seconds)
    assert build_message(Message(answer.header, (cookie,))) == answers[0].data[4:], "octet for octet as the control plane has it"
    assert gateway.plane.counters().cookies_sent == gateway_status("a", gateway.plane).traffic.cookies_sent == 3
    assert gateway.drops == {}, "who is answered was not dropped"


def test_once_more_came_than_may_be_passed_on_everybody_brings_a_cookie_for_a_second(gateway):
    """Otherwise the control plane has a steady part of a flood, all of it a stranger's."""
    assert came(gateway, request(), RATES.begin + 1) == RATES.begin
    gateway.sent()
    gateway.clock.advance(0.9)
    assert came(gateway, request(), source=ELSEWHERE) == 0
    assert [each.remote for each in gateway.sent()] == [ELSEWHERE]
    gateway.clock.advance(0.2)
    assert came(gateway, request(), source=ELSEWHERE) == 1


def test_answers_are_bounded_too(gateway):
    came(gateway, request(), 1000)
    bound = RATES.cookies_on_nat_port // 10 + 1 + RATES.first_cookies // 10 + 1
    assert len(gateway.sent()) == bound
    assert gateway.drops == {"ike_limited": 1000 - RATES.begin - bound}
    gateway.clock.advance(0.1)
    came(gateway, request(), 1000)
    assert len(gateway.sent()) == 3


def test_in_a_flood_from_everywhere_whoever_asks_again_is_answered(gateway):
    """A random address asks once; only a few of those are answered, and its owner is hardly troubled."""
    came(gateway, request(), 10)
    gateway.clock.advance(1)
    gateway.sent()
    others = [Endpoint(ip_address(f"192.0.{number >> 8}.{number & 255}"), 4500) for number in range(1000)]
    arrive(gateway, *(MemoryDatagram(MARKER + request(), gateway.endpoint, source) for source in others))
    assert len([each for each in gateway.sent() if each.remote != PEER]) <= RATES.first_cookies // 10 + 1 + 2
    came(gateway, request())
    assert [each.remote for each in gateway.sent()] == [PEER]


def test_nobody_is_answered_behind_a_tunnel(gateway):
    behind = Endpoint(ip_address("10.2.0.9"), 4500)
    other = AddressRange(ip_address("10.9.0.0"), ip_address("10.9.0.255"))
    gateway.plane.set_quiet(
        [AddressRange(ip_address("fd00::"), ip_address("fd00::ff")), other, AddressRange(behind.address, behind.address)]
    )
    came(gateway, request(), 5, behind)
    assert gateway.sent() == []
    came(gateway, request(), 5, Endpoint(ip_address("10.2.0.10"), 4500))
    assert len(gateway.sent()) > 0
    with pytest.raises(DataPlaneError):
        gateway.plane.set_quiet([other, other])


@pytest.mark.parametrize(
    "message",
    [
        request()[:-1],
        request(nonce=NONCE[:8]),
        request(spi=bytes(8)),
        spoiled(request(), 27),
        build_message(Message(Header(SPI_I, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0), ())),
        build_message(Message(Header(SPI_I, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 1), (p.Nonce(NONCE),))),
        build_message(Message(Header(SPI_I, SPI_R, ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0), (p.Nonce(NONCE),))),
        b"\1" * 60,
        b"",
    ],
)
def test_no_answer_goes_to_what_is_no_whole_request(gateway, message):
    assert came(gateway, message, 50) == RATES.other
    assert gateway.sent() == []


def test_an_answer_is_never_longer_than_the_question(gateway):
    short = build_message(Message(Header(SPI_I, bytes(8), ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0), (p.Nonce(NONCE[:16]),)))
    assert came(gateway, short, 50) == RATES.begin
    assert gateway.sent() == []


# ---- what stands in the limits


def test_the_rates_are_those_of_the_limits():
    rates = ike_rates(LIMITS)
    assert (rates.begin, rates.other, rates.proven_in_all) == (50, 50, 500)
    assert (rates.ikev1, rates.ikev1_at_once, rates.ikev1_in_all, rates.isakmp) == (25, 50, 50, 200)
    assert (rates.repeats, rates.cookies, rates.cookies_on_nat_port, rates.cookie_seconds) == (16, 25_000, 4_000, 60)
