"""Draws the pictures of docs/performance.md from the tables that stand there: tools/pictures.py DIRECTORY (docs/pictures).

Each is one file that needs no other: text stays text, and a dark scheme has colours of its own. Whoever puts a new run into
the page draws them again; tests/unit/test_pictures.py compares the two.
"""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import matplotlib as mpl

mpl.use("Agg")  # no display is needed, nor looked for

import matplotlib.pyplot as plt
from matplotlib.layout_engine import ConstrainedLayoutEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

PAGE: Final = Path(__file__).resolve().parent.parent / "docs/performance.md"
RUN: Final = "A whole run, and the bars"
OURS: Final = "ipsec-dp"
COMMAND, COMMIT, MACHINE = re.compile(r"`(make [^`]*)`"), re.compile(r"commit ([0-9a-f]{7,40})"), re.compile(r"machine ([A-Z])\b")
LINE: Final = 140  # characters of the small print

GAPS: Final[Any] = {"w_pad": 0.12, "h_pad": 0.1, "hspace": 0.06}  # w_pad, h_pad in inches, hspace a share of the picture

# What each colour is for, in the light scheme and in the dark one.
INK, FAINT, GROUND = "ink", "faint", "ground"
COLOURS: Final = {
    INK: ("#1f2328", "#e6edf3"),
    FAINT: ("#57606a", "#9da7b3"),
    GROUND: ("#ffffff", "#161b22"),
    OURS: ("#0b6e4f", "#3fb68b"),
    "ceiling": ("#8fd0b5", "#2a5c4b"),
    "plain": ("#b8bec6", "#4a525c"),
    "others": ("#c8553d", "#e5846f"),
}
STYLE: Final[Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.bottom": False,
    "xtick.bottom": False,
    "xtick.labelbottom": False,
    "ytick.left": False,
    "axes.edgecolor": COLOURS[FAINT][0],
    "axes.facecolor": COLOURS[GROUND][0],
    "figure.facecolor": COLOURS[GROUND][0],
    "text.color": COLOURS[INK][0],
    "ytick.labelcolor": COLOURS[INK][0],
    "svg.fonttype": "none",
    "svg.hashsalt": "ipsec-dp",
}


class Panel(NamedTuple):
    """One figure of each contender: the `part`-th, of those parted by `;`, in the row of the table that begins so."""

    title: str
    unit: str
    row: str
    part: int = 0
    more_is_better: bool = True


TCP, UDP, SEGMENTS, IDLE = "TCP, one stream", "UDP without loss", "… sent with", "idle round trip"
PICTURES: Final = {
    "throughput": (
        "TCP throughput",
        (
            Panel("one stream", "Gb/s", TCP),
            Panel("eight streams", "Gb/s", TCP, 1),
            Panel("both ways, sum", "Gb/s", TCP, 2),
            Panel("one stream, every offload off", "Gb/s", "… every offload off"),
        ),
    ),
    "datagrams": (
        "UDP without loss",
        (
            Panel("64 octets", "thousand packets/s", UDP),
            Panel("1,400 octets", "thousand packets/s", UDP, 1),
            Panel("64 octets, sent with UDP_SEGMENT", "thousand packets/s", SEGMENTS),
            Panel("1,400 octets, sent with UDP_SEGMENT", "thousand packets/s", SEGMENTS, 1),
        ),
    ),
    "delay-and-cost": (
        "Round trips and processor time",
        (
            Panel("idle, median", "µs", IDLE, 0, more_is_better=False),
            Panel("idle, 99 %", "µs", IDLE, 1, more_is_better=False),
            Panel("beside a full TCP stream, 99 %", "ms", "p99 beside a full stream", more_is_better=False),
            Panel("processor time beyond the plain path's", "s/GB", "CPU beyond", more_is_better=False),
        ),
    ),
}


@dataclass(frozen=True)
class Run:
    """What the page records of a run."""

    command: str
    commit: str
    machine: str
    rows: dict[str, dict[str, list[str]]]  # first cell -> contender -> its figures as they are written

    def figures(self, panel: Panel) -> dict[str, str]:
        """Those of each contender that has one; a row that is missing or there twice is a mistake in PICTURES: ValueError."""
        (row,) = (cells for name, cells in self.rows.items() if name.startswith(panel.row))
        return {name: parts[panel.part] for name, parts in row.items() if parts}

    @property
    def source(self) -> str:
        return f"{self.command}, commit {self.commit}, machine {self.machine}. Medians of the rounds."


