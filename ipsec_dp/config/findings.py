"""Collecting everything that is wrong before saying any of it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ipsec_dp.errors import BadValueError, Finding, Severity
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
V = TypeVar("V")


@dataclass(slots=True)
class Findings:
    """The findings of one file, in the order they were made."""

    file: str
    found: list[Finding] = field(default_factory=list)
    errors: int = 0

    def at(self, where: str) -> Place:
        return Place(self, where)


@dataclass(frozen=True, slots=True)
class Place:
    """A table in the file: findings made here carry its name, and keys are written from its top ("esp.lifetime")."""

    findings: Findings
    where: str
    prefix: str = ""

    def below(self, key: str) -> Place:
        return Place(self.findings, self.where, f"{self.prefix}{key}.")

    def _add(self, severity: Severity, key: str, wrong: str, right: str) -> None:
        """What a file says is part of every text."""
        path, file = f"{self.prefix}{key}".rstrip("."), shown(self.findings.file, LINE)
        self.findings.errors += severity == "error"
        self.findings.found.append(Finding(severity, file, shown(self.where), shown(path), shown(wrong), shown(right)))

    def error(self, key: str, wrong: str, right: str) -> None:
        self._add("error", key, wrong, right)

    def warn(self, key: str, wrong: str, right: str) -> None:
        self._add("warning", key, wrong, right)

    def optional(self, key: str, parse: Callable[[str], V], text: str | None) -> V | None:
        """What `parse` makes of `text`; None stays None, and a BadValueError becomes a finding and yields None."""
        if text is None:
            return None
        made = self.values(key, parse, (text,))
        return made[0] if made else None

    def value(self, key: str, parse: Callable[[T], V], text: T, fallback: V) -> V:
        """What `parse` makes of `text`; a BadValueError becomes a finding and yields `fallback`."""
        try:
            return parse(text)
        except BadValueError as error:
            self.error(key, error.wrong, error.right)
            return fallback

    def values(self, key: str, parse: Callable[[T], V], texts: Iterable[T]) -> tuple[V, ...]:
        """Those of `texts` that `parse` takes; each of the others becomes a finding."""
        made = []
        for text in texts:
            try:
                made.append(parse(text))
            except BadValueError as error:
                self.error(key, error.wrong, error.right)
        return tuple(made)


def suggest(word: str, known: Iterable[str]) -> str:
    """What would be right instead of an unknown word: what it is the first word of, then what looks like it, or begins so."""
    known = list(known)
    whole, begun = ([name for name in known if word != "" and name.startswith(begin)] for begin in (f"{word}_", word))
    close = whole or difflib.get_close_matches(word, known, n=1) or begun
    return f'did you mean "{close[0]}"?' if close else f"known ones: {', '.join(known)}"
