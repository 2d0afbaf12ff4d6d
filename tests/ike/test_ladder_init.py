"""IKE_SA_INIT as message ladders: COOKIE, INVALID_KE_PAYLOAD, NAT, half-open limits, and what a stranger can do (nothing)."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Cause, Endpoint, Kind, Path, Send
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.payloads import KeyExchangePayload, Nonce, Notify, SecurityAssociation
from ipsec_dp.ike.v2.wire import Flag, NotifyType

from .ladder import IKE, Ladder, peer

ANY_B = {"remotes": (), "remote_id": None, "local_id": None}


def init_request(number=1, nonce=bytes(32)):
    """A stranger's IKE_SA_INIT request, good in form."""
    header = Header(number.to_bytes(8, "big"), bytes(8), 34, Flag.INITIATOR, 0)
    public = bytes([9]) + bytes(31)
    return build_message(Message(header, (SecurityAssociation(IKE), KeyExchangePayload(31, public), Nonce(nonce))))


def from_address(text, port=500):
    return Path(Endpoint(ip_address("192.0.2.2"), 500), Endpoint(ip_address(text), port))


def answers(site, datagram, path, now=1000.0):
    """What a site sends back, parsed."""
    return [parse_message(a.datagram) for a in site.core.receive(datagram, path, now) if isinstance(a, Send)]


def test_the_responders_group_is_taken_after_invalid_ke_payload():
    ladder = Ladder(b=[peer("b", ike_proposals=parse_ike(["aes128gcm16-prfsha256-ecp256"]))])
    ladder.initiate("a")
    # IKE_SA_INIT with x25519 -->, <-- INVALID_KE_PAYLOAD: ecp256
    assert ladder.deliver("b")
    assert ladder.b.core.counters().sessions == 0  # no state for it
    assert ladder.deliver("a")
    # IKE_SA_INIT with ecp256 -->, <-- IKE_SA_INIT, IKE_AUTH -->, <-- IKE_AUTH
    ladder.settle()
    ladder.check()
    assert "ecp256" in ladder.a.status[0].proposal
    assert len(ladder.messages()) == 6


def test_an_invalid_ke_payload_for_a_group_we_never_offered_changes_nothing():
    """Whoever answers first could pick the weakest group otherwise."""
    ladder = Ladder()
    ladder.initiate("a")
    request = parse_message(ladder.wire.log[0][0].data[0])
    for number in (2, 31, 14):  # legacy, the one at hand, not offered
        forged = build_message(
            Message(
                Header(request.header.spi_i, bytes(8), 34, Flag.RESPONSE, 0),
                (Notify(NotifyType.INVALID_KE_PAYLOAD, number.to_bytes(2, "big")),),
            )
        )
        ladder.a.do(ladder.a.core.receive(forged, ladder.path("a"), ladder.clock()))
    assert len(ladder.messages()) == 1
    ladder.settle()
    ladder.check()


def test_a_forged_refusal_is_a_hint_and_the_genuine_answer_still_counts():
    """Unauthenticated notifies never tear anything down (RFC 7296 §2.21)."""
    ladder = Ladder()
    ladder.initiate("a")
    request = parse_message(ladder.wire.log[0][0].data[0])
    forged = build_message(
        Message(Header(request.header.spi_i, bytes(8), 34, Flag.RESPONSE, 0), (Notify(NotifyType.NO_PROPOSAL_CHOSEN),))
    )
    # <-- NO_PROPOSAL_CHOSEN, forged, a thousand times
    for _ in range(1000):
        ladder.a.do(ladder.a.core.receive(forged, ladder.path("a"), ladder.clock()))
    assert [event.kind for event in ladder.a.events] == [Kind.HINT]
    # IKE_SA_INIT -->, <-- IKE_SA_INIT, and so on
    ladder.settle()
    ladder.check()


