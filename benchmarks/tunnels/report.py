"""Tables for a terminal: medians with their spread, what is void and what is missing, ratios, bars, two trees beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table as RichTable

from benchmarks.tunnels.names import MEASURES, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from benchmarks.tunnels.results import Results

RATES = {"packets/s": 1000.0}  # shown in thousands
HEAD_COLUMNS, FIGURE_COLUMNS, GAP_COLUMNS = 29, 12, 3  # of a terminal: measure and unit, "0.15 to 0.24", between two


def figure(value: float) -> str:
    """Three significant digits, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def shown(measure: str, value: float) -> str:
    """A figure as it stands in a table, in the unit of `unit_of`."""
    return figure(value / RATES.get(MEASURES[measure].unit, 1.0))


def unit_of(measure: str) -> str:
    unit = MEASURES[measure].unit
    return f"k {unit}" if unit in RATES else unit


def cores_of(answer: dict[str, Any], name: str) -> str:
    """What a contender's processes used while `tcp_1` was measured, lowest to highest of the rounds; "" where it has none."""
    known = [cores for cores in answer["cores"].get(name, []) if cores is not None]
    if not known:
        return ""
    lowest, highest = f"{min(known):.2f}", f"{max(known):.2f}"
    return lowest if lowest == highest else f"{lowest} to {highest}"


def void_of(answer: dict[str, Any], name: str) -> str:
    """The void rounds of a contender, "" when all stand."""
    return ", ".join(str(number) for number in answer["void"]["rounds"].get(name, []))


def reasons(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Why figures are missing, each reason once, with what is missing for it."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for measure, row in answer["absent"].items():
        for name, why in row.items():
            grouped.setdefault((name, why), []).append(measure)
    for (name, why), measures in grouped.items():
        yield f"{name}, {', '.join(measures)}", why


def _columns(names: Sequence[str], width: int) -> Iterator[list[str]]:
    """As many contenders a table as the terminal has room for, in their order, ours in each."""
    others = [name for name in names if name != OURS]
    some = [OURS] if OURS in names else []
    own, room = len(some), width - HEAD_COLUMNS
    for name in others:
        if len(some) > own and sum(_room(each) for each in (*some, name)) > room:
            yield [each for each in names if each in some]
            del some[own:]
        some.append(name)
    yield [each for each in names if each in some]


def _room(name: str) -> int:
    return max(len(name), FIGURE_COLUMNS) + GAP_COLUMNS


def _table(names: list[str], *, units: bool) -> RichTable:
    table = RichTable(show_edge=False, pad_edge=False)
    table.add_column("measure", no_wrap=True)
    if units:
        table.add_column("unit", style="dim", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", style="bold" if name == OURS else None)
    return table


def _cell(answer: dict[str, Any], measure: str, name: str) -> str:
    if name not in answer["medians"].get(measure, {}):
        return "–" if name in answer["absent"].get(measure, {}) else ""
    text = shown(measure, answer["medians"][measure][name])
    several = len(answer["rounds"].get(measure, {}).get(name, ())) > 1
    return f"{text} ({answer['spread'][measure][name]:.0%})" if several else text


def _medians(answer: dict[str, Any], names: list[str]) -> RichTable:
    table = _table(names, units=True)
    for measure in MEASURES:
        if answer["medians"].get(measure) or answer["absent"].get(measure):
            table.add_row(measure, unit_of(measure), *(_cell(answer, measure, name) for name in names))
    if any(cores_of(answer, name) for name in names):
        table.add_row("used in tcp_1", "cores", *(cores_of(answer, name) for name in names), style="dim")
    if any(void_of(answer, name) for name in names):
        table.add_row("void", "rounds", *(void_of(answer, name) for name in names), style="red")
    return table


def _ratios(answer: dict[str, Any], names: list[str]) -> RichTable:
    others = [name for name in names if name != OURS]
    table = _table(others, units=False)
    for measure in MEASURES:
        if row := answer["ratios"].get(measure):
            table.add_row(measure, *(figure(row[name]) if name in row else "" for name in others))
    return table


def _bars(of: list[dict[str, Any]]) -> RichTable:
    table = RichTable(show_edge=False, pad_edge=False)
    table.add_column("bar")
    table.add_column("met")
    table.add_column("measured", justify="right")
    table.add_column("needed", justify="right")
    for verdict in of:
        met = "[green]yes[/]" if verdict["met"] else "[bold red]no[/]"
        table.add_row(verdict["text"], met, figure(verdict["measured"]), figure(verdict["needed"]))
    return table


def _comparison(results: Results) -> RichTable:
    table = RichTable(show_edge=False, pad_edge=False)
    for name in ("measure", "unit", "then", "now", "ratio", "range", ""):
        table.add_column(name, justify="right" if name in ("then", "now", "ratio") else "left", no_wrap=True)
    for one in results.comparisons():
        then, now = shown(one.measure, one.then), shown(one.measure, one.now)
        spread = f"{one.lowest:.2f}–{one.highest:.2f}"
        verdict = one.verdict if one.differs else "–"  # the range holds 1
        table.add_row(one.measure, unit_of(one.measure), then, now, f"{one.ratio:.2f}", spread, verdict)
    return table


def _told(console: Console, title: str, table: RichTable) -> None:
    console.print(f"\n[italic]{escape(title)}[/]", highlight=False)
    console.print(table)


def show(console: Console, results: Results) -> None:
    """Prints what there is."""
    answer = results.as_json()
    names = results.contenders()
    rounds = max((len(values) for row in results.rounds.values() for values in row.values()), default=0)
    title = f"Medians of {rounds} round{'s' if rounds != 1 else ''}"
    if rounds > 1:
        title += "; in brackets (largest − smallest) ÷ median"
    for some in _columns(names, console.width):
        _told(console, title, _medians(answer, some))
    for missing, why in reasons(answer):
        console.print(f"– {missing}: {escape(why)}", style="dim", highlight=False)
    if any(answer["ratios"].values()) and not results.compared_with:
        for some in _columns(names, console.width):
            _told(console, f"How many times better {OURS} is", _ratios(answer, some))
    if answer["bars"]:
        _told(console, "Bars", _bars(answer["bars"]))
    if answer["compare"]:
        _told(console, f"{OURS} beside {results.compared_with}: above 1 it is better now", _comparison(results))
    for failure in results.failures:
        console.print(f"failed: {escape(failure)}", style="red", highlight=False)
