"""The end of things, and the tables: crossing deletes, grace, shutting down, status, and every row of the state table."""

import pytest

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind, Send
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.v2 import transitions
from ipsec_dp.ike.v2.exchanges import Shape
from ipsec_dp.ike.v2.sa import CALLING, HALF_OPEN, State
from ipsec_dp.ike.v2.wire import ExchangeType

from .ladder import Ladder, packet, peer, proxy_id


def test_a_deleted_child_sa_receives_a_little_longer():
    """ESP may be slower than IKE: no packet that was under way at a rekey is lost."""
    ladder = Ladder().up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    ladder.run(2)
    assert [len(site.sad.inbound) for site in ladder.sites.values()] == [2, 2]
    ladder.run(10)
    assert [len(site.sad.inbound) for site in ladder.sites.values()] == [1, 1]


def test_crossing_deletes_of_one_child_sa():
    ladder = Ladder().up()
    for site in ladder.sites.values():
        (child,) = site.sad.sending
        site.do(site.core.delete_child(site.tunnel, child, ladder.clock()))
    # DELETE -->  <-- DELETE, each answered without a DELETE of its own (RFC 7296 §1.4.1)
    ladder.run(30)
    for site in ladder.sites.values():
        assert site.sad.inbound == {}
        assert len(site.ups) == 1
    assert len(ladder.messages()) == 8


def test_crossing_deletes_of_the_ike_sa():
    ladder = Ladder().up()
    for site in ladder.sites.values():
        site.do(site.core.terminate(site.tunnel, ladder.clock()))
    # DELETE -->  <-- DELETE
    ladder.run(60)
    for site in ladder.sites.values():
        assert site.core.counters().sessions == 0
        assert len(site.causes()) == 1


def test_the_end_of_a_gateway_is_one_delete_for_each_ike_sa():
    ladder = Ladder().up()
    actions = ladder.a.core.close(ladder.clock())
    assert len([action for action in actions if isinstance(action, Send)]) == 1
    ladder.a.do(actions)
    assert ladder.a.core.counters().sessions == 0
    assert ladder.a.core.next_timeout() is None
    ladder.settle()
    assert ladder.b.causes() == [Cause.PEER]


def test_a_cloned_machine_forgets_every_ike_sa_without_a_word():
    """Its twin has the same keys: under none of them may another message leave (RFC 4106 §9 for IKE's own AEADs)."""
    ladder = Ladder(b=[peer("b", start="start")]).up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.deliver("b")  # the answer is on its way
    sessions = ladder.a.core.sessions("to-b")
    keys = [session.sa.keys for session in sessions]
    sent = len(ladder.messages("a"))
    ladder.a.do(ladder.a.core.forget(ladder.clock()))
    ladder.settle()
    assert len(ladder.messages("a")) == sent
    assert ladder.a.causes() == [Cause.CLONED]
    assert ladder.a.core.counters().sessions == 0
    assert ladder.a.core.next_timeout() is None
    assert not ladder.a.sad.inbound
    for session, old in zip(sessions, keys, strict=True):
        assert (session.sa.keys, session.sa.outgoing, session.sa.incoming) == (None, None, None)
        assert old is not None
        assert not any(old.sk_d)
    ladder.initiate("a")  # INITIAL_CONTACT ends what B still has of it
    ladder.settle()
    ladder.check()


def test_a_cloned_machine_forgets_what_is_half_made_and_what_lingers():
    ladder = Ladder()
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.b.do(ladder.b.core.forget(ladder.clock()))
    assert ladder.b.core.counters().sessions == ladder.b.core.counters().half_open == 0
    ladder.a.do(ladder.a.core.forget(ladder.clock()))
    assert ladder.a.causes() == [Cause.CLONED]
    assert ladder.b.causes() == []
    lingering = Ladder().up()
    lingering.a.do(lingering.a.core.terminate("to-b", lingering.clock()))
    lingering.settle()
    lingering.b.do(lingering.b.core.forget(lingering.clock()))
    assert lingering.b.core.next_timeout() is None


