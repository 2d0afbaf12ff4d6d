"""Tables for a terminal: medians, ratios, bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable

from benchmarks.tunnels.bars import Verdict, verdicts
from benchmarks.tunnels.names import MEASURES, OURS

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.tunnels.results import Results

RATES = {"packets/s": 1000.0}  # shown in thousands


def figure(value: float) -> str:
    """Three significant digits, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(title: str, results: Results, of: dict[str, dict[str, float]], *, units: bool) -> RichTable:
    table = RichTable(title=title, title_justify="left", show_edge=False, pad_edge=False)
    names = [name for name in results.contenders() if any(name in row for row in of.values())]
    table.add_column("measure", no_wrap=True)
    if units:
        table.add_column("unit", style="dim", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", style="bold" if name == OURS else None)
    for measure in MEASURES.values():
        row = of.get(measure.name, {})
        if not row:
            continue
        scale = RATES.get(measure.unit, 1.0) if units else 1.0
        cells = [figure(row[name] / scale) if name in row else "" for name in names]
        unit = [f"k {measure.unit}" if scale > 1 else measure.unit] if units else []
        table.add_row(measure.name, *unit, *cells)
    return table


def _bars(of: list[Verdict]) -> RichTable:
    table = RichTable(title="Bars", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("bar")
    table.add_column("met")
    table.add_column("measured", justify="right")
    table.add_column("needed", justify="right")
    for verdict in of:
        met = "[green]yes[/]" if verdict.met else "[bold red]no[/]"
        table.add_row(verdict.text, met, figure(verdict.measured), figure(verdict.needed))
    return table


def show(console: Console, results: Results) -> None:
    """Prints all three."""
    answer = results.as_json()
    rounds = max((len(values) for row in results.rounds.values() for values in row.values()), default=0)
    title = f"Medians of {rounds} round{'s' if rounds != 1 else ''}"
    console.print()
    console.print(_table(title, results, answer["medians"], units=True))
    if any(answer["ratios"].values()):
        console.print()
        console.print(_table(f"How many times better {OURS} is", results, answer["ratios"], units=False))
    if judged := verdicts(answer["medians"]):
        console.print()
        console.print(_bars(judged))
