"""`ipsec-dp test` and `ipsec-dp probe` with a real strongSwan.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import json
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.interop.strongswan_meeting import Meeting

pytestmark = pytest.mark.root

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")


def said(meeting: Meeting, *arguments: str) -> tuple[int, Any]:
    """Exit status, and what it answers in JSON."""
    done = meeting.sites.gw_a.run(*IPSEC_DP, *arguments, "--json", check=False)
    return done.returncode, json.loads(done.stdout)


def test_a_tunnel_is_tried_beside_itself_and_nothing_of_it_stays(meet):
    meeting = meet()
    control = ("--control", str(meeting.ours.control))
    status, answer = said(meeting, "test", "to-b", *control)
    assert (status, answer["passed"]) == (0, True), answer
    assert [step["state"] for step in answer["steps"]] == ["ok"] * 4
    assert answer["remote_id"] == "gwB.example"
    assert not any("INITIAL_CONTACT" in line for line in answer["messages"])
    meeting.eventually(meeting.down, "nothing is left of the trial at the peer")
    meeting.bring_up("we")
    spis = meeting.spis()
    status, answer = said(meeting, "test", "to-b", *control)
    assert (status, answer["passed"]) == (1, False)
    assert "is up" in answer["asks"]
    status, answer = said(meeting, "test", "to-b", "--yes", *control)
    assert answer["asks"] is None
    assert meeting.spis() == spis, "the tunnel's own SAs are as they were"
    meeting.assert_carries()


def test_a_gateway_is_asked_what_it_answers(meet):
    """Beside our own gateway, which has ports 500 and 4500."""
    meeting = meet(ike="aes128gcm16-prfsha256-x25519")
    status, answer = said(meeting, "probe", meeting.agreement.outer[1])
    assert status == 0
    ikev2 = answer["ikev2"]
    assert ikev2["suite"] == "aes128gcm16-prfsha256-x25519"
    assert ikev2["accepts"]["x25519"]
    assert not ikev2["accepts"]["modp1024"]
    assert ikev2["fragmentation"]
    assert ikev2["nat_port"]
    assert not answer["authenticated"]
    assert tomllib.loads("\n".join(answer["tunnel"]))["tunnel"][0]["ike"]["proposals"] == ["aes128gcm16-prfsha256-x25519"]
