"""The command's first moments: Ctrl-C while Python itself starts ends it as Ctrl-C ends any program."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "tools" / "ipsec-dp"
MAIN = f"#!{sys.executable}\nimport sys\nfrom ipsec_dp.__main__ import run\nsys.exit(run())\n"
# Read by the interpreter before any line of ours: Ctrl-C that comes just then.
INTERRUPTED = 'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint("went on")\n'


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def installed(tmp_path):
    """The launcher, and beside it what it starts."""
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin" / "ipsec-dp-main", MAIN)
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "sitecustomize.py").write_text(INTERRUPTED)
    return Path(shutil.copy(LAUNCHER, tmp_path / "bin" / "ipsec-dp"))


def run(command, early=None, path=os.environ["PATH"]):
    environment = os.environ | {"PATH": path} | ({} if early is None else {"PYTHONPATH": str(early)})
    return subprocess.run([command, "--help"], env=environment, capture_output=True, text=True, check=False)


def test_an_interrupt_while_python_starts_shows_no_traceback(installed, tmp_path):
    done = run(installed, tmp_path / "early")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    bare = run(installed.with_name("ipsec-dp-main"), tmp_path / "early")
    assert "Traceback" in bare.stderr, "the control: the moment is the right one"


def test_it_is_the_command_whatever_link_leads_to_it(installed, tmp_path):
    link = tmp_path / "a link"
    link.symlink_to(installed)
    assert run(link).stdout == run(installed.with_name("ipsec-dp-main")).stdout != ""


def test_an_env_that_blocks_no_signals_starts_it_all_the_same(installed, tmp_path):
    """That of BusyBox, or of coreutils before 8.31."""
    (tmp_path / "old").mkdir()
    executable(tmp_path / "old" / "env", "#!/bin/sh\nexit 125\n")
    done = run(installed, path=f"{tmp_path / 'old'}:{os.environ['PATH']}")
    assert (done.returncode, "ipsec-dp" in done.stdout) == (0, True)


def test_what_runs_has_no_signal_blocked(installed, tmp_path):
    """Or a verb could not be interrupted, nor what it starts."""
    (tmp_path / "late").mkdir()
    script = f"#!{sys.executable}\nimport signal\nfrom ipsec_dp import __main__ as entry\nimport ipsec_dp.cli as cli\n"
    script += "cli.main = lambda **_: print(signal.pthread_sigmask(signal.SIG_BLOCK, ())) or 0\nentry.run()\n"
    executable(installed.with_name("ipsec-dp-main"), script)
    assert run(installed).stdout == "set()\n"