def test_a_cookie_is_asked_for_under_load_and_brought_back():
    ladder = Ladder(b=[peer("b"), peer("b", tunnel="other", remotes=())])
    for number in range(1, LIMITS.cookie_above + 1):
        assert len(answers(ladder.b, init_request(number), from_address(f"198.51.100.{number}"))) == 1
    assert ladder.b.core.counters().half_open == LIMITS.cookie_above
    ladder.initiate("a")
    # IKE_SA_INIT -->, <-- COOKIE
    assert ladder.deliver("b")
    assert ladder.b.core.counters().half_open == LIMITS.cookie_above  # no state
    assert ladder.b.core.counters().cookies_sent == 1
    # IKE_SA_INIT with COOKIE first -->, <-- IKE_SA_INIT, IKE_AUTH -->, <-- IKE_AUTH
    assert ladder.deliver("a")
    first = parse_message(ladder.wire.log[-1][0].data[0]).payloads[0]
    assert isinstance(first, Notify)
    assert first.notify_type == NotifyType.COOKIE
    ladder.settle()
    ladder.check()


def test_one_address_meets_cookies_before_others_do():
    ladder = Ladder(b=[peer("b", **ANY_B)])
    for number in range(1, LIMITS.cookie_above_of_network + 1):
        (reply,) = answers(ladder.b, init_request(number), from_address("198.51.100.1"))
        assert reply.get(SecurityAssociation) is not None
    (reply,) = answers(ladder.b, init_request(99), from_address("198.51.100.1"))
    cookie = reply.notify(NotifyType.COOKIE)
    assert cookie is not None
    (reply,) = answers(ladder.b, init_request(99), from_address("198.51.100.2"))
    assert reply.notify(NotifyType.COOKIE) is None
    # with the cookie the same address comes up: many tunnels may stand behind one
    parsed = parse_message(init_request(98))
    (reply,) = answers(ladder.b, init_request(98), from_address("198.51.100.1"))
    again = replace(parsed, payloads=(reply.payloads[0], *parsed.payloads))
    (reply,) = answers(ladder.b, build_message(again), from_address("198.51.100.1"))
    assert reply.get(SecurityAssociation) is not None


@pytest.mark.parametrize("change", ["address", "nonce", "spi"])
def test_a_cookie_is_good_for_what_it_was_made_for_only(change):
    ladder = Ladder(b=[peer("b", **ANY_B)])
    for number in range(1, LIMITS.cookie_above + 1):
        answers(ladder.b, init_request(number), from_address(f"198.51.100.{number}"))
    path = from_address("203.0.113.1")
    (reply,) = answers(ladder.b, init_request(500), path)
    changed = {"address": init_request(500), "nonce": init_request(500, b"\x01" * 32), "spi": init_request(501)}
    parsed = parse_message(changed[change])
    with_cookie = build_message(replace(parsed, payloads=(reply.payloads[0], *parsed.payloads)))
    (reply,) = answers(ladder.b, with_cookie, from_address("203.0.113.9") if change == "address" else path)
    assert reply.notify(NotifyType.COOKIE) is not None


def test_memory_for_strangers_is_bounded():
    """Bug class: memory growth from half-open exchanges."""
    ladder = Ladder(b=[peer("b", **ANY_B)])
    for number in range(1, 3000):
        ladder.b.core.receive(init_request(number), from_address(f"198.51.{number >> 8}.{number & 255}"), 1000.0)
    assert ladder.b.core.counters().half_open == LIMITS.cookie_above
    assert ladder.b.core.counters().sessions == LIMITS.cookie_above
    while (ladder.b.core.next_timeout() or 1032.0) <= 1031.0:
        ladder.b.core.timer(1031.0)
    assert ladder.b.core.counters().half_open == ladder.b.core.counters().sessions == 0
    assert ladder.b.core.next_timeout() is None


def test_a_repeated_request_is_answered_from_what_is_stored():
    ladder = Ladder(b=[peer("b", **ANY_B)])
    first = answers(ladder.b, init_request(), from_address("198.51.100.1"))
    assert answers(ladder.b, init_request(), from_address("198.51.100.1")) == first
    assert answers(ladder.b, init_request(nonce=b"\x05" * 32), from_address("198.51.100.1")) == []
    assert ladder.b.core.counters().half_open == 1


def test_where_no_tunnel_expects_anybody_nothing_is_answered():
    ladder = Ladder()
    assert answers(ladder.b, init_request(), from_address("203.0.113.7")) == []
    assert ladder.b.core.counters().no_peer == 1


