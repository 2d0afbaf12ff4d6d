"""The rig's strongSwan: two of them in namespaces of their own negotiate, carry traffic, rekey, and end.

hostA -- gwA (charon) == gwB (charon) -- hostB
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from benchmarks.tunnels.contenders import swanctl_conf
from benchmarks.tunnels.variants import BASE
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError, strongswan
from ipsec_dp.rig.peers.strongswan import StrongSwan
from tests.netns.traffic import echoes

pytestmark = pytest.mark.root
SECONDS = 20.0


@pytest.fixture(scope="module")
def sites():
    with netns.Lab() as lab:
        yield netns.two_sites(lab)


@pytest.fixture
def peers(sites, tmp_path):
    """Both up, nothing negotiated yet."""
    psk = secrets.token_hex(16)
    a, b = (
        StrongSwan(gateway, tmp_path / side, swanctl_conf(side, psk, BASE))
        for side, gateway in (("a", sites.gw_a), ("b", sites.gw_b))
    )
    with a, b:
        yield a, b


def eventually(condition) -> bool:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def carried(peer):
    return [(child["packets-in"], child["packets-out"]) for child in peer.children()]


def test_two_negotiate_and_carry_packets_in_esp(sites, peers):
    a, b = peers
    a.initiate("net")

    ((name, ike),) = a.list_sas()
    assert (name, ike["version"], ike["state"]) == ("gw", "2", "ESTABLISHED")
    assert (ike["encr-alg"], ike["prf-alg"], ike["dh-group"]) == ("AES_GCM_16", "PRF_HMAC_SHA2_256", "CURVE_25519")
    (child,) = a.children()
    assert (child["encr-alg"], child["encr-keysize"]) == ("AES_GCM_16", "128")
    assert (child["local-ts"], child["remote-ts"], child["encap"]) == (["10.1.0.0/24"], ["10.2.0.0/24"], "yes")

    assert echoes(sites.host_a, netns.HOST_B[0]) == 3
    for peer in (a, b):
        assert eventually(lambda peer=peer: carried(peer) == [("3", "3")])  # none went beside the tunnel


def test_a_rekey_changes_the_spis_and_a_termination_leaves_none(sites, peers):
    a, b = peers
    a.initiate("net")
    (before,) = a.children()
    a.rekey(child="net")
    assert eventually(lambda: len(now := a.children()) == 1 and now[0]["spi-in"] != before["spi-in"])
    assert echoes(sites.host_a, netns.HOST_B[0]) == 3

    b.terminate(ike="gw")
    assert b.list_sas() == []
    assert eventually(lambda: a.list_sas() == [])


def test_wrong_secrets_are_refused_and_the_log_says_so(peers):
    a, b = peers
    b.load(swanctl_conf("b", "another secret", BASE))
    with pytest.raises(PeerError, match="AUTHENTICATION_FAILED"):
        a.initiate("net")
    assert eventually(lambda: "MAC mismatched" in b.text())


def test_it_leaves_no_process_behind(peers):
    a, _ = peers
    assert a.daemon.process is not None
    pid = a.daemon.process.pid
    a.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_a_missing_strongswan_is_told_with_the_line_that_installs_it(sites, tmp_path, monkeypatch):
    monkeypatch.setattr(strongswan, "CHARON_DIRECTORIES", str(tmp_path))
    with pytest.raises(PeerError, match=r"apt-get install .*strongswan-charon.*libcharon-extra-plugins"):
        StrongSwan(sites.gw_a, tmp_path / "a", "").start()


def test_a_configuration_that_charon_cannot_read_is_refused_with_the_reason(sites, tmp_path):
    peer = StrongSwan(sites.gw_a, tmp_path / "a", "connections { gw { no_such_option = 1 } }")
    try:
        with pytest.raises(PeerError, match=r"no_such_option|unknown option"):
            peer.start()
    finally:
        peer.stop()
