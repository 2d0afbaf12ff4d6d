"""What gateways in memory offer: the default proposals as far as a seed gives the same octets again, or what is written."""

from __future__ import annotations

import pytest

from ipsec_dp.config import load
from ipsec_dp.ike.proposal import CLASSIC_IKE, DEFAULT_IKE, parse_ike
from ipsec_dp.rig import Network, Wire
from tests.unit.rig_sites import site, sites

IKE = "  [tunnel.ike]\n  {}\n"
WRITTEN = IKE.format('proposals = ["aes256gcm16-prfsha384-x25519-ke1_mlkem768"]')
REQUIRED = IKE.format('post_quantum = "required"')
KEM = "aes256gcm16-prfsha384-x25519-ke1_mlkem768"


@pytest.mark.parametrize(
    ("tables", "proposal"), [("", "aes256gcm16-prfsha384-x25519"), (WRITTEN, KEM), (REQUIRED, KEM)], ids=["", "written", "required"]
)
def test_ml_kem_is_there_for_whoever_writes_it(tables, proposal):
    with sites(tables=tables) as (a, b):
        for gateway in (a, b):
            ike = gateway.tunnel().ike
            assert ike is not None
            assert ike.proposal == proposal
            assert not [event for event in gateway.events() if "quantum" in event.text]


def test_a_reload_offers_the_same():
    with Network(wire=Wire()) as network:
        gateway = network.gateway(site("a"))
        assert gateway.config.tunnels[0].ike.proposals == parse_ike(CLASSIC_IKE)
        assert not gateway.reload(site("a")).changed
        gateway.reload(site("a", tables=IKE.format('lifetime = "2h"')))
        assert gateway.config.tunnels[0].ike.lifetime_s == 7200
        assert gateway.config.tunnels[0].ike.proposals == parse_ike(CLASSIC_IKE)


def test_the_daemon_reads_the_same_file_with_ml_kem(tmp_path):
    """And so does a gateway of a rig in a namespace."""
    file = tmp_path / "a.toml"
    file.write_text(site("a"))
    secret = tmp_path / "site.psk"
    secret.touch(mode=0o600)
    secret.write_text("0x" + "ab" * 32)
    assert load(file).tunnels[0].ike.proposals == parse_ike(DEFAULT_IKE)