def test_what_a_stranger_can_cause_is_told_at_most_every_ten_seconds():
    """Neither a log nor whoever reads it is flooded by requests that have no proposal in common with us."""
    ladder = Ladder(b=[peer("b", **ANY_B, ike_proposals=parse_ike(["aes256gcm16-prfsha384-ecp384"]))])
    for number in range(1, 100):
        actions = ladder.b.core.receive(init_request(number), from_address(f"198.51.100.{number}"), 1000.0 + number / 5)
        ladder.b.do([action for action in actions if not isinstance(action, Send)])
    assert ladder.b.kinds() == [Kind.IKE_FAILED] * 2
    assert ladder.b.core.counters().sessions == 0


def test_ikev1_is_counted_and_told_at_most_once_a_minute():
    ladder = Ladder()
    ikev1 = bytes(range(1, 9)) + bytes(8) + bytes([1, 0x10, 2, 0]) + bytes(4) + (28).to_bytes(4, "big")
    for _ in range(50):
        ladder.b.do(ladder.b.core.receive(ikev1, ladder.path("b"), ladder.clock()))
    assert ladder.b.core.counters().ikev1 == 50
    assert ladder.b.kinds() == [Kind.IKEV1]


def test_a_peer_that_is_down_or_blocked_is_told_apart_as_far_as_can_be():
    ladder = Ladder()
    ladder.wire.cut("a", "b")
    ladder.initiate("a")
    ladder.run(200)
    early, told = ladder.a.events
    assert early.kind is Kind.WARNING
    assert (told.kind, told.cause, told.again) == (Kind.IKE_FAILED, Cause.TIMEOUT, True)
    for words in ("192.0.2.2:500", "down", "UDP port 500 is blocked"):
        assert words in told.text
    assert ladder.a.core.counters().sessions == 0


# --- NAT -------------------------------------------------------------------------------------------------------------


class Nat:
    """Before A: 192.0.2.1 becomes 203.0.113.1 with ports of its own."""

    def __init__(self, first=40_000):
        self.first = first

    def __call__(self, path, receiver):
        outside = Endpoint(ip_address("203.0.113.1"), self.first + path.local.port % 1000)
        if receiver == "b":
            return Path(path.remote, outside, path.natt)
        inside = Endpoint(ip_address("192.0.2.1"), 4500 if path.natt else 500)
        return Path(inside, path.local, path.natt)


def behind_nat():
    ladder = Ladder(b=[peer("b", remotes=())])
    ladder.translate = Nat()
    return ladder


def test_a_nat_is_found_and_everything_goes_over_4500_in_udp():
    ladder = behind_nat()
    ladder.initiate("a")
    # IKE_SA_INIT on 500 -->, <-- IKE_SA_INIT
    # IKE_AUTH on 4500 -->, <-- IKE_AUTH
    ladder.settle()
    ladder.check()
    assert [delivery.data[1].natt for delivery, _ in ladder.wire.log] == [False, False, True, True]
    assert (ladder.a.status[0].nat, ladder.b.status[0].nat) == ("local", "remote")
    for site in ladder.sites.values():
        (inbound,) = site.sad.inbound.values()
        assert inbound.udp
        assert inbound.path.natt
    assert ladder.b.sad.inbound[1].path.remote == Endpoint(ip_address("203.0.113.1"), 40_500)


def test_keepalives_go_out_only_while_nothing_else_does():
    ladder = behind_nat()
    ladder.initiate("a")
    ladder.run(205)
    assert len(ladder.a.keepalives) == 10
    assert ladder.b.keepalives == []
    ladder.a.activity[1] = ladder.a.activity[1]._replace(sent=ladder.clock())
    ladder.run(19)
    assert len(ladder.a.keepalives) <= 11


def test_a_nat_that_changes_its_mapping_is_followed_by_an_authenticated_message():
    """RFC 7296 §2.23."""
    ladder = behind_nat()
    ladder.initiate("a")
    ladder.settle()
    ladder.clock.advance(5)
    ladder.translate = Nat(first=50_000)
    old = ladder.wire.log[2][0].data  # the IKE_AUTH request, replayed from the new address: no news
    ladder.b.do(ladder.b.core.receive(old[0], ladder.translate(old[1], "b"), ladder.clock()))
    assert ladder.b.moved == []
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    assert [move.path.remote.port for move in ladder.b.moved] == [50_500]
    assert ladder.b.status[0].path.remote.port == 50_500
    assert ladder.a.moved == []


