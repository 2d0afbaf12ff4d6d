"""A Debian below a directory, made from the archive, for tests that install things. Needs root and the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.packaging.debian import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

# This process has a host of its own, without a network (tests/own_host.py): its parent has not.
OUTSIDE = ("nsenter", "--mount", "--net", f"--target={os.getppid()}")
CHROOT = 'mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
SUITES = ("bookworm", "trixie")
# Where systemd, and what stands in for it, keep what is to run after the next boot.
ENABLED = ("etc/systemd", *(f"etc/rc{level}.d" for level in "0123456S"))
NOTHING: Mapping[str, str] = MappingProxyType({})
PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make(path: Path, suite: str, debootstrap: Path) -> Root:
    """A minimal Debian with the resolver of this host. `debootstrap`: the /usr in which it is."""
    environment = {"DEBOOTSTRAP_DIR": str(debootstrap / "share/debootstrap"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    program = debootstrap / "sbin/debootstrap"
    subprocess.run(
        [*OUTSIDE, "unshare", "--mount", program, "--variant=minbase", suite, path, "http://deb.debian.org/debian"],
        env=environment,
        check=True,
        capture_output=True,
    )
    resolver = subprocess.run([*OUTSIDE, "cat", "/etc/resolv.conf"], capture_output=True, check=True).stdout
    (path / "etc/resolv.conf").write_bytes(resolver)
    return Root(path)


class Root:
    """A system below a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def copy(self, path: Path) -> Root:
        subprocess.run(["cp", "-a", self.path, path], check=True)
        return Root(path)

    def run(
        self, *argv: str, check: bool = True, outside: tuple[str, ...] = OUTSIDE, variables: Mapping[str, str] = NOTHING
    ) -> str:
        """Runs a program in it; `outside`: in which network."""
        environment = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"} | dict(variables)
        command = (*outside, "unshare", "--mount", "sh", "-c", CHROOT, str(self.path), *argv)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def enabled(self) -> set[str]:
        """Every link that starts something at boot."""
        trees = (self.path / tree for tree in ENABLED)
        return {str(path.relative_to(self.path)) for tree in trees for path in tree.rglob("*") if path.is_symlink()}

    def packages(self) -> int:
        return len(self.run("dpkg-query", "-W", "-f", "x").strip())

    def files(self) -> set[str]:
        """Every file and directory but those of the kernel."""
        tops = (top for top in self.path.iterdir() if top.name not in ("proc", "sys", "dev", "run", "tmp"))
        return {str(path.relative_to(self.path)) for top in tops for path in top.rglob("*")}

    def give_packages(self) -> None:
        """Wheels of all that pip will ask for, as this host gets them: the Debian in there may have no way to an index."""
        wheels = self.path / "root/wheels"
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        wanted = project["build-system"]["requires"] + project["project"]["dependencies"]
        subprocess.run([*OUTSIDE, sys.executable, "-m", "pip", "wheel", "-q", "-w", wheels, *wanted], check=True)
        (self.path / "etc/pip.conf").write_text("[global]\nfind-links = /root/wheels\nno-index = true\n")

    def close(self) -> None:
        shutil.rmtree(self.path)
