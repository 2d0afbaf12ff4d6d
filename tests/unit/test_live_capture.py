"""`ipsec-dp capture`: packets of a data plane in memory by a control socket into a file, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import stat
import tempfile
import threading
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.cli import main
from ipsec_dp.dataplane.tap import Tap
from ipsec_dp.gateway import live_capture
from ipsec_dp.gateway.control import ControlServer, Verb, request, stream
from ipsec_dp.gateway.live_capture import CapturedAnswer, CaptureLines, tapped, wall_offset
from ipsec_dp.gateway.messages import CaptureAnswer, CaptureRequest, DownRequest
from ipsec_dp.rig.plane import pair
from ipsec_dp.util import pcapng
from ipsec_dp.util.clock import SystemClock
from tests.unit.sites import to_b


class Captured:
    """Two data planes in memory, of which `a` can be captured by a control socket that a thread of its own serves."""

    def __init__(self, path: Path) -> None:
        self.path, self.loop, self.site = path, asyncio.new_event_loop(), pair("aes128gcm16")
        self.open: list[CaptureLines] = []
        self.server = ControlServer(path, [Verb(CaptureRequest, self._capture), Verb(DownRequest, self._echo)])
        self.loop.run_until_complete(self.server.start())
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def _capture(self, asked):
        clock = SystemClock()
        options = {"inner": asked.inner, "outer": asked.outer, "snap": asked.snap, "wall_offset": wall_offset(clock)}
        lines = CaptureLines(Tap(self.site.a.plane, **options), {0: "ipsec0"}, clock, gateway="a", snap=asked.snap)
        self.open.append(lines)
        return CapturedAnswer(CaptureAnswer(gateway="a"), lines)

    @staticmethod
    async def _echo(asked):
        return asked

    def send(self, count, octets=100):
        for _ in range(count):
            self.site.transfer([to_b(bytes(octets))])

    def stop(self):
        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self.server.close(), self.loop).result(10)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()
            self.site.close()


@pytest.fixture
def captured():
    with tempfile.TemporaryDirectory() as directory:
        made = Captured(Path(directory) / "a.sock")
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def busy(captured):
    """Packets come until the test is over."""
    over = threading.Event()

    def go_on():
        while not over.wait(0.001):
            captured.send(1)

    thread = threading.Thread(target=go_on)
    thread.start()
    yield captured
    over.set()
    thread.join()


def blocks(file):
    return list(pcapng.Blocks().feed(file.read_bytes()))


def run(captured, file, *options):
    return main(["capture", str(file), "--control", str(captured.path), *options])


def test_a_file_of_so_many_packets_that_nobody_else_reads(busy, tmp_path, capsys):
    file = tmp_path / "all.pcapng"
    assert run(busy, file, "--packets", "10", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"file": str(file), "packets": 10, "dropped": 0, "missed": 0, "octets": file.stat().st_size}
    assert said.err.splitlines()[-1] == f"10 packets in {file}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = blocks(file)
    assert [block.kind for block in found].count(pcapng.PACKET) == 10
    assert [block.kind for block in found][:1] == [pcapng.SECTION]
    names = [block.octets for block in found if block.kind == pcapng.INTERFACE]
    assert [b"ipsec0" in each for each in names] == [True, False]
    assert [b"outer" in each for each in names] == [False, True]
    assert [block.kind for block in found][-2:] == [pcapng.STATISTICS] * 2
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("option", "least"), [(("--seconds", "1s"), 1), (("--size", "20kB"), 10)])
def test_it_ends_by_itself_after_a_time_or_a_size(busy, tmp_path, option, least):
    file = tmp_path / "all.pcapng"
    assert run(busy, file, *option) == 0
    assert [block.kind for block in blocks(file)].count(pcapng.PACKET) >= least
    if "--size" in option:
        assert file.stat().st_size <= 20_000


def test_ctrl_c_ends_it_with_all_that_was_captured(captured, tmp_path, capsys):
    file = tmp_path / "all.pcapng"

    def interrupt():
        wait_for(lambda: captured.open)
        captured.send(50)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=interrupt)
    timer.start()
    assert run(captured, file, "--inner") == 0
    timer.join()
    assert [block.kind for block in blocks(file)].count(pcapng.PACKET) == 50
    assert capsys.readouterr().err.splitlines()[-1] == f"50 packets in {file}"


def wait_for(holds):
    tries = threading.Event()
    for _ in range(1000):
        if holds():
            return
        tries.wait(0.01)
    raise AssertionError("it never holds")


def test_dropped_packets_are_counted(captured, tmp_path, capsys):
    file = tmp_path / "all.pcapng"

    def provoke():
        wait_for(lambda: captured.open)
        captured.site.a.push(b"\x45" + bytes(30))
        captured.site.a.step()
        captured.send(1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=provoke)
    thread.start()
    assert run(captured, file, "--json") == 0
    thread.join()
    said = capsys.readouterr()
    assert json.loads(said.out)["dropped"] == 1
    assert "3 packets in" in said.err
    assert "1 of them dropped (their comments say why)" in said.err


def test_a_full_disk_is_one_line_and_the_gateway_goes_on(busy, tmp_path, capsys, monkeypatch):
    file, real = tmp_path / "all.pcapng", os.write
    written: list[int] = []

    def write(descriptor, data):
        if not written and os.fstat(descriptor).st_size > 1000:
            written.append(real(descriptor, data[:5]))  # half a block
            return written[0]
        if written and stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        assert run(busy, file) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "the capture ends here: No space left on device; make room there"
    assert lines[-2].endswith(f"packets in {file}")
    assert len(lines) == 3
    assert sum(len(block.octets) for block in blocks(file)) == file.stat().st_size  # whole blocks alone
    wait_for(lambda: run(busy, file, "--packets", "1") == 0)


def test_one_at_a_time_until_its_client_leaves(captured, tmp_path):
    with stream(captured.path, {"verb": "capture"}) as (answer, _, _):
        assert answer == {"gateway": "a"}
        assert request(captured.path, {"verb": "down"}) == {"verb": "down"}
        assert run(captured, tmp_path / "b.pcapng", "--packets", "1") == 1
        assert list(tmp_path.iterdir()) == []
    wait_for(lambda: not Path(tmp_path / "b.pcapng").exists() and free(captured))


def free(captured):
    try:
        Tap(captured.site.a.plane, inner=True, outer=True).close()
    except Exception:  # noqa: BLE001 - it is busy still
        return False
    return True


def test_a_client_that_does_not_read_holds_nobody_up_and_is_told_what_he_missed(captured):
    with stream(captured.path, {"verb": "capture", "outer": False}) as (_, connection, first):
        captured.send(6000, 1400)
        assert request(captured.path, {"verb": "down"}, timeout=5) == {"verb": "down"}
        connection.shutdown(socket.SHUT_WR)
        octets = first
        while more := connection.recv(1 << 16):
            octets += more
    found = list(pcapng.Blocks().feed(octets))
    (missed,) = [block.missed for block in found if block.kind == pcapng.STATISTICS]
    assert missed > 0
    assert [block.kind for block in found].count(pcapng.PACKET) + missed == 6000


def test_the_gateway_stops_meanwhile(busy, tmp_path, capsys):
    file = tmp_path / "all.pcapng"
    thread = threading.Thread(target=lambda: (wait_for(lambda: busy.open and file.exists() and file.stat().st_size), end(busy)))
    thread.start()
    assert run(busy, file) == 1
    thread.join()
    assert capsys.readouterr().err.splitlines()[-1] == "the gateway has stopped"
    assert sum(len(block.octets) for block in blocks(file)) == file.stat().st_size


def end(captured):
    asyncio.run_coroutine_threadsafe(captured.server.close(), captured.loop).result(10)


def test_a_file_in_the_way_is_replaced_and_never_followed(busy, tmp_path, capsys):
    target, file = tmp_path / "target", tmp_path / "all.pcapng"
    target.write_text("kept")
    file.symlink_to(target)
    assert run(busy, file, "--packets", "1") == 0
    assert target.read_text() == "kept"
    assert not file.is_symlink()
    (tmp_path / "directory").mkdir()
    wait_for(lambda: free(busy))
    assert run(busy, tmp_path / "directory", "--packets", "1") == 1
    assert "is no file that can be replaced" in capsys.readouterr().err
    wait_for(lambda: free(busy))
    assert run(busy, tmp_path / "nowhere" / "all.pcapng", "--packets", "1") == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("octets", [b"\0" * 64, b"garbage of some length or other, which is no pcapng at all" * 4])
def test_what_no_capture_is_ends_it(octets, tmp_path, capsys):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b'{"ok": true, "result": {"gateway": "a"}}\n' + octets)

        thread = threading.Thread(target=serve)
        thread.start()
        assert main(["capture", str(tmp_path / "x.pcapng"), "--control", str(path)]) == 1
        thread.join()
    assert "what the gateway sent is no capture" in capsys.readouterr().err


def test_a_tunnel_is_looked_at_with_every_address_that_its_peer_may_have():
    here, named, now = (ip_address(f"192.0.2.{last}") for last in (1, 2, 3))
    tunnel: Any = SimpleNamespace(name="to-b", remotes=(here, "gw.example"))
    spd: Any = SimpleNamespace(tunnel_numbers={"to-b": 4}, interface_of={"to-b": 2})
    known: Any = SimpleNamespace(
        has=lambda _: True, peer=lambda _: SimpleNamespace(remotes=(named,)), status=lambda _: SimpleNamespace(remote=str(now))
    )
    found = tapped(tunnel, spd, known)
    assert (found.number, found.interface, found.peers) == (4, 2, (now, here, named))
    nobody: Any = SimpleNamespace(has=lambda _: False)
    assert tapped(tunnel, spd, nobody).peers == (here,)
    assert live_capture.OUTER == "outer"
