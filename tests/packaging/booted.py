"""A Debian below a directory that runs: systemd is its first process, in namespaces and a cgroup of its own. Needs root, cgroup2.

Of the host it has the kernel alone: what it sees of it can only be read (/sys, and /proc/sys but for that of its own network), and
the units that set a host up at boot (sysctls, udev, file systems, logins) are taken out of it first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.netns.traffic import until
from tests.packaging.fresh_root import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packaging.fresh_root import Root

BOOT_S = 60.0
TARGET = "live.target"
NAME = "ipsec-dp-live-"  # of a cgroup, before the process id of who made it
UNIT = "[Unit]\nRequires=basic.target systemd-journald.service\nAfter=basic.target systemd-journald.service\n"
# $1: its cgroup; $2: INIT; $3: its directory. What unshare started ends with unshare, and with it all that is in there.
UNSHARE = """
echo $$ >"$1/cgroup.procs"
exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc --net --propagation private sh -e -c "$2" sh "$3"
"""
INIT = f"""
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for each in run tmp dev; do mount -t tmpfs tmpfs $each; done
mkdir dev/shm dev/pts dev/net
for each in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 dev/${{each%:*}} c 1 ${{each#*:}}; done
mknod -m 666 dev/net/tun c 10 200
pivot_root . .
umount -l .
mount --make-rshared /
exec env -i container=other PATH={PATH} /lib/systemd/systemd --system --unit={TARGET} --show-status=0
"""


def _remove(group: Path) -> None:
    """A cgroup with all below it, once its processes have ended."""
    until(lambda: "populated 0" in (group / "cgroup.events").read_text(), "its last process ends")
    for path, _, _ in os.walk(group, topdown=False):
        os.rmdir(path)


@contextlib.contextmanager
def _cgroup(mount: Path) -> Iterator[Path]:
    """One below this process's own, empty; AssertionError where the kernel has none to give."""
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "cgroup2", "cgroup2", mount], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"systemd takes a cgroup2, and none can be mounted here: {done.stderr}"
    try:
        own = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
        group = mount / own[0].lstrip("/") / f"{NAME}{os.getpid()}"
        for left in group.parent.glob(f"{NAME}*"):  # by a run that was killed itself
            if not Path("/proc", left.name.removeprefix(NAME)).exists():
                _remove(left)
        group.mkdir()
        try:
            yield group
        finally:
            _remove(group)
    finally:
        subprocess.run(["umount", mount], check=True)
        mount.rmdir()


@contextlib.contextmanager
def booted(root: Root, work: Path) -> Iterator[Booted]:
    """Runs it; nothing of it is left afterwards but its files. `work`: a directory for what it says, and a mount."""
    units = root.path / "etc/systemd/system"
    for each in (*root.path.glob("lib/systemd/system/*.wants"), *units.glob("*.wants")):
        shutil.rmtree(each)
    (root.path / "etc/fstab").unlink(missing_ok=True)
    (units / TARGET).write_text(UNIT)
    (units / "systemd-journald-audit.socket").symlink_to("/dev/null")
    with _cgroup(work / "cgroup2") as group, (work / "console").open("w+") as console:
        command = ("sh", "-e", "-c", UNSHARE, "sh", group, INIT, root.path)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console) as unshare:
            try:
                yield Booted(unshare, work / "console")
            finally:
                unshare.kill()


class Booted:
    """What runs."""

    def __init__(self, unshare: subprocess.Popen[bytes], console: Path) -> None:
        self._unshare, self._console = unshare, console
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        self._init = until(lambda: children.read_text().strip() or unshare.poll(), "its first process")
        until(self._is_up, "systemd is up", BOOT_S)

    def _is_up(self) -> bool:
        assert self._unshare.poll() is None, f"systemd has ended: {self._console.read_text()}"
        comm = Path(f"/proc/{self._init}/comm").read_text().strip()
        return comm == "systemd" and self.run("systemctl", "is-active", TARGET, check=False) == "active\n"

    def run(self, *argv: str, check: bool = True) -> str:
        """Runs a program in it; what it said."""
        enter = ("nsenter", f"--target={self._init}", "--mount", "--net", "--pid", "--uts", "--ipc", "--root", "--wd")
        environment = {"PATH": PATH, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run([*enter, *argv], env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}{self._said()}"
        return done.stdout

    def _said(self) -> str:
        return self.run("journalctl", "--no-pager", "-n", "60", check=False)

    def show(self, unit: str) -> dict[str, str]:
        """The properties of a unit."""
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", unit).splitlines() if "=" in line)
