"""A request that has no answer is told after its second retransmission, with its cause, and no longer than that is so."""

from __future__ import annotations

from typing import Any

import pytest

from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.environment import Activity
from ipsec_dp.ike.peer import Life, Liveness
from ipsec_dp.ike.retransmission import BACK_OFF, FIRST_WAIT
from ipsec_dp.ike.silence import LONG

from .ladder import OTHER, Ladder, peer, proxy_id
from .test_ladder_probe import Probed

SECOND = FIRST_WAIT * (1 + BACK_OFF)  # seconds until the second retransmission
LONG_LIVES = {"ike_life": Life(99999.0), "child_life": Life(99999.0)}
WATCHED = {**LONG_LIVES, "liveness": Liveness(10.0)}


def told(site):
    return [event.text for event in site.events if event.kind is Kind.WARNING]


def silences(site):
    return [status.silence for status in site.status]


def silent(ladder, site, seconds):
    """Nothing of `site` arrives for so long: what is told of it, which is what its state says."""
    ladder.wire.cut(site, OTHER[site])
    ladder.run(seconds)
    (line,) = told(ladder.sites[site])
    return line


def call(*cut, **changes):
    """A calls B; these directions lose everything."""
    ladder = Ladder(a=[peer("a", **LONG_LIVES, **changes)])
    for sender in cut:
        ladder.wire.cut(sender, OTHER[sender])
    ladder.initiate()
    return ladder


def test_a_peer_that_answers_nothing_is_told_after_the_second_retransmission():
    ladder = call("a")
    ladder.run(SECOND - 0.1)
    assert (told(ladder.a), silences(ladder.a)) == ([], [None])
    ladder.run(0.2)
    (line,) = told(ladder.a)
    assert silences(ladder.a) == [line]
    assert line.startswith("192.0.2.2:500 has not answered IKE_SA_INIT (message 0) for 3 s, sent 3 times: is that its address")
    for words in ("is it down (ping it)", "does it expect 192.0.2.1", "Let UDP port 500 pass", "tcpdump -n -i any udp port 500"):
        assert words in line
    ladder.run(20)
    assert told(ladder.a) == [line], "once for each attempt"
    assert "for 23 s, sent 6 times" in silences(ladder.a)[0]
    ladder.run(100)
    assert (silences(ladder.a), ladder.a.kinds()) == ([], [Kind.WARNING, Kind.IKE_FAILED])


def test_an_answer_ends_it():
    ladder = call("b")
    ladder.run(4)
    assert silences(ladder.a)[0] is not None
    ladder.wire.mend("b", "a")
    ladder.run(10)
    ladder.check()
    assert silences(ladder.a) == [None]


def blocked(ladder, port):
    """Nothing passes to this port."""
    send = ladder.wire.send
    ladder.wire.send = lambda sender, receiver, data: None if data[1].remote.port == port else send(sender, receiver, data)


def test_udp_port_4500_is_named_when_500_passes():
    ladder = Ladder(a=[peer("a", encapsulation="udp", **LONG_LIVES)])
    blocked(ladder, 4500)
    ladder.initiate()
    ladder.run(4)
    (line,) = told(ladder.a)
    assert "192.0.2.2:4500 has not answered IKE_AUTH (message 1)" in line
    assert "it did answer IKE_SA_INIT on UDP port 500, so most likely UDP port 4500 is blocked" in line
    assert "fragments" not in line, "it is short"


