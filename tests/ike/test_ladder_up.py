"""IKE_SA_INIT and IKE_AUTH as message ladders, in both roles."""

import pytest

from ipsec_dp.ike.actions import Cause, Kind

from .ladder import Ladder


@pytest.mark.parametrize("site", ["a", "b"])
def test_four_messages_bring_an_ike_sa_and_a_child_sa_up(site):
    ladder = Ladder()
    other = "b" if site == "a" else "a"
    ladder.initiate(site)
    # IKE_SA_INIT -->
    assert ladder.deliver(other)
    # <-- IKE_SA_INIT
    assert ladder.deliver(site)
    # IKE_AUTH -->
    assert not any(one.sad.log for one in ladder.sites.values())
    assert ladder.deliver(other)
    assert [name for name, _ in ladder.sites[other].sad.log] == ["InstallInbound", "InstallOutbound", "SwitchOutbound"]
    # <-- IKE_AUTH
    assert ladder.deliver(site)
    assert [name for name, _ in ladder.sites[site].sad.log] == ["InstallInbound", "InstallOutbound", "SwitchOutbound"]
    ladder.check()
    assert ladder.wire.waiting("a") == ladder.wire.waiting("b") == 0
    assert ladder.a.kinds() + ladder.b.kinds() == [Kind.IKE_UP, Kind.CHILD_UP] * 2
    assert {one.core.counters().half_open for one in ladder.sites.values()} == {0}


def test_nothing_is_sent_of_its_own_accord_once_it_is_up():
    ladder = Ladder().up()
    ladder.run(600)
    assert len(ladder.messages()) == 4
    assert ladder.a.causes() == ladder.b.causes() == []


def test_terminate_deletes_on_both_sides():
    ladder = Ladder().up()
    # INFORMATIONAL: DELETE of the IKE SA -->, <-- INFORMATIONAL
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.settle()
    ladder.run(60)
    for site, cause in ((ladder.a, Cause.LOCAL), (ladder.b, Cause.PEER)):
        assert site.causes() == [cause]
        assert not site.sad.inbound
        assert not site.sad.outbound
        assert site.core.counters().sessions == 0
        assert site.core.next_timeout() is None
    assert len(ladder.messages()) == 6
