"""What a running gateway costs when nothing is to be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns.at_rest import assert_at_rest
from tests.netns.traffic import tcp_both_ways
from tests.netns.used import resident

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
    assert_at_rest((up.a, up.b), CPU_PART_MAX)


@pytest.mark.measure
def test_resident_memory(up):
    used = [resident(gateway) for gateway in (up.a, up.b)]
    assert max(used) < RESIDENT_MAX, used


def test_no_numpy_in_a_gateway(up):
    """It would cost some 20 MB and a third of the start."""
    maps = Path(f"/proc/{up.a.process.pid}/maps").read_text()
    assert "_native" in maps
    assert "numpy" not in maps