def test_terminate_before_it_is_up_forgets_it_without_a_word():
    ladder = Ladder()
    ladder.initiate("a")
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.settle()
    assert ladder.messages("a") == ["ab IKE_SA_INIT"]
    assert ladder.a.core.counters().sessions == 0
    ladder.run(40)
    assert ladder.b.core.counters().sessions == 0


def test_terminate_in_the_middle_of_ike_auth_deletes_what_comes_of_it():
    ladder = Ladder()
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    # IKE_AUTH -->, <-- IKE_AUTH, DELETE -->, <-- INFORMATIONAL
    ladder.run(60)
    for site in ladder.sites.values():
        assert site.core.counters().sessions == 0
        assert not site.sad.inbound


def test_the_hard_limit_of_an_ike_sa_ends_it_when_it_could_not_be_rekeyed():
    ladder = Ladder(a=[peer("a", ike_life=Life(100.0, soft_s=1000.0))], b=[peer("b")]).up()
    ladder.run(101)
    ladder.settle()
    assert ladder.a.causes() == [Cause.LIFETIME]
    assert next(event for event in ladder.a.events if event.kind is Kind.IKE_DOWN).again
    assert not ladder.a.sad.inbound


def test_status_tells_what_is_there():
    ladder = Ladder().up()
    ladder.run(10)
    (status,) = ladder.a.status
    assert (status.state, status.role, status.nat, status.remote_id) == ("up", "initiator", "none", "gwb.example")
    assert status.proposal == "aes128gcm16-prfsha256-x25519"
    assert 9 < status.age_s < 11
    (child,) = status.children
    assert (child.spi_in, child.spi_out, child.suite, child.esn) == (0x1000, 0x1000, "aes128gcm16", True)
    assert 2800 < child.rekey_in_s < 3100
    assert [pair.local_text for pair in child.selectors] == ["10.1.0.0/24"]


@pytest.mark.parametrize("initiator", [True, False])
def test_soft_limits_lie_before_hard_ones_and_apart_by_role(initiator):
    rng = Ladder().a.randbytes
    drawn = [lifetimes.soft_after(Life(1000.0), initiator=initiator, rng=rng) for _ in range(200)]
    low, high = (800, 850) if initiator else (900, 950)
    assert low <= min(drawn) < max(drawn) <= high
    assert max(drawn) - min(drawn) > 30
    limits = [lifetimes.limits_of(Life(1.0, octets=1000, packets=100), initiator=initiator, rng=rng) for _ in range(50)]
    assert all(low <= limit.soft_octets <= high and limit.hard_octets == 1000 for limit in limits)
    assert all(limit.soft_packets < limit.hard_packets == 100 for limit in limits)
    none = lifetimes.limits_of(Life(1.0), initiator=initiator, rng=rng)
    assert (none.soft_octets, none.hard_octets, none.soft_packets, none.hard_packets) == (0, 0, 0, 0)


@pytest.mark.parametrize("soft", [6.0, 3000.0])
@pytest.mark.parametrize(("initiator", "at_most"), [(True, 1.05), (False, 1.15)], ids=["initiator", "responder"])
def test_rekey_after_is_that_time_in_both_roles(initiator, at_most, soft):
    """Six seconds meant half an hour to a responder: the stagger was a part of what the lifetime of an hour leaves."""
    rng = Ladder().a.randbytes
    drawn = [lifetimes.soft_after(Life(3600.0, soft_s=soft), initiator=initiator, rng=rng) for _ in range(200)]
    assert soft <= min(drawn) < max(drawn) <= min(soft * at_most, 3600.0)


def test_rekey_after_is_staggered_by_role():
    rng = Ladder().a.randbytes
    first, later = (
        [lifetimes.soft_after(Life(60.0, soft_s=6.0), initiator=made, rng=rng) for _ in range(200)] for made in (True, False)
    )
    assert max(first) + 0.2 < min(later)


