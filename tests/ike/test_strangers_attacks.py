"""What strangers did to a gateway's control plane, as ladders: nothing of it reaches what belongs to a peer."""

import time
from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Cause, Kind, Origin, Send
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth
from ipsec_dp.ike.peer_table import PeerTable
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2 import ike_auth
from ipsec_dp.ike.v2.message import build_message, parse_message
from ipsec_dp.ike.v2.payloads import KeyExchangePayload, Notify
from ipsec_dp.ike.v2.ts import permitted
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.ipsec.transforms import GROUP_OF_ID
from ipsec_dp.util.collection import no_collection

from .ladder import ADDRESSES, Ladder, peer, proxy_id
from .test_ladder_init import ANY_B, answers, from_address, init_request

pytestmark = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")


def with_cookie(site, number, path, now):
    """A request that brings back the cookie which it was asked for."""
    request = init_request(number)
    (reply,) = answers(site, request, path, now)
    cookie = reply.notify(NotifyType.COOKIE)
    if cookie is None:
        return request
    parsed = parse_message(request)
    return build_message(replace(parsed, payloads=(Notify(NotifyType.COOKIE, cookie.data), *parsed.payloads)))


def fill(site, count, now, address=lambda number: f"198.18.{number >> 8}.{number & 255}"):
    """So many half-open IKE SAs, each from an address that receives what is sent to it."""
    for number in range(1, count + 1):
        path = from_address(address(number))
        site.core.receive(with_cookie(site, number, path, now), path, now)
    assert site.core.counters().half_open == count


def forged(site, path, now, count=1, first=1):
    """Events of requests with the peer's address that have no proposal in common with us."""
    for number in range(first, first + count):
        site.do([one for one in site.core.receive(init_request(number), path, now) if not isinstance(one, Send)])


OTHER_PROPOSAL = {"ike_proposals": parse_ike(["aes256gcm16-prfsha384-ecp384"])}


def test_a_refusal_of_somebody_with_the_peers_address_is_marked_as_unproven():
    """A2: it was taken for the failure of our own attempt."""
    ladder = Ladder(b=[peer("b", **OTHER_PROPOSAL)])
    forged(ladder.b, ladder.path("b"), ladder.clock())
    (event,) = ladder.b.events
    assert (event.kind, event.tunnel, event.cause, event.origin) == (Kind.IKE_FAILED, "to-a", Cause.PROPOSAL, Origin.CLAIMED)


def test_whose_an_event_is():
    ladder = Ladder(b=[peer("b", remotes=())]).up()
    assert {event.origin for event in ladder.a.events} == {Origin.OURS}
    assert {event.origin for event in ladder.b.events} == {Origin.PEER}
    hub = Ladder(b=[peer("b", **ANY_B, **OTHER_PROPOSAL)]).b
    forged(hub, from_address("203.0.113.1"), 1000.0)
    assert [event.origin for event in hub.events] == [Origin.STRANGER]


def test_strangers_do_not_use_up_what_is_told_of_a_peers_address():
    """A mismatch of the genuine peer is read in the log although strangers cause the same all the time."""
    peers = [peer("b", **OTHER_PROPOSAL), peer("b", tunnel="hub", **ANY_B, **OTHER_PROPOSAL)]
    ladder = Ladder(b=peers)
    for number in range(1, 40):
        forged(ladder.b, from_address(f"203.0.113.{number}"), 1000.0 + number / 10, first=number)
    forged(ladder.b, ladder.path("b"), 1005.0, first=100)
    assert [event.tunnel for event in ladder.b.events] == ["hub", "to-a"]


@pytest.mark.parametrize("strangers", [34, 340, 3400])
def test_a_hub_serves_a_genuine_peer_beside_half_open_ones(strangers):
    """A3: 32 of them locked it for everybody."""
    ladder = Ladder(b=[peer("b", remotes=())])
    fill(ladder.b, strangers, ladder.clock())
    ladder.initiate("a")
    ladder.settle()
    ladder.check()


def test_a_hundred_genuine_peers_at_once_all_come_up_beside_them():
    """All of them begin before the first has authenticated itself."""
    names = [f"w{number}" for number in range(100)]
    ladder = Ladder(
        a=[peer("a", tunnel=name, local_id=Identity.from_text(f"{name}.example")) for name in names],
        b=[peer("b", tunnel=name, remotes=(), remote_id=Identity.from_text(f"{name}.example")) for name in names],
    )
    fill(ladder.b, 340, ladder.clock())
    for name in names:
        ladder.a.do(ladder.a.core.initiate(name, ladder.path("a"), ladder.clock()))
    ladder.settle()
    assert [len(ladder.b.core.sessions(name)) for name in names] == [1] * 100
    assert ladder.b.core.counters().refused == 0


