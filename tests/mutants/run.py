"""Shows that the tests can fail: applies each patch of this directory to a copy of the tree and expects its tests to turn red.

    python tests/mutants/run.py                              all of them
    python tests/mutants/run.py 07 guard                     those whose file name holds one of these texts
    python tests/mutants/run.py --changed BASE --minutes 6   as many as fit: those first that the changes since the commit BASE
                                                             touch, by their patch or the files that it patches; then others

A patch is a unified diff against the project's root that leaves the code building and wrong. Its first lines say

    # what: the window takes a number before the ICV held
    # red: tests/native/test_replay.c::test_a_check_changes_nothing
    # red: tests/unit/test_inbound_drops.py

Every test named is run on the unpatched copy first and must be green, then on the patched one, where each line must have a test
that fails. A patch that does not apply, does not build or stays green fails the run. Results: a table, and build/junit/mutants.xml.
What a time limit leaves for other runs is in neither; the last line says how many those are. The commit's id gives the order, so
that every commit has others.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATCHES = Path(__file__).resolve().parent
SLOTS = 2  # copies of the tree, and mutants at work at once
TIMEOUT_S = 180  # for the tests of one mutant: code that hangs is red too
BUILD_S = 600  # for one compiler run: no patch makes it hang, so what takes longer says something of the machine
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.so", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "results"
)
NATIVE = "tests/native/"
# As native/build_ffi.py decides it.
WITH_IPSEC_MB = platform.machine() == "x86_64" and os.environ.get("IPSEC_DP_WITHOUT_IPSEC_MB", "") in ("", "0")

HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class MutantError(Exception):
    """A patch that cannot be judged; the text says why."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    what: str
    red: tuple[str, ...]  # tests/native/test_x.c[::case] or a pytest id
    diff: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Mutant:
        lines = path.read_text().splitlines()
        head = {key: [line.split(":", 1)[1].strip() for line in lines if line.startswith(f"# {key}:")] for key in ("what", "red")}
        if len(head["what"]) != 1 or not head["red"]:
            raise MutantError(f'{path.name} needs one "# what:" line and a "# red:" line')
        return cls(path.stem, head["what"][0], tuple(head["red"]), tuple(line for line in lines if not line.startswith("# ")))


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    what: str
    killed: bool
    note: str
    seconds: float


# ---- patches


def hunks(diff: Iterable[str]) -> list[tuple[str, list[str], list[str]]]:
    """(file, lines before, lines after) of each hunk. A hunk's header says how many lines it has."""
    found: list[tuple[str, list[str], list[str]]] = []
    path, before, after = "", 0, 0
    for line in diff:
        if before or after:
            if line[:1] != "+":
                found[-1][1].append(line[1:])
                before -= 1
            if line[:1] != "-":
                found[-1][2].append(line[1:])
                after -= 1
        elif line.startswith("+++ "):
            path = line[4:].split("\t")[0].removeprefix("b/")
        elif match := HUNK.match(line):
            before, after = (1 if count is None else int(count) for count in match.groups())
            found.append((path, [], []))
    return found


def patched(text: str, before: list[str], after: list[str]) -> str:
    """`text` with the one place that reads `before` replaced. Line numbers are not looked at, so a patch outlives edits nearby."""
    old, new = "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)
    if text.count(old) != 1:
        raise MutantError(f"does not apply: its context is there {text.count(old)} times")
    return text.replace(old, new)


def apply(mutant: Mutant, tree: Path) -> list[Path]:
    """Changes the tree; the files that were changed."""
    changed: list[Path] = []
    for name, before, after in hunks(mutant.diff):
        path = tree / name
        if not path.is_file():
            raise MutantError(f"does not apply: there is no {name}")
        if path not in changed:
            changed.append(path)
        path.write_text(patched(path.read_text(), before, after))
    if not changed:
        raise MutantError("changes nothing")
    return changed


# ---- which come first


def git(*arguments: str) -> str:
    """What git says of this tree. Raises MutantError when it fails."""
    done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MutantError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def changed_since(base: str) -> set[str]:
    """The files that differ from those of a commit."""
    return set(git("diff", "--name-only", "--no-renames", base, "--").splitlines())


