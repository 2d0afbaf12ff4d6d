"""A tunnel on trial: what is negotiated, what is told when it cannot be, and that nothing of it stays on either side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.peer import SharedKeyAuth
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.suites import esp_suite, suite_of
from ipsec_dp.ike.trial import PAIRS_TRIED, SIZES, NegotiationTrial, TrialStage
from ipsec_dp.keying.trial_attempt import versions_to_try

from .ladder import Ladder, peer, proxy_id
from .trial_ladder import TrialLadder

PFS = parse_esp(["aes128gcm16-x25519-noesn"])
IKEV1: dict[str, Any] = {
    "version": 1,
    "ike_proposals": parse_ike(["aes256-sha256-ecp256"]),
    "esp_proposals": parse_esp(["aes256-sha256"]),
}
MANY = {
    "a": tuple(proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24") for number in range(3)),
    "b": tuple(proxy_id(f"10.2.{number}.0/24", f"10.1.{number}.0/24") for number in range(3)),
}


def nothing_stays(ladder):
    """Neither at the peer, after the time in which a repeat is answered, nor here."""
    assert sorted(ladder.released) == sorted(set(ladder.given)), "SPIs are given back, each once"
    assert ladder.watcher.known_now == {}
    ladder.run(120)
    assert not ladder.b.sad.inbound
    assert not ladder.b.sad.sending
    assert ladder.b.core.counters().sessions == 0


def test_a_tunnel_that_fits_is_negotiated_and_deleted_again():
    ladder = TrialLadder().try_it()
    outcome = ladder.outcome
    assert (outcome.failed, outcome.error, outcome.renewal) == (None, None, None)
    assert outcome.renewed
    assert outcome.ike.proposal == "aes128gcm16-prfsha256-x25519"
    assert (outcome.ike.local_id, outcome.ike.remote_id) == ("gwa.example", "gwb.example")
    assert outcome.ike.fragmentation
    assert [str(pair.suite.keyword) for pair in outcome.pairs] == ["aes128gcm16"]
    assert outcome.sizes == {SIZES[0]: True}
    assert ladder.messages("a") == [
        "ab IKE_SA_INIT",
        "ab IKE_AUTH",
        "ab CREATE_CHILD_SA",
        "ab INFORMATIONAL",
        "ab INFORMATIONAL",
        "ab INFORMATIONAL",
    ]  # the new CHILD_SA, DELETE of the old one, a long datagram, DELETE of the IKE SA
    nothing_stays(ladder)


def test_each_message_is_listed_without_what_is_in_it():
    lines = TrialLadder().try_it().attempt.messages
    assert [line.split()[0] for line in lines] == ["out", "in"] * 6
    assert "IKE_AUTH response 1" in lines[3]
    assert not any("a secret both of them know" in line for line in lines)


@pytest.mark.parametrize("fields", [{}, IKEV1], ids=["IKEv2", "IKEv1"])
def test_no_trial_ever_says_initial_contact(fields):
    """A peer would end what carries traffic."""
    ladder = TrialLadder(peer("a", **fields), [peer("b", **fields)]).try_it()
    assert ladder.outcome.failed is None
    assert not any("INITIAL" in line for line in ladder.attempt.messages)
    assert ladder.attempt.messages, "and messages are listed"


def test_a_first_call_says_it_where_nothing_is_on_trial():
    ladder = Ladder().up()
    assert ladder.a.core.sessions("to-b")[0].ends.initial_contact


def test_a_tunnel_that_is_up_by_another_ike_sa_stays_up_at_a_peer_that_admits_a_second_one():
    never: dict[str, Any] = {"unique": "never"}
    ladder = TrialLadder(peer("a"), [peer("b", **never)])
    super(TrialLadder, ladder).up()
    before = ladder.b.receives_on()
    ladder.try_it()
    assert ladder.outcome.failed is None
    assert ladder.b.receives_on() == before
    assert [event.kind for event in ladder.b.events].count(Kind.IKE_DOWN) == 1, "the one of the trial alone"


def test_by_ikev1_too():
    ladder = TrialLadder(peer("a", **IKEV1), [peer("b", **IKEV1)]).try_it()
    outcome = ladder.outcome
    assert (outcome.failed, outcome.error) == (None, None)
    assert (outcome.ike.version, outcome.ike.proposal) == (1, "aes256-sha256-prfsha256-ecp256")
    assert len(outcome.pairs) == 1
    assert outcome.sizes == {}, "IKEv1 has no message that is padded and answered"
    nothing_stays(ladder)


def test_a_tunnel_that_may_fall_is_tried_by_both_versions_unless_it_is_pinned():
    may = peer("a", fallback=peer("a", **IKEV1))
    assert [each.version for each in versions_to_try(may, pinned=False)] == [2, 1]
    assert [each.version for each in versions_to_try(may, pinned=True)] == [2]
    assert [each.fallback for each in versions_to_try(may, pinned=False)] == [None, None]


def test_forward_secrecy_that_the_peer_refuses_shows_at_once_and_not_after_an_hour():
    """IKE_AUTH has no key exchange of its own, so that both come up."""
    ladder = TrialLadder(peer("a", esp_proposals=PFS), [peer("b", esp_proposals=parse_esp(["aes128gcm16-ecp256-noesn"]))]).try_it()
    outcome = ladder.outcome
    assert len(outcome.pairs) == 1
    assert (outcome.failed, outcome.renewed) == (TrialStage.RENEWAL, False)
    assert "forward secrecy" in outcome.error
    nothing_stays(ladder)


def test_every_proxy_id_is_asked_for_and_the_one_that_is_refused_is_named():
    ladder = TrialLadder(peer("a", proxy_ids=MANY["a"]), [peer("b", proxy_ids=MANY["b"][:2])]).try_it()
    outcome = ladder.outcome
    assert outcome.pairs
    assert outcome.failed in (None, TrialStage.PHASE_2)
    nothing_stays(ladder)


def test_of_hundreds_of_proxy_ids_a_few_are_tried():
    pairs = tuple(proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24") for number in range(100))
    (tried,) = versions_to_try(peer("a", proxy_ids=pairs), pinned=False)
    assert len(tried.proxy_ids) == PAIRS_TRIED


def test_a_peer_that_dies_in_the_middle_ends_the_trial_in_its_time():
    ladder = TrialLadder()
    for number in range(2, 40):
        ladder.wire.drop("b", "a", number)
    began = ladder.clock()
    ladder.try_it()
    assert (ladder.outcome.failed, ladder.outcome.exchange) == (TrialStage.PHASE_1, "")
    assert "IKE_AUTH" in ladder.outcome.error
    assert ladder.clock() - began < 15
    assert sorted(ladder.released) == sorted(set(ladder.given))


def test_what_a_stranger_sends_for_it_changes_nothing():
    """Garbage with its SPIs, and a refusal that nothing proves: the genuine answer still comes."""
    ladder = TrialLadder()
    ladder.transmit(ladder.attempt.begin(ladder.clock()))
    request = ladder.sent[0].datagram
    for junk in (request[:40], request[:19] + b"\x28" + request[20:], request[:8] + bytes(12) + b"\xff" * 40):
        ladder.transmit(ladder.attempt.receive(junk, ladder.path("a"), ladder.clock()))
    while ladder.deliver("b") or ladder.hear():
        pass
    assert ladder.outcome.ike.state in ("up", "rekeying", "closing")


def test_a_trial_that_is_abandoned_tells_the_peer():
    ladder = TrialLadder()
    ladder.transmit(ladder.attempt.begin(ladder.clock()))
    for _ in range(2):
        ladder.deliver("b")
        ladder.hear()
    ladder.transmit(ladder.attempt.abandon(ladder.clock()))
    assert ladder.attempt.over
    while ladder.deliver("b"):
        pass
    ladder.run(120)
    assert not ladder.b.sad.inbound
    assert sorted(ladder.released) == sorted(set(ladder.given))


def test_a_trial_is_forgotten_without_a_word_where_the_machine_was_cloned():
    ladder = TrialLadder()
    ladder.transmit(ladder.attempt.begin(ladder.clock()))
    sent = len(ladder.sent)
    ladder.attempt.forget(ladder.clock())
    assert ladder.attempt.over
    assert len(ladder.sent) == sent


class Installs:
    """A core that agrees on SAs at once."""

    def __init__(self, *actions):
        self.actions = actions

    def initiate(self, _tunnel, _path, _now):
        return self.actions

    def status(self, _tunnel, _now):
        return ()


def test_keys_of_sas_that_nobody_installs_are_wiped():
    octets = [bytearray(b"k" * 20), bytearray(b"k" * 20)]
    suite, path = esp_suite(parse_esp(["aes128gcm16"])[0]), Ladder().path("a")
    child: dict[str, Any] = {"suite": suite_of(suite), "selectors": (), "limits": act.ChildLimits(), "path": path, "udp": False}
    came = act.InstallInbound("to-b", 1, 0x1000, keymat=octets[0], replay_window=64, **child)
    trial = NegotiationTrial(Installs(came, act.InstallOutbound("to-b", 1, 0x2000, keymat=octets[1], **child)), peer("a"), path)  # type: ignore[arg-type]
    trial.begin(0.0)
    assert octets == [bytearray(20), bytearray(20)]
    assert len(trial.outcome.pairs) == 1


def test_a_wrong_secret_is_refused_at_ike_auth():
    wrong = SharedKeyAuth(PreSharedKey.from_text("quite another secret"))
    ladder = TrialLadder(replace(peer("a"), auth=wrong)).try_it()
    assert (ladder.outcome.failed, ladder.outcome.exchange) == (TrialStage.PHASE_1, "IKE_AUTH")
    assert "either the secrets differ" in ladder.outcome.error
    nothing_stays(ladder)
