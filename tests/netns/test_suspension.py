"""Time that passes while a host is suspended or a process stopped: real processes, in time namespaces where only those prove it.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipsec_dp.gateway.absence import GAP_S
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns import harness
from tests.netns.traffic import ping, until

AHEAD_S = 90_000
IN_ANOTHER_TIME = ("unshare", "--time", "--boottime", str(AHEAD_S), "--fork", "--kill-child")
SELDOM = '  liveness = { interval = "600s" }'  # so that nobody asks by itself
ASLEEP = "this host was suspended, or this process stopped"


@pytest.fixture
def sites(shared_sites):
    yield shared_sites
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)


def boottime_of(*program):
    code = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic())"
    return float(
        subprocess.run([*program, sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20).stdout
    )


def test_control_and_data_plane_go_by_the_same_clock(sites, tmp_path):
    """In a time namespace CLOCK_BOOTTIME is a day ahead, so that whoever still reads another clock is a day off."""
    assert boottime_of(*IN_ANOTHER_TIME) - boottime_of() == pytest.approx(AHEAD_S, abs=1), "the control"
    pair = GatewayPair(sites, tmp_path, IkePair(ike=(SELDOM, SELDOM)))
    pair.a.program = (*IN_ANOTHER_TIME, *pair.a.program)
    try:
        pair.start()
        pair.a.wait_negotiated()
        ping(sites.host_a, netns.HOST_B[0])
        (tunnel,) = pair.a.status()["tunnels"]
        for child in tunnel["children"]:
            assert 0 <= child["age_s"] < 60
            assert 0 <= child["last_in_s"] < 60
            assert 0 <= child["last_out_s"] < 60
        assert 0 <= tunnel["ike"]["age_s"] < 60
        assert ASLEEP not in pair.a.text()
    finally:
        pair.a.ask("down")
        pair.a.wait(10)
        pair.b.terminate()


LIVE_JUMP = """
import asyncio, ctypes, os, sys
from ipsec_dp.util.clock import LOOK_S, SystemClock
CLONE_NEWTIME = 0x80

async def main():
    clock, came = SystemClock(), asyncio.Event()
    before = clock.now()
    clock.call_at(before + 3000, came.set)
    await clock.sleep(0.05)
    assert not came.is_set()
    there = os.open(sys.argv[1], os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(there, CLONE_NEWTIME) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    await asyncio.wait_for(came.wait(), LOOK_S + 5)
    print(round((clock.now() - before) / 3600))

asyncio.run(main())
"""


def test_a_timer_that_fell_due_asleep_comes_at_once(sites):
    """The kernel moves the running process to a time in which CLOCK_BOOTTIME is an hour further, and CLOCK_MONOTONIC is not."""
    del sites
    holder = subprocess.Popen(
        ["unshare", "--time", "--boottime", "3600", "--fork", "--kill-child", "sh", "-c", "echo ready; read -r _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        (child,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        done = subprocess.run(
            [sys.executable, "-c", LIVE_JUMP, f"/proc/{child}/ns/time"], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.stdout == "1\n", done.stderr
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(10)


def test_after_a_stop_the_peer_is_asked_at_once(sites, tmp_path):
    with GatewayPair(sites, tmp_path, IkePair(ike=(SELDOM, SELDOM))) as pair:
        pair.a.wait_negotiated()
        ping(sites.host_a, netns.HOST_B[0])
        with capture.Capture(sites.gw_a, "wan", tmp_path / "wan") as recording:
            assert pair.a.process is not None
            os.kill(pair.a.process.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            until(lambda: time.monotonic() - stopped > GAP_S + 2, "a gap", GAP_S + 5)
            os.kill(pair.a.process.pid, signal.SIGCONT)
            until(lambda: ASLEEP in pair.a.text(), "it is told")
            harness.settle(sites.gw_a, "wan", 0.3)
            recording.stop()
        kinds = [capture.kind(packet) for _, packet in capture.read(tmp_path / "wan")]
        assert any(kind.startswith("ike") for kind in kinds), f"the peer was asked: {kinds}"
        assert pair.a.text().count(ASLEEP) == 1
        ping(sites.host_a, netns.HOST_B[0])
