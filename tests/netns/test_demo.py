"""`ipsec-dp demo`: it passes, it says why when it does not, and it leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from unittest import mock

import pytest

from ipsec_dp import cli
from ipsec_dp.cli import demo
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.packets import ipv4, udp
from tests.netns import harness
from tests.netns.traffic import until
from tests.netns.used import ended

PARTS = dict(demo.PARTS)
DEMO = (sys.executable, "-m", "ipsec_dp", "demo")


def test_passes_and_leaves_captures_and_a_report(tmp_path):
    done = subprocess.run([*DEMO, "--output", str(tmp_path), "--json"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert json.loads(done.stdout) == report
    assert report["ok"]
    assert [step["name"] for step in report["steps"]] == [name for name, _ in demo.PARTS]
    assert all(step["ok"] for step in report["steps"])
    figures = {step["name"]: step["figures"] for step in report["steps"]}
    assert figures["file"]["octets"] == 64 << 20
    assert figures["captures"]["outer"]["marked"] == 0
    assert figures["captures"]["outer"]["tunnel_octets"] >= 64 << 20
    assert figures["captures"]["inner"]["marked"] > 0
    assert min(figures["iperf3"].values()) > 0
    assert capture.scan(tmp_path / "outer.pcapng").foreign() == {}  # the report tells what the files hold


# ---- a part fails --------------------------------------------------------------------------------------------------------------


def stopped_gateway(stage, step):
    stage.gateways[1].kill()


def test_a_part_that_fails_is_named_with_its_reason(tmp_path, monkeypatch, capsys):
    """gwB dies after the start: the next part finds out, nothing later runs."""
    monkeypatch.setattr(
        demo,
        "PARTS",
        (("gateways", PARTS["gateways"]), ("accident", stopped_gateway), ("counters", PARTS["counters"]), ("never", None)),
    )
    assert demo.run(tmp_path) == 1
    said = capsys.readouterr().out
    assert "FAILED counters: no gateway listens at" in said
    assert "never" not in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["ok"]
    assert [(step["name"], step["ok"]) for step in report["steps"]] == [("gateways", True), ("accident", True), ("counters", False)]
    assert netns.owned() == []


def write(path, packets):
    with path.open("wb") as file:
        writer = capture.Writer(file, capture.LINKTYPE_RAW)
        for packet in packets:
            writer.write(0, packet)


ESP = ipv4("192.0.2.1", "192.0.2.2", bytes(1400), protocol=50)
PLAIN = udp("10.1.0.2", "10.2.0.2", capture.MARKER)
UNMARKED = udp("10.1.0.2", "10.2.0.2", b"nothing")


@pytest.mark.parametrize(
    ("inner", "outer", "reason"),
    [
        ([PLAIN], [ESP] * 10, None),
        ([UNMARKED], [ESP] * 10, "the scanner does not find the plaintext on the inner link"),
        ([PLAIN], [ESP] * 10 + [PLAIN], "1 packets on the outer link carry the plaintext"),
        ([PLAIN], [ESP] * 10 + [UNMARKED], "packets other than ESP cross the outer link"),
        ([PLAIN], [ESP] * 9, "only 12780 octets of ESP were captured"),
    ],
)
def test_what_the_captures_must_hold(tmp_path, monkeypatch, inner, outer, reason):
    monkeypatch.setattr(demo, "FILE_OCTETS", 10 * len(ESP))
    write(tmp_path / "inner.pcapng", inner)
    write(tmp_path / "outer.pcapng", outer)
    stage, step = mock.Mock(output=tmp_path), demo.DemoStep("captures")
    if reason is None:
        PARTS["captures"](stage, step)
        assert "nothing else" in step.said
    else:
        with pytest.raises(demo.DemoFailedError, match=reason):
            PARTS["captures"](stage, step)


def test_a_missing_program_is_named_with_its_package(tmp_path, monkeypatch, capsys):
    for name in ("ip", "nft", "ping"):
        (tmp_path / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["demo", "--output", str(tmp_path / "out")]) == 1
    assert "apt-get install iperf3" in capsys.readouterr().err


# ---- cut short -----------------------------------------------------------------------------------------------------------------


@contextmanager
def running(tmp_path, name, start=()):
    """The demonstration as a process, and a function that gives what it has said. `start` are the first words of its command."""
    log = tmp_path / name
    with log.open("wb") as file:
        process = subprocess.Popen([*start, *DEMO, "--output", str(tmp_path / f"{name}-out")], stdout=file, stderr=file)
    try:
        yield process, log.read_text
    finally:
        process.kill()
        process.wait()
        netns.sweep()


def pids_in(namespaces):
    return {int(pid) for name in namespaces for pid in subprocess.check_output(["ip", "netns", "pids", name], text=True).split()}


INTERRUPTS = {
    "2": (signal.SIGINT, ()),
    "15": (signal.SIGTERM, ()),
    "2-started with interrupts ignored": (signal.SIGINT, harness.WITH_INTERRUPTS_IGNORED),
}


@pytest.mark.parametrize(("number", "start"), INTERRUPTS.values(), ids=INTERRUPTS)
def test_an_interrupt_takes_everything_away(tmp_path, number, start):
    with running(tmp_path, "interrupted", start) as (process, said):
        until(lambda: "ok     gateways" in said(), "gateways that are up", 30)
        namespaces = netns.owned(process.pid)
        pids = pids_in(namespaces)
        assert len(namespaces) == 4
        assert len(pids) >= 2
        process.send_signal(number)
        assert process.wait(20) == 1
        assert "interrupted" in said()
        assert netns.owned(process.pid) == []
        assert not [pid for pid in pids if not ended(pid)]


def test_a_second_run_takes_away_what_a_killed_one_left(tmp_path):
    with running(tmp_path, "killed") as (first, said):
        until(lambda: "ok     gateways" in said(), "gateways that are up", 30)
        first.kill()
        first.wait()
        left = netns.owned(first.pid)
        pids = pids_in(left)
        assert len(left) == 4
        with running(tmp_path, "second") as (second, said_then):
            until(lambda: "ok     gateways" in said_then(), "gateways of the second run", 30)
            assert all(f"removed {name}, left by a run that was killed" in said_then() for name in left)
            assert netns.owned(first.pid) == []
            assert not [pid for pid in pids if not ended(pid)]
            second.send_signal(signal.SIGINT)
            assert second.wait(20) == 1
            assert netns.owned(second.pid) == []