@pytest.mark.parametrize("ike", [False, True], ids=["CHILD_SA", "IKE SA"])
def test_the_side_that_was_called_rekeys_after_that_time_too(ike):
    life = {"ike_life" if ike else "child_life": Life(3600.0, soft_s=6.0)}
    ladder = Ladder(a=[peer("a")], b=[peer("b", **life)]).up()
    ladder.run(7)
    assert (Kind.IKE_REKEYED if ike else Kind.CHILD_REKEYED) in ladder.b.kinds()


def test_one_second_soft_limits_rekey_twenty_times_and_nothing_is_missing():
    lives = {"child_life": Life(10.0, soft_s=1.0), "ike_life": Life(20.0, soft_s=2.5)}
    ladder = Ladder(a=[peer("a", **lives)], b=[peer("b", **lives)]).up()

    def whole():
        for one, other in ((ladder.a, ladder.b), (ladder.b, ladder.a)):
            assert [one.sad.outbound[child].spi in other.receives_on() for child in one.sad.sending] == [True]

    ladder.run(60, step=whole)
    ladder.check()
    for site in ladder.sites.values():
        assert site.kinds().count(Kind.CHILD_REKEYED) >= 20
        assert site.kinds().count(Kind.IKE_REKEYED) >= 20
        assert {Kind.CHILD_DOWN, Kind.IKE_DOWN}.isdisjoint(site.kinds())


def test_packets_of_two_proxy_ids_each_ask_for_their_own_where_the_peer_takes_one():
    mine = (proxy_id("10.1.0.0/24", "10.2.0.0/24"), proxy_id("10.1.1.0/24", "10.2.1.0/24"))
    theirs = tuple(type(one)(one.remote, one.local) for one in mine)
    ladder = Ladder(a=[peer("a", proxy_ids=mine)], b=[peer("b", proxy_ids=theirs[:1])])
    ladder.initiate("a", asks=packet("10.1.0.5", "10.2.0.5"))
    ladder.settle()
    assert len(ladder.a.sad.sending) == 1
    for session in ladder.b.core.sessions("to-a"):
        session.settle_on(peer("b", proxy_ids=theirs))
    # a packet of the second pair: CREATE_CHILD_SA -->, <-- CREATE_CHILD_SA
    ladder.a.do(ladder.a.core.acquire("to-b", packet("10.1.1.5", "10.2.1.5"), ladder.clock()))
    ladder.settle()
    ladder.check()
    assert len(ladder.a.sad.sending) == len(ladder.b.sad.sending) == 2


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_row_cites_its_section_and_stands_once():
    rows = (*transitions.REQUESTS, *transitions.RESPONSES)
    assert all(row.section.startswith("§") for row in rows)
    for table in (transitions.REQUESTS, transitions.RESPONSES):
        assert len({(row.state, row.exchange, row.shape) for row in table}) == len(table)
    assert all(row.answer is not None for row in transitions.REQUESTS)
    assert all(set(row.required).isdisjoint(row.optional) for row in rows)


@pytest.mark.parametrize("dead", [State.LINGERING, State.CLOSED, *sorted(CALLING)])
def test_where_no_request_may_be_served_there_is_no_row(dead):
    assert not [row for row in transitions.REQUESTS if row.state is dead]


def test_before_authentication_only_intermediate_and_then_auth_has_a_row():
    """Each state has one exchange, so none can be left out or made twice."""
    of_requests = {(row.state, row.exchange) for row in transitions.REQUESTS if row.state in HALF_OPEN | CALLING}
    of_responses = {(row.state, row.exchange) for row in transitions.RESPONSES if row.state in HALF_OPEN | CALLING}
    intermediate, auth = ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH
    assert of_requests == {(State.INTERMEDIATE_AWAITED, intermediate), (State.INIT_ANSWERED, auth)}
    init = (State.INIT_SENT, ExchangeType.IKE_SA_INIT)
    assert of_responses == {init, (State.INTERMEDIATE_SENT, intermediate), (State.AUTH_SENT, auth)}
    assert {row.shape for row in transitions.RESPONSES if row.state is State.AUTH_SENT} == {Shape.ANY}
