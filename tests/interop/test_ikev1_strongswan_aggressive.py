"""Aggressive mode with strongSwan: whoever initiates, with a shared key and with certificates, and what is said where modes differ.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

from typing import Any

import pytest

from ipsec_dp.ike.v1.peerings import YOUNG
from ipsec_dp.rig.peers import PeerError
from tests.ike.pki import CA, OpenSsl
from tests.interop.strongswan_meeting import IDENTITIES, ROLES, TUNNEL, Certificates, Meeting, Psk
from tests.netns.traffic import until

pytestmark = pytest.mark.root

IKE, ESP = "aes256-sha256-ecp256", "aes128gcm16"
ADMITTED = "charon { i_dont_care_about_security_and_use_aggressive_mode_psk = yes }\n"  # without it charon answers no such PSK


@pytest.fixture
def meet_aggressive(meet):
    """Makes meetings by IKEv1, in aggressive mode on both sides unless one is told otherwise."""

    def made(ours: str = "aggressive", theirs: str = "yes", **agreed: Any) -> Meeting:
        defaults = {
            "version": 1,
            "ike": IKE,
            "esp": ESP,
            "our_ike": f'mode = "{ours}"',
            "their_connection": f"aggressive = {theirs}",
            "strongswan_conf": ADMITTED,
        }
        return meet(**(defaults | agreed))

    return made


def assert_both_roles(meeting: Meeting) -> None:
    """Each in turn initiates, traffic goes both ways, and the other one deletes."""
    for role in ROLES:
        meeting.bring_up(role)
        ike = meeting.tunnel()["ike"]
        assert (ike["version"], ike["role"]) == (1, "initiator" if role == "we" else "responder")
        meeting.assert_carries()
        if role == "we":
            meeting.theirs.terminate(ike="gw")
        else:
            meeting.ours.ask("terminate", name=TUNNEL)
        meeting.eventually(meeting.down, f"nothing is left of what {role} began")


def test_shared_key(meet_aggressive):
    """The identities choose it; UDP is forced by both sides, so message 3 floats to port 4500."""
    meeting = meet_aggressive()
    assert_both_roles(meeting)
    (warning,) = [text for text in meeting.ours.status()["warnings"] if "aggressive mode" in text]
    assert "can try offline which shared key it was" in warning
    until(lambda: warning in meeting.ours.text(), "it is in the log")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """An authority and certificates of both gateways with RSA and with ECDSA keys."""
    made = OpenSsl(tmp_path_factory.mktemp("pki"))
    for kind in ("rsa", "ec"):
        made.certificate(f"ca-{kind}", f"/CN=authority {kind}", extensions=CA, kind=kind)
        for identity in IDENTITIES:
            made.certificate(f"{identity}-{kind}", f"/CN={identity}", f"ca-{kind}", f"subjectAltName=DNS:{identity}", kind)
    return made


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_signatures(meet_aggressive, pki, kind):
    names = (f"{IDENTITIES[0]}-{kind}", f"{IDENTITIES[1]}-{kind}")
    assert_both_roles(meet_aggressive(auth=Certificates(pki.directory, f"ca-{kind}", names, "pubkey")))


def test_phase_1_is_renewed_by_either_side(meet_aggressive):
    meeting = meet_aggressive()
    meeting.bring_up("we")
    for role in ROLES:
        meeting.eventually(lambda: meeting.tunnel()["ike"]["age_s"] > YOUNG, "an ISAKMP SA that is no longer young")
        spis, ike = meeting.spis(), meeting.ike_spis()
        if role == "we":
            meeting.ours.ask("rekey", name=TUNNEL, ike=True)
        else:
            meeting.theirs.rekey(ike="gw")
        meeting.eventually(lambda ike=ike: meeting.has_another_ike_sa(ike), f"a new ISAKMP SA, asked for by {role}")
        assert meeting.spis() == spis
        meeting.assert_carries()


def fail(meeting: Meeting, role: str) -> None:
    """Somebody begins, in vain."""
    if role == "we":
        meeting.ours.ask("initiate", name=TUNNEL)
    else:
        with pytest.raises(PeerError):
            meeting.theirs.initiate("net", seconds=3.0)


AGREED: dict[str, dict[str, Any]] = {
    "another secret": {"auth": Psk(theirs="another secret of thirty characters")},
    "main mode there": {"theirs": "no"},
    "main mode here": {"ours": "main"},
}
DIFFERENT = {
    ("we", "another secret"): "did not prove who it is: its hash does not fit: the shared keys differ",
    ("they", "another secret"): "says of message 2 cannot be read: the shared keys differ",
    ("we", "main mode there"): "the peer refuses aggressive mode: ",
    ("they", "main mode there"): "begins main mode, and the tunnel is to speak aggressive mode",
    ("they", "main mode here"): "begins aggressive mode, and the tunnel is to speak main mode",
}


@pytest.mark.parametrize(("role", "why"), DIFFERENT)
def test_what_differs_is_explained(meet_aggressive, role, why):
    meeting = meet_aggressive(**AGREED[why])
    fail(meeting, role)
    meeting.eventually(lambda: DIFFERENT[role, why] in meeting.ours.text(), "it is explained", seconds=45)
    assert not meeting.children()