def test_a_configured_peer_comes_up_when_the_house_is_full():
    """A5: four addresses with a thousand each kept it out. Its room is its own, once a cookie came back from its address."""
    ladder = Ladder(b=[peer("b"), peer("b", tunnel="hub", **ANY_B)])
    fill(ladder.b, LIMITS.half_open, ladder.clock())
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")
    ladder.deliver("b")
    assert ladder.b.core.counters().half_open == LIMITS.half_open + 1
    for number in range(LIMITS.half_open + 1, LIMITS.half_open + 300):  # newer ones push out older ones, but not the peer
        path = from_address(f"198.19.{number >> 8}.{number & 255}")
        ladder.b.core.receive(with_cookie(ladder.b, number, path, ladder.clock()), path, ladder.clock())
    ladder.settle()
    ladder.check()


def test_a_configured_peer_comes_up_while_its_own_address_is_forged():
    """Forged requests cannot bring a cookie back, so they take a handful of places and no more."""
    ladder = Ladder(b=[peer("b")])
    for number in range(1, 5000):
        ladder.b.core.receive(init_request(number), ladder.path("b"), ladder.clock())
    assert ladder.b.core.counters().half_open == LIMITS.cookie_above_of_network
    ladder.initiate("a")
    ladder.settle()
    ladder.check()


def test_whose_a_message_is_shows_in_its_spi():
    """So that a peer's need not wait behind strangers': those of a half-open IKE SA are a stranger's."""
    ladder = Ladder(b=[peer("b", remotes=())])
    ladder.initiate("a")
    known = []
    while (delivery := ladder.wire.take("b") or ladder.wire.take("a")) is not None:
        datagram, path = delivery.data
        site = ladder.sites[delivery.receiver]
        known.append((delivery.receiver, site.core.knows(datagram)))
        site.do(site.core.receive(datagram, ladder.translate(path, delivery.receiver), ladder.clock()))
    assert known == [("b", False), ("a", True), ("b", False), ("a", True)]
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    delivery = ladder.wire.take("b")
    assert delivery is not None
    assert ladder.b.core.knows(delivery.data[0])
    forged = bytes(8) + delivery.data[0][8:16]
    assert not any(ladder.b.core.knows(one) for one in (b"", bytes(7), bytes(28), forged + bytes(12), init_request(), b"\xff" * 64))


def test_status_and_tunnels_show_nothing_of_strangers():
    ladder = Ladder(b=[peer("b")])
    forged(ladder.b, ladder.path("b"), ladder.clock(), 3)
    assert ladder.b.core.counters().half_open == 3
    assert ladder.b.core.status("to-a", ladder.clock()) == ()
    assert ladder.b.core.sessions("to-a") == ()


def expire(site, now):
    """Seconds of the processor that the whole expiry took."""
    calls = []
    while (due := site.core.next_timeout()) is not None and due <= now:
        began = time.process_time()
        site.core.timer(now)
        calls.append(time.process_time() - began)
    return sum(calls)


def test_the_cost_of_half_open_ones_grows_no_faster_than_their_number():
    """A5: a datagram walked all of them, and their expiry took ten seconds at once."""
    took = {}
    for count in (500, 2000):
        site = Ladder(b=[peer("b", **ANY_B)]).b
        fill(site, count, 1000.0)
        with no_collection():
            took[count] = expire(site, 1000.0 + LIMITS.half_open_seconds)
        assert site.core.empty
    assert took[2000] < took[500] * 4 * 3


def test_what_expires_together_is_cut_into_slices():
    site = Ladder(b=[peer("b", **ANY_B)]).b
    fill(site, 1000, 1000.0)
    site.core.timer(1000.0 + LIMITS.half_open_seconds)
    assert 0 < site.core.counters().half_open < 1000
    assert (site.core.next_timeout() or 0.0) <= 1000.0 + LIMITS.half_open_seconds, "and the rest is due at once"


# ---- A16: a COOKIE answer and the genuine one cross


