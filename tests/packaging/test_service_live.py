"""The units and the .deb under systemd itself, on a Debian 12 made from the archive. Needs root, the network and cgroup2.

Two of the examples: one has keys that are set by hand, and opens the host when it ends; the other waits for its peer to call, and
keeps it closed. Both are asked to go on by each package that is installed over another.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipsec_dp
from tests.netns.traffic import until
from tests.packaging.booted import Booted, booted
from tests.packaging.debian import ROOT
from tests.packaging.fresh_root import make
from tests.packaging.test_deb import built
from tools import deb

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

BOTH = OPENS, KEEPS = "manual-a", "site-a"
LATER = f"{ipsec_dp.__version__}.1"
TEXTS = {name: (ROOT / "conf" / f"{name}.toml").read_text() + '[log]\nformat = "journald"\n' for name in BOTH}
ELSEWHERE = {"192.0.2.": "198.51.100.", "10.1.": "10.3.", "10.2.": "10.4.", "ipsec0": "manual0"}
FILES = {
    "manual-a.toml": re.sub("|".join(map(re.escape, ELSEWHERE)), lambda found: ELSEWHERE[found[0]], TEXTS[OPENS]),
    "manual-ab.key": "01" * 20,
    "manual-ba.key": "02" * 20,
    "site-a.toml": TEXTS[KEEPS]
    .replace('start = "start"', 'start = "respond"')
    .replace("[gateway]\n", "[gateway]\nkeep_closed = true\n"),
    "to-b.psk": "0123456789abcdef0123456789abcdef",
}
NETWORK = "ip link add out0 type veth peer name out1; ip link set out0 up; ip link set out1 up" + "".join(
    f"; ip address add {address}/24 dev out0" for address in ("192.0.2.1", "198.51.100.1")
)
RUNS_S = 60.0


def later(package: Path, work: Path) -> Path:
    """The next version of a package, as its program says too."""
    root = work / "later"
    subprocess.run(["dpkg-deb", "-R", package, root], check=True)
    for path, before in ((root / "DEBIAN/control", "Version: "), (root / deb.SITE / "ipsec_dp/__init__.py", '"')):
        path.write_text(path.read_text().replace(f"{before}{ipsec_dp.__version__}", f"{before}{LATER}"))
    target = work / "later.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", root, target], check=True, capture_output=True)
    return target


class Host:
    """The Debian that runs, with one of two packages, and two gateways."""

    def __init__(self, system: Booted, packages: list[str]) -> None:
        self.system, self._packages = system, packages

    def systemctl(self, verb: str, *words: str) -> None:
        """`words`: options and gateways."""
        units = (word if word.startswith("-") else f"ipsec-dp@{word}.service" for word in words)
        self.system.run("systemctl", verb, *units)

    def unit(self, name: str) -> dict[str, str]:
        return self.system.show(f"ipsec-dp@{name}.service")

    def is_running(self, name: str) -> bool:
        unit = self.unit(name)
        return (unit["ActiveState"], unit["SubState"]) == ("active", "running")

    def _in_cgroup(self, name: str) -> list[str]:
        return self.system.run("cat", f"/sys/fs/cgroup{self.unit(name)['ControlGroup']}/cgroup.procs").split()

    def processes(self) -> dict[str, str]:
        """The one process of each gateway; ValueError where one has several."""
        found = {}
        for name in BOTH:
            (found[name],) = self._in_cgroup(name)
        return found

    def status(self, name: str) -> dict[str, Any]:
        return json.loads(self.system.run("ipsec-dp", "status", "--json", "--control", f"/run/ipsec-dp/{name}.sock"))

    def _journal(self, *matches: str) -> list[dict[str, Any]]:
        self.system.run("journalctl", "--sync")
        return [json.loads(line) for line in self.system.run("journalctl", "-o", "json", *matches).splitlines()]

    def events(self, name: str, process: str) -> dict[str, str]:
        """What a process of a gateway has told the journal: event and text, the last of each name, in order."""
        told: dict[str, str] = {}
        for line in self._journal(f"_SYSTEMD_UNIT=ipsec-dp@{name}.service", f"_PID={process}"):
            if event := line.get("IPSEC_DP_EVENT"):
                told.pop(event, None)
                told[event] = line["MESSAGE"]
        return told

    def said(self, name: str) -> str:
        """What systemd wrote into the journal about the unit."""
        return "\n".join(line["MESSAGE"] for line in self._journal(f"UNIT=ipsec-dp@{name}.service"))

    def is_closed(self, name: str) -> bool:
        """Whether there is a guard that lets nothing out in clear."""
        return f"table inet ipsec_dp_{name}\n" in self.system.run("nft", "list", "tables")

    def upgrade(self) -> dict[str, str]:
        """Installs the other package over the one that is there, until both go on by it; the main processes before, by gateway."""
        before = {name: self.unit(name)["MainPID"] for name in BOTH}
        self._packages.reverse()
        self.system.run("dpkg", "--force-downgrade", "-i", self._packages[0])
        for name, process in before.items():
            self._until_gone_on(name, process)
        return before

    def _until_gone_on(self, name: str, process: str) -> None:
        self.until_running(name, lambda unit: unit["MainPID"] != process)
        until(lambda: self._in_cgroup(name) == [self.unit(name)["MainPID"]], f"the former process of {name} ends")

    def until_running(self, name: str, holds: Callable[[dict[str, str]], bool]) -> None:
        """As its unit says, of which also something else is to hold."""
        until(lambda: holds(self.unit(name)) and self.is_running(name), f"{name} runs", RUNS_S)


@pytest.fixture(scope="module")
def host(debootstrap, tmp_path_factory):
    work = tmp_path_factory.mktemp("live")
    root = make(work / "root", "bookworm", debootstrap)
    try:
        package = built(work / "built")
        for number, path in enumerate((package, later(package, work))):
            shutil.copy(path, root.path / f"root/{number}.deb")
        root.run("apt-get", "update", "-qq")
        root.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "systemd", "iproute2", "/root/0.deb")
        for name, text in FILES.items():
            (root.path / "etc/ipsec-dp" / name).touch(mode=0o600)
            (root.path / "etc/ipsec-dp" / name).write_text(text)
        with booted(root, work) as system:
            system.run("sh", "-e", "-c", NETWORK)
            yield Host(system, ["/root/0.deb", "/root/1.deb"])
    finally:
        root.close()


@pytest.fixture
def started(host):
    """Both gateways, begun anew for the test."""
    try:
        host.systemctl("start", *BOTH)
        yield host
    finally:
        host.systemctl("stop", *BOTH)


def test_a_start_comes_back_when_the_gateway_is_up_and_a_reload_leaves_it_in_its_process(started):
    before = started.processes()
    assert all(started.is_running(name) for name in BOTH)
    for name, process in before.items():
        assert "gateway_up" in started.events(name, process)
    started.systemctl("reload", *BOTH)
    until(lambda: all("reloaded" in started.events(*each) for each in before.items()), "both read their files again")
    until(lambda: all(map(started.is_running, BOTH)), "systemd has heard it")
    assert [started.status(name)["upgraded_at"] for name in BOTH] == [None, None]
    assert started.processes() == before


def test_by_a_package_that_is_installed_over_it_each_gateway_goes_on_in_another_process(started):
    before = started.upgrade()
    version = started.system.run("dpkg-query", "-W", "-f", "${Version}", "ipsec-dp").partition("-")[0]
    for name, process in started.processes().items():
        unit = started.unit(name)
        assert (unit["MainPID"], unit["NRestarts"], unit["Result"]) == (process, "0", "success")
        assert started.status(name)["upgraded_at"] is not None
        assert f"version {version};" in started.events(name, before[name])["upgraded"]
        assert "gateway_taken_over" in started.events(name, process)


def test_a_stop_after_that_is_heard_and_ends_it_as_any_other(started):
    """SIGKILL, which systemd sends right after SIGTERM to a process that it has not started itself, would leave both guards."""
    started.upgrade()
    before = started.processes()
    started.systemctl("stop", *BOTH)
    for name, process in before.items():
        unit = started.unit(name)
        assert (unit["ActiveState"], unit["SubState"], unit["Result"]) == ("inactive", "dead", "success")
        assert list(started.events(name, process))[-1] == "gateway_stopping"
        assert "SIGKILL" not in started.said(name)
    assert [started.is_closed(name) for name in BOTH] == [False, True]


def test_a_restart_after_that_ends_it_and_begins_anew(started):
    started.upgrade()
    before = started.processes()
    started.systemctl("restart", *BOTH)
    for name, process in started.processes().items():
        assert process != before[name]
        assert list(started.events(name, before[name]))[-1] == "gateway_stopping"
        assert "gateway_up" in started.events(name, process)
        assert started.is_running(name)
        assert (started.status(name)["upgraded_at"], started.unit(name)["NRestarts"]) == (None, "0")


def test_one_that_is_killed_after_that_is_started_again_and_stays_closed_meanwhile(started):
    started.upgrade()
    started.systemctl("kill", "--kill-whom=main", "--signal=KILL", *BOTH)
    for name in BOTH:
        assert started.is_closed(name)
        started.until_running(name, lambda unit: unit["NRestarts"] == "1")
        assert started.status(name)["upgraded_at"] is None
