"""The conformance cases of a gateway that calls: ours passes each, what a wrong one does wrong turns its case red."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.rig import Network, RigError, impair
from ipsec_dp.rig.conformance.calls import CallKit
from ipsec_dp.rig.conformance.run import CaseOutcome, run_case, run_cases
from ipsec_dp.rig.conformance.table import CALLS
from ipsec_dp.rig.odd_end import OddEnd
from ipsec_dp.rig.odd_wire import UnreachableError
from tests.unit.odd_calls import AGREED, TABLES
from tests.unit.rig_sites import site

BY_NAME = {case.name: case for case in CALLS}
PASSED, FAILED, _ = CaseOutcome


@pytest.fixture
def network():
    with Network(seed=1) as network:
        yield network


def kit(network, gateway=True, **agreed):
    """A kit that gateway a calls; False: nobody does."""
    end = OddEnd(network, "192.0.2.2", "192.0.2.1")
    made = network.gateway(site("a", tables=TABLES)) if gateway else None

    def call():
        if made is not None and not made.sas():
            made.initiate()

    return CallKit(replace(AGREED, **agreed), end, call, wait=200.0), made


@pytest.mark.parametrize("name", BY_NAME)
def test_our_gateway_passes(network, name):
    verdict = run_case(kit(network)[0], BY_NAME[name])
    assert (verdict.outcome, verdict.text) == (PASSED, "")


def test_one_case_is_in_no_other_s_way(network):
    verdicts = run_cases(kit(network)[0], CALLS, lambda _: None)
    assert [(verdict.case.name, verdict.text) for verdict in verdicts if verdict.outcome is not PASSED] == []


@pytest.mark.parametrize("name", BY_NAME)
def test_no_case_passes_where_nobody_calls(network, name):
    verdict = run_case(kit(network, gateway=False)[0], BY_NAME[name])
    assert verdict.outcome is FAILED


def test_nobody_there_is_said_before_any_case(network):
    with pytest.raises(UnreachableError, match="no IKE SA with a CHILD_SA comes up"):
        run_cases(kit(network, gateway=False)[0], CALLS, lambda _: None)


def test_a_gateway_that_brings_back_no_cookie_fails_that_case(network):
    tried, gateway = kit(network)
    impair.drop(network.wire, lambda passing: passing.sender == "a" and has_cookie(passing.datagram.data))
    assert gateway is not None
    verdict = run_case(tried, BY_NAME["call-brings-back-a-cookie"])
    assert verdict.outcome is FAILED


def has_cookie(octets):
    try:
        message = parse_message(octets)
    except Exception:  # noqa: BLE001 - ESP, or behind a marker
        return False
    return any(isinstance(payload, Notify) and payload.notify_type == 16390 for payload in message.payloads)


def test_a_gateway_that_repeats_other_octets_fails_that_case(network):
    tried, _ = kit(network)
    every_other = impair.nth(impair.ike("IKE_SA_INIT", sender="a"), 1, 3, 5)
    impair.alter(network.wire, every_other, lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]))
    verdict = run_case(tried, BY_NAME["call-is-repeated"])
    assert (verdict.outcome, verdict.text) == (FAILED, "the repetition is another")


def test_each_says_what_and_where():
    assert len(BY_NAME) == len(CALLS) >= 13
    for case in CALLS:
        assert case.name.startswith("call-")
        assert case.section.startswith("RFC 7296 §")
        assert 15 < len(case.what) < 130


def test_an_end_is_on_the_network_by_its_name(network):
    end = OddEnd(network, "192.0.2.2", "192.0.2.1")
    with pytest.raises(RigError, match="two ends of the name 'odd'"):
        OddEnd(network, "192.0.2.3", "192.0.2.1")
    with pytest.raises(RigError, match="both have the address"):
        OddEnd(network, "192.0.2.2", "192.0.2.1", name="other")
    end.close()
    end.close()
    OddEnd(network, "192.0.2.2", "192.0.2.1").close()