def crossed(ladder):
    """B answers A's first request with a COOKIE, and its repetition, when the load has gone, with an IKE_SA_INIT response."""
    fill(ladder.b, LIMITS.cookie_above, ladder.clock())
    (first,) = [one for one in ladder.a.core.initiate("to-b", ladder.path("a"), ladder.clock()) if isinstance(one, Send)]
    (cookie,) = [one for one in ladder.b.core.receive(first.datagram, ladder.path("b"), ladder.clock()) if isinstance(one, Send)]
    assert parse_message(cookie.datagram).notify(NotifyType.COOKIE) is not None
    later = ladder.clock() + LIMITS.half_open_seconds
    expire(ladder.b, later)
    (response,) = [one for one in ladder.b.core.receive(first.datagram, ladder.path("b"), later) if isinstance(one, Send)]
    return cookie.datagram, response.datagram, later


def sent(actions):
    return [one.datagram for one in actions if isinstance(one, Send)]


def test_a_cookie_answer_that_crosses_the_genuine_one_does_not_end_the_attempt():
    ladder = Ladder(b=[peer("b"), peer("b", tunnel="hub", **ANY_B)])
    cookie, response, later = crossed(ladder)
    (second,) = sent(ladder.a.core.receive(cookie, ladder.path("a"), later))
    (auth,) = sent(ladder.a.core.receive(response, ladder.path("a"), later))
    assert sent(ladder.b.core.receive(second, ladder.path("b"), later)) == [response], "the stored response, again"
    (answer,) = sent(ladder.b.core.receive(auth, ladder.path("b"), later))
    ladder.a.do(ladder.a.core.receive(answer, ladder.path("a"), later))
    assert [event.kind for event in ladder.a.events] == [Kind.IKE_UP, Kind.CHILD_UP]


def test_a_cookie_after_a_usable_response_is_ignored():
    ladder = Ladder(b=[peer("b"), peer("b", tunnel="hub", **ANY_B)])
    cookie, response, later = crossed(ladder)
    (auth,) = sent(ladder.a.core.receive(response, ladder.path("a"), later))
    assert sent(ladder.a.core.receive(cookie, ladder.path("a"), later)) == []
    (answer,) = sent(ladder.b.core.receive(auth, ladder.path("b"), later))
    ladder.a.do(ladder.a.core.receive(answer, ladder.path("a"), later))
    assert [event.kind for event in ladder.a.events] == [Kind.IKE_UP, Kind.CHILD_UP]


@pytest.mark.parametrize("changed", ["nonce", "ke"])
def test_a_good_cookie_of_ones_own_replaces_nothing(changed):
    """Only what differs by the COOKIE alone is the same request."""
    ladder = Ladder(b=[peer("b", **ANY_B)])
    path = from_address("198.51.100.1")
    (response,) = sent(ladder.b.core.receive(init_request(7), path, 1000.0))
    parsed = parse_message(init_request(7, bytes(32) if changed == "ke" else b"\x05" * 32))
    if changed == "ke":
        sa, _, nonce = parsed.payloads
        parsed = replace(parsed, payloads=(sa, KeyExchangePayload(31, bytes([10]) + bytes(31)), nonce))
    mine = replace(parsed, payloads=(Notify(NotifyType.COOKIE, b"c" * 32), *parsed.payloads))
    assert sent(ladder.b.core.receive(build_message(mine), path, 1000.0)) == []
    again = sent(ladder.b.core.receive(init_request(7), path, 1000.0))
    assert again == [response]


def test_a_repeated_request_costs_four_replies_a_second():
    """A15: 128 octets were answered with 200, as often as they came."""
    ladder = Ladder(b=[peer("b", **ANY_B)])
    path = from_address("198.51.100.1")
    ladder.b.core.receive(init_request(), path, 1000.0)
    replies = [sent(ladder.b.core.receive(init_request(), path, 1000.0 + number / 100)) for number in range(100)]
    assert sum(map(len, replies)) <= 2 * LIMITS.repeats_a_second


def test_a_reloaded_tunnel_is_looked_for_when_a_half_open_peer_says_who_it_is():
    ladder = Ladder(b=[peer("b")])
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.b.core.set_peers([])
    ladder.settle()
    assert [event.kind for event in ladder.a.events] == [Kind.IKE_FAILED]
    assert str(ip_address(ADDRESSES["a"])) in ladder.b.events[-1].text


# ---- A6: what a message costs does not depend on how many tunnels there are


