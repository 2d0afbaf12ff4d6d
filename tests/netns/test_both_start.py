"""Two gateways that both call: one IKE SA stays, no third one is made, and from the first packet that passed none is lost.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import time

import pytest

from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.pings import PINGS, Pings
from tests.netns.traffic import until

OFFSETS = [number / 10 for number in range(20)]
FEW = [0.0, 0.3, 1.1]


def events(gateway, what):
    return [line for line in gateway.text().splitlines() if f"{what} [" in line]


def one_of_each(pair):
    """Whether both have one CHILD_SA, and the same IKE SA."""
    status = [gateway.status()["tunnels"][0] for gateway in (pair.a, pair.b)]
    same = len({one["ike"] and (one["ike"]["spi_i"], one["ike"]["spi_r"]) for one in status}) == 1
    return same and [len(one["children"]) for one in status] == [1, 1]


def both_start(sites, directory, first, offset):
    pair = GatewayPair(sites, directory, IkePair(start=("start", "start")))
    gateways = [pair.a, pair.b] if first == "a" else [pair.b, pair.a]
    pings = Pings(sites)
    try:
        gateways[0].start()
        time.sleep(offset)  # what is tested: starts that lie apart
        gateways[1].start()
        lost = pings.lost()
        logs = "\n---\n".join(gateway.text() for gateway in (pair.a, pair.b))
        drops = [{name: count for name, count in gateway.status()["drops"].items() if count} for gateway in (pair.a, pair.b)]
        assert not lost, f"{len(lost)} of {PINGS} after the first one: {lost}\n{drops}\n{logs}"
        until(lambda: one_of_each(pair), "one CHILD_SA, of one IKE SA")
        for gateway in (pair.a, pair.b):
            assert len(events(gateway, "IKE SA up")) <= 2, logs
            assert not events(gateway, "IKE SA authenticated again"), logs
    finally:
        pings.process.kill()
        pair.stop()


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("offset", FEW)
def test_both_start(shared_sites, tmp_path, first, offset):
    both_start(shared_sites, tmp_path, first, offset)


@pytest.mark.slow
@pytest.mark.parametrize("run", range(len(OFFSETS)))
def test_twenty_starts_apart(shared_sites, tmp_path, run):
    both_start(shared_sites, tmp_path, "ab"[run % 2], OFFSETS[run])