def test_without_a_nat_nobody_is_followed():
    ladder = Ladder().up()
    ladder.clock.advance(5)
    ladder.translate = Nat()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    assert ladder.b.moved == []
    elsewhere = Endpoint(ip_address("203.0.113.66"), 4500)
    assert ladder.b.core.peer_moved("to-a", 1, elsewhere, ladder.clock()) == []


@pytest.mark.parametrize("forcing", ["a", "b"])
def test_forced_encapsulation_is_udp_on_both_sides_without_a_nat(forcing):
    peers = {site: [peer(site, encapsulation="udp" if site == forcing else "auto")] for site in ("a", "b")}
    ladder = Ladder(**peers).up()
    for site in ladder.sites.values():
        assert [inbound.udp for inbound in site.sad.inbound.values()] == [True]
    assert [delivery.data[1].natt for delivery, _ in ladder.wire.log] == [False, False, True, True]


def test_ike_may_start_on_4500():
    ladder = Ladder()
    ladder.initiate("a", natt=True)
    ladder.settle()
    ladder.check()
    assert all(delivery.data[1].natt for delivery, _ in ladder.wire.log)


# --- liveness --------------------------------------------------------------------------------------------------------


def alive(interval=10.0, retries=3):
    life = Liveness(interval, retries)
    return Ladder(a=[peer("a", liveness=life)]).up()


@pytest.mark.parametrize(("fail_over", "seconds"), [(False, 81), (True, 12)])
def test_one_of_several_addresses_is_given_up_early(fail_over, seconds):
    ladder = Ladder(a=[peer("a", fail_over=fail_over)])
    ladder.wire.cut("a", "b")
    ladder.initiate("a")
    ladder.run(seconds - 1)
    assert Kind.IKE_FAILED not in ladder.a.kinds()
    ladder.run(2)
    assert ladder.a.causes() == [Cause.TIMEOUT]


def test_a_silent_peer_is_asked_and_answers():
    ladder = alive()
    # every 10 s: INFORMATIONAL, empty -->, <-- INFORMATIONAL
    ladder.run(35)
    assert ladder.messages("a")[2:] == ["ab INFORMATIONAL"] * 3
    assert ladder.a.causes() == []


def test_esp_counts_as_life():
    ladder = alive()
    for _ in range(20):
        ladder.a.activity[1] = ladder.a.activity[1]._replace(received=ladder.clock())
        ladder.run(5)
    assert len(ladder.messages()) == 4


def test_a_peer_that_does_not_answer_is_dead():
    ladder = alive()
    ladder.wire.cut("a", "b")
    ladder.run(40)
    assert ladder.a.causes() == [Cause.LIVENESS]
    assert ladder.a.events[-1].again
    assert not ladder.a.sad.inbound
    assert ladder.a.core.counters().sessions == 0


def test_unauthenticated_messages_are_no_life():
    ladder = alive()
    ladder.wire.cut("a", "b")
    reply = ladder.wire.log[3][0].data[0]

    def noise():
        ladder.a.do(ladder.a.core.receive(reply[:-1] + bytes([reply[-1] ^ 1]), ladder.path("a"), ladder.clock()))
        ladder.a.do(ladder.a.core.receive(reply, ladder.path("a"), ladder.clock()))

    ladder.run(40, step=noise)
    assert ladder.a.causes() == [Cause.LIVENESS]


def test_an_idle_child_sa_and_then_the_ike_sa_are_deleted():
    from ipsec_dp.ike.peer import Life

    ladder = Ladder(a=[peer("a", child_life=Life(3600.0, idle_s=30.0))]).up()
    for _ in range(10):
        ladder.run(10)
        ladder.a.activity[1] = ladder.a.activity[1]._replace(sent=ladder.clock())
    assert ladder.a.sad.sending == [1]
    # INFORMATIONAL: DELETE of the CHILD_SA -->, then of the IKE SA -->
    ladder.run(60)
    assert ladder.a.causes() == [Cause.IDLE]
    assert not ladder.b.sad.inbound
    assert not ladder.b.ups
