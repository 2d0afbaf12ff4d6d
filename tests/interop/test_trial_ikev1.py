"""`ipsec-dp test` by IKEv1 with a real strongSwan, in main mode and in aggressive mode, and the trace that is turned on meanwhile.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.strongswan_meeting import TUNNEL
from tests.netns.traffic import until

if TYPE_CHECKING:
    from tests.interop.strongswan_meeting import Meeting

pytestmark = pytest.mark.root

MODES: dict[str, dict[str, Any]] = {
    "main": {},
    "aggressive": {
        "our_ike": 'mode = "aggressive"',
        "their_connection": "aggressive = yes",
        "strongswan_conf": "charon { i_dont_care_about_security_and_use_aggressive_mode_psk = yes }\n",
    },
}
FIRST = {"main": "IKEv1 main mode [E]", "aggressive": "IKEv1 aggressive mode []"}


def said(meeting: Meeting, *arguments: str) -> tuple[int, str]:
    """Exit status of a command to our gateway, and what it prints."""
    command = (sys.executable, "-m", "ipsec_dp", *arguments, "--control", str(meeting.ours.control))
    done = meeting.sites.gw_a.run(*command, check=False)
    return done.returncode, done.stdout


def tried(meeting: Meeting, *arguments: str) -> tuple[int, Any]:
    status, text = said(meeting, "test", TUNNEL, "--json", *arguments)
    return status, json.loads(text)


@pytest.mark.parametrize("mode", MODES)
def test_a_tunnel_is_tried_and_nothing_of_it_stays(meet1, mode):
    meeting = meet1(**MODES[mode])
    assert "trace-ike   on\n" in said(meeting, "log", "--trace-ike")[1]
    status, answer = tried(meeting)
    assert (status, answer["passed"]) == (0, True), answer
    assert [step["state"] for step in answer["steps"]] == ["ok", "ok", "not tried"], "IKEv1 has no probe of the path"
    assert not any("INITIAL_CONTACT" in line for line in answer["messages"])
    meeting.eventually(meeting.down, "nothing is left of the trial at the peer")
    meeting.bring_up("we")
    until(lambda: FIRST[mode] in meeting.ours.text(), "the trace shows phase 1")
    assert "trace-ike   off\n" in said(meeting, "log", "--no-trace-ike")[1]
    spis = meeting.spis()
    assert tried(meeting)[1]["asks"] is not None
    assert meeting.spis() == spis, "the tunnel's own SAs are as they were"
    meeting.assert_carries()
