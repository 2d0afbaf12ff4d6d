"""Many gateways on one clock."""

from __future__ import annotations

import time

import pytest

from ipsec_dp.rig import Network

SPOKES = 200
HUB = '[gateway]\nname = "hub"\n'
TUNNEL = """
[[tunnel]]
name = "{name}"
local = "{local}"
remote = "{remote}"
interface = "ipsec0"
start = "{start}"
  [[tunnel.proxy_id]]
  local = "{near}"
  remote = "{far}"
  [tunnel.auth]
  local_id = "{me}.example"
  remote_id = "{peer}.example"
  psk_file = "star.psk"
"""


def spoke(number):
    """Addresses of a spoke: outer, and the network behind it."""
    return f"198.51.{100 + number // 100}.{number % 100 + 1}", f"10.{number // 100 + 1}.{number % 100}.0/24"


def star(network, count):
    """A hub that is called by so many spokes."""
    tunnels, spokes = [], []
    for number in range(count):
        outer, behind = spoke(number)
        name = f"spoke{number}"
        tunnels.append(
            TUNNEL.format(
                name=name, local="192.0.2.1", remote=outer, start="respond", near="10.0.0.0/16", far=behind, me="hub", peer=name
            )
        )
        there = TUNNEL.format(
            name="hub", local=outer, remote="192.0.2.1", start="start", near=behind, far="10.0.0.0/16", me=name, peer="hub"
        )
        spokes.append(f'[gateway]\nname = "{name}"\n{there}')
    hub = network.gateway(HUB + "".join(tunnels))
    return hub, [network.gateway(text) for text in spokes]


@pytest.mark.slow
def test_a_star_of_200_each_with_a_rekey_takes_less_than_20_seconds():
    """The processor's, since others may use the machine."""
    began = time.process_time()
    with Network() as network:
        hub, spokes = star(network, SPOKES)
        for each in spokes:
            each.wait("up")
        before = {sa.spi_in for sa in hub.sas()}
        assert len(before) == SPOKES
        for each in spokes:
            each.rekey()
        for each in spokes:
            each.wait("CHILD_SA rekeyed")
        network.advance(60)
        after = {sa.spi_in for sa in hub.sas()}
        assert len(after) == SPOKES
        assert not after & before
    assert time.process_time() - began < 20


def test_a_small_star_talks_through_its_hub_only():
    with Network() as network:
        hub, spokes = star(network, 5)
        for each in spokes:
            each.wait("up")
        assert sorted(tunnel.name for tunnel in hub.config.tunnels) == [f"spoke{number}" for number in range(5)]
        assert {sent.passing.sender for sent in network.log} == {"hub", *(f"spoke{number}" for number in range(5))}
        assert all("hub" in (sent.passing.sender, sent.passing.receiver) for sent in network.log)
        hub.terminate("spoke3")
        spokes[3].wait("IKE SA down")
        assert spokes[2].tunnel().state == "up"
