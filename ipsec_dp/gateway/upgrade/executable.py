"""Which program a gateway may hand itself over to: one that root alone has put there, and that says of itself what it is.

The gateway starts it with its own privileges, which are not root's. So it gains nobody anything that the gateway has not; but who
could change it would have the gateway's keys. Looked at are the program, the interpreter that it names, the package where this
program is started anew, and all that is on the way to them; what they import or start in turn is not: root has installed that too.
No variable of the gateway's environment says where Python finds modules.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import ipsec_dp
from ipsec_dp.gateway.upgrade.messages import MODEL
from ipsec_dp.gateway.upgrade.stream import FORM, HandOverError
from ipsec_dp.util.text import LINE, shown
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

ANSWER_S: Final = 30.0
LINKS_MAX: Final = 40  # as the kernel follows (path_resolution(7))
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_SCRIPT_OCTETS: Final = 256  # in which the kernel looks for an interpreter


class RunningProgram:
    """What this process was started of. A package manager puts other files there, also those of the same version."""

    def __init__(self, package: Path | None = None) -> None:
        self._package = Path(ipsec_dp.__file__).parent if package is None else package
        self._started = self._there()

    @property
    def is_replaced(self) -> bool:
        """Whether another program is installed in its place; not where none is, or none can be seen."""
        there = self._there()
        return bool(self._started and there) and there != self._started

    def _there(self) -> list[tuple[int, ...]]:
        try:
            found = [each.stat() for each in (self._package / "__init__.py", *sorted(self._package.glob("_native*.so")))]
        except OSError:
            return []
        return [(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


class About(NamedTuple):
    """What a program says of itself."""

    version: str
    model: int
    form: int


def why_not_installed(path: str) -> str | None:
    """Why somebody else than root may have put there what an absolute path leads to, over any links. None: nobody else can."""
    here, left, links = "/", deque(path.split("/")), 0
    while left:
        name = left.popleft()
        if name in ("", "."):
            continue
        step = os.path.dirname(here) if name == ".." else os.path.join(here, name)
        try:
            found = os.lstat(step)
            target = os.readlink(step) if stat.S_ISLNK(found.st_mode) else None
        except OSError as error:
            return f"{step}: {error.strerror}"
        if found.st_uid != 0:
            return f"{step} belongs to others than root"
        if target is not None:
            links += 1
            if links > LINKS_MAX:
                return f"{path} leads over too many links"
            here = "/" if target.startswith("/") else here
            left.extendleft(reversed(target.split("/")))
            continue
        if found.st_mode & _OTHERS_WRITE and not _sticky(found):
            return f"others than root may write {step}"
        here = step
    return None


def _sticky(found: os.stat_result) -> bool:
    """Whether it is a directory in which nobody else takes away or renames what is root's, as /tmp is (unlink(2), EPERM)."""
    return stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)


def _interpreter(path: str) -> str | None:
    """Of a script; None: it is none. OSError."""
    with open(path, "rb") as file:
        first = file.read(_SCRIPT_OCTETS)
    if not first.startswith(b"#!"):
        return None
    words = first[2:].split(b"\n")[0].split()
    return os.fsdecode(words[0]) if words else None


def command_for(path: Path | None) -> tuple[str, ...]:
    """How the successor is started; `path` None: as this program is installed. Raises HandOverError: it is not root's alone."""
    command: tuple[str, ...] = (sys.executable, "-I", "-m", "ipsec_dp") if path is None else (str(path),)
    package = [os.path.dirname(os.path.abspath(ipsec_dp.__file__))] if path is None else []
    for each in (command[0], *package):
        if not os.path.isabs(each):
            raise HandOverError(f"{shown(each, LINE)}: give the whole path of the program")
        _refuse(each)
    if not os.path.isfile(command[0]):
        raise HandOverError(f"{shown(command[0], LINE)} is no program")
    try:
        script = _interpreter(command[0])
    except OSError as error:
        raise HandOverError(f"{command[0]} cannot be read: {error.strerror}") from None
    if script is not None:
        if not os.path.isabs(script) or os.path.basename(script) == "env":
            raise HandOverError(f"{command[0]} does not name its interpreter by its whole path ({shown(script, LINE)})")
        _refuse(script)
    return command


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """A successor's: the watchdog of a service manager is for whoever goes on, and Python's variables name what others may own."""
    return {name: value for name, value in ours.items() if name != "WATCHDOG_PID" and not name.startswith("PYTHON")}


def _refuse(path: str) -> None:
    if (why := why_not_installed(path)) is not None:
        raise HandOverError(f"{why}: a gateway hands itself over to no program that others than root can change")


def understood() -> dict[str, int]:
    """What this program says of itself to one that asks."""
    return {"model": MODEL, "form": FORM}


def ask(command: tuple[str, ...]) -> About:
    """Which version it is, and which messages it understands. Raises HandOverError: it does not say, or understands others."""
    try:
        done = subprocess.run(
            [*command, "version", "--json"],
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment(os.environ),
        )
        said = json.loads(done.stdout)
        about = About(str(said["version"]), int(said["upgrade"]["model"]), int(said["upgrade"]["form"]))
    except subprocess.TimeoutExpired:
        raise HandOverError(f"{command[0]} did not say its version within {ANSWER_S:g} s") from None
    except OSError as error:
        raise HandOverError(f"{command[0]} cannot be started by this gateway's user: {error.strerror}") from None
    except (KeyError, TypeError, ValueError):
        raise HandOverError(
            f"{command[0]} does not say which hand-over it understands: it is older than `upgrade`, or no ipsec-dp"
        ) from None
    if (about.form, about.model) != (FORM, MODEL):
        raise HandOverError(
            f"{command[0]} is version {about.version} and understands model {about.model} of the hand-over (form {about.form}), "
            f"and this gateway speaks model {MODEL} (form {FORM}): restart it instead"
        )
    return about


async def asked(command: tuple[str, ...]) -> About:
    """Raises HandOverError: it is not one that understands what would be said to it."""
    about = await asyncio.to_thread(ask, command)
    log.info("handing over to version %s (%s)", about.version, " ".join(command), extra=told("upgrade_begins"))
    return about
