"""What was sent between gateways as a drawing: a column for each, time downwards, an arrow for each datagram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH: Final = 46  # characters from one column to the next
MARGIN: Final = 12  # before the first: the time


class Arrow(NamedTuple):
    """One datagram. `at`: seconds; `arrivals`: how often it arrives, 0: it is lost."""

    at: float
    sender: str
    receiver: str
    text: str
    arrivals: int = 1


def drawn(arrows: Iterable[Arrow], names: Sequence[str] = ()) -> str:
    """The drawing. `names`: the columns from left to right; the others follow as they come."""
    listed = list(arrows)
    columns = list(dict.fromkeys([*names, *(name for arrow in listed for name in (arrow.sender, arrow.receiver))]))
    head = " " * MARGIN + "".join(name.ljust(WIDTH) for name in columns)
    return "\n".join([head.rstrip(), *(_line(arrow, columns) for arrow in listed)])


def _line(arrow: Arrow, columns: Sequence[str]) -> str:
    ends = sorted((columns.index(arrow.sender), columns.index(arrow.receiver)))
    room = (ends[1] - ends[0]) * WIDTH - 1
    shaft = _shaft(arrow, room, rightwards=columns.index(arrow.sender) == ends[0])
    bars = ["|" + " " * (WIDTH - 1)] * len(columns)
    line = "".join(bars)
    start = ends[0] * WIDTH + 1
    line = line[:start] + shaft + line[start + room :]
    times = f"  {arrow.arrivals} times" if arrow.arrivals > 1 else ""
    return f"{arrow.at:{MARGIN - 2}.3f}  {line.rstrip()}{times}"


def _shaft(arrow: Arrow, room: int, *, rightwards: bool) -> str:
    """Of `room` characters: what was sent, and the head that says whether it arrives."""
    text = f" {arrow.text[: room - 6]} "
    if rightwards:
        return f"--{text}x".ljust(room) if arrow.arrivals == 0 else f"--{text}".ljust(room - 1, "-") + ">"
    return f"x{text}--".rjust(room) if arrow.arrivals == 0 else "<" + f"{text}--".rjust(room - 1, "-")
