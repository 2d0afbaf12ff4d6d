"""A process that becomes another user goes on importing from directories which that user cannot enter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
sys.path[:0] = [{site!r}]
import first, first.inner
from pathlib import Path
from ipsec_dp.util.importable import keep_importable
if {keep}:
    keep_importable(lambda directory: not str(directory).startswith({closed!r}))
if os.geteuid() == 0:
    os.setresgid(65526, 65526, 65526)
    os.setresuid(65526, 65526, 65526)
try:
    import first.later, first.inner.later, second
except ModuleNotFoundError as error:
    raise SystemExit(f"{{error.name}} is out of reach")
print(second.__file__, first.later.VALUE)
"""


@pytest.fixture
def closed(tmp_path):
    """A directory that only its owner enters, with packages in it."""
    for name in ("first/__init__", "first/later", "first/inner/__init__", "first/inner/later", "second"):
        module = tmp_path / "closed/site" / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text("VALUE = 7\n")
    (tmp_path / "closed").chmod(0o700)
    tmp_path.chmod(0o755)
    return tmp_path / "closed"


def run(closed, *, keep):
    program = PROGRAM.format(site=str(closed / "site"), closed=str(closed), keep=keep)
    return subprocess.run((sys.executable, "-B", "-c", program), capture_output=True, text=True, check=False)


def test_what_is_out_of_reach_is_found_by_descriptors(closed):
    done = run(closed, keep=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("/proc/self/fd/")
    assert done.stdout.split()[-1] == "7"


@pytest.mark.root
def test_without_it_the_user_finds_no_module(closed):
    assert os.geteuid() == 0
    assert run(closed, keep=False).stderr == "first.later is out of reach\n"


def test_what_is_within_reach_stays_where_it_is(closed):
    program = "import sys; before = sys.path[:], __import__('email').__path__[:]\n"
    program += "from ipsec_dp.util.importable import keep_importable; keep_importable(lambda directory: True)\n"
    program += "assert (sys.path, __import__('email').__path__) == before"
    subprocess.run((sys.executable, "-c", program), check=True)


def test_what_the_library_loads_by_itself_is_found_by_descriptors_too():
    """A codec is imported with the first text in it, by code that no import statement shows."""
    program = "import sys; from ipsec_dp.util.importable import keep_importable; keep_importable(lambda directory: False)\n"
    program += "assert 'encodings.utf_32_be' not in sys.modules\n"
    program += "print(b'\\0\\0\\0a'.decode('utf-32-be'), sys.modules['encodings.utf_32_be'].__file__)"
    done = subprocess.run((sys.executable, "-B", "-c", program), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a /proc/self/fd/")
