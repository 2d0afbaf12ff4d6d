"""Probes of the path's MTU: an INFORMATIONAL of exactly so many octets, which only the peer answers (RFC 8899 §6.4)."""

import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.retransmission import FIRST_WAIT

from .ladder import Ladder, peer

UDP4 = 28  # octets of outer headers


class Probed:
    """A ladder whose path from a to b takes `takes` octets; what was sent whole, and what came of it."""

    def __init__(self, takes=1500, suite="aes128gcm16-prfsha256-x25519", natt=False):
        proposals = parse_ike([suite])
        liveness = Liveness(0.0, 3)
        self.ladder = Ladder(
            a=[peer("a", ike_proposals=proposals, liveness=liveness)], b=[peer("b", ike_proposals=proposals, liveness=liveness)]
        )
        self.ladder.initiate(natt=natt)
        self.ladder.settle()
        self.ladder.check()
        self.takes, self.whole, self.results = takes, [], []
        self._do = self.ladder.a.do
        self.ladder.a.do = self.do  # type: ignore[method-assign]

    def do(self, actions):
        self._do([action for action in actions if self._passes(action)])

    def _passes(self, action):
        if isinstance(action, act.ProbeResult):
            self.results.append((action.asked, action.octets, action.passed))
        if not isinstance(action, act.Send):
            return not isinstance(action, act.ProbeResult)
        octets = UDP4 + len(action.datagram) + 4 * action.path.natt
        if action.whole:
            self.whole.append(octets)
        return octets <= self.takes

    def ask(self, octets, seconds=60):
        actions = self.ladder.a.core.probe("to-b", octets, FIRST_WAIT, self.ladder.clock())
        assert actions is not None
        self.do(actions)
        self.ladder.run(seconds)
        return self.results[-1]


@pytest.mark.parametrize("natt", [False, True])
def test_a_probe_has_the_size_asked_for_and_is_answered(natt):
    probed = Probed(natt=natt)
    for octets in (576, 1280, 1499, 1500):
        assert probed.ask(octets) == (octets, octets, True)
    assert probed.whole == [576, 1280, 1499, 1500]


def test_the_answer_is_small():
    probed = Probed()
    before = len(probed.ladder.wire.log)
    probed.ask(1500)
    (answer,) = [delivery for delivery, _ in probed.ladder.wire.log[before:] if delivery.sender == "b"]
    assert len(answer.data[0]) < 100


def test_with_blocks_it_is_the_largest_that_is_not_longer():
    probed = Probed(suite="aes128-sha256-x25519")
    for octets in range(1280, 1300):
        asked, sent, passed = probed.ask(octets)
        assert (asked, passed) == (octets, True)
        assert octets - 16 < sent <= octets
        assert probed.whole[-1] == sent


def test_a_lost_probe_gives_way_to_a_small_request_that_is_answered():
    probed = Probed(takes=1400)
    # INFORMATIONAL of 1500 -->x   again -->x   empty INFORMATIONAL, same message ID -->   <-- answer
    assert probed.ask(1500) == (1500, 1500, False)
    assert probed.whole == [1500, 1500]
    assert probed.ask(1400) == (1400, 1400, True)
    probed.ladder.check()


def test_the_window_moves_on_after_a_lost_probe():
    probed = Probed(takes=1400)
    probed.ask(1500)
    probed.do(probed.ladder.a.core.rekey("to-b", probed.ladder.clock()))
    probed.ladder.run(10)
    probed.ladder.check()


def test_an_answer_that_was_lost_counts_as_a_lost_probe():
    """Never too large a value: the repeated probe finds the stored answer."""
    probed = Probed()
    wire = probed.ladder.wire
    wire.drop("b", "a", wire.sent("b", "a") + 1)
    assert probed.ask(1500) == (1500, 1500, True)
    wire.drop("b", "a", wire.sent("b", "a") + 1, wire.sent("b", "a") + 2)
    assert probed.ask(1500) == (1500, 1500, False)


def test_a_peer_that_does_not_answer_at_all_is_dead():
    probed = Probed()
    probed.ladder.wire.cut("a", "b")
    probed.do(probed.ladder.a.core.probe("to-b", 1500, FIRST_WAIT, probed.ladder.clock()))
    probed.ladder.run(60)
    assert probed.results == []
    assert probed.ladder.a.causes() == [Cause.LIVENESS]


def test_nothing_is_probed_without_an_ike_sa_or_while_it_is_busy():
    assert Ladder().a.core.probe("to-b", 1500, FIRST_WAIT, 0.0) is None
    probed = Probed(takes=1400)
    core, now = probed.ladder.a.core, probed.ladder.clock()
    probed.do(core.probe("to-b", 1500, FIRST_WAIT, now))
    assert core.probe("to-b", 1500, FIRST_WAIT, now) is None


def test_a_size_that_holds_no_message_is_not_sent():
    probed = Probed()
    assert probed.ladder.a.core.probe("to-b", 60, FIRST_WAIT, probed.ladder.clock()) == []
