"""Two gateways of ours by IKEv1: plain ESP, both roles, keys renewed under a numbered stream.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.numbered import numbered
from tests.netns.traffic import ping, until

VERSION = '  version = "1"'
SOON = '  rekey_after = "1s"\n  lifetime = "4s"'
RENEWALS = 5
SECONDS = 20.0


def renewed(gateways: GatewayPair, what: str) -> int:
    return gateways.a.text().count(what)


@pytest.mark.parametrize(
    ("lives", "what"),
    [
        ({"esp": (SOON, SOON)}, "CHILD_SA rekeyed"),
        ({"ike": (f"{VERSION}\n{SOON}", f"{VERSION}\n{SOON}")}, "IKE SA rekeyed"),
    ],
    ids=["phase 2", "phase 1"],
)
def test_renewals_lose_and_double_nothing(sites, tmp_path, lives, what):
    with GatewayPair(sites, tmp_path, IkePair(**{"ike": (VERSION, VERSION)} | lives)) as gateways:
        gateways.a.wait_negotiated()
        assert gateways.a.status()["tunnels"][0]["ike"]["version"] == 1
        ping(sites.host_a, netns.HOST_B[0])
        with numbered(sites.host_a, sites.host_b, netns.HOST_B[0]) as stream:
            before = renewed(gateways, what)
            until(lambda: renewed(gateways, what) - before >= RENEWALS, f"{RENEWALS} times {what}", seconds=SECONDS)
        assert (stream.lost(), stream.repeated) == ([], 0)
        for gateway in (gateways.a, gateways.b):
            assert {name: count for name, count in gateway.status()["drops"].items() if count} == {}


def test_what_crosses_is_esp(sites, tmp_path):
    with GatewayPair(sites, tmp_path, IkePair(ike=(VERSION, VERSION))) as gateways:
        gateways.a.wait_negotiated()
        ping(sites.host_a, netns.HOST_B[0])
        with capture.Capture(sites.gw_a, "wan", tmp_path / "wan.pcapng") as recording:
            ping(sites.host_b, netns.HOST_A[0])
            recording.stop()
        assert "esp-udp" in {capture.kind(packet) for _, packet in capture.read(tmp_path / "wan.pcapng")}
        gateways.b.ask("terminate", name=gateways.b.status()["tunnels"][0]["name"])
        until(lambda: gateways.a.status()["tunnels"][0]["ike"] is None, "the other side hears of it")
