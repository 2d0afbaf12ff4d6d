"""Text from outside, before it is logged, shown or sent on."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 600  # characters; a line that a person reads


def shown(text: str, longest: int = LONGEST) -> str:
    """One line of printable characters, at most `longest`: whatever else a stranger put into it (controls, ESC, marks that turn
    the direction of writing, surrogates) is escaped, and what is too long is cut."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode("ascii") for each in text)
