"""Tables that fit the terminal, and lines said once for many: what `status` shows of fifty tunnels in 80 columns.

Where a terminal has no room for all columns, whole ones are left out, the least important first, and named below. What is always
there is never cut: of those that do not fit beside each other, the last stands below the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

BETWEEN: Final = 3  # characters between two columns
NAMED: Final = 3  # tunnels that a line names
OF_TUNNEL: Final = re.compile(r'tunnel "([^"]*)": (.*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` 0: always there; else the greatest is left out first. `wraps`: between words; else a cell stays on its line."""

    title: str
    rank: int = 0
    right: bool = False
    wraps: bool = False

    def width(self, cells: Iterable[Text]) -> int:
        """What it needs, in characters."""
        widest = max((cell.cell_len for cell in self._parts(cells)), default=0)
        return max(widest, len(self.title))

    def _parts(self, cells: Iterable[Text]) -> Iterable[Text]:
        return (word for cell in cells for word in (cell.split(" ") if self.wraps else (cell,)))


@dataclass(frozen=True)
class FittedTable:
    """A table that is made for the width it is shown in."""

    title: str
    columns: Sequence[Column]
    rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add(self, *cells: str | Text) -> None:
        """A row; texts are shown as they are."""
        self.rows.append(tuple(Text(cell) if isinstance(cell, str) else cell for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept, total = list(range(len(self.columns))), self._total(range(len(self.columns)))
        while (
            console.is_terminal
            and self._total(kept) > options.max_width
            and (spare := [number for number in kept if self.columns[number].rank])
        ):
            kept.remove(max(spare, key=lambda number: self.columns[number].rank))
        yield self._table(kept, stacked=self._total(kept) > options.max_width)
        left_out = [column.title for number, column in enumerate(self.columns) if number not in kept]
        if left_out:
            yield Text(f"not shown: {', '.join(left_out)} ({total} columns show all, or --json)", style="dim")

    def _total(self, kept: Sequence[int]) -> int:
        widths = [self.columns[number].width(row[number] for row in self.rows) for number in kept]
        return sum(widths) + BETWEEN * (len(widths) - 1)

    def _table(self, kept: list[int], *, stacked: bool) -> Table:
        table = Table(title=self.title, title_justify="left", show_edge=False, pad_edge=False)
        first, last = kept[0], kept[-1]
        shown = kept[:-1] if stacked else kept
        for number in shown:
            column = self.columns[number]
            title = f"{column.title}\n  {self.columns[last].title}" if stacked and number == first else column.title
            whole = not stacked and not column.wraps
            table.add_column(title, justify="right" if column.right else "left", no_wrap=whole, overflow="fold")
        for row in self.rows:
            below = Text.assemble(row[first], "\n  ", row[last])
            table.add_row(*(below if stacked and number == first else row[number] for number in shown))
        return table


def folded(lines: Iterable[str]) -> list[str]:
    """Each line once, with how often it is there; what is said of several tunnels in the same words, once for all of them."""
    tunnels: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for line in lines:
        matched = OF_TUNNEL.fullmatch(line)
        text = line if matched is None else matched[2]
        key = text if matched is None else f"tunnel: {text}"
        counts[key] = counts.get(key, 0) + 1
        tunnels.setdefault(key, [])
        if matched is not None:
            tunnels[key].append(matched[1])
    return [_line(key, tunnels[key], count) for key, count in counts.items()]


def _line(key: str, tunnels: Sequence[str], count: int) -> str:
    if not tunnels:
        return key if count == 1 else f"{key} ({count} times)"
    text = key.removeprefix("tunnel: ")
    return f'tunnel "{tunnels[0]}": {text}' if count == 1 else f"{count} tunnels ({named(tunnels, NAMED)}): {text}"


def errors(found: Iterable[tuple[str, str | None, str]]) -> list[str]:
    """Of (tunnel, its peer's address, what is wrong): one line for all whose words differ in that address alone."""
    those: dict[str, list[tuple[str, str]]] = {}
    for name, peer, text in found:
        key = text if peer is None else re.sub(rf"(?<![\w.:]){re.escape(peer)}(?![\w:]|\.\d)", "PEER", text)
        those.setdefault(key, []).append((name, text))
    return [
        f"{several[0][0]}: {several[0][1]}"
        if len(several) == 1
        else f"{len(several)} tunnels ({named([name for name, _ in several], NAMED)}): {key}"
        for key, several in those.items()
    ]
