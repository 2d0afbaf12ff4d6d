"""IKEv1's fragments with strongSwan, forced by a large chain of certificates, whoever initiates.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address

import pytest

from ipsec_dp.rig import capture, netns
from tests.ike.pki import CA, OpenSsl
from tests.interop.strongswan_meeting import IDENTITIES, ROLES, TUNNEL, Certificates, crossed

pytestmark = pytest.mark.root

FRAGMENT = 132
FIRST_PAYLOAD = 20 + 8 + 4 + 16  # behind IPv4, UDP, the non-ESP marker and both cookies
SAID = {"NAT-T", "DPD", "fragmentation", "XAUTH"}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """An authority, two below it, and a certificate of each gateway with many names."""
    made = OpenSsl(tmp_path_factory.mktemp("pki"))
    made.certificate("ca", "/CN=authority", extensions=CA)
    for name, issuer in (("ca-one", "ca"), ("ca-two", "ca-one")):
        made.certificate(name, f"/CN={name}", issuer, CA)
    further = ",".join(f"DNS:another-name-{number}.example" for number in range(60))
    for identity in IDENTITIES:
        made.certificate(identity, f"/CN={identity}", "ca-two", f"subjectAltName=DNS:{identity},{further}")
    with made.path(f"{IDENTITIES[0]}.crt").open("ab") as ours:
        for name in ("ca-two", "ca-one"):
            ours.write(made.path(f"{name}.crt").read_bytes())
    return made


def test_a_chain_that_takes_fragments(meet, pki, tmp_path):
    """Each sends message 5 or 6 with three certificates in datagrams of at most 1,280 octets, and none is cut on the way."""
    auth = Certificates(pki.directory, "ca", IDENTITIES, "pubkey", intermediates=("ca-one", "ca-two"))
    meeting = meet(version=1, ike="aes256-sha256-ecp256", esp="aes128gcm16", auth=auth)
    for role, other in zip(ROLES, reversed(ROLES), strict=True):
        packets = crossed(meeting, tmp_path / f"{role}.pcapng", partial(meeting.bring_up, role))
        for address in (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]):
            sent = [packet for packet in packets if packet[12:16] == ip_address(address).packed and capture.kind(packet) == "ike"]
            assert sum(packet[FIRST_PAYLOAD] == FRAGMENT for packet in sent) >= 3
            assert max(map(len, sent)) in range(1200, 1281)
        assert not {capture.kind(packet) for packet in packets} & {"udp-fragment", "udp"}
        assert set(meeting.tunnel()["ike"]["vendors"]) >= SAID
        meeting.assert_carries()
        if other == "we":
            meeting.ours.ask("terminate", name=TUNNEL)
        else:
            meeting.theirs.terminate(ike="gw")
        meeting.eventually(meeting.down, f"nothing is left after {other} delete the ISAKMP SA")


def test_none_are_sent_to_a_peer_that_takes_none(meet, pki, tmp_path):
    auth = Certificates(pki.directory, "ca", IDENTITIES, "pubkey", intermediates=("ca-one", "ca-two"))
    agreed = {"version": 1, "ike": "aes256-sha256-ecp256", "esp": "aes128gcm16"}
    meeting = meet(**agreed, auth=auth, their_connection="fragmentation = no")
    packets = crossed(meeting, tmp_path / "wan.pcapng", partial(meeting.bring_up, "we"))
    messages = [packet for packet in packets if capture.kind(packet) == "ike"]  # a later fragment of IP has any octets there
    assert len(messages) >= 6
    assert not [packet for packet in messages if packet[FIRST_PAYLOAD] == FRAGMENT]
    assert "fragmentation" not in meeting.tunnel()["ike"]["vendors"]
    meeting.assert_carries()
