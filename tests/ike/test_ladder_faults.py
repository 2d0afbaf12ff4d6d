"""Every datagram of a script lost, doubled, held back or delivered late: the sites always end up agreeing."""

import pytest

from ipsec_dp.ike.actions import Kind

from .fault_script import FAULTS, live, lossy, with_fault
from .ladder import OTHER, Ladder

LENGTH = 8  # datagrams each side sends in the script


def script(ladder, first, *, crossing):
    live(ladder, first, crossing=crossing, between=40, after=400)


def converged(ladder):
    ladder.check()
    for site in ladder.sites.values():
        assert len(site.sad.sending) == len(site.sad.inbound) == 1
        assert site.core.counters().sessions == 1
        assert Kind.IKE_DOWN not in site.kinds()
        assert Kind.CHILD_DOWN not in site.kinds()


@pytest.mark.parametrize("crossing", [False, True], ids=["in turn", "crossing"])
@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_place_changes_nothing_in_the_end(fault, first, crossing):
    for sender, number, ladder in with_fault(Ladder, FAULTS[fault], LENGTH):
        script(ladder, first, crossing=crossing)
        assert ladder.wire.sent(sender, OTHER[sender]) >= number
        converged(ladder)


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_lossy_wire_only_takes_longer(first):
    ladder = lossy(Ladder(), 2)
    script(ladder, first, crossing=True)
    converged(ladder)


def test_every_datagram_twice_changes_nothing():
    ladder = Ladder()
    for sender in ("a", "b"):
        ladder.wire.double(sender, OTHER[sender], *range(1, 200))
    script(ladder, "a", crossing=True)
    converged(ladder)
    for site in ladder.sites.values():
        assert site.kinds().count(Kind.IKE_UP) == 1


def test_a_request_is_repeated_octet_by_octet_with_back_off():
    """RFC 7296 §2.1: the same message again, ever more slowly, a bounded number of times."""
    ladder = Ladder().up()
    ladder.wire.cut("a", "b")
    start = ladder.clock()
    times = []
    ladder.a.do(ladder.a.core.rekey("to-b", start))
    sent = len(ladder.wire.log)
    ladder.run(300, step=lambda: times.append(ladder.clock() - start))
    requests = [delivery.data[0] for delivery, _ in ladder.wire.log[sent - 1 :]]
    assert len(set(requests)) == 1
    assert len(requests) == 8
    assert [round(time) for time in times[:8:2]] == [1, 3, 6, 12]
    assert ladder.a.events[-1].kind is Kind.IKE_DOWN
    assert not ladder.a.sad.inbound


def test_a_duplicate_request_gets_the_stored_reply_and_does_nothing_else():
    ladder = Ladder().up()
    ladder.wire.double("a", "b", 3)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.deliver("b")
    installs = list(ladder.b.sad.log)
    ladder.deliver("b")
    assert ladder.b.sad.log == installs
    replies = [delivery.data[0] for delivery, _ in ladder.wire.log if delivery.sender == "b"][2:]
    assert len(replies) == 2
    assert len(set(replies)) == 1


def test_a_message_out_of_the_window_is_counted_and_nothing_else():
    ladder = Ladder().up()
    old = ladder.wire.log[2][0].data[0]  # IKE_AUTH request, message ID 1
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    before = ladder.b.core.counters().out_of_window, len(ladder.messages())
    path = ladder.path("b")
    assert ladder.b.core.receive(old, path, ladder.clock()) == []
    assert (ladder.b.core.counters().out_of_window, len(ladder.messages())) == (before[0] + 1, before[1])
