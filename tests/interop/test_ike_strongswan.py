"""IKEv2 with strongSwan: every suite, group and way of authentication, whoever initiates and whoever ends it.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.rig import capture, netns
from tests.ike.pki import CA, OpenSsl
from tests.interop.strongswan_meeting import IDENTITIES, ROLES, Certificates, Meeting, Net, crossed

ENCRYPTED_FRAGMENT = 53  # payload type (RFC 7383)

pytestmark = pytest.mark.root

# (what both propose for IKE, what for ESP); the four groups 14, 19, 20 and 31 are among them.
SUITES = {
    "aes128gcm, group 19": ("aes128gcm16-prfsha256-ecp256", "aes128gcm16"),
    "aes256gcm, group 20": ("aes256gcm16-prfsha384-ecp384", "aes256gcm16"),
    "aes128cbc and sha256, group 14": ("aes128-sha256-modp2048", "aes128-sha256"),
    "aes256cbc and sha256, group 31": ("aes256-sha256-x25519", "aes256-sha256"),
    "chacha20poly1305, group 31": ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305"),
}


def end(meeting: Meeting, role: str) -> None:
    """One side deletes the IKE SA; then neither has any."""
    if role == "we":
        meeting.ours.ask("terminate", name="to-b")
    else:
        meeting.theirs.terminate(ike="gw")
    meeting.eventually(meeting.down, f"nothing is left after {role} delete the IKE SA")


def assert_both_roles(meeting: Meeting, version: int = 4) -> None:
    """Each in turn initiates, traffic goes both ways, and the other one deletes."""
    for role, other in zip(ROLES, reversed(ROLES), strict=True):
        meeting.bring_up(role)
        assert meeting.tunnel()["ike"]["role"] == ("initiator" if role == "we" else "responder")
        meeting.assert_carries(version)
        end(meeting, other)


@pytest.mark.parametrize("suite", SUITES)
def test_suite(meet, suite):
    ike, esp = SUITES[suite]
    meeting = meet(ike=ike, esp=esp)
    meeting.bring_up("we")
    (child,) = meeting.children()
    assert (child["suite"], child["esn"]) == (esp, False)
    end(meeting, "they")
    assert_both_roles(meeting)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Authorities and certificates of both gateways with RSA and with ECDSA keys, and a large chain."""
    made = OpenSsl(tmp_path_factory.mktemp("pki"))
    for kind in ("rsa", "ec"):
        made.certificate(f"ca-{kind}", f"/CN=authority {kind}", extensions=CA, kind=kind)
        for identity in IDENTITIES:
            made.certificate(f"{identity}-{kind}", f"/CN={identity}", f"ca-{kind}", f"subjectAltName=DNS:{identity}", kind)
    for name, issuer in (("ca-one", "ca-ec"), ("ca-two", "ca-one")):
        made.certificate(name, f"/CN={name}", issuer, CA)
    further = ",".join(f"DNS:another-name-{number}.example" for number in range(40))
    for identity in IDENTITIES:
        made.certificate(f"{identity}-chain", f"/CN={identity}", "ca-two", f"subjectAltName=DNS:{identity},{further}")
    with made.path(f"{IDENTITIES[0]}-chain.crt").open("ab") as ours:
        for name in ("ca-two", "ca-one"):
            ours.write(made.path(f"{name}.crt").read_bytes())
    return made


def certificates(pki: OpenSsl, kind: str, method: str, authority: str, **further: Any) -> Certificates:
    return Certificates(pki.directory, authority, (f"{IDENTITIES[0]}-{kind}", f"{IDENTITIES[1]}-{kind}"), method, **further)


@pytest.mark.parametrize(
    ("kind", "method"),
    [("rsa", "rsa-sha256"), ("rsa", "rsa/pss-sha256"), ("ec", "ecdsa-sha256")],  # rsa-sha256: PKCS#1 v1.5
)
def test_certificates(meet, pki, kind, method):
    assert_both_roles(meet(auth=certificates(pki, kind, method, f"ca-{kind}")))


@pytest.mark.parametrize(("kind", "our_tunnel"), [("rsa", "legacy = true"), ("ec", "")])
def test_certificates_of_a_peer_without_rfc_7427(meet, pki, kind, our_tunnel):
    """RFC 7296's own methods; that of RSA is with SHA-1, which only `legacy` admits."""
    auth = certificates(pki, kind, "pubkey", f"ca-{kind}")
    assert_both_roles(meet(auth=auth, our_tunnel=our_tunnel, strongswan_conf="charon { signature_authentication = no }\n"))


def test_a_chain_that_takes_fragments(meet, pki, tmp_path):
    """Both send three certificates, one of them large, in IKE fragments of at most 1,280 octets each with their IP headers."""
    auth = certificates(pki, "chain", "ecdsa-sha256", "ca-ec", intermediates=("ca-one", "ca-two"))
    meeting = meet(auth=auth)
    for role, other in zip(ROLES, reversed(ROLES), strict=True):
        packets = crossed(meeting, tmp_path / f"{role}.pcapng", partial(meeting.bring_up, role))
        for address in (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]):
            sent = [packet for packet in packets if packet[12:16] == ip_address(address).packed and capture.kind(packet) == "ike"]
            assert sum(packet[28 + 4 + 16] == ENCRYPTED_FRAGMENT for packet in sent) >= 3
            assert max(map(len, sent)) in range(1200, 1281)
        assert not {capture.kind(packet) for packet in packets} & {"udp-fragment", "udp"}
        meeting.assert_carries()
        end(meeting, other)


def test_outer_ipv6(meet):
    assert_both_roles(meet(outer=(netns.GW_A_OUTER[1], netns.GW_B_OUTER[1])))


def test_inner_ipv6(meet):
    nets = (Net(ours=netns.SITE_A_NETS[1], theirs=netns.SITE_B_NETS[1]),)
    assert_both_roles(meet(nets=nets, proxy_ids=((netns.SITE_A_NETS[1], netns.SITE_B_NETS[1]),)), version=6)


def test_on_port_4500_from_the_first_message(meet, tmp_path):
    meeting = meet(their_connection="local_port = 4500\n remote_port = 4500")
    packets = crossed(meeting, tmp_path / "wan.pcapng", lambda: meeting.bring_up("they"))
    ports = {int.from_bytes(packet[at : at + 2], "big") for packet in packets if capture.kind(packet) == "ike" for at in (20, 22)}
    assert 4500 in ports
    assert 500 not in ports
    meeting.assert_carries()
