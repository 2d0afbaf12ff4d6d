"""A peer with a DNS name in `remote`: the name says whom to call, the identity alone who may call (RFC 4301 §4.4.3).

site A (192.0.2.1) -- wire -- site B, which knows A by a name that means 192.0.2.1, another address, or nothing
"""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Kind, Path
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.sa import State

from .ladder import ADDRESSES, Ladder, peer
from .test_ladder_init import from_address, init_request
from .test_strangers_attacks import fill, with_cookie

HOME, MOVED = ip_address(ADDRESSES["a"]), ip_address("203.0.113.5")
MEANS = {"its address": (HOME,), "another address": (MOVED,), "nothing": ()}
ELSEWHERE = "(none of the addresses that its name means)"


def told(site):
    return next(event.text for event in site.events if event.kind is Kind.IKE_UP)


@pytest.mark.parametrize("means", MEANS)
def test_the_peer_comes_up_whatever_its_name_means(means):
    ladder = Ladder(b=[peer("b", remotes=MEANS[means], named=True)]).up()
    assert (ELSEWHERE in told(ladder.b)) == (means == "another address")


def test_an_address_in_remote_admits_nobody_from_elsewhere():
    """The control: who writes an address means it."""
    ladder = Ladder(b=[peer("b", remotes=(MOVED,))])
    ladder.initiate()
    ladder.settle()
    assert ladder.b.ups == []
    assert ladder.b.core.counters().no_peer == 1


def test_who_has_another_identity_or_secret_is_refused_at_the_right_address():
    wrong = {"local_id": Identity.from_text("other.example")}, {"auth": SharedKeyAuth(PreSharedKey.from_text("a guess of it"))}
    for changes in wrong:
        ladder = Ladder(a=[peer("a", **changes)], b=[peer("b", remotes=(HOME,), named=True)])
        ladder.initiate()
        ladder.settle()
        assert ladder.b.ups == []


def test_the_secret_is_chosen_by_identity_among_many_that_have_names():
    others = [
        peer(
            "b",
            tunnel=f"t{number}",
            remotes=(HOME,),
            named=True,
            remote_id=Identity.from_text(f"t{number}.example"),
            auth=SharedKeyAuth(PreSharedKey.from_text(f"the secret of number {number}")),
        )
        for number in range(3 * LIMITS.proofs)
    ]
    Ladder(b=[*others, peer("b", remotes=(MOVED,), named=True)]).up()


def test_a_name_that_changes_while_the_tunnel_is_up_ends_nothing():
    ladder = Ladder(a=[peer("a", remotes=(ip_address(ADDRESSES["b"]),), named=True)]).up()
    sends, sessions = ladder.a.sends_to(), ladder.a.core.sessions("to-b")
    ladder.a.core.set_peer(peer("a", remotes=(MOVED,), named=True))
    ladder.run(60)
    assert (ladder.a.sends_to(), ladder.a.core.sessions("to-b")) == (sends, sessions)
    ladder.check()


def test_a_call_that_nobody_answers_is_given_up_when_the_peer_calls_from_elsewhere():
    """Its name means an address where it is no longer: it has proven who it is, and one IKE SA is enough."""
    ladder = Ladder(a=[peer("a", remotes=(MOVED,), named=True)])
    here = ladder.path("a")
    ladder.a.do(ladder.a.core.initiate("to-b", Path(here.local, Endpoint(MOVED, 500), natt=False), ladder.clock()))
    while ladder.wire.take("b") is not None:
        pass  # nobody is there
    ladder.initiate("b")
    ladder.settle()
    assert [session.state for session in ladder.a.core.sessions("to-b")] == [State.ESTABLISHED]


def test_a_cookie_from_anywhere_takes_no_place_that_is_kept_for_known_addresses():
    """A stranger who brings one back is not the peer because that may call from anywhere."""
    ladder = Ladder(b=[peer("b", remotes=(HOME,), named=True)])
    fill(ladder.b, LIMITS.half_open, ladder.clock())
    assert ladder.b.core.counters().half_open == LIMITS.half_open
    for number in range(1, 20):
        path = from_address(f"198.51.100.{number}")
        ladder.b.core.receive(with_cookie(ladder.b, 70_000 + number, path, ladder.clock()), path, ladder.clock())
    assert ladder.b.core.counters().half_open == LIMITS.half_open
    assert ladder.b.core.receive(init_request(90_000), ladder.path("b"), ladder.clock())
    ladder.initiate()
    ladder.settle()
    ladder.check()