def number(text: str) -> float:
    return float(text.replace(",", ""))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _tables(text: str) -> Iterator[list[list[str]]]:
    """Each table's rows, the one below the heading left out."""
    for found in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [_cells(line) for line in found.splitlines()]
        yield [rows[0], *rows[2:]]


def recorded(page: str) -> Run:
    """The whole run that the page's text has, and the machine that its first table describes."""
    section = page.partition(f"\n## {RUN}\n")[2].partition("\n## ")[0]
    said = section.partition("\n|")[0]
    found = [pattern.search(said) for pattern in (COMMAND, COMMIT, MACHINE)]
    if None in found:
        raise ValueError(f'{RUN}: its first lines name no command, commit or machine: "{said.strip()}"')
    command, commit, machine = (match[1] for match in found if match)
    (described,) = (name for name in next(_tables(page))[0] if name.startswith(f"{machine}: "))
    names, *rows = next(_tables(section))
    figures = {
        label: {
            name: [part.strip() for part in cell.split(";") if part.strip()] for name, cell in zip(names[1:], cells, strict=True)
        }
        for label, *cells in rows
    }
    return Run(command, commit, described, figures)


# ---- drawing


def _colour(name: str) -> str:
    return COLOURS.get(name, COLOURS["others"])[0]


def _panel(axes: Axes, panel: Panel, figures: dict[str, str]) -> None:
    """A bar for each contender, the first on top, with its figure as the page has it."""
    for at, (name, text) in enumerate(figures.items()):
        (bar,) = axes.barh(at, number(text), 0.72, color=_colour(name))
        bar.set_gid(f"{panel.title}: {name}")
        weight = "bold" if name == OURS else "normal"
        axes.annotate(text, (number(text), at), (4, 0), textcoords="offset points", va="center", fontweight=weight)
    axes.set_yticks(range(len(figures)), figures)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == OURS else "normal")
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.set_xlim(left=0)
    axes.set_title(panel.title, loc="left", fontsize=10)
    sense = "more" if panel.more_is_better else "less"
    axes.set_xlabel(f"{panel.unit}; {sense} is better", loc="left", color=_colour(FAINT), fontsize=8)


def _wrapped(text: str) -> str:
    """On lines of LINE characters at the most."""
    lines = [""]
    for word in text.split():
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < LINE else [lines[-1], word]
    return "\n".join(lines)


def svg(run: Run, title: str, panels: tuple[Panel, ...]) -> str:
    """The text of one picture."""
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(8.4, 4.9), layout=ConstrainedLayoutEngine(**GAPS))
        for axes, panel in zip(grid.flat, panels, strict=True):
            _panel(axes, panel, run.figures(panel))
        figure.suptitle(title, x=0.015, ha="left", fontweight="bold", fontsize=12)
        figure.supxlabel(_wrapped(run.source), x=0.015, ha="left", fontsize=8, color=_colour(FAINT))
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Title": f"{title}. {run.source}"})
        plt.close(figure)
    return written.getvalue().replace("<defs>", f"<defs>\n  <style>{_dark()}</style>", 1)


def _dark() -> str:
    """What the dark scheme changes; a program that does not know it shows the light one."""
    rules = (
        f'[style*="{what}: {light}"] {{ {what}: {dark} !important }}'
        for light, dark in COLOURS.values()
        for what in ("fill", "stroke")
    )
    return "@media (prefers-color-scheme: dark) { " + " ".join(rules) + " }"


def draw(page: str, directory: Path) -> list[Path]:
    """Every picture of a page's text; the files."""
    run = recorded(page)
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, (title, panels) in PICTURES.items():
        files.append(directory / f"{name}.svg")
        files[-1].write_text("\n".join(line.rstrip() for line in svg(run, title, panels).splitlines()) + "\n")
    return files


if __name__ == "__main__":
    for file in draw(PAGE.read_text(), Path(sys.argv[1])):
        print(file)