def hub_of(count, **changes):
    """A gateway with so many tunnels that take any peer."""
    names = [f"w{number}" for number in range(count)]
    return [peer("b", tunnel=name, remotes=(), remote_id=Identity.from_text(f"{name}.example"), **changes) for name in names]


def test_a_request_is_compared_with_each_set_of_proposals_once():
    table = PeerTable([*hub_of(1000), peer("b", tunnel="other", remotes=(), **OTHER_PROPOSAL)])
    candidates = table.candidates(from_address("203.0.113.1"))
    assert candidates is not None
    assert len(candidates.peers) == 1001
    assert [one.tunnel for one in candidates.offers] == ["w0", "other"]
    others = table.candidates(from_address("203.0.113.2"))
    assert others is not None
    assert others.offers == candidates.offers


def test_an_identity_finds_its_tunnel_at_once():
    table = PeerTable([*hub_of(1000), peer("b", tunnel="address", remotes=(), remote_id=None)])
    candidates = table.candidates(from_address("203.0.113.1"))
    assert candidates is not None
    there = Identity.from_text("203.0.113.1")
    assert [one.tunnel for one in candidates.expecting(Identity.from_text("w7.example"), there)] == ["w7"]
    assert [one.tunnel for one in candidates.expecting(there, there)] == ["address"]
    assert candidates.expecting(Identity.from_text("else.example"), there) == ()


def test_selectors_are_looked_at_only_when_auth_has_held(monkeypatch):
    """255 × 255 of them, times 50 proxy IDs, took three seconds of whoever had no key."""
    asked = []
    monkeypatch.setattr(ike_auth, "permitted", lambda *arguments: asked.append(arguments))
    wrong = SharedKeyAuth(PreSharedKey.from_text("not the secret"))
    ladder = Ladder(b=[peer("b", auth=wrong), peer("b", tunnel="twin", auth=wrong)])
    ladder.initiate("a")
    ladder.settle()
    assert [event.kind for event in ladder.b.events] == [Kind.IKE_FAILED]
    assert asked == []


def test_of_tunnels_with_one_identity_auth_finds_the_one_with_its_key_and_the_selectors_the_one_that_is_meant():
    other = (proxy_id("10.2.0.0/24", "10.9.0.0/24"),)
    peers = [
        peer("b", tunnel="another key", auth=SharedKeyAuth(PreSharedKey.from_text("another"))),
        peer("b", tunnel="other selectors", proxy_ids=other),
        peer("b"),
    ]
    ladder = Ladder(b=peers)
    ladder.initiate("a")
    ladder.settle()
    assert [len(ladder.b.core.sessions(one.tunnel)) for one in peers] == [0, 0, 1]


def test_selectors_cost_what_they_are_long():
    ours = [proxy_id(f"10.{number}.0.0/16", "10.200.0.0/16", 6) for number in range(50)]
    offered = tuple(TrafficSelector.from_prefix(f"10.{number}.1.0/24", 17) for number in range(255))
    other = tuple(TrafficSelector.from_prefix(f"10.200.{number}.0/24", 6) for number in range(255))
    with no_collection():
        began = time.process_time()
        assert permitted(ours, offered, other, 256) == ()
        assert len(permitted(ours, other, offered, 256)) == 0
        assert time.process_time() - began < 0.5


@pytest.mark.parametrize("group", [14, 15, 16, 19, 20, 21])
def test_a_value_that_is_unfit_is_refused_before_ours_is_computed(monkeypatch, group):
    computed: list[object] = []
    for kind in (dh.Modp, dh.Ecp):
        monkeypatch.setattr(kind, "public", computed.append)
    with pytest.raises(dh.KeyExchangeError):
        dh.respond(GROUP_OF_ID[group], bytes(GROUP_OF_ID[group].public), Random(1).randbytes)
    assert computed == []


def test_a_peer_that_leaves_what_it_has_rekeyed_may_have_so_many_and_no_more():
    """A15: one authenticated peer made four hundred IKE SAs of one."""
    ladder = Ladder().up()
    for _ in range(3 * PEER_LIMITS.ike_sas):
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
        ladder.deliver("b")
        ladder.deliver("a")
        while ladder.wire.take("b") is not None:  # the DELETE of the old one
            pass
    assert PEER_LIMITS.ike_sas - 1 <= len(ladder.b.core.sessions("to-a")) <= PEER_LIMITS.ike_sas
    assert ladder.b.ups, "and what it has stays up"
