"""Text for people: of many things the first, and what comes from outside made harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")

LONGEST: Final = 600  # characters; a line that a person reads


def named(items: Sequence[Item], most: int, separator: str = ", ", *, text: Callable[[Item], str] = str) -> str:
    """For people, as `text` has each: the first `most` items, and how many more there are ("a, b and 3 more")."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(map(text, items[:most])) + more


def shown(text: str, longest: int = LONGEST) -> str:
    """One line of printable characters, at most `longest`: whatever else a stranger put into it (controls, ESC, marks that turn
    the direction of writing, surrogates) is escaped, and what is too long is cut."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode("ascii") for each in text)
