"""What has no answer is said after its second retransmission, on the called side after five seconds, as of IKEv2."""

import pytest

from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.environment import Activity
from ipsec_dp.ike.peer import Life, Liveness, SharedKeyAuth
from ipsec_dp.ike.silence import HALF_OPEN_TOLD
from tests.ike.ladder import OTHER
from tests.ike.test_ladder_silence import SECOND, blocked, silences, told

from .gateways import Gateways, peer

LONG_LIVES = {"ike_life": Life(99999.0), "child_life": Life(99999.0)}


def long(site, **changes):
    return peer(site, **LONG_LIVES, **changes)


def up_to(message, **changes):
    """a has sent this message of main mode, and no answer to it will come."""
    gateways = Gateways([long("a", **changes)], [long("b")])
    gateways.initiate("a")
    for _ in range(message // 2):
        gateways.deliver("b")
        gateways.deliver("a")
    gateways.wire.cut("a", "b")
    gateways.wire.cut("b", "a")
    while gateways.wire.take("b") is not None:
        pass
    return gateways


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (1, "is that its address, or is it down (ping it)? Does IKEv1 run there, and does it expect 192.0.2.1?"),
        (3, "it did answer message 1 on UDP port 500, so its log may tell more: it may have no secret for our address"),
        (5, "the shared keys or the identities differ"),
    ],
)
def test_each_message_of_main_mode(message, why):
    gateways = up_to(message, encapsulation="esp")
    gateways.run(SECOND - 0.1)
    assert (told(gateways.a), silences(gateways.a)) == ([], [None])
    gateways.run(0.2)
    (line,) = told(gateways.a)
    assert silences(gateways.a) == [line]
    assert line.startswith(f"192.0.2.2:500 has not answered message {message} of main mode for 3 s, sent 3 times: {why}")
    gateways.run(20)
    assert told(gateways.a) == [line], "once"
    assert "for 23 s, sent 6 times" in silences(gateways.a)[0]
    gateways.run(100)
    assert silences(gateways.a) == []


def test_an_answer_ends_it():
    gateways = Gateways([long("a")], [long("b")])
    gateways.wire.cut("b", "a")
    gateways.initiate("a")
    gateways.run(4)
    assert silences(gateways.a)[0] is not None
    gateways.wire.mend("b", "a")
    gateways.run(10)
    gateways.check()
    assert silences(gateways.a) == [None]


def test_udp_port_4500_is_named_when_500_passes():
    gateways = Gateways([long("a", encapsulation="udp")], [long("b")])
    blocked(gateways, 4500)
    gateways.initiate("a")
    gateways.run(4)
    (line,) = told(gateways.a)
    assert "192.0.2.2:4500 has not answered message 5 of main mode" in line
    assert "it did answer message 3 on UDP port 500, so either the shared keys or the identities differ" in line
    assert "or UDP port 4500 is blocked: let UDP port 4500 pass, there and back" in line
    (said,) = told(gateways.b) or [""]
    gateways.run(3)
    (said,) = told(gateways.b)
    assert said.startswith("192.0.2.1:500 began (main mode) and was answered 5 s ago, and no message 5 that can be read came since")
    assert "is UDP port 4500 blocked between you" in said


@pytest.mark.parametrize("cause", ["keys", "port"])
def test_other_keys_look_like_a_blocked_port_so_both_are_named_from_the_start(cause):
    differs = {"auth": SharedKeyAuth(PreSharedKey.from_text("another secret"))} if cause == "keys" else {}
    gateways = Gateways([long("a")], [long("b", **differs)])
    if cause == "port":
        blocked(gateways, 4500)
    gateways.initiate("a")
    gateways.run(SECOND + 0.2)
    (line,) = told(gateways.a)
    assert 0 < line.index("the shared keys or the identities differ") < line.index("UDP port 4500 is blocked")
    gateways.run(10)
    (spared,) = [event.text for event in gateways.a.events if event.kind is Kind.NO_UDP]
    assert spared.endswith("what is sent to port 4500 has no answer, as it has none where the shared keys or the identities differ")