def test_that_long_datagrams_may_be_lost_is_said_of_long_ones():
    many = tuple(proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24") for number in range(60))
    ladder = call(proxy_ids=many)
    ladder.deliver("b")
    ladder.wire.cut("a", "b")
    ladder.run(4)
    assert max(len(delivery.data[0]) for delivery, _ in ladder.wire.log) > LONG
    assert "octets are lost, as fragments are behind some firewalls" in told(ladder.a)[0]


def test_on_the_port_that_answered_the_message_itself_is_suspected():
    ladder = call(encapsulation="esp")
    ladder.deliver("b")
    ladder.wire.cut("a", "b")
    ladder.run(4)
    (line,) = told(ladder.a)
    assert "192.0.2.2:500 has not answered IKE_AUTH" in line
    assert "it did answer IKE_SA_INIT on UDP port 500, so its log may tell more" in line
    assert "blocked" not in line


def test_what_came_and_cannot_be_used_is_named_instead():
    ladder = call()
    ladder.deliver("b")
    delivery = ladder.wire.take("a")
    datagram, path = delivery.data
    forged = datagram[:24] + (28).to_bytes(4)  # a header alone
    ladder.a.do(ladder.a.core.receive(forged[:16] + b"\0" + forged[17:], ladder.translate(path, "a"), ladder.clock()))
    ladder.wire.cut("a", "b")
    ladder.run(4)
    (line,) = told(ladder.a)
    assert "an IKE_SA_INIT response lacks payloads it must have" in line
    assert "not authenticated" in line


@pytest.mark.parametrize("site", ["a", "b"])
def test_liveness_in_both_roles(site):
    ladder = Ladder(a=[peer("a", **WATCHED)], b=[peer("b", **LONG_LIVES)])
    if site == "b":
        ladder = Ladder(a=[peer("a", **LONG_LIVES)], b=[peer("b", **WATCHED)])
    ladder.up()
    line = silent(ladder, site, 10 + SECOND + 0.1)
    assert "has not answered INFORMATIONAL (liveness check) (message" in line
    assert "it was last heard 13 s ago; it is down, has lost this IKE SA, or UDP port 4500 is blocked now" in line
    ladder.wire.mend(site, OTHER[site])
    ladder.run(4)
    assert silences(ladder.sites[site]) == [None]


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize(("ike", "what"), [(True, "IKE SA rekey"), (False, "CHILD_SA rekey")])
def test_rekeys_in_both_roles(site, ike, what):
    ladder = Ladder(a=[peer("a", **LONG_LIVES)], b=[peer("b", **LONG_LIVES)]).up()
    who = ladder.sites[site]
    ladder.wire.cut(site, OTHER[site])
    who.do(who.core.rekey(who.tunnel, ladder.clock(), ike=ike))
    ladder.run(3)
    (line,) = told(who)
    assert f"has not answered CREATE_CHILD_SA ({what})" in line


def test_that_the_peer_still_talks_is_said():
    ladder = Ladder(a=[peer("a", **LONG_LIVES)], b=[peer("b", **WATCHED, start="start")]).up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.wire.cut("a", "b")
    ladder.b.do(ladder.b.core.check_liveness("to-a", ladder.clock()))
    ladder.run(3)
    assert "its own messages do come, so ours are lost on the way" in told(ladder.a)[0]


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_peer_whose_packets_come_is_not_called_down(site):
    """Packets of its SAs are read, whatever becomes of IKE."""
    ladder = Ladder(a=[peer("a", **LONG_LIVES)], b=[peer("b", **LONG_LIVES)]).up()
    who = ladder.sites[site]
    ladder.run(100)
    ladder.wire.cut(site, OTHER[site])
    who.do(who.core.rekey(who.tunnel, ladder.clock()))
    (child,) = who.sad.inbound
    who.activity[child] = Activity(ladder.clock() + 0.5, 0.0)
    ladder.run(3)
    (line,) = told(who)
    assert "packets do come by its SAs, so it is up and the way is there" in line
    assert "last heard" not in line


# --- what this host itself does not send ------------------------------------------------------------------------------------------


class KeptBack:
    """A ladder of which one site's host refuses to send, as long as there is a reason why."""

    why = "EPERM: its own packet filter"

    def __init__(self, name, **peers):
        self.ladder = ladder = Ladder(**peers)
        self.site = site = ladder.sites[name]
        wire: Any = ladder.wire
        send = wire.send

        def leave(sender, receiver, data):
            if sender == name and self.why:
                site.do(site.core.unsent(data[0], self.why, ladder.clock()))
            else:
                send(sender, receiver, data)

        wire.send = leave


def test_what_this_host_refuses_to_send_is_no_silence_of_the_peer():
    kept = KeptBack("a", a=[peer("a", **LONG_LIVES)])
    kept.ladder.initiate()
    kept.ladder.run(SECOND - 0.1)
    assert told(kept.site) == [], "the next attempt may leave"
    kept.ladder.run(0.2)
    (line,) = told(kept.site)
    own = "does not leave: this host itself refuses to send: EPERM: its own packet filter"
    assert line == f"IKE_SA_INIT (message 0) to 192.0.2.2:500 {own}"
    assert silences(kept.site) == [line]
    kept.ladder.run(200)
    (failed,) = [event for event in kept.site.events if event.kind is Kind.IKE_FAILED]
    assert own in failed.text
    assert "did not answer" not in failed.text


def test_once_it_sends_again_the_peer_is_waited_for():
    kept = KeptBack("a", a=[peer("a", **LONG_LIVES)])
    kept.ladder.wire.cut("b", "a")
    kept.ladder.initiate()
    kept.ladder.run(3)
    kept.why = ""
    kept.ladder.run(20)
    assert "has not answered IKE_SA_INIT" in silences(kept.site)[0]
    kept.ladder.wire.mend("b", "a")
    kept.ladder.run(30)
    kept.ladder.check()
    assert silences(kept.site) == [None]


def test_answers_that_do_not_leave_are_told_once():
    kept = KeptBack("b", a=[peer("a", **LONG_LIVES)], b=[peer("b", **LONG_LIVES)])
    kept.ladder.initiate()
    kept.ladder.run(20)
    (event,) = kept.site.events
    assert event.kind is Kind.WARNING
    assert event.text == (
        "our answers to 192.0.2.1:500 do not leave: this host itself refuses to send: EPERM: its own packet filter"
    )
    assert event.origin is Origin.CLAIMED, "it is only an answer to somebody"


def test_what_is_no_message_of_an_ike_sa_is_nobodys():
    ladder = Ladder().up()
    assert ladder.a.core.unsent(bytes(28), "EPERM", ladder.clock()) == []
    assert ladder.a.core.unsent(b"", "EPERM", ladder.clock()) == []


def test_a_probe_of_the_path_is_lost_without_a_word():
    probed = Probed(takes=1400)
    assert probed.ask(1500) == (1500, 1500, False)
    assert told(probed.ladder.a) == []


def test_nobody_waits_for_the_answer_to_the_last_delete():
    ladder = Ladder(a=[peer("a", **LONG_LIVES)]).up()
    ladder.wire.cut("a", "b")
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.run(10)
    assert told(ladder.a) == []
    assert ladder.a.core.retransmissions("to-b") > 1, "though it was sent again"


def test_retransmissions_are_counted_by_tunnel_for_as_long_as_there_is_one():
    ladder = call("a")
    ladder.run(200)
    assert ladder.a.core.retransmissions("to-b") == ladder.a.core.counters().retransmissions == 7
    assert ladder.a.core.retransmissions("other") == 0
    ladder.a.do(ladder.a.core.reconfigure([], {"to-b": Effect.RESTART}, ladder.clock()))
    assert ladder.a.core.retransmissions("to-b") == 0
    assert ladder.a.core.counters().retransmissions == 7


def test_forced_udp_is_no_nat():
    ladder = Ladder(a=[peer("a", encapsulation="udp")], b=[peer("b")]).up()
    (a,), (b,) = ladder.a.ups, ladder.b.ups
    assert (a.udp, a.forced, a.nat) == (True, True, "none")
    assert (b.udp, b.forced, b.nat) == (True, False, "none")
    (plain,) = Ladder(a=[peer("a", encapsulation="esp")]).up().a.ups
    assert (plain.udp, plain.forced, plain.nat) == (False, False, "none")
