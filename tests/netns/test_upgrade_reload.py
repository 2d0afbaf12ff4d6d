"""SIGHUP, as a service manager sends it at a reload, after the program was installed anew: another process goes on, and the service
manager hears of it from the one that it knows.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import tempfile
from pathlib import Path

import pytest

import ipsec_dp
from ipsec_dp.rig import netns
from tests.netns.numbered import numbered
from tests.netns.succession import Upgraded, flows, reachable, started
from tests.netns.test_metrics import PORT, fetch
from tests.netns.test_upgrade import PAIRS, ROOT
from tests.netns.traffic import until

LISTEN = "0A"  # TCP_LISTEN, in /proc/net/tcp
CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class Manager:
    """A service manager's socket: what it was told but for how it is, and by which process; `beats`: how much of that it had heard
    when a process said for the first time that it lives."""

    def __init__(self, path):
        self.address = path / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._socket.bind(str(self.address))
        self.address.chmod(0o777)  # as systemd's is: the gateway's user reaches it
        self._heard = []
        self.beats = {}

    def close(self):
        self._socket.close()

    def heard(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                text, ancillary, *_ = self._socket.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
                ((_, _, data),) = ancillary
                process = CREDENTIALS.unpack(data)[0]
                if text.startswith(b"WATCHDOG="):
                    self.beats.setdefault(process, len(self._heard))
                elif not text.startswith(b"STATUS="):
                    self._heard.append((process, text.decode().partition("\n")[0]))
        return self._heard


@pytest.fixture
def manager():
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        there = Manager(Path(made))
        yield there
        there.close()


@pytest.fixture
def package():
    """A copy of the program, which can be installed anew."""
    directory = ROOT / "build" / "upgrade-installed"
    shutil.rmtree(directory, ignore_errors=True)
    yield Path(shutil.copytree(Path(ipsec_dp.__file__).parent, directory / "ipsec_dp"))
    shutil.rmtree(directory)


def reinstall(package):
    shutil.copy(package / "__init__.py", package / "new")
    (package / "new").rename(package / "__init__.py")


def listens(namespace):
    """The inode of the socket where metrics are served."""
    rows = [line.split() for line in namespace.run("cat", "/proc/net/tcp").stdout.splitlines()[1:]]
    (inode,) = {row[9] for row in rows if row[1].endswith(f":{PORT:04X}") and row[3] == LISTEN}
    return inode


def test_a_reload_after_an_installation_goes_on_in_another_process(sites_opened_again, tmp_path, manager, package):
    sites = sites_opened_again
    pair = Upgraded(sites, tmp_path, PAIRS["IKEv2, UDP"])
    asks = f"NOTIFY_SOCKET={manager.address}", "WATCHDOG_USEC=30000000"
    program = "env", *asks, f"PYTHONPATH={package.parent}", *type(pair.a).program
    pair.a.program = reachable(program)
    pair.a.config.write_text(f"{pair.a.config.read_text()}\n[metrics]\n")
    with started(pair):
        until(lambda: pair.a.status()["tunnels"][0]["state"] == "up", "the tunnel")
        before, served = pair.a.status(), listens(sites.gw_a)
        with numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there:
            until(lambda: there.arrived, "the stream")
            ((first, _),) = manager.heard()
            os.kill(first, signal.SIGHUP)
            until(lambda: len(manager.heard()) == 3, "the end of a reload by the same program")
            assert [(who, said) for who, said in manager.heard()[1:]] == [(first, "RELOADING=1"), (first, "READY=1")]
            reinstall(package)
            os.kill(first, signal.SIGHUP)
            until(lambda: "handing over to version" in pair.a.text(), "an upgrade")
            os.kill(first, signal.SIGHUP)  # by somebody else
            until(lambda: len(manager.heard()) == 8, "the word of who goes on, and its reload", 60.0)
            assert pair.a.wait(60) == 0
            (*_, told) = manager.heard()[3:5]
            pair.processes.append(int(told[1].removeprefix("MAINPID=")))
            (then,) = pair.processes
            assert manager.heard()[3:] == [
                (first, "RELOADING=1"),
                (first, f"MAINPID={then}"),
                (then, "READY=1"),
                (then, "RELOADING=1"),
                (then, "READY=1"),
            ]
            assert manager.beats[then] == 5, "it lives as soon as it is the service, and before it is ready"
            pair.answers()
            flows(there)
        assert there.lost() == []
        after = pair.a.status()
        assert after["upgraded_at"] is not None
        until(lambda: fetch(sites.gw_a, PORT, "/metrics")[0] == 200, "metrics")
        assert listens(sites.gw_a) == served
        assert after["tunnels"][0]["children"][0]["spi_in"] == before["tunnels"][0]["children"][0]["spi_in"]


RESOLVES = "        config = resolve_document(document, path, findings, kept)\n"
REFUSES = '        if "socket_buffer" in text:\n            findings.at("gateway").error("socket_buffer", "unknown key", "")\n'


def older(package):
    """Of another version, in whose files nobody says how large buffers are."""
    for name, here, there in (
        ("__init__.py", '__version__ = "', '__version__ = "0.0.0.'),
        ("config/load.py", RESOLVES, RESOLVES + REFUSES),
    ):
        text = (package / name).read_text()
        assert text.count(here) == 1
        (package / name).write_text(text.replace(here, there))


def test_a_file_that_only_the_program_installed_since_understands_is_taken_over_by_it(sites_opened_again, tmp_path, package):
    """With a helper that understands no more of it than the first program."""
    sites = sites_opened_again
    older(package)
    pair = Upgraded(sites, tmp_path, PAIRS["IKEv2, UDP"])
    pair.a.program = reachable(("env", f"PYTHONPATH={package.parent}", *type(pair.a).program))
    with started(pair):
        until(lambda: pair.a.status()["tunnels"][0]["state"] == "up", "the tunnel")
        before = pair.a.status()
        with numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there:
            until(lambda: there.arrived, "the stream")
            pair.a.config.write_text(pair.a.config.read_text().replace("[gateway]\n", "[gateway]\nsocket_buffer = 1048576\n"))
            assert not pair.a.ask("reload")["applied"]
            reinstall(package)
            assert pair.a.process is not None
            os.kill(pair.a.process.pid, signal.SIGHUP)
            assert pair.a.wait(60) == 0
            until(lambda: "taken over next" in pair.a.text(), "the word of the first process")
            pair.processes += map(int, re.findall(r"process (\d+) goes on, version", pair.a.text()))
            pair.answers()
            until(lambda: "0 added, 0 removed, 0 changed, 1 kept" in pair.a.text(), "what the file says, in force")
            flows(there)
        assert there.lost() == []
        after = pair.a.status()
        assert after["socket_buffers"]["asked"] == 1048576
        assert [text for text in after["warnings"] if "upgrade" in text] == []
        assert after["tunnels"][0]["children"][0]["spi_in"] == before["tunnels"][0]["children"][0]["spi_in"]
