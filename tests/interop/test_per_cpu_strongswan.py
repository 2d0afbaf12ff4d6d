"""A CHILD_SA for each worker (RFC 9611) with strongSwan 6.1, which has the same as `per_cpu_sas`.

hostA -- gwA (ours, two workers) == gwB (charon) -- hostB

It takes further ones that we ask for and sends by the newest. For its own it waits for the kernel to name a processor, which its
userspace ESP never does: where it calls there is one.
"""

from __future__ import annotations

from typing import Any

import pytest

from ipsec_dp.ike.v2.resources import SOON
from ipsec_dp.rig import netns
from tests.interop.strongswan_meeting import ROLES, TUNNEL, ping
from tests.interop.strongswan_versions import NEWER, OWN, usr_of
from tests.interop.test_ike_strongswan_rekey import rekey

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WORKERS = 2
PER_CPU = "rekey_time = 1h\n per_cpu_sas = yes"


@pytest.fixture
def meet_per_cpu(meet):
    """Makes meetings in which both sides are configured for it, or as the further keywords say."""

    def made(**agreed):
        return meet(**({"usr": usr_of(NEWER), "our_gateway": f"workers = {WORKERS}", "their_child": PER_CPU} | agreed))

    return made


def of_all_workers(meeting):
    """Whether both have one for each worker of ours, all as of several."""
    said = [child.get("per-cpu-sas") for child in meeting.theirs.children()]
    workers = sorted(child["worker"] for child in meeting.children() if child["spi_out"])
    return meeting.is_up() and said == ["yes"] * WORKERS and workers == list(range(WORKERS))


def whole(meeting):
    """Waits for them, which packets ask for."""
    meeting.bring_up("we")
    meeting.assert_carries()
    meeting.eventually(lambda: of_all_workers(meeting), "a CHILD_SA for each worker")


def workers_by_cpu(meeting):
    """The workers that its CHILD_SAs have with us, by the number that it knows each by, which it keeps over a rekey."""
    workers = {int(child["spi_in"], 16): child["worker"] for child in meeting.children() if child["spi_out"]}
    return {child.get("cpu", "none"): workers[int(str(child["spi-out"]), 16)] for child in meeting.theirs.children()}


def would_have_more(meeting):
    """Packets go for twice as long as it takes until more are asked for, and an exchange behind them is done."""
    assert ping(meeting.sites.host_a, netns.HOST_B[0], 20, "-l", "1", "-i", str(SOON / 10)), meeting.both_logs()
    ike = meeting.ike_spis()
    rekey(meeting, "we", ike=True)
    meeting.eventually(lambda: meeting.is_up() and meeting.has_another_ike_sa(ike), "a new IKE SA")
    meeting.assert_carries()


def test_it_takes_one_for_each_worker_of_ours(meet_per_cpu):
    meeting = meet_per_cpu()
    whole(meeting)
    assert sorted(child.get("cpu", "none") for child in meeting.theirs.children()) == ["1", "none"], "it has our resource's number"
    meeting.assert_carries()
    meeting.ours.ask("terminate", name=TUNNEL)
    meeting.eventually(meeting.down, "nothing is left")


@pytest.mark.parametrize("role", ROLES)
def test_a_rekey_by_either_side_stays_with_its_worker(meet_per_cpu, role):
    meeting = meet_per_cpu()
    whole(meeting)
    before, workers = meeting.spis(), workers_by_cpu(meeting)
    rekey(meeting, role, ike=False)
    meeting.eventually(lambda: of_all_workers(meeting) and not meeting.spis() & before, f"new ones, asked for by {role}")
    assert workers_by_cpu(meeting) == workers
    meeting.assert_carries()
    before, ike = meeting.spis(), meeting.ike_spis()
    rekey(meeting, role, ike=True)
    meeting.eventually(lambda: meeting.has_another_ike_sa(ike) and of_all_workers(meeting), f"a new IKE SA, asked for by {role}")
    assert meeting.spis() == before
    assert workers_by_cpu(meeting) == workers
    meeting.assert_carries()


def test_where_it_calls_there_is_one(meet_per_cpu):
    meeting = meet_per_cpu()
    meeting.bring_up("they")
    would_have_more(meeting)
    assert [child.get("per-cpu-sas") for child in meeting.theirs.children()] == ["yes"]
    assert len(meeting.children()) == 1


WITHOUT: dict[str, dict[str, Any]] = {
    "one worker": {"our_gateway": ""},
    "no per_cpu_sas": {"their_child": "rekey_time = 1h"},
    "strongSwan 5.9": {"usr": usr_of(OWN), "their_child": "rekey_time = 1h"},
}


@pytest.mark.parametrize(
    ("role", "side"),
    [("we", "one worker"), ("they", "one worker"), ("we", "no per_cpu_sas"), ("they", "no per_cpu_sas"), ("we", "strongSwan 5.9")],
)
def test_with_one_side_that_has_it_not_there_is_one(meet_per_cpu, role, side):
    meeting = meet_per_cpu(**WITHOUT[side])
    meeting.bring_up(role)
    would_have_more(meeting)
    assert len(meeting.children()) == len(meeting.their_spis()) == 1
    assert {child.get("per-cpu-sas") for child in meeting.theirs.children()} == {None}