def test_an_answer_to_the_proof_that_nobody_can_open_names_the_secret():
    """As a peer with another one gives, who could not read message 5."""
    gateways = Gateways([long("a", encapsulation="udp")], [long("b")])
    blocked(gateways, 4500)
    gateways.initiate("a")
    gateways.run(1)
    cookies = next(sent.data[0][:16] for sent, _ in reversed(gateways.wire.log) if sent.sender == "a")
    answer = cookies + bytes.fromhex("08100501 00c0ffee 0000005c") + bytes(range(64))
    gateways.a.do(gateways.a.core.receive(answer, gateways.path("a"), gateways.clock()))
    gateways.run(4)
    hints, line = [event.text for event in gateways.a.events if event.kind is Kind.HINT], told(gateways.a)
    assert [text.removesuffix(" (not authenticated)") for text in hints] == [
        "what 192.0.2.2:500 says of message 5 cannot be read: the shared keys differ, or somebody else sent it"
    ]
    assert "the shared keys differ" in line[-1]
    assert "blocked" not in line[-1]


def refusing(gateways):
    """NO-PROPOSAL-CHOSEN for message 1 of a, in clear."""
    first = gateways.wire.log[0][0].data[0]
    return first[:8] + b"cookie_r" + bytes.fromhex("0b10050000000000 00000028 0000000c 00000001 0100000e")


def test_what_came_and_cannot_be_used_is_named_instead():
    gateways = up_to(1)
    refusal = refusing(gateways)
    gateways.a.do(gateways.a.core.receive(refusal, gateways.path("a"), gateways.clock()))
    gateways.run(4)
    assert all("not authenticated" in line for line in told(gateways.a))


def test_a_refusal_ends_the_attempt_soon_and_is_not_counted_as_retransmissions():
    gateways = up_to(1)
    refusal = refusing(gateways)
    gateways.a.do(gateways.a.core.receive(refusal, gateways.path("a"), gateways.clock()))
    assert silences(gateways.a) == [None], "it was sent once"
    gateways.run(1.1)
    (failed,) = [event.text for event in gateways.a.events if event.kind is Kind.IKE_FAILED]
    assert failed.startswith("the peer refuses main mode: NO-PROPOSAL-CHOSEN: it takes none of our phase-1 proposals (")
    assert failed.endswith("or expects nobody from here; its log tells (not authenticated)")


@pytest.mark.parametrize("site", ["a", "b"])
def test_quick_mode_in_both_roles(site):
    gateways = Gateways([long("a", encapsulation="esp")], [long("b")]).start()
    who = gateways.sites[site]
    gateways.run(30)
    gateways.wire.cut(site, OTHER[site])
    who.do(who.core.rekey(who.tunnel, gateways.clock()))
    gateways.run(3)
    (line,) = told(who)
    assert "has not answered quick mode for 10." in line
    assert "it is down, has lost this IKE SA, or UDP port 500 is blocked now" in line
    assert silences(who) == [line]


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_peer_whose_packets_come_is_not_called_down(site):
    gateways = Gateways([long("a")], [long("b")]).start()
    who = gateways.sites[site]
    gateways.run(100)
    gateways.wire.cut(site, OTHER[site])
    who.do(who.core.rekey(who.tunnel, gateways.clock()))
    (child,) = who.sad.inbound
    who.activity[child] = Activity(gateways.clock() + 0.5, 0.0)
    gateways.run(3)
    assert "packets do come by its SAs, so it is up and the way is there" in told(who)[0]


