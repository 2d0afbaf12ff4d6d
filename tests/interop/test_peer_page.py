"""docs/peers/strongswan.md as it stands: both of its files, copied, make a tunnel that carries packets.

10.1.0.1 gwA 192.0.2.1 (ours) == 198.51.100.1 gwB 10.2.0.1 (charon)
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.netns import Port
from ipsec_dp.rig.peers.strongswan import StrongSwan
from ipsec_dp.rig.process import GatewayProcess
from tests.netns.traffic import echoes

pytestmark = pytest.mark.root

PAGE = (Path(__file__).parents[2] / "docs/peers/strongswan.md").read_text()
OUTER = ("192.0.2.1", "198.51.100.1")
INNER = ("10.1.0.1", "10.2.0.1")


def block(language: str) -> str:
    """The page's one block of code in it."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(text)


def reaches(source: netns.Namespace, own: str, destination: str) -> bool:
    """Whether each echo request from `own` is answered."""
    return echoes(source, destination, 3, "-I", own) == 3


@pytest.fixture
def gateways():
    with netns.Lab() as lab:
        ours, theirs = lab.namespace("gwA"), lab.namespace("gwB")
        lab.link(Port(ours, "wan", (f"{OUTER[0]}/32",)), Port(theirs, "wan", (f"{OUTER[1]}/32",)))
        for gateway, inner, peer in zip((ours, theirs), INNER, reversed(OUTER), strict=True):
            gateway.ip(f"address add {inner}/16 dev lo", f"route add {peer} dev wan")
        yield ours, theirs


def test_its_two_files_make_a_tunnel(gateways, tmp_path):
    ours, theirs = gateways
    swanctl = block("text")
    (secret,) = re.findall(r'secret = "(.*)"', swanctl)
    (name,) = re.findall(r'psk_file = "(.*)"', block("toml"))
    (tmp_path / name).touch(0o600)
    (tmp_path / name).write_text(secret)
    (tmp_path / "site-a.toml").write_text(block("toml"))
    gateway = GatewayProcess(ours, tmp_path / "site-a.toml")
    with StrongSwan(theirs, tmp_path / "strongswan", swanctl) as peer:
        gateway.start()
        try:
            gateway.wait_up()
            gateway.wait_negotiated()
            assert reaches(ours, *INNER), gateway.text() + peer.text()
            assert reaches(theirs, *reversed(INNER)), gateway.text() + peer.text()
            assert gateway.status()["traffic"]["packets_in"] >= 6, "in ESP"
        finally:
            gateway.terminate()
