"""The laboratory itself: built, isolated, recorded, taken away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from ipsec_dp.rig import capture, netns
from tests.netns import harness
from tests.netns.traffic import until
from tests.netns.used import ended


def test_two_sites_reach_each_other_over_both_ip_versions(sites):
    for address in netns.HOST_B:
        sites.host_a.run("ping", "-c", "1", "-W", "2", address)


def test_capture_holds_the_marker_that_crossed_in_clear(sites, tmp_path):
    path = tmp_path / "outer.pcapng"
    with capture.Capture(sites.gw_a, "wan", path) as recording:
        sites.host_a.run("ping", "-c", "2", "-i", "0.01", "-s", "200", "-p", b"sixteen marker!!".hex(), netns.HOST_B[0])
        harness.settle(sites.gw_a, "wan")  # ping has not waited long for the second answer
        recorded = recording.stop()
    found = capture.scan(path, b"sixteen marker!!")
    assert found.marked == found.packets["icmp"] == 4
    assert found.foreign() == {"icmp": 4}
    assert recorded.lost == 0
    assert recorded.packets == found.packets.total()


def test_a_frame_has_the_time_at_which_it_crossed_however_late_it_is_read(sites, tmp_path):
    path = tmp_path / "outer.pcapng"
    with capture.Capture(sites.gw_a, "wan", path) as recording:
        recorder = sites.gw_a.processes[-1]
        os.kill(recorder.pid, signal.SIGSTOP)
        sites.host_a.run("ping", "-c", "1", "-W", "2", netns.HOST_B[0])
        crossed = time.time_ns()
        os.kill(recorder.pid, signal.SIGCONT)
        recording.stop()
    times = [when for when, packet in capture.read(path) if capture.kind(packet) == "icmp"]
    assert len(times) == 2
    assert max(times) < crossed


def test_capture_of_a_missing_interface_says_so(sites, tmp_path):
    with pytest.raises(capture.CaptureError, match=r"gwA: no capture of nowhere.*No such device"):
        capture.Capture(sites.gw_a, "nowhere", tmp_path / "x").start()


def test_call_is_inside_and_carries_results_and_errors(sites):
    assert {name for _, name in sites.gw_a.call(socket.if_nameindex)} == {"lo", "lan", "wan"}
    with pytest.raises(ZeroDivisionError):
        sites.gw_a.call(lambda: 1 // 0)
    assert "wan" not in {name for _, name in socket.if_nameindex()}


def test_program_failure_and_overrun_name_the_namespace(sites):
    with pytest.raises(netns.NetnsError, match=r"hostA: ip link show nowhere: exit status 1: .*does not exist"):
        sites.host_a.run("ip", "link", "show", "nowhere")
    with pytest.raises(netns.NetnsError, match="hostA: sleep 30: no end after"):
        sites.host_a.run("sleep", "30", timeout=0.05)


def test_close_ends_programs_and_removes_namespaces():
    started = []

    def interrupted():
        with netns.Lab() as lab:
            started.append(lab.namespace("alone").spawn("sleep", "60"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started[0].poll() is not None
    assert netns.owned() == []


# A program is in its namespace only once `ip netns exec` has become that program: until then no one can tell where it belongs.
KILLED = """
import os, signal
from pathlib import Path
from ipsec_dp.rig import netns
from tests.netns.traffic import until
lab = netns.Lab()
left = lab.namespace("left").spawn("sleep", "60").pid
until(lambda: Path(f"/proc/{left}/comm").read_text() == "sleep\\n", "the program in its namespace")
print(os.getpid(), left, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_sweep_removes_what_a_killed_run_left_and_nothing_else(lab):
    mine = lab.namespace("mine")
    run = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=30, check=False)
    killed, left_running = map(int, run.stdout.split())
    assert len(netns.owned(killed)) == 1
    netns.sweep()
    assert netns.owned(killed) == []
    until(lambda: ended(left_running), "the end of a program that was killed")
    assert mine.path.exists()
