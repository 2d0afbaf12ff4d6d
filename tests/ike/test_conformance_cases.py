"""The conformance kit against gateways in memory: ours passes every case, what a wrong one does wrong turns the right cases red."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.rig.conformance.auth_cases import broken
from ipsec_dp.rig.conformance.kit import RequirementLevel
from ipsec_dp.rig.conformance.run import CaseOutcome, Verdict, all_passed, run_case, run_cases
from ipsec_dp.rig.conformance.table import CASES
from ipsec_dp.rig.odd_wire import UnreachableError

from .under_test import LadderWire, Mute, kit, resealed

BY_NAME = {case.name: case for case in CASES}
PASSED, FAILED, NOT_APPLICABLE = CaseOutcome


@pytest.mark.parametrize("name", BY_NAME)
def test_our_gateway_passes(name):
    verdict = run_case(kit(), BY_NAME[name])
    assert (verdict.outcome, verdict.text) == (PASSED, "")


@pytest.mark.parametrize("name", BY_NAME)
def test_no_case_passes_where_nobody_answers(name):
    """Silence is what many cases want: none of them takes it from a gateway that is not there."""
    assert run_case(kit(Mute()), BY_NAME[name]).outcome is FAILED


def failed(wire, beginning=""):
    """The cases whose name begins so that a gateway fails."""
    names = [name for name in BY_NAME if name.startswith(beginning)]
    return {name for name in names if run_case(kit(wire()), BY_NAME[name]).outcome is FAILED}


@pytest.mark.parametrize(
    ("flaw", "expected"),
    [
        ("replays are taken", {"esp-replay", "esp-old-packet"}),
        ("wrong ICVs are taken", {"esp-wrong-icv", "esp-forged-jump"}),
        ("forged packets move the window", {"esp-forged-jump"}),
        ("selectors are not checked", {"esp-foreign-source"}),
        ("sequence numbers start late", {"esp-sequence-numbers"}),
        ("dummies are taken", {"esp-dummy-packet"}),
    ],
)
def test_a_flaw_of_esp_turns_its_cases_red(flaw, expected):
    assert failed(lambda: LadderWire(flaws={flaw}), "esp-") == expected


def header_octet(at, change):
    """A `bend`: one octet of the header of IKE_SA_INIT responses is another."""
    return lambda _wire, octets: octets[:at] + bytes([octets[at] ^ change]) + octets[at + 1 :] if octets[18] == 34 else octets


def not_critical(octets):
    """A `mend`: a critical payload behind all others is not critical."""
    return [octets[:-4] + b"\0\0\0\4" if octets.endswith(b"\0\x80\0\4") else octets]


def any_icv(octets):
    """A `mend`: the last bit may be wrong."""
    return [octets, octets[:-1] + bytes([octets[-1] ^ 1])]


def without(kind):
    return resealed(lambda payloads: [each for each in payloads if not isinstance(each, kind)])


def without_errors(payloads):
    return [each for each in payloads if not (isinstance(each, p.Notify) and each.is_error)]


def with_more(payloads):
    return [*payloads, p.Notify(40_000)]


REFUSED = {  # where the IKE SA is up before and after
    "auth-foreign-selectors",
    "auth-no-esp-proposal",
    "child-foreign-selectors",
    "child-no-proposal",
    "child-rekey-of-nothing",
    "child-unknown-critical-payload",
    "ike-rekey-no-proposal",
    "ike-rekey-other-group",
    "informational-unknown-critical-payload",
}


@pytest.mark.parametrize(
    ("what", "wire", "beginning", "expected"),
    [
        ("a reserved flag", lambda: LadderWire(bend=header_octet(19, 0x40)), "init-header", {"init-header-is-right"}),
        ("a minor version", lambda: LadderWire(bend=header_octet(17, 0x01)), "init-header", {"init-header-is-right"}),
        ("critical payloads are passed over", lambda: LadderWire(mend=not_critical), "init-", {"init-unknown-critical-payload"}),
        ("any ICV will do", lambda: LadderWire(mend=any_icv), "auth-wrong-icv", {"auth-wrong-icv"}),
        ("any ICV will do", lambda: LadderWire(mend=any_icv), "request-with", {"request-with-a-wrong-icv"}),
        ("any ICV will do", lambda: LadderWire(mend=any_icv), "fragments-with-a-wrong", {"fragments-with-a-wrong-icv"}),
        ("no errors", lambda: LadderWire(bend=resealed(without_errors)), "", REFUSED),
        (
            "no DELETE",
            lambda: LadderWire(bend=without(p.Delete)),
            "",
            {"delete-of-a-child", "delete-of-nothing", "child-rekey", "ike-rekey-keeps-children"},
        ),
        ("an AUTH that does not hold", lambda: LadderWire(bend=resealed(broken)), "auth-of", {"auth-of-the-responder-holds"}),
        ("more than is due", lambda: LadderWire(bend=resealed(with_more)), "informational-is", {"informational-is-answered"}),
    ],
)
def test_a_wrong_gateway_fails_the_cases_of_what_it_does_wrong(what, wire, beginning, expected):
    assert failed(wire, beginning) == expected


def test_a_case_without_an_address_to_ask_is_not_applicable():
    verdict = run_case(kit(echo=None), BY_NAME["esp-replay"])
    assert (verdict.outcome, verdict.text) == (NOT_APPLICABLE, "there is no --echo address")


def test_a_case_that_comes_to_no_end_has_failed():
    def endless(kit):
        while True:
            kit.fresh()
            kit.wire.receive(1.0)

    verdict = run_case(kit(), replace(CASES[0], run=endless))
    assert (verdict.outcome, verdict.text) == (FAILED, "it came to no end in 20 s")


def test_a_gateway_that_a_case_ends_has_failed_it_and_the_rest_says_nothing():
    wire = LadderWire()

    def ends(_kit):
        wire.bend = header_octet(16, 0xFF)

    told: list[Verdict] = []
    verdicts = run_cases(kit(wire), [CASES[0], replace(CASES[1], run=ends), CASES[2]], told.append)
    assert [verdict.outcome for verdict in verdicts] == [PASSED, FAILED, NOT_APPLICABLE]
    assert verdicts[1].text == "afterwards no IKE SA comes up"
    assert told == verdicts
    assert not all_passed(verdicts)


def test_a_gateway_that_never_was_there_is_unreachable():
    with pytest.raises(UnreachableError, match="compare key, identities"):
        run_cases(kit(Mute()), CASES, lambda _verdict: None)


def test_a_gateway_that_does_not_authenticate_is_unreachable():
    wire = LadderWire(mend=lambda octets: [] if octets[18] == 35 else [octets])
    with pytest.raises(UnreachableError):
        run_cases(kit(wire), CASES, lambda _verdict: None)


def test_every_case_says_what_where_and_how_much():
    assert len(CASES) == len(BY_NAME) >= 120
    for case in CASES:
        assert case.section.startswith(
            ("RFC 7296 §", "RFC 4303 §", "RFC 3948 §", "RFC 7383 §", "RFC 4301 §", "RFC 4106 §", "RFC 6989 §")
        )
        assert case.level in RequirementLevel
        assert 15 < len(case.what) < 130
        assert not case.what.endswith(".")
    assert {case.level for case in CASES} == set(RequirementLevel)


def test_no_case_leaves_an_ike_sa_behind():
    wire = LadderWire()
    tried = kit(wire)
    for name in ("init-is-answered", "auth-is-answered", "ike-rekey", "child-further", "fragments-of-ike-auth"):
        assert run_case(tried, BY_NAME[name]).outcome is PASSED
    assert wire.ladder.b.ups == []
    assert wire.ladder.b.core.counters().half_open == 0
