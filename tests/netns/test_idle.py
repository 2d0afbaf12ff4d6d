"""What a running gateway costs when nothing is to be done."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns.traffic import tcp_both_ways
from tests.netns.used import resident, run_s

WATCHED_S = 5.0
CPU_PART_MAX = 0.005  # of a core
RESIDENT_MAX = 80_000_000  # octets


@pytest.fixture(scope="module")
def up(shared_sites, tmp_path_factory):
    with GatewayPair(shared_sites, tmp_path_factory.mktemp("idle"), ManualPair()) as pair:
        for address in netns.HOST_B:  # buffers have been used once
            tcp_both_ways(shared_sites.host_a, shared_sites.host_b, address, 4 << 20)
        yield pair


@pytest.mark.measure
def test_idle_gateways_take_next_to_no_cpu(up):
    before, begun = [run_s(gateway) for gateway in (up.a, up.b)], time.monotonic()
    time.sleep(WATCHED_S)
    seconds = time.monotonic() - begun
    used = [(run_s(gateway) - start) / seconds for gateway, start in zip((up.a, up.b), before, strict=True)]
    assert max(used) < CPU_PART_MAX, used


@pytest.mark.measure
def test_resident_memory(up):
    used = [resident(gateway) for gateway in (up.a, up.b)]
    assert max(used) < RESIDENT_MAX, used


def test_no_numpy_in_a_gateway(up):
    """It would cost some 20 MB and a third of the start."""
    maps = Path(f"/proc/{up.a.process.pid}/maps").read_text()
    assert "_native" in maps
    assert "numpy" not in maps
