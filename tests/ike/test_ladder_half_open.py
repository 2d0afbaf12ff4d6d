"""An IKE_AUTH that does not come is told on the side that is called, as what it is: nobody's proven word."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.silence import HALF_OPEN_TOLD
from ipsec_dp.ike.strangers import LIMITS

from .ladder import Ladder, peer, proxy_id
from .test_ladder_silence import LONG_LIVES, blocked, call, told


def called(**changes):
    """A calls B by UDP, and nothing passes to port 4500; `changes` to what B knows of A."""
    ladder = Ladder(a=[peer("a", encapsulation="udp", **LONG_LIVES)], b=[peer("b", **LONG_LIVES, **changes)])
    blocked(ladder, 4500)
    return ladder


def another_begins(ladder, seed):
    """B gets an IKE_SA_INIT request that has A's address; nothing more comes from there."""
    other = Ladder(a=[peer("a", **LONG_LIVES)], seed=seed)
    other.initiate()
    delivery = other.wire.take("b")
    assert delivery is not None
    datagram, path = delivery.data
    ladder.b.do(ladder.b.core.receive(datagram, ladder.translate(path, "b"), ladder.clock()))


def test_an_ike_auth_that_does_not_come_is_told_once_with_the_port_that_may_be_blocked():
    ladder = called()
    ladder.initiate()
    ladder.run(HALF_OPEN_TOLD - 0.1)
    assert told(ladder.b) == []
    ladder.run(0.2)
    (event,) = [event for event in ladder.b.events if event.kind is Kind.WARNING]
    assert (event.tunnel, event.origin) == ("to-a", Origin.CLAIMED)
    assert event.text == (
        "192.0.2.1:500 began (IKE_SA_INIT) and was answered 5 s ago, and no IKE_AUTH that can be read came since "
        "(not authenticated): is UDP port 4500 blocked between you, or did the answer not get there? "
        "let UDP ports 500 and 4500 pass, there and back; its log may tell more"
    )
    ladder.run(60)
    assert told(ladder.b) == [event.text], "once"
    assert ladder.b.core.counters().half_open == 0


def test_an_answer_that_does_not_arrive_is_told_from_a_peer_that_asks_again():
    ladder = call("b")
    ladder.run(6)
    (line,) = told(ladder.b)
    assert "it repeats its request, so our answers do not get there: let UDP port 500 pass from here to there" in line
    assert "is UDP port 4500 blocked" not in line


def test_on_port_4500_only_the_answer_can_be_lost_or_a_longer_message():
    ladder = Ladder(a=[peer("a", **LONG_LIVES)])
    ladder.initiate(natt=True)
    ladder.deliver("b")
    ladder.wire.cut("a", "b")
    ladder.wire.cut("b", "a")
    ladder.run(6)
    (line,) = told(ladder.b)
    assert line.startswith("192.0.2.1:4500 began")
    assert "blocked" not in line


def test_fragments_that_do_not_all_come_are_told_as_that():
    """All but the first of IKE_AUTH is lost."""
    many = tuple(proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24") for number in range(100))
    ladder = call(proxy_ids=many, datagram=600)
    ladder.deliver("b")
    ladder.deliver("a")
    ladder.wire.cut("a", "b")
    ladder.deliver("b")
    while ladder.wire.take("b") is not None:
        pass
    ladder.run(6)
    (line,) = told(ladder.b)
    assert "a part of its fragments did" in line
    assert "blocked" not in line


def test_an_ike_auth_that_comes_leaves_nothing_to_tell():
    ladder = Ladder(a=[peer("a", **LONG_LIVES)], b=[peer("b", **LONG_LIVES)]).up()
    ladder.run(60)
    assert told(ladder.b) == []


@pytest.mark.parametrize("remotes", [(), ("192.0.2.9",)], ids=["any", "its name led elsewhere"])
def test_a_stranger_of_another_address_says_nothing_of_a_tunnel(remotes):
    ladder = called(remotes=tuple(map(ip_address, remotes)), named=bool(remotes))
    ladder.initiate()
    ladder.run(20)
    assert ladder.b.core.counters().half_open == 1
    assert ladder.b.events == []


def test_beside_an_ike_sa_that_is_up_nothing_is_said():
    """Who forges the peer's address, or a call that was in vain, says nothing of a tunnel that works."""
    ladder = Ladder(a=[peer("a", **LONG_LIVES)], b=[peer("b", **LONG_LIVES)]).up()
    another_begins(ladder, 1)
    assert ladder.b.core.counters().half_open == 1
    ladder.run(60)
    assert told(ladder.b) == []


def test_of_a_tunnel_that_is_gone_nothing_is_said():
    ladder = called()
    ladder.initiate()
    ladder.run(1)
    ladder.b.do(ladder.b.core.reconfigure([], {"to-a": Effect.RESTART}, ladder.clock()))
    ladder.run(60)
    assert told(ladder.b) == []


def test_however_many_are_begun_few_lines_come_of_it():
    ladder = called()
    for seed in range(20):
        another_begins(ladder, seed)
    assert ladder.b.core.counters().half_open == LIMITS.cookie_above_of_network
    ladder.run(60)
    assert len(told(ladder.b)) == 1
