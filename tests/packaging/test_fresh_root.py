"""In a Debian of its own, made for the test from the archive: setting up enables nothing there. Needs the network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.debian import ROOT
from tests.packaging.test_packages import named

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]
# This process has a host of its own, without a network (tests/own_host.py): its parent has not.
OUTSIDE = ("nsenter", "--mount", "--net", f"--target={os.getppid()}")
CHROOT = 'mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
SUITES = ("bookworm", "trixie")
# Where systemd, and what stands in for it, keep what is to run after the next boot.
ENABLED = ("etc/systemd", *(f"etc/rc{level}.d" for level in "0123456S"))


class Root:
    """A minimal Debian below a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *argv: str, check: bool = True) -> str:
        """Runs a program in it."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        command = (*OUTSIDE, "unshare", "--mount", "sh", "-c", CHROOT, str(self.path), *argv)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def enabled(self) -> set[str]:
        """Every link that starts something at boot."""
        trees = (self.path / tree for tree in ENABLED)
        return {str(path.relative_to(self.path)) for tree in trees for path in tree.rglob("*") if path.is_symlink()}

    def packages(self) -> int:
        return len(self.run("dpkg-query", "-W", "-f", "x").strip())


@pytest.fixture(scope="module")
def debootstrap(tmp_path_factory) -> Path:
    """The /usr in which debootstrap is."""
    unpacked = tmp_path_factory.mktemp("debootstrap") / "unpacked"
    subprocess.run([*OUTSIDE, ROOT / "tools/packages.sh", "unpack", unpacked, "debootstrap"], check=True)
    return (unpacked if unpacked.exists() else Path("/")) / "usr"


@pytest.fixture(params=SUITES)
def debian(request, debootstrap, tmp_path):
    """A minimal Debian with the resolver of this host."""
    path = tmp_path / "root"
    program = debootstrap / "sbin/debootstrap"
    environment = {"DEBOOTSTRAP_DIR": str(debootstrap / "share/debootstrap"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(
        [*OUTSIDE, "unshare", "--mount", program, "--variant=minbase", request.param, path, "http://deb.debian.org/debian"],
        env=environment,
        check=True,
        capture_output=True,
    )
    resolver = subprocess.run([*OUTSIDE, "cat", "/etc/resolv.conf"], capture_output=True, check=True).stdout
    (path / "etc/resolv.conf").write_bytes(resolver)
    shutil.copytree(ROOT / "tools", path / "src/tools")
    yield Root(path)
    shutil.rmtree(path)


def test_setting_up_enables_nothing(debian):
    setup = {"python3", "python3-venv", "python3-dev", *named("install", "setup")}
    before, start = debian.enabled(), debian.packages()
    debian.run("/src/tools/packages.sh", "install", *sorted(setup))
    assert debian.enabled() == before
    assert debian.packages() - start <= 95
    debian.run("/src/tools/packages.sh", "install", *sorted(named("install", "setup-dev")))
    debian.run("/src/tools/packages.sh", "unpack", "/src/peers", *sorted(named("unpack", "setup-dev")))
    newer = [name.strip("'") for name in named("unpack-suite", "setup-dev") - {"forky", "build/strongswan6"}]
    debian.run("/src/tools/packages.sh", "unpack-suite", "forky", "/src/strongswan6", *sorted(newer))
    assert (debian.path / "src/strongswan6/usr/lib/ipsec/charon").exists()
    assert debian.enabled() == before
    for program in ("sbin/bird", "sbin/swanctl", "lib/ipsec/charon", "sbin/openvpn", "bin/wireguard-go", "bin/wg"):
        assert (debian.path / "src/peers/usr" / program).exists(), program

    debian.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "bird2")
    assert "etc/systemd/system/multi-user.target.wants/bird.service" in debian.enabled() - before
