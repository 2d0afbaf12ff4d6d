"""What is asked of a gateway, how slowly, and what is made of its answers: against whole cores of ours on the wire of a ladder."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.survey import DATAGRAMS_MOST, PATIENCE, PAUSE, TIMES, Question, Survey
from ipsec_dp.ike.v1.survey import Ikev1Survey
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.survey import Ikev2Survey

from .ladder import Ladder, peer

IKEV1: dict[str, Any] = {"version": 1, "ike_proposals": parse_ike(["aes256-sha256-ecp256"])}


class Asked:
    """A survey of site B, whose answers come at once. `translated`: what B sees of our address."""

    def __init__(self, *peers: Any, translated: str = "192.0.2.1", lost: int = 0) -> None:
        self.ladder = Ladder(b=list(peers))
        self.core = IkeVersions(self.ladder.b.core.environment, peers)
        self.here, self.there = Endpoint(ip_address("192.0.2.1"), 500), Endpoint(ip_address("192.0.2.2"), 500)
        rng = random.Random("survey").randbytes
        self.ikev2, self.ikev1 = Ikev2Survey(Path(self.here, self.there), rng), Ikev1Survey(rng)
        self.survey = Survey((self.ikev2.interview(), self.ikev1.interview()))
        self.times: list[float] = []
        self.asked: list[Question] = []
        self.translated, self.lost = ip_address(translated), lost

    def answers(self, question: Question, now: float) -> list[act.Send]:
        remote = self.here._replace(address=self.translated)
        path = Path(self.there, remote)
        actions = self.core.receive(question.datagram, path.floated() if question.natt else path, now)
        return [action for action in actions if isinstance(action, act.Send)]

    def run(self) -> Asked:
        now = 1000.0
        while not self.survey.over:
            now = max(now, self.survey.next_timeout())
            question = self.survey.next(now)
            if question is None:
                continue
            self.times.append(now)
            self.asked.append(question)
            if self.lost:
                self.lost -= 1
                continue
            for send in self.answers(question, now):
                self.survey.receive(send.datagram, natt=question.natt)
        return self


def anybody(**fields: Any) -> Any:
    return peer("b", **fields)


def test_what_a_gateway_takes_and_what_it_refuses_is_found():
    found = Asked(anybody(ike_proposals=parse_ike(["aes256gcm16-prfsha384-ecp384"]))).run().ikev2.found
    assert found.spoken
    assert (found.suite, found.legacy, found.wants_group) == ("aes256gcm16-prfsha384-ecp384", False, "ecp384")
    taken = {name for name, good in found.accepts.items() if good}
    assert taken == {"ecp384", "aes256gcm16"}
    assert {"x25519", "modp1024", "aes128gcm16", "aes256"} <= found.accepts.keys() - taken
    assert found.fragmentation
    assert found.signature_hashes
    assert (found.nat, found.nat_port) == ("none", True)


def test_no_more_than_one_half_open_ike_sa_is_made():
    """Whether a key exchange is taken shows without one, and without the peer computing anything."""
    asked = Asked(anybody()).run()
    assert len(asked.asked) > 15
    assert asked.core.counters().half_open == 1


def test_it_is_slow_and_ends():
    for asked in (Asked(anybody()), Asked(anybody(), lost=3), Asked(lost=10_000)):
        asked.run()
        gaps = [later - earlier for earlier, later in zip(asked.times, asked.times[1:], strict=False)]
        assert min(gaps) >= PAUSE
        assert len(asked.times) <= DATAGRAMS_MOST


def test_an_interview_that_never_ends_is_ended():
    def endless() -> Any:
        while True:
            yield Question(b"?", lambda _: True)

    survey, sent, now = Survey((endless(),)), 0, 0.0
    while not survey.over:
        now = max(now, survey.next_timeout())
        if survey.next(now) is not None:
            sent += 1
            survey.receive(b"!", natt=False)
    assert sent == DATAGRAMS_MOST


def test_a_question_that_is_lost_is_asked_again_and_silence_ends_an_interview():
    assert Asked(anybody(), lost=1).run().ikev2.found.spoken
    silent = Asked(lost=10_000).run()
    assert not silent.ikev2.found.spoken
    assert not silent.ikev1.found.spoken
    assert len(silent.times) == 2 * TIMES, "IKEv2 and IKEv1, and nothing else of either"
    assert silent.times[-1] - silent.times[0] >= 3 * PATIENCE


def test_only_a_legacy_suite_is_found_as_such():
    found = Asked(anybody(ike_proposals=parse_ike(["aes128-sha1-modp1024"], legacy=True))).run().ikev2.found
    assert (found.suite, found.legacy) == ("aes128-sha1-prfsha1-modp1024", True)


def test_a_gateway_of_ikev1_alone():
    asked = Asked(anybody(**IKEV1)).run()
    assert not asked.ikev2.found.spoken
    found = asked.ikev1.found
    assert found.spoken
    assert (found.suite, found.method, found.legacy) == ("aes256-sha256-ecp256", "psk", False)
    assert "DPD" in found.vendors
    assert found.fragmentation


def test_a_nat_before_us_is_found():
    assert Asked(anybody(), translated="198.51.100.7").run().ikev2.found.nat in ("local", None)


def test_a_cookie_is_sent_back():
    asked = Asked(anybody())
    for number in range(40):
        other = Path(asked.there, asked.here._replace(port=20_000 + number))
        first = Ikev2Survey(Path(asked.here, asked.there), random.Random(number).randbytes).interview()
        asked.core.receive(next(first).datagram, other, 999.0)
    asked.run()
    assert asked.ikev2.found.cookie
    assert asked.ikev2.found.suite is not None


@pytest.mark.parametrize("junk", [b"", b"\x00" * 28, b"\xff" * 2000, bytes(range(256))])
def test_junk_with_our_spi_is_no_answer_that_anything_is_believed_of(junk):
    asked = Asked(anybody())
    question = asked.survey.next(1000.0)
    assert question is not None
    assert not asked.survey.receive(junk, natt=False), "it is not for the question"
    assert asked.survey.receive(question.datagram[:8] + junk, natt=False)
    assert not asked.ikev2.found.spoken


def test_the_same_answer_at_the_other_port_is_not_for_it():
    asked = Asked(anybody())
    question = asked.survey.next(1000.0)
    assert question is not None
    assert not asked.survey.receive(question.datagram[:8] + bytes(40), natt=True)


def test_every_further_question_carries_a_public_value_that_it_does_not_offer():
    asked = Asked(anybody()).run()
    from ipsec_dp.ike.v2.groups import groups_of
    from ipsec_dp.ike.v2.payloads import KeyExchangePayload, SecurityAssociation

    mismatched = 0
    for question in asked.asked:
        if question.datagram[17] >> 4 != 2:
            continue
        message = parse_message(question.datagram)
        sa, ke = message.get(SecurityAssociation), message.get(KeyExchangePayload)
        assert sa is not None
        assert ke is not None
        mismatched += ke.group not in [group.id for group in groups_of(sa.proposals)]
    assert mismatched >= 15
