"""In a Debian of its own, made for the test from the archive: setting up enables nothing there. Needs the network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.debian import ROOT
from tests.packaging.test_distributions import NOT_SOURCE
from tests.packaging.test_packages import named
from tests.packaging.test_readme import blocks

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
        environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
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


@pytest.mark.parametrize("debian", ["bookworm"], indirect=True)
def test_the_readme_leads_from_a_checkout_to_a_service(debian, tmp_path):
    """Its commands as they stand, but for starting it: no systemd runs in there."""
    install, _ = blocks("As a service")
    source = debian.path / "root/ipsec_dp"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    _give_packages(debian.path)
    debian.run("apt-get", "update", "-qq")
    debian.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "systemd", "python3-pip")
    assert "externally-managed-environment" in debian.run("sh", "-c", "pip install /root/ipsec_dp 2>&1", check=False)

    debian.run("bash", "-e", "-c", f"cd /root/ipsec_dp\n{install}")
    assert debian.run("ipsec-dp", "--version").startswith("ipsec-dp ")
    assert "good: 1 tunnel" in debian.run("ipsec-dp", "check", "/etc/ipsec-dp/site-a.toml")
    shutil.copy(debian.path / "opt/ipsec-dp/share/ipsec-dp/schema.json", tmp_path)
    for unit in ("ipsec-dp@site-a.service", "ipsec-dp-guard@site-a.service"):
        said = debian.run("sh", "-c", f"systemd-analyze verify /etc/systemd/system/{unit} 2>&1", check=False)
        assert not re.findall(r"ipsec-dp\S*:\d+:.*", said), said


def _give_packages(root: Path) -> None:
    """Wheels of all that pip will ask for, as this host gets them: the Debian in there may have no way to an index."""
    wheels = root / "root/wheels"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["build-system"]["requires"] + project["project"]["dependencies"]
    subprocess.run([*OUTSIDE, sys.executable, "-m", "pip", "wheel", "-q", "-w", wheels, *wanted], check=True)
    (root / "etc/pip.conf").write_text("[global]\nfind-links = /root/wheels\nno-index = true\n")


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
