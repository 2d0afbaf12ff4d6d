"""Selectors belong to identities: what one peer has, no other one gets, in every exchange that could give it.

alice, bob -- wire -- B, which lets both of them call from anywhere
"""

from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.ike.actions import Cause, Kind, Origin
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import Unique
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.v2.holdings import Holdings
from ipsec_dp.ike.v2.sa import ChildState

from . import growth
from .ladder import ADDRESSES, Ladder, peer, proxy_id

HOME, ROAD = "10.2.0.0/16", "10.9.0.0/16"
WIDE = proxy_id(HOME, ROAD)
SAME = (proxy_id(HOME, "10.9.0.0/24"),)


def mirrored(*pairs):
    return tuple(ProxyId(pair.remote, pair.local) for pair in pairs)


def party(alice=SAME, bob=SAME, hub=None, **changes):
    """A is alice and bob; `alice`, `bob`: what each asks for, as B sees it. `hub`: what B has for each of them."""
    asked, has = {"alice": alice, "bob": bob}, {"alice": (WIDE,), "bob": (WIDE,)} | (hub or {})
    names = {name: Identity.from_text(f"{name}.example") for name in asked}
    return Ladder(
        a=[peer("a", tunnel=name, local_id=names[name], proxy_ids=mirrored(*asked[name])) for name in asked],
        b=[peer("b", tunnel=name, **({"remotes": ()} | changes), remote_id=names[name], proxy_ids=has[name]) for name in asked],
    )


def call(ladder, name):
    ladder.a.do(ladder.a.core.initiate(name, ladder.path("a"), ladder.clock()))
    ladder.settle()


def held(ladder, name):
    """The remote selectors that B has for a tunnel."""
    sessions = [one for one in ladder.b.core.sessions(name) if one.in_use]
    return sorted(
        str(pair.remote) for one in sessions for child in one.children.values() if child.state == "up" for pair in child.pairs
    )


def refusals(ladder):
    return [event for event in ladder.b.events if event.kind is Kind.CHILD_FAILED]


def test_the_prefix_of_another_is_refused_and_told():
    ladder = party()
    call(ladder, "alice")
    call(ladder, "bob")
    assert (held(ladder, "alice"), held(ladder, "bob")) == (["10.9.0.0/24"], [])
    (event,) = refusals(ladder)
    assert (event.tunnel, event.cause, event.origin) == ("bob", Cause.SELECTORS, Origin.PEER)
    assert event.text == (
        'bob.example asks for 10.2.0.0/16 <-> 10.9.0.0/24, and 10.9.0.0/24 is that of alice.example while it is up (tunnel "alice")'
    )
    (told,) = [event for event in ladder.a.events if event.kind is Kind.CHILD_FAILED]
    assert "accepts none of our selectors" in told.text, "TS_UNACCEPTABLE"
    assert not ladder.b.sad.reserved


@pytest.mark.parametrize(
    ("alice", "bob", "given"),
    [
        ("10.9.1.0/24", "10.9.2.0/24", True),
        ("10.9.1.0/24", "10.9.1.5/32", False),  # a piece of it
        ("10.9.1.5/32", "10.9.0.0/16", False),  # all that may be asked for
        ("10.9.1.5/32", "10.9.1.0/24", False),
    ],
)
def test_what_meets_and_what_does_not(alice, bob, given):
    ladder = party((proxy_id(HOME, alice),), (proxy_id(HOME, bob),))
    call(ladder, "alice")
    call(ladder, "bob")
    assert held(ladder, "bob") == ([bob] if given else [])


def test_other_local_addresses_and_other_protocols_do_not_meet():
    ladder = party((proxy_id(HOME, "10.9.1.0/24", 6),), (proxy_id(HOME, "10.9.1.0/24", 17),))
    call(ladder, "alice")
    call(ladder, "bob")
    assert len(refusals(ladder)) == 0
    assert held(ladder, "bob") == ["10.9.1.0/24[udp]"]


def test_what_nobody_holds_any_more_is_free():
    ladder = party()
    call(ladder, "alice")
    ladder.a.do(ladder.a.core.terminate("alice", ladder.clock()))
    ladder.settle()
    call(ladder, "bob")
    assert held(ladder, "bob") == ["10.9.0.0/24"]
    ladder.a.do(ladder.a.core.terminate("bob", ladder.clock()))
    ladder.run(60)
    assert len(ladder.b.core.holdings) == 0


@pytest.mark.parametrize("unique", Unique)
def test_the_same_identity_has_it_as_often_as_unique_says(unique):
    ladder = party(unique=unique)
    call(ladder, "alice")
    session = ladder.a.core.sessions("alice")[0]
    ladder.a.core.forget(ladder.clock())  # it restarts and calls from another address
    assert not session.alive
    ladder.translate = lambda path, receiver: ladder.path(receiver) if receiver == "a" else moved(path)
    call(ladder, "alice")
    assert refusals(ladder) == []
    up = [one for one in ladder.b.core.sessions("alice") if one.in_use]
    assert len(up) == (2 if unique is Unique.NEVER else 1)


def moved(path):
    return replace(path, local=path.remote, remote=path.local._replace(address=ip_address("203.0.113.7")))


@pytest.mark.parametrize("ike", [True, False])
def test_a_rekey_keeps_what_it_has_and_takes_no_more(ike):
    ladder = party(bob=(proxy_id(HOME, "10.9.7.0/24"),))
    call(ladder, "alice")
    call(ladder, "bob")
    for site in ladder.sites.values():
        for name in ("alice", "bob"):
            site.do(site.core.rekey(name, ladder.clock(), ike=ike))
            ladder.settle()
    ladder.run(20)
    assert (held(ladder, "alice"), held(ladder, "bob")) == (["10.9.0.0/24"], ["10.9.7.0/24"])
    assert refusals(ladder) == []
    assert len(ladder.b.core.holdings) == 2