def touched(mutant: Mutant, changed: Collection[str]) -> bool:
    """Whether one of these files is patched by the mutant, or is the patch."""
    own = (PATCHES / f"{mutant.name}.patch").relative_to(ROOT).as_posix()
    return own in changed or any(name in changed for name, _, _ in hunks(mutant.diff))


def in_turn(mutants: list[Mutant], changed: Collection[str], commit: str) -> list[Mutant]:
    """Those first that the changed files touch, then the others, both in the order of this commit."""
    shuffled = random.Random(commit).sample(mutants, len(mutants))
    return sorted(shuffled, key=lambda mutant: not touched(mutant, changed))


# ---- running tests in a copy


def call(tree: Path, *command: str, seconds: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Raises subprocess.TimeoutExpired after this time."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
    )


def must_build(tree: Path, *command: str, what: str = "does not build") -> None:
    """Raises MutantError when it fails, or takes longer than BUILD_S: neither is a test that turned red."""
    try:
        result = call(tree, *command, seconds=BUILD_S)
    except subprocess.TimeoutExpired as error:
        raise MutantError(f"{what} within {BUILD_S} s") from error
    if result.returncode != 0:
        raise MutantError(f"{what}:\n{(result.stdout + result.stderr)[-2000:]}")


def failed_native(tree: Path, test: str) -> bool:
    """Whether a C unit, or one case of it, fails. Raises MutantError when it does not build or has no such case."""
    source, _, case = test.partition("::")
    program = tree / "build" / "native" / "plain-cc" / Path(source).stem
    make = ("make", "-s", "-C", "native", f"PYTHON={sys.executable}", "CC=cc")
    must_build(tree, *make, str(program))
    report = tree / "build" / "mutant.xml"
    call(tree, sys.executable, "tests/native/run_units.py", str(report), str(program))
    cases = list(ET.parse(report).getroot().iter("testcase"))
    failures = [
        element.get("name") for element in cases if element.find("failure") is not None or element.find("error") is not None
    ]
    if not case:
        return bool(failures)
    if program.name in failures:  # it crashed and left no report of its own
        return True
    if case not in [element.get("name") for element in cases]:
        raise MutantError(f"{source} has no test {case}")
    return case in failures


