"""A run as one HTML file that needs nothing else: figures, pictures, the machine. It is light or dark as the reader is."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from benchmarks.tunnels.names import MEASURES, OURS
from benchmarks.tunnels.report import cores_of, figure, reasons, shown, unit_of, void_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.tunnels.results import Results

PAGE = Path(__file__).with_name("page.html")
# What the plots draw lines, grids and notes in, as the page's own colours; the contenders' stay. Other text takes the page's.
COLOURS = {"#ffffff": "none", "#30363d": "var(--ink)", "#6e7781": "var(--dim)", "#e4e7eb": "var(--line)", "#d7dbe0": "var(--line)"}
BLACK = re.compile(r"(stroke|fill): #000000\b")
PROLOGUE = re.compile(r"\A.*?(?=<svg)", re.DOTALL)
GROUP = re.compile(r"<g id=\"[^\"]*\"")  # names that each picture has; what is drawn refers to others
MACHINE = {
    "processor": "Processor",
    "cores": "Cores",
    "flags": "Flags",
    "kernel": "Linux",
    "load_at_start": "Load at the start",
    "default_congestion_control": "Congestion control of the system",
    "congestion_control": "… of what is measured",
    "route": "Route of the sending host",
    "outer_mtu": "Outer MTU",
    "pinning": "Pinning",
    "python": "Python",
    "iperf3": "iperf3",
    "seconds": "Seconds that the run took",
}


def _row(cells: Iterable[str], tag: str = "td") -> str:
    return "<tr>" + "".join(cell if cell.startswith("<t") else f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>\n"


def _named(value: Any) -> str:
    return escape(" ".join(str(one) for one in value) if isinstance(value, list) else str(value))


def _machine(answer: dict[str, Any]) -> str:
    facts = {"Commit": answer["commit"], "Started": answer["started"]}
    facts |= {text: answer["environment"][name] for name, text in MACHINE.items() if name in answer["environment"]}
    facts |= answer["environment"].get("versions", {})
    return "".join(_row((escape(name), _named(value))) for name, value in facts.items())


def _cell(answer: dict[str, Any], measure: str, name: str) -> str:
    kind = ' class="own"' if name == OURS else ""
    value = answer["medians"].get(measure, {}).get(name)
    if value is None:
        why = answer["absent"].get(measure, {}).get(name, "")
        return f'<td{kind} title="{escape(why)}">–</td>' if why else f"<td{kind}></td>"
    data = f'data-measure="{measure}" data-contender="{escape(name)}" data-value="{value!r}"'
    several = len(answer["rounds"].get(measure, {}).get(name, ())) > 1
    spread = f" <small>{answer['spread'][measure][name]:.0%}</small>" if several else ""
    return f"<td{kind} {data}>{shown(measure, value)}{spread}</td>"


def _medians(answer: dict[str, Any], names: Sequence[str]) -> str:
    rows = [_row(("Measure", "", *(escape(name) for name in names)), "th")]
    for measure in MEASURES.values():
        if answer["medians"].get(measure.name) or answer["absent"].get(measure.name):
            title = f'<td title="{escape(measure.title)}">{measure.name}</td>'
            cells = (_cell(answer, measure.name, name) for name in names)
            rows.append(_row((title, f"<td><small>{unit_of(measure.name)}</small></td>", *cells)))
    rows.append(_row(("used in tcp_1", "<td><small>cores</small></td>", *(cores_of(answer, name) for name in names))))
    if answer["void"]["rounds"]:
        rows.append(_row(("void", "<td><small>rounds</small></td>", *(void_of(answer, name) for name in names))))
    return "<caption>Medians of the rounds; the small figure is (largest − smallest) ÷ median.</caption>\n" + "".join(rows)


def _absent(answer: dict[str, Any]) -> str:
    items = "".join(f"<li>{escape(missing)}: {escape(why)}</li>\n" for missing, why in reasons(answer))
    return f'<h2>What has no figure</h2>\n<ul id="absent">{items}</ul>' if items else ""


def _bars(answer: dict[str, Any]) -> str:
    if not answer["bars"]:
        return ""
    rows = [_row(("Bar", "Met", "Measured", "Needed"), "th")]
    for bar in answer["bars"]:
        met = '<td class="met">yes</td>' if bar["met"] else '<td class="missed">no</td>'
        rows.append(_row((escape(bar["text"]), met, figure(bar["measured"]), figure(bar["needed"]))))
    return f'<h2>Bars</h2>\n<div class="scroll"><table id="bars">{"".join(rows)}</table></div>'


def _compared(answer: dict[str, Any]) -> str:
    if not answer["compare"]:
        return ""
    rows = [_row(("Measure", "Then", "Now", "Ratio", "Lowest", "Highest", "Rounds", "Verdict"), "th")]
    for one in answer["compare"]:
        measure = one["measure"]
        ratios = (f"{one[name]:.2f}" for name in ("ratio", "lowest", "highest"))
        cells = (shown(measure, one["then"]), shown(measure, one["now"]), *ratios, str(one["rounds"]), one["verdict"])
        rows.append(_row((f"{measure}, {unit_of(measure)}", *cells)))
    title = f"Beside {escape(answer['compared_with'])}: above 1 it is better now"
    return f'<h2>{title}</h2>\n<div class="scroll"><table id="compared">{"".join(rows)}</table></div>'


def _told(answer: dict[str, Any]) -> str:
    """What a reader has to know before any figure."""
    said = [f"This run is void: {reason}." for reason in answer["void"]["reasons"]]
    said += ["This run was interrupted."] if answer["interrupted"] else []
    said += [f"Failed: {failure}" for failure in answer["failures"]]
    return "".join(f'<p class="told">{escape(one)}</p>\n' for one in said)


def picture(svg: str) -> str:
    """A plot to stand in a page, in its colours."""
    svg = GROUP.sub("<g", PROLOGUE.sub("", svg))
    for colour, own in COLOURS.items():
        svg = svg.replace(colour, own)
    return BLACK.sub(r"\1: var(--ink)", svg)


def write(results: Results, plots: Iterable[Path], file: Path) -> None:
    """The page, with those of the plots that are SVG."""
    answer = results.as_json()
    names = results.contenders()
    drawn = [picture(plot.read_text()) for plot in plots if plot.suffix == ".svg"]
    page = Template(PAGE.read_text()).substitute(
        title=f"Tunnels beside each other, {escape(results.started[:10])}",
        told=_told(answer),
        machine=_machine(answer),
        medians=_medians(answer, names),
        absent=_absent(answer),
        compared=_compared(answer),
        bars=_bars(answer),
        pictures="".join(f"<figure>{one}</figure>\n" for one in drawn),
    )
    file.write_text(page)
