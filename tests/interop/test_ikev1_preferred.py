"""`version = "2-preferred"` with strongSwan that has IKEv1 alone, that has both, and with a box on the way that drops IKEv2.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ipsec_dp.ike.v1.peerings import YOUNG
from ipsec_dp.ike.version_choice import APART
from ipsec_dp.rig import netns
from tests.interop.strongswan_meeting import TUNNEL, Meeting

pytestmark = pytest.mark.root

IKE, ESP = "aes256-sha256-ecp256", "aes128gcm16"
BOTH = 0  # strongSwan's word for: begins with IKEv2, and answers either
# IKE's header is that of UDP and 17 octets later, on port 500; on port 4500 it stands behind four octets of zeros.
BOX = (
    "add table inet box; add chain inet box way { type filter hook prerouting priority -300; }; "
    "add rule inet box way udp dport 500 @th,200,8 0x20 counter drop; "
    "add rule inet box way udp dport 4500 @th,64,32 0 @th,232,8 0x20 counter drop"
)
A_CALL = 15.0  # seconds, at most, until one that is not answered is given up


@pytest.fixture
def state(monkeypatch):
    """Where a gateway keeps what it has learnt: it is not root then, so its way there is open to everybody."""
    with tempfile.TemporaryDirectory(dir="/run") as made:
        Path(made).chmod(0o711)
        monkeypatch.setenv("STATE_DIRECTORY", f"{made}/state")
        yield Path(made, "state")


@pytest.fixture
def meet_preferring(state, meet):
    """Ours prefers IKEv2; the peer has what is given."""

    def made(version: int, **agreed: Any) -> Meeting:
        return meet(**({"version": version, "our_version": "2-preferred", "ike": IKE, "esp": ESP} | agreed))

    return made


@pytest.fixture
def pin(state):
    return state / "gwA" / "ikev2" / TUNNEL


@contextlib.contextmanager
def a_box_that_drops_ikev2(sites: netns.TwoSites):
    sites.gw_b.run("nft", BOX)
    try:
        yield
    finally:
        sites.gw_b.run("nft", "delete table inet box")


def call(meeting: Meeting) -> None:
    """Until it came to nothing, or is up."""
    failures = meeting.tunnel()["failures"]
    meeting.ours.ask("initiate", name=TUNNEL)
    meeting.eventually(lambda: meeting.tunnel()["failures"] > failures or meeting.tunnel()["ike"], "an end", seconds=A_CALL)


def ikes(meeting: Meeting) -> list[str]:
    """Versions of the peer's IKE SAs that are up."""
    return [str(sa["version"]) for _, sa in meeting.theirs.list_sas() if sa["state"] == "ESTABLISHED"]


@pytest.mark.slow
def test_one_that_has_ikev1_alone(meet_preferring, pin):
    """It answers IKE_SA_INIT of IKEv2 by NO_PROPOSAL_CHOSEN."""
    meeting = meet_preferring(1)
    began = time.monotonic()
    call(meeting)
    assert "NO_PROPOSAL_CHOSEN" in meeting.tunnel()["last_error"]
    assert meeting.tunnel()["ike"] is None
    call(meeting)
    assert meeting.tunnel()["ike"] is None, "a second time, but too early"
    meeting.eventually(lambda: time.monotonic() - began > APART + 1.0, "half a minute after that began", seconds=APART + 5.0)
    meeting.ours.ask("initiate", name=TUNNEL)
    meeting.eventually(meeting.is_up, "up by IKEv1", seconds=A_CALL)
    up = meeting.tunnel()["ike"]
    assert (up["version"], ikes(meeting)) == (1, ["1"])
    assert "did not answer IKEv2" in up["fallback"]
    (warning,) = (text for text in meeting.ours.status()["warnings"] if "fallback" in text)
    meeting.eventually(lambda: meeting.ours.text().count(warning) == 1, "told once")
    meeting.assert_carries()
    assert not pin.exists()
    meeting.eventually(lambda: meeting.tunnel()["ike"]["age_s"] > YOUNG, "an ISAKMP SA that is no longer young")
    before = meeting.ike_spis()
    meeting.ours.ask("rekey", name=TUNNEL, ike=True)
    meeting.eventually(partial(meeting.has_another_ike_sa, before), "renewed by IKEv1 after IKEv2 was tried", seconds=A_CALL)
    assert meeting.tunnel()["ike"]["version"] == 1
    meeting.assert_carries()


@pytest.mark.slow
def test_one_that_has_both_and_a_box_between_that_drops_ikev2(meet_preferring, pin, sites):
    meeting = meet_preferring(BOTH)
    meeting.bring_up("we")
    assert (meeting.tunnel()["ike"]["version"], ikes(meeting)) == (2, ["2"])
    assert pin.exists()
    meeting.assert_carries()
    meeting.theirs.terminate(ike="gw")
    meeting.eventually(meeting.down, "down")
    with a_box_that_drops_ikev2(sites):
        meeting.ours.kill()  # it is not what the process remembers
        meeting.ours.start()
        meeting.ours.wait_up()
        began = time.monotonic()
        while time.monotonic() - began < APART + A_CALL:
            call(meeting)
        assert meeting.tunnel()["ike"] is None
        assert "IKEv1" not in meeting.ours.text()
        assert ikes(meeting) == []
    meeting.bring_up("we")
    assert (meeting.tunnel()["ike"]["version"], ikes(meeting)) == (2, ["2"])
    meeting.assert_carries()


def test_one_that_calls_by_ikev1_is_answered(meet_preferring, pin):
    meeting = meet_preferring(1)
    meeting.bring_up("they")
    up = meeting.tunnel()["ike"]
    assert (up["version"], up["role"]) == (1, "responder")
    assert "calls by IKEv1" in up["fallback"]
    assert not pin.exists()
    meeting.assert_carries()
