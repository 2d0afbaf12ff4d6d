"""We call and strongSwan calls (start_action = start): one IKE SA stays, no third one is made, and no packet is lost.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import time

import pytest

from tests.interop.strongswan_meeting import Agreement, Meeting
from tests.interop.strongswan_versions import OWN, VERSIONS, usr_of
from tests.netns.pings import PINGS, Pings

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

OFFSETS = [number / 10 for number in range(20)]
FEW = [0.0, 0.5]
SETTLED_S = 15.0


def both_start(sites, directory, version, first, offset):
    agreement = Agreement(ike=None, esp=None, start="start", their_child="start_action = start", usr=usr_of(version))
    meeting = Meeting(sites, directory, agreement)
    ours, theirs = meeting.ours.start, meeting.theirs.start
    pings = Pings(sites)
    try:
        sooner, later = (ours, theirs) if first == "we" else (theirs, ours)
        sooner()
        time.sleep(offset)  # what is tested: starts that lie apart
        later()
        meeting.ours.wait_up()
        lost = pings.lost()
        meeting.eventually(meeting.is_up, "one IKE SA on which both agree", SETTLED_S)
        assert not lost, f"{len(lost)} of {PINGS} after the first one: {lost}\n{meeting.lost()}\n{meeting.both_logs()}"
        assert meeting.ours.text().count("IKE SA up [") <= 2, meeting.both_logs()
        meeting.assert_carries()
    finally:
        pings.process.kill()
        meeting.ours.terminate()
        meeting.theirs.stop()


@pytest.mark.parametrize("first", ["we", "they"])
@pytest.mark.parametrize("offset", FEW)
@pytest.mark.parametrize("version", VERSIONS)
def test_both_start(sites, tmp_path, version, first, offset):
    both_start(sites, tmp_path, version, first, offset)


@pytest.mark.slow
@pytest.mark.parametrize("run", range(len(OFFSETS)))
def test_twenty_starts_apart(sites, tmp_path, run):
    both_start(sites, tmp_path, OWN, ("we", "they")[run % 2], OFFSETS[run])
