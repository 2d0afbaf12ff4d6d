"""Two trees beside each other: this one, and that of another commit, built in a directory that goes away."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.tunnels.names import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.tunnels.statistics import Rounds

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 6  # as many begin with the one as with the other
FEWEST = 5  # rounds that have to agree: between trees that do not differ one measure in sixteen does so by chance
BUILD_SECONDS = 900


class CompareError(Exception):
    """There is no such commit, or its tree does not build; the text holds the message of git or of the compiler."""


class Comparison(NamedTuple):
    """A measure: medians of both, and how many times better (as `statistics.ratios`) now is than then, of rounds that have both."""

    measure: str
    then: float
    now: float
    ratio: float  # the median
    lowest: float
    highest: float
    rounds: int

    @property
    def differs(self) -> bool:
        """No round shows the contrary, and there are enough for that to be hardly chance."""
        return self.rounds >= FEWEST and (self.lowest > 1 or self.highest < 1)

    @property
    def verdict(self) -> str:
        """What may be said."""
        if not self.differs:
            return "within the spread"
        return "better" if self.lowest > 1 else "worse"


def _ratios(measure: str, then: Mapping[int, float], now: Mapping[int, float]) -> list[float]:
    """Of each round that both have; none where one is 0."""
    pairs = [(then[number], now[number]) for number in then.keys() & now.keys() if then[number] > 0 and now[number] > 0]
    return [after / before if MEASURES[measure].larger_is_better else before / after for before, after in pairs]


def compare(rounds: Rounds, taken: Mapping[str, Mapping[str, Sequence[int]]], now: str, then: str) -> list[Comparison]:
    """Every measure that both have a round of. `taken` says of which round each figure is."""
    found = []
    for measure, row in rounds.items():
        if now in row and then in row:
            of = {name: dict(zip(taken[measure][name], row[name], strict=True)) for name in (now, then)}
            if ratios := _ratios(measure, of[then], of[now]):
                medians = (statistics.median(row[then]), statistics.median(row[now]))
                found.append(
                    Comparison(measure, *medians, statistics.median(ratios), min(ratios), max(ratios), len(ratios)),
                )
    return found


def _run(*argv: str, cwd: Path, **environment: str) -> str:
    """What it prints. CompareError with what it complains of."""
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if done.returncode != 0:
        raise CompareError(done.stderr.strip() or done.stdout.strip() or f"{argv[0]}: exit status {done.returncode}")
    return done.stdout.strip()


def _git(root: Path, *argv: str) -> str:
    """In a tree, whoever owns it."""
    return _run("git", "-c", f"safe.directory={root}", *argv, cwd=root)


def full_name(commit: str, root: Path = ROOT) -> str:
    """Of a commit. CompareError when there is none."""
    try:
        return _git(root, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    except CompareError as error:
        raise CompareError(f"no commit {commit}: {error}") from error


def program(tree: Path) -> tuple[str, ...]:
    """How `ipsec-dp` of a tree is called."""
    return ("env", f"PYTHONPATH={tree}", sys.executable, "-P", "-m", "ipsec_dp")


@contextlib.contextmanager
def built(commit: str, root: Path = ROOT) -> Iterator[Path]:
    """The tree of a commit, its C core compiled as `make setup` does. CompareError when it does not build, or run from there."""
    with tempfile.TemporaryDirectory(prefix="ipsec-dp-tree-") as made:
        tree = Path(made)
        tree.chmod(0o755)  # a gateway gives root up and imports from there
        archive = tree / "tree.tar"
        _git(root, "archive", "--output", str(archive), commit)
        _run("tar", "--extract", "--file", str(archive), cwd=tree)
        archive.unlink()
        _run(sys.executable, "native/build_ffi.py", cwd=tree, PYTHONPATH=str(tree))
        where = _run(*program(tree)[:-2], "-c", "import ipsec_dp._native as it; print(it.__file__)", cwd=tree)
        if not Path(where).is_relative_to(tree):
            raise CompareError(f"the tree of {commit} runs with {where}, which is not its own")
        yield tree
