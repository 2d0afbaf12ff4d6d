"""What a running gateway costs when nothing is to be done."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns.traffic import tcp_both_ways

WATCHED_S = 5.0
CPU_PART_MAX = 0.005  # of a core
RESIDENT_MAX = 80_000_000  # octets


@pytest.fixture(scope="module")
def up(shared_sites, tmp_path_factory):
    with GatewayPair(shared_sites, tmp_path_factory.mktemp("idle"), ManualPair()) as pair:
        for address in netns.HOST_B:  # buffers have been used once
            tcp_both_ways(shared_sites.host_a, shared_sites.host_b, address, 4 << 20)
        yield pair


def run_s(pid):
    """Seconds that the threads of a process have run so far, from the scheduler's own count in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.measure
def test_idle_gateways_take_next_to_no_cpu(up):
    pids = [gateway.process.pid for gateway in (up.a, up.b)]
    before, begun = [run_s(pid) for pid in pids], time.monotonic()
    time.sleep(WATCHED_S)
    seconds = time.monotonic() - begun
    used = [(run_s(pid) - start) / seconds for pid, start in zip(pids, before, strict=True)]
    assert max(used) < CPU_PART_MAX, used


@pytest.mark.measure
def test_resident_memory(up):
    used = [resident(gateway.process.pid) for gateway in (up.a, up.b)]
    assert max(used) < RESIDENT_MAX, used


def test_no_numpy_in_a_gateway(up):
    """It would cost some 20 MB and a third of the start."""
    maps = Path(f"/proc/{up.a.process.pid}/maps").read_text()
    assert "_native" in maps
    assert "numpy" not in maps