def red_pytest(tree: Path, tests: list[str]) -> list[str]:
    """Those of these pytest ids of which a test fails; all of them when pytest itself crashes. Raises MutantError when none ran."""
    command = (sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=1", *tests)
    result = call(tree, *command)
    lines = result.stdout.splitlines()
    if result.returncode in (2, 3, 4, 5) or (os.geteuid() == 0 and lines and " skipped" in lines[-1]):
        raise MutantError(f"tests did not run:\n{(result.stdout + result.stderr)[-2000:]}")
    if result.returncode < 0:
        return tests
    failures = [line.split(" ", 1)[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]  # an id may have spaces
    return [test for test in tests if any(failure.startswith(test) for failure in failures)]


def red(tree: Tree, tests: Iterable[str], changed: Iterable[Path] = ()) -> list[str]:
    """Those of these tests that fail, hang or crash, after the files in `changed` were."""
    native = [test for test in tests if test.startswith(NATIVE)]
    python = [test for test in tests if not test.startswith(NATIVE)]
    found: list[str] = []
    for test in native:
        try:
            found += [test] if failed_native(tree.path, test) else []
        except subprocess.TimeoutExpired:
            found.append(test)
    if python:
        tree.build(changed)
        try:
            found += red_pytest(tree.path, python)
        except subprocess.TimeoutExpired:
            found += python
    return found


class Tree:
    """A copy of the project with its extension built, which is kept up to date file by file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tree"
        self._stale: set[Path] = set()  # compiled from a text that is no longer there
        shutil.copytree(ROOT, self.path, ignore=LEFT_OUT, symlinks=True)
        self._build_all()

        # Found by what the sources hold, since a patch may leave their size and, within a second, their time.
        compiled = ("-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "ipsec_dp")
        must_build(self.path, sys.executable, *compiled)

    def _build_all(self) -> None:
        must_build(self.path, sys.executable, "native/build_ffi.py")

    def build(self, changed: Iterable[Path]) -> None:
        """Brings the extension to what the tree says, given what was changed in it. Raises MutantError when it does not compile."""
        native = {path for path in changed if path.parent == self.path / "native"}
        touched, self._stale = self._stale | native, self._stale | native
        if any(path.name in ("dp.h", "drops.h", "build_ffi.py", "cflags") for path in touched):
            self._build_all()
        elif touched:
            headers = any(path.suffix != ".c" for path in touched)
            self._compile((self.path / "native").glob("*.c") if headers else touched)
        self._stale = native

    def _compile(self, sources: Iterable[Path]) -> None:
        """Less optimized than a release: these are compiled often and run shortly."""
        objects = self.path / "build" / "temp-release"
        mb = (["-DDP_HAVE_IPSEC_MB=1"], ["-lIPSec_MB"]) if WITH_IPSEC_MB else ([], [])
        for source in sources:
            target = objects / "native" / f"{source.stem}.o"
            flags = ("-O1", "-fPIC", "-pthread", "@native/cflags", "-Inative", *mb[0])
            must_build(self.path, "cc", *flags, "-c", "-o", str(target), str(source))
        extension = next((self.path / "ipsec_dp").glob("_native*.so"))
        parts = sorted(str(path) for path in objects.rglob("*.o"))
        must_build(self.path, "cc", "-shared", "-pthread", "-o", str(extension), *parts, "-lcrypto", *mb[1], what="does not link")


# ---- the run


def judge(mutant: Mutant, tree: Tree) -> Verdict:
    """Applies a mutant, runs its tests, and takes it back."""
    start = time.monotonic()
    files = [tree.path / name for name, _, _ in hunks(mutant.diff)]
    saved = {path: path.read_text() for path in files if path.is_file()}
    try:
        fallen = red(tree, mutant.red, apply(mutant, tree.path))
        green = [test for test in mutant.red if test not in fallen]
        killed, note = not green, "survived " + ", ".join(green) if green else ", ".join(mutant.red)
    except MutantError as error:
        killed, note = False, str(error)
    finally:
        for path, text in saved.items():
            path.write_text(text)
    return Verdict(mutant.name, mutant.what, killed, note, time.monotonic() - start)


def needs_root(mutant: Mutant) -> bool:
    return any(test.startswith("tests/netns/") for test in mutant.red)


class Run:
    """The mutants that wait, in order, and what the tests that they name say of the unpatched tree."""

    def __init__(self, mutants: list[Mutant], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.waiting, self.red_unpatched, self.unpatched_s = deque(mutants), list[str](), 0.0
        self._clock, self._deadline = clock, clock() + seconds
        self._green: set[str] = set()
        self._longest = 0.0  # time that a mutant took
        self._lock = threading.Lock()

    def take(self) -> Mutant | None:
        """The next one, if it is likely to end in time and the unpatched tree is green."""
        with self._lock:
            late = self._clock() + self._longest > self._deadline
            return None if late or self.red_unpatched or not self.waiting else self.waiting.popleft()

    def green_unpatched(self, tree: Tree, tests: Iterable[str]) -> bool:
        """Runs those that nobody has run yet on the unpatched tree."""
        begun, unknown = self._clock(), sorted(set(tests) - self._green)
        fallen = red(tree, unknown)
        with self._lock:
            self._green.update(set(unknown) - set(fallen))
            self.red_unpatched += fallen
            self.unpatched_s += self._clock() - begun
        return not fallen

    def work(self, tree: Tree) -> list[Verdict]:
        """Judges one after the other in this copy."""
        verdicts = []
        while (mutant := self.take()) is not None:
            begun = self._clock()
            try:
                if not self.green_unpatched(tree, mutant.red):
                    break
                verdicts.append(judge(mutant, tree))
            except MutantError as error:
                verdicts.append(Verdict(mutant.name, mutant.what, False, str(error), self._clock() - begun))
            show(verdicts[-1])
            with self._lock:
                self._longest = max(self._longest, self._clock() - begun)
        return verdicts

    def unpatched(self) -> Verdict:
        note = ", ".join(self.red_unpatched) or "green"
        return Verdict("unpatched", "nothing is changed", not self.red_unpatched, note, self.unpatched_s)


def run(mutants: list[Mutant], seconds: float = math.inf) -> list[Verdict]:
    """The verdict on the unpatched tree, then those on as many mutants as end in this time."""
    progress = Run(mutants, seconds)
    with tempfile.TemporaryDirectory(prefix="ipsec-dp-mutants-") as directory, ThreadPoolExecutor(SLOTS) as pool:
        trees = list(pool.map(Tree, [Path(directory) / str(slot) for slot in range(SLOTS)]))
        if seconds == math.inf:  # all at one go; otherwise what a mutant needs, when its turn comes
            progress.green_unpatched(trees[0], {test for mutant in mutants for test in mutant.red})
        verdicts = [verdict for found in pool.map(progress.work, trees) for verdict in found]
    show(progress.unpatched())
    return [progress.unpatched(), *verdicts]


def show(verdict: Verdict) -> None:
    word = "ok" if verdict.name == "unpatched" and verdict.killed else "killed" if verdict.killed else "FAILED"
    print(f"{word:6}  {verdict.seconds:5.1f} s  {verdict.name:32}  {verdict.what}", flush=True)
    if not verdict.killed:
        print(f"        {verdict.note}", flush=True)


def write_report(path: Path, verdicts: list[Verdict], skipped: list[Mutant]) -> None:
    bad = sum(not verdict.killed for verdict in verdicts)
    suite = ET.Element(
        "testsuite",
        name="mutants",
        tests=str(len(verdicts) + len(skipped)),
        failures=str(bad),
        errors="0",
        skipped=str(len(skipped)),
    )
    for verdict in verdicts:
        case = ET.SubElement(suite, "testcase", classname="mutants", name=verdict.name, time=f"{verdict.seconds:.3f}")
        if not verdict.killed:
            ET.SubElement(case, "failure", message=verdict.what).text = verdict.note
    for mutant in skipped:
        case = ET.SubElement(suite, "testcase", classname="mutants", name=mutant.name)
        ET.SubElement(case, "skipped", message="its tests need root")
    root = ET.Element("testsuites")
    root.append(suite)
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def chosen(options: argparse.Namespace) -> list[Mutant]:
    """The mutants that were asked for, in the order in which they are to run. Raises MutantError."""
    texts, paths = options.texts, sorted(PATCHES.glob("*.patch"))
    mutants = [Mutant.read(path) for path in paths if not texts or any(text in path.name for text in texts)]
    if options.changed is None:
        return mutants
    return in_turn(mutants, changed_since(options.changed), git("rev-parse", "HEAD").strip())


def main(arguments: list[str]) -> int:
    """0 when every mutant that ran was killed, and one did."""
    parser = argparse.ArgumentParser(description="Shows that the tests can fail.")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="only those whose file name holds one of these")
    parser.add_argument("--changed", metavar="BASE", help="first those that the changes since this commit touch")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin none that would end later")
    options = parser.parse_args(arguments)
    try:
        mutants = chosen(options)
        skipped = [mutant for mutant in mutants if needs_root(mutant) and os.geteuid() != 0]
        asked = [mutant for mutant in mutants if mutant not in skipped]
        verdicts = run(asked, options.minutes * 60)
    except MutantError as error:  # of a mutant that runs it is the verdict; this one is of the patches, or of the tree as it is
        print(error)
        return 1
    write_report(ROOT / "build" / "junit" / "mutants.xml", verdicts, skipped)
    survivors = [verdict.name for verdict in verdicts if not verdict.killed]
    left = len(asked) + 1 - len(verdicts)
    print(
        f"{len(verdicts) - 1 - len(survivors)} mutants killed, {len(survivors)} not, {len(skipped)} left out (they need root), "
        f"{left} left for other turns"
    )
    return 1 if survivors or len(verdicts) < 2 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
