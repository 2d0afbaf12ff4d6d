"""Text for people and programs: of many things the first, and what comes from outside made harmless."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")

LONGEST: Final = 600  # characters; a line that a person reads
LINE: Final = 4096  # characters; the whole of a line of the log, or of a text in JSON (a path may be so long)
MARKS_MOST: Final = 3  # combining marks on one letter: more pile up over the lines above
_MARKS: Final = ("Mn", "Me")  # categories of them
# Letters and marks that show nothing, which `isprintable` takes for letters: fillers, joiners, variation selectors.
_INVISIBLE: Final = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, *range(0xFE00, 0xFE10), 0xFFA0))
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))


def named(items: Sequence[Item], most: int, separator: str = ", ", *, text: Callable[[Item], str] = str) -> str:
    """For people, as `text` has each: the first `most` items, and how many more there are ("a, b and 3 more")."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(map(text, items[:most])) + more


def shown(text: str, longest: int = LONGEST) -> str:
    """One line of characters that can be seen, at most `longest`: whatever else a stranger put into it (controls, ESC, marks that
    turn the direction of writing or take no room, piles of them, surrogates) is escaped, and what is too long is cut."""
    if text.isascii() and text.isprintable():
        return text if len(text) <= longest else text[: longest - 1] + "…"
    pieces: list[str] = []
    length = 0
    for piece in _pieces(text):
        pieces.append(piece)
        length += len(piece)
        if length > longest:
            break
    else:
        return "".join(pieces)
    while length > longest - 1:
        length -= len(pieces.pop())
    return "".join((*pieces, "…"))


def _pieces(text: str) -> Iterator[str]:
    """Of each character what is shown for it."""
    marks = 0
    for number, each in enumerate(text):
        marks = marks + 1 if unicodedata.category(each) in _MARKS else 0
        visible = each.isprintable() and each not in _INVISIBLE and (marks == 0 or (number > 0 and marks <= MARKS_MOST))
        yield each if visible else each.encode("unicode_escape").decode("ascii")


def shown_all(value: Any) -> Any:
    """What is to be JSON, with every text in it, keys too, as `shown` has it in one LINE."""
    if isinstance(value, str):
        return shown(value, LINE)
    if isinstance(value, dict):
        return {shown_all(key): shown_all(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [shown_all(each) for each in value]
    return value