def test_a_further_child_sa_and_a_rekey_ask_like_the_first():
    ladder = party(bob=(proxy_id(HOME, "10.9.7.0/24"),))
    call(ladder, "bob")
    call(ladder, "alice")
    for session in ladder.a.core.sessions("bob"):
        session.settle_on(peer("a", tunnel="bob", proxy_ids=mirrored(proxy_id(HOME, "10.9.7.0/24"), proxy_id(HOME, "10.9.0.0/24"))))
        session.wanted.begin_anew()
    ladder.a.do(ladder.a.core.initiate("bob", ladder.path("a"), ladder.clock()))
    ladder.settle()
    assert held(ladder, "bob") == ["10.9.7.0/24"]
    (event,) = refusals(ladder)
    assert (event.exchange, event.tunnel) == ("CREATE_CHILD_SA", "bob")
    (session,) = ladder.a.core.sessions("bob")
    (child,) = session.children.values()
    child.ts_local = (*child.ts_local, TrafficSelector.from_prefix("10.9.0.7/32"))  # and now by a rekey
    ladder.a.do(ladder.a.core.rekey("bob", ladder.clock()))
    ladder.settle()
    assert held(ladder, "bob") == ["10.9.7.0/24"]
    assert len(refusals(ladder)) == 2


def test_as_initiator_we_accept_no_narrowing_to_it_either():
    """B asks bob for all that is written; bob answers with alice's."""
    ladder = party(bob=(proxy_id(HOME, "10.9.7.0/24"),))
    call(ladder, "bob")
    call(ladder, "alice")
    for session in ladder.a.core.sessions("bob"):
        session.settle_on(peer("a", tunnel="bob", proxy_ids=mirrored(proxy_id(HOME, "10.9.0.0/24"))))
    (session,) = ladder.b.core.sessions("bob")
    ladder.b.do(ladder.b.core.delete_child("bob", next(iter(session.children)), ladder.clock()))
    ladder.settle()
    ladder.b.do(ladder.b.core.initiate("bob", ladder.path("b"), ladder.clock()))
    ladder.settle()
    assert held(ladder, "bob") == []
    assert [event.tunnel for event in refusals(ladder)] == ["bob"]
    assert not ladder.b.sad.reserved


NESTED = {"alice": (proxy_id(HOME, "10.9.1.0/24"),), "bob": (WIDE,)}


@pytest.mark.parametrize("order", [("alice", "bob"), ("bob", "alice")])
@pytest.mark.parametrize(("bob", "given"), [(ROAD, True), ("10.9.1.0/24", False), ("10.9.0.0/23", False)])
def test_where_one_is_written_within_the_other_each_has_just_what_is_written(order, bob, given):
    ladder = party(NESTED["alice"], (proxy_id(HOME, bob),), NESTED)
    for name in order:
        call(ladder, name)
    assert {name: held(ladder, name) for name in order if given or name == order[0]} == {
        name: {"alice": ["10.9.1.0/24"], "bob": [bob]}[name] for name in order if given or name == order[0]
    }
    assert len(refusals(ladder)) == (0 if given else 1)


def test_a_peer_at_the_address_that_is_written_is_asked_nothing():
    """Two tunnels to one site, one of which stands in for the other, are what an operator may want."""
    ladder = party(remotes=(ip_address(ADDRESSES["a"]),))
    call(ladder, "alice")
    call(ladder, "bob")
    assert held(ladder, "alice") == held(ladder, "bob") == ["10.9.0.0/24"]


def test_a_reload_that_makes_it_anothers_ends_the_child_sa():
    """Nested while bob has all of it; then bob's proxy ID is written as alice's is."""
    ladder = party(NESTED["alice"], (WIDE,), NESTED)
    call(ladder, "alice")
    call(ladder, "bob")
    assert refusals(ladder) == []
    wider = proxy_id(HOME, "10.0.0.0/8")
    names = {name: Identity.from_text(f"{name}.example") for name in NESTED}
    peers = [
        peer("b", tunnel=name, remotes=(), remote_id=names[name], proxy_ids=(wider,) if name == "bob" else NESTED[name])
        for name in NESTED
    ]
    ladder.b.do(ladder.b.core.reconfigure(peers, {"bob": Effect.SELECTORS}, ladder.clock()))
    assert held(ladder, "bob") == []
    assert [(event.kind, event.tunnel) for event in refusals(ladder)] == [(Kind.CHILD_FAILED, "bob")]


@pytest.mark.parametrize("asks", ["alice", "bob"])
def test_a_pair_that_one_identity_carries_often_is_looked_at_once(asks):
    """As with `unique = "never"`; steps of the interpreter, so that it is exact."""
    identities = {name: Identity.from_text(f"{name}.example") for name in ("alice", "bob")}
    callers = {name: peer("b", tunnel=name, remotes=(), proxy_ids=(WIDE,)) for name in identities}
    cost, answers = {}, {}
    for count in (10, 1000):
        holdings = Holdings()
        for number in range(count):
            child: Any = SimpleNamespace(number=number, pairs=SAME, installed=True, state=ChildState.UP)
            holdings.hold(child, callers["alice"], identities["alice"])
        with growth.opcodes() as steps:
            answers[count] = holdings.refusal(SAME, callers[asks], identities[asks])
        cost[count] = steps.count
    assert cost[1000] == cost[10]
    assert [answer is None for answer in answers.values()] == [asks == "alice"] * 2
