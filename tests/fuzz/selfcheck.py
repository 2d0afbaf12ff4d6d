"""Shows that each fuzzer can find a bug: plants one in a copy of the tree and expects a crash within FUZZ_SECONDS.

    python3 tests/fuzz/selfcheck.py [NAME...]       NAME: esp, inner, ...; default: every tests/fuzz/planted/*.patch

A patch begins with `# what:` and `# red: fuzz_NAME, ...`, the libFuzzer target that must find it. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLANTED = ROOT / "tests" / "fuzz" / "planted"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
RED = re.compile(r"^# red: fuzz_(\w+)", re.MULTILINE)
FOUND = re.compile(r"^SUMMARY: .*", re.MULTILINE)
BUILD_SECONDS = 300


def copy_of_sources(to: Path) -> None:
    """What the C fuzzers are built from."""
    for part in ("native", "tests/native", "tests/fuzz", "tests/vectors"):
        shutil.copytree(ROOT / part, to / part)


def make(tree: Path, target: str, only: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", "-C", str(tree / "native"), target, f"ONLY={only}", f"FUZZ_SECONDS={SECONDS}"]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=BUILD_SECONDS + SECONDS)


def finds(patch: Path) -> str:
    """Why the planted bug was not found; empty when it was."""
    red = RED.search(patch.read_text())
    if red is None:
        return "no line `# red: fuzz_NAME`"
    with tempfile.TemporaryDirectory(prefix="ipsec-dp-planted-") as directory:
        tree = Path(directory)
        copy_of_sources(tree)
        applied = subprocess.run(
            ["patch", "-p1", "--no-backup-if-mismatch", "-i", str(patch)], cwd=tree, capture_output=True, text=True, check=False
        )
        if applied.returncode != 0:
            return f"the patch does not apply: {applied.stdout}{applied.stderr}"
        built = make(tree, "fuzz-build", red[1])
        if built.returncode != 0:
            return f"does not build: {built.stderr[-2000:]}"
        ran = make(tree, "fuzz", red[1])
        summary = FOUND.search(ran.stdout + ran.stderr)
        if ran.returncode == 0 or summary is None:
            return f"not found within {SECONDS} s: {(ran.stdout + ran.stderr)[-2000:]}"
        print(f"{patch.stem}: found by fuzz_{red[1]}: {summary[0]}", flush=True)
        return ""


def main() -> int:
    patches = [PLANTED / f"{name}.patch" for name in sys.argv[1:]] or sorted(PLANTED.glob("*.patch"))
    if not patches:
        print(f"no patch in {PLANTED}", file=sys.stderr)
        return 1
    missed = {patch.stem: reason for patch in patches if (reason := finds(patch))}
    for name, reason in missed.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
