"""strongSwan sends much that means nothing here, and identities of every type: all of it passes, in both roles.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.ike.pki import CA, OpenSsl
from tests.interop.strongswan_meeting import IDENTITIES, ROLES, Certificates, Psk

pytestmark = pytest.mark.root

TALKATIVE = "charon { send_vendor_id = yes\n cisco_unity = yes\n cisco_flexvpn = yes\n}\n"
# What we cannot take, before and behind what we can.
MIXED_IKE = "camellia128-sha256-modp2048,aes128gcm16-prfsha256-x25519,3des-md5-modp1024"
MIXED_ESP = "camellia128-sha256,aes128gcm16,3des-md5"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = OpenSsl(tmp_path_factory.mktemp("pki"))
    made.certificate("root", "/CN=root", extensions=CA)
    for identity in IDENTITIES:
        made.certificate(identity, f"/CN={identity}", "root", f"subjectAltName=DNS:{identity}")
    return made


def both_roles(meeting):
    for role, other in zip(ROLES, reversed(ROLES), strict=True):
        meeting.bring_up(role)
        meeting.assert_carries()
        if other == "we":
            meeting.ours.ask("terminate", name="to-b")
        else:
            meeting.theirs.terminate(ike="gw")
        meeting.eventually(meeting.down, f"nothing is left after {other} delete the IKE SA")


def test_items_that_mean_nothing_here(meet, pki):
    """Vendor IDs, notifies of extensions that we do not have, CERTREQs, proposals of which one is good."""
    auth = Certificates(pki.directory, "root", IDENTITIES, "ecdsa-sha256")
    meeting = meet(
        auth=auth,
        their_ike=MIXED_IKE,
        their_esp=MIXED_ESP,
        strongswan_conf=TALKATIVE,
        their_connection="send_cert = always\n send_certreq = yes\n mobike = yes",
    )
    both_roles(meeting)


@dataclass(frozen=True)
class Named(Psk):
    """The peer says that it is another than it is elsewhere."""

    their_local: str = ""


@pytest.mark.parametrize(
    ("who", "ours", "shown"),
    [
        ("fqdn:two words", "fqdn:two words", "fqdn:two words"),
        ("@#00ff6b", "keyid:0x00ff6b", "keyid:0x00ff6b"),
        ("email:nobody", "email:nobody", "email:nobody"),
        ("C=DE, O=Acme Inc, CN=gw b", "/C=DE/O=Acme Inc/CN=gw b", "C=DE, O=Acme Inc, CN=gw b"),
    ],
)
def test_identities_of_every_type(meet, who, ours, shown):
    meeting = meet(auth=Named(their_local=f'auth = psk\n id = "{who}"'), our_remote_id=ours)
    meeting.bring_up("they")
    assert meeting.tunnel()["ike"]["remote_id"] == shown
    meeting.assert_carries()