@pytest.mark.parametrize("site", ["a", "b"])
def test_liveness_in_both_roles(site):
    watched = {site: [long(site, liveness=Liveness(10.0))]}
    gateways = Gateways(**{"a": [long("a")], "b": [long("b")]} | watched).start()
    who = gateways.sites[site]
    gateways.wire.cut(site, OTHER[site])
    gateways.run(10 + SECOND + 0.1)
    (line,) = told(who)
    assert "has not answered R-U-THERE for 3 s, sent 3 times: it was last heard 13 s ago" in line
    gateways.wire.mend(site, OTHER[site])
    gateways.run(6)
    assert silences(who) == [None]


def test_an_isakmp_sa_that_another_replaced_is_not_waited_for():
    gateways = Gateways([long("a")], [long("b")]).start()
    gateways.run(30)
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock(), ike=True))
    gateways.settle()
    gateways.wire.cut("a", "b")
    gateways.run(60)
    assert told(gateways.a) == []
    assert set(silences(gateways.a)) == {None}


# --- the called side -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answered", "awaited"), [(1, 3), (2, 5)])
def test_an_initiator_that_does_not_go_on_is_told_once(answered, awaited):
    gateways = Gateways([long("a", encapsulation="esp")], [long("b")])
    gateways.initiate("a")
    for _ in range(answered):
        gateways.deliver("b")
        gateways.deliver("a")
    gateways.wire.cut("a", "b")
    while gateways.wire.take("b") is not None:
        pass
    gateways.run(HALF_OPEN_TOLD - 0.1)
    assert told(gateways.b) == []
    gateways.run(0.2)
    (event,) = (event for event in gateways.b.events if event.kind is Kind.WARNING)
    assert (event.tunnel, event.origin) == ("to-a", Origin.CLAIMED)
    assert event.text == (
        f"192.0.2.1:500 began (main mode) and was answered 5 s ago, and no message {awaited} that can be read came since "
        "(not authenticated): did the answer not get there, or is a longer message lost, as fragments are behind some firewalls? "
        "let UDP port 500 pass, there and back; its log may tell more"
    )
    gateways.run(60)
    assert told(gateways.b) == [event.text]


def test_one_that_repeats_itself_does_not_get_our_answers():
    gateways = Gateways([long("a")], [long("b")])
    gateways.wire.cut("b", "a")
    gateways.initiate("a")
    gateways.run(6)
    assert (
        "it repeats its request, so our answers do not get there: let UDP port 500 pass from here to there" in told(gateways.b)[0]
    )


def test_a_part_of_a_message_that_came_is_said():
    gateways = Gateways([long("a", datagram=200)], [long("b")])
    gateways.initiate("a")
    gateways.deliver("b")
    gateways.deliver("a")
    gateways.deliver("b")
    gateways.wire.cut("a", "b")
    while gateways.wire.take("b") is not None:
        pass
    gateways.run(6)
    assert "a part of its fragments did: are others lost, being too long for the way?" in told(gateways.b)[0]


def test_beside_what_is_up_and_of_another_secret_nothing_is_added():
    gateways = Gateways([long("a")], [long("b")]).start()
    first = gateways.wire.log[0][0].data[0]
    gateways.b.do(gateways.b.core.receive(b"stranger" + first[8:], gateways.path("b"), gateways.clock()))
    gateways.run(20)
    assert told(gateways.b) == []
    differs = SharedKeyAuth(PreSharedKey.from_text("another secret"))
    gateways = Gateways([long("a")], [long("b", auth=differs)])
    gateways.initiate("a")
    gateways.run(20)
    assert told(gateways.b) == [], "that it cannot be read is the hint"
    assert any(event.kind is Kind.HINT for event in gateways.b.events)


def test_answers_that_this_host_does_not_send_are_told_once():
    gateways = Gateways([long("a")], [long("b")])
    gateways.initiate("a")
    gateways.deliver("b")
    while (delivery := gateways.wire.take("a")) is not None:
        for _ in range(3):
            gateways.b.do(gateways.b.core.unsent(delivery.data[0], "EPERM", gateways.clock()))
    assert told(gateways.b) == ["our answers to 192.0.2.1:500 do not leave: this host itself refuses to send: EPERM"]
