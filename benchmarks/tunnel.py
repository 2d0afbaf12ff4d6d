"""Whole tunnels beside each other: this project, the plain path, and other implementations, measured in one run.

    make bench-tunnel                        everything, 5 rounds; as root, some 70 minutes on an idle 2-core machine
    python -m benchmarks.tunnel --quick      tcp_1, udp_64 and idle round trips in one round, about two minutes
    python -m benchmarks.tunnel --compare COMMIT --measure tcp_1 --measure rtt_p50      this tree beside that of another commit

Every contender runs between the same four network namespaces, in turn, round after round, so that what else the machine does falls
on all of them. Results: benchmarks/results/tunnel.json, a page to read (tunnel.html) and plots beside it.
Exit status: 0 measured; 1 failed; 2 usage; 3 void, because a peer did not work as hard as it can, so that being faster proves
nothing; 130 interrupted, with what was measured until then.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from benchmarks.tunnels import ceiling, compare, generator, page, plots, report
from benchmarks.tunnels.contenders import CONTENDERS, Contender, gateways
from benchmarks.tunnels.measures import QUICK_EFFORT, Effort, probes_for
from benchmarks.tunnels.names import CEILING, MEASURES, OURS, QUICK, REQUIRED
from benchmarks.tunnels.results import Results
from benchmarks.tunnels.rounds import BenchFailedError, Forecast, duration, measure_all, plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.tunnels.rounds import Step

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LOG_COLUMNS = 160
COMMIT_SHOWN = 10  # digits
FAILED, VOID, INTERRUPTED = 1, 3, 130


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line. SystemExit 2 on a name that does not exist."""
    parser = argparse.ArgumentParser(prog="benchmarks.tunnel", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"one short round of {', '.join(QUICK)}")
    parser.add_argument("--rounds", type=int, help=f"rounds (default {Effort().rounds}, with --quick {QUICK_EFFORT.rounds})")
    parser.add_argument("--measure", action="append", choices=list(MEASURES), metavar="NAME", help="only this; may be repeated")
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--contender", action="append", choices=names, metavar="NAME", help="only this; may be repeated")
    parser.add_argument("--compare", metavar="COMMIT", help=f"this tree beside that of a commit, {compare.ROUNDS} rounds")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go (default benchmarks/results)")
    found = parser.parse_args(argv)
    if found.rounds is not None and found.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return found


def rounds_of(asked: argparse.Namespace) -> int:
    """As many as were asked for, or as is usual for what is measured."""
    usual = QUICK_EFFORT.rounds if asked.quick else Effort().rounds
    return int(asked.rounds or (compare.ROUNDS if asked.compare else usual))


def chosen(names: Sequence[str] | None) -> list[Contender]:
    """Those named, or all that can run here; a required one is always among these, and fails when it is not installed."""
    if names:
        return [contender for contender in CONTENDERS if contender.name in names]
    return [contender for contender in CONTENDERS if contender.name in REQUIRED or contender.is_there()]


def empty(directory: Path) -> Path:
    """Removes what an earlier run left there; the file for the new results."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("tunnel*"):
        old.unlink()
    return directory / "tunnel.json"


@contextlib.contextmanager
def competitors(asked: argparse.Namespace, console: Console) -> Iterator[tuple[list[Contender], tuple[Contender, ...]]]:
    """Who is measured, and which two of them are trees to be compared, if any. CompareError."""
    if not asked.compare:
        yield chosen(asked.contender), ()
        return
    commit = compare.full_name(asked.compare)
    console.print(f"building the tree of {commit}", highlight=False)
    with compare.built(commit) as tree:
        (own,) = chosen([OURS])
        other = Contender(f"{OURS}@{commit[:COMMIT_SHOWN]}", gateways(compare.program(tree)), lambda: commit)
        others = [contender for contender in CONTENDERS if contender.name in set(asked.contender or ()) - {OURS}]
        yield [*others, other, own], (other, own)


def interrupted(number: int, frame: object) -> NoReturn:
    """Once: what has begun to be taken away is taken away as a whole."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def measure(console: Console, steps: list[Step], effort: Effort, results: Results, file: Path) -> str:
    """All of it, written as it comes in; why it ended before, "" when it did not."""
    begun = time.monotonic()
    with console.status("") as status:

        def done(text: str) -> None:
            results.environment["seconds"] = round(time.monotonic() - begun)
            results.write(file)
            console.print(text, highlight=False, markup=False)

        try:
            generator.build()
            if any(step.contender.name == CEILING for step in steps):
                ceiling.build()
            measure_all(steps, effort, results, done, status.update)
        except KeyboardInterrupt:
            results.interrupted = True
            return "interrupted"
        except (BenchFailedError, ceiling.CeilingError, generator.GeneratorError) as error:
            return f"failed: {error}"
    return ""


def conclude(console: Console, results: Results, output: Path, ended: str) -> int:
    """Writes and shows what there is; the exit status."""
    file = output / "tunnel.json"
    results.write(file)
    if results.rounds:
        report.show(console, results)
        written = plots.draw(results, output)
        page.write(results, written, file.with_suffix(".html"))
        console.print(f"\n{file}, {len(written)} plots beside it", highlight=False, markup=False, soft_wrap=True)
        console.print(f"to read in a browser: {file.with_suffix('.html')}", highlight=False, markup=False, soft_wrap=True)
    reasons = results.as_json()["void"]["reasons"]
    if reasons:
        console.print("\n[bold red]This run is void:[/] " + "; ".join(reasons), highlight=False)
    if ended:
        console.print(ended, highlight=False, markup=False)
        return INTERRUPTED if results.interrupted else FAILED
    return FAILED if results.failures else VOID if reasons else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, writes and shows; the exit status."""
    asked = arguments(argv)
    console = Console()
    if not console.is_terminal:  # a log is not 80 columns wide
        console.width = LOG_COLUMNS
    if os.geteuid() != 0:
        console.print("the benchmark makes network namespaces and tunnels: run it as root")
        return FAILED
    asked.output = asked.output.absolute()
    os.chdir(ROOT)  # our gateways run from this tree
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    effort = (QUICK_EFFORT if asked.quick else Effort()).with_rounds(rounds_of(asked))
    probes = probes_for(set(asked.measure or (QUICK if asked.quick else MEASURES)))
    results = Results()
    try:
        with competitors(asked, console) as (contenders, pair):
            if missing := [contender.name for contender in contenders if not contender.is_there()]:
                console.print(
                    f"failed: {', '.join(missing)} cannot run here; `make bench-tunnel` unpacks what it needs", highlight=False
                )
                return FAILED
            results.environment["versions"] = {contender.name: contender.version() for contender in contenders}
            results.compared_with = pair[0].name if pair else ""
            for contender in contenders:
                for probe in probes:
                    for name in contender.cannot.keys() & set(probe.measures):
                        results.lacks(contender.name, (name,), contender.cannot[name])
            file = empty(asked.output)  # not before it is known that there will be others
            steps = plan(contenders, probes, effort.rounds, pair)
            load = f"{len(contenders)} contenders, {effort.rounds} rounds, {len(steps)} tunnels"
            console.print(f"{load}: about {duration(Forecast(steps, effort).seconds())}", highlight=False)
            ended = measure(console, steps, effort, results, file)
    except compare.CompareError as error:
        console.print(f"failed: {error}", highlight=False, markup=False)
        return FAILED
    except KeyboardInterrupt:  # while the other tree was built
        return INTERRUPTED
    return conclude(console, results, asked.output, ended)


if __name__ == "__main__":
    sys.exit(main())
