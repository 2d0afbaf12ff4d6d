"""A host that was suspended: its clock went on, nothing ran. What ended meanwhile is not used, and the peer is asked at once."""

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.peer import Life, Liveness

from .ladder import Ladder, peer

HOUR = 3600.0


def asleep(seconds, **changes):
    """Both sites up; A was asleep for so long, and is back: its timers have come once."""
    ladder = Ladder(a=[peer("a", **changes)]).up()
    ladder.run(1)
    ladder.clock.advance(seconds)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    return ladder


def test_a_child_sa_whose_lifetime_ended_is_gone_at_once():
    ladder = asleep(2 * HOUR)  # IKE SAs live for eight hours, CHILD_SAs for one
    assert ladder.a.sad.sending == []
    assert not ladder.a.sad.outbound
    assert not ladder.a.sad.inbound
    (down,) = [event for event in ladder.a.events if event.kind is Kind.CHILD_DOWN]
    assert (down.cause, down.again) == (Cause.LIFETIME, True)


def test_an_ike_sa_whose_lifetime_ended_is_gone_with_all_that_hangs_on_it():
    ladder = asleep(9 * HOUR)
    assert not ladder.a.sad.inbound
    ladder.settle()
    assert ladder.a.causes() == [Cause.LIFETIME]
    assert ladder.a.core.counters().sessions == 0


def test_one_that_is_due_for_new_keys_gets_them():
    ladder = asleep(0.97 * HOUR)
    ladder.settle()
    assert ladder.messages("a")[-2:] == ["ab CREATE_CHILD_SA", "ab INFORMATIONAL"]
    ladder.check()


def test_authenticating_anew_is_due_at_once():
    ladder = asleep(1.2 * HOUR, reauth_s=HOUR, child_life=Life(100 * HOUR), ike_life=Life(100 * HOUR))
    assert ladder.messages("a")[-1] == "ab IKE_SA_INIT"


def test_one_that_nobody_proved_for_too_long_ends():
    ladder = asleep(2 * HOUR, reauth_s=HOUR, child_life=Life(100 * HOUR), ike_life=Life(100 * HOUR))
    assert not ladder.a.sad.sending


@pytest.mark.parametrize(("interval", "asked"), [(600.0, ["ab INFORMATIONAL"]), (0.0, [])])
def test_the_peer_is_asked_at_once_where_it_is_asked_at_all(interval, asked):
    ladder = Ladder(a=[peer("a", liveness=Liveness(interval))]).up()
    before = len(ladder.messages("a"))
    ladder.clock.advance(6)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    assert len(ladder.messages("a")) == before, "the control: so short a time asks nobody"
    ladder.a.do(ladder.a.core.check_liveness("to-b", ladder.clock()))
    ladder.a.do(ladder.a.core.check_liveness("to-b", ladder.clock()))  # one question is enough
    assert ladder.messages("a")[before:] == asked
    ladder.settle()
    ladder.check()


def test_a_peer_that_is_gone_is_noticed_by_that_question():
    ladder = Ladder(a=[peer("a", liveness=Liveness(600.0, retries=2))]).up()
    ladder.wire.cut("a", "b")
    ladder.a.do(ladder.a.core.check_liveness("to-b", ladder.clock()))
    ladder.run(120)
    assert ladder.a.causes() == [Cause.LIVENESS]


def test_a_question_on_its_way_is_repeated_and_not_given_up():
    """All its repetitions fell due asleep; none of them was sent, so the peer's silence says nothing yet."""
    ladder = Ladder(a=[peer("a", liveness=Liveness(600.0, retries=2))]).up()
    ladder.wire.cut("a", "b")
    ladder.a.do(ladder.a.core.check_liveness("to-b", ladder.clock()))
    ladder.settle()
    ladder.wire.mend("a", "b")
    ladder.clock.advance(0.5 * HOUR)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    ladder.settle()
    assert ladder.a.causes() == []
    ladder.check()
