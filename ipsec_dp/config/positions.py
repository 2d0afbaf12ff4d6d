"""Where in the file a finding is: line and column of each table and key.

`tomllib` gives values without positions. A file that it took is read once more here, only for where things begin, and only when
there is something to say about it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipsec_dp.errors import Finding

Path = tuple[str | int, ...]  # keys, and numbers from 0 in arrays

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE: Final = re.compile(r"[^,\]}#\n]+")  # numbers, dates with a blank, booleans
# What most lines are, in one step: a key with a short value, and the blanks behind it.
_PLAIN: Final = re.compile(rf'([A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"[^"\\\n]*"|[A-Za-z0-9_+-]+)[ \t]*\n{_BLANK.pattern}')
_DOT: Final = re.compile(r"[ \t]*\.[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ROW: Final = re.compile(r"(\w+) #(\d+)")
_AT: Final = re.compile(r"\(at line (\d+), column (\d+)\)")
_LINES_OF_END: Final = re.compile(r"\(at end of document\)")


class _Scanner:
    """Reads a text that is TOML. `found`: where each path begins, as an offset."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._rows: dict[Path, int] = {}  # of arrays of tables, so far
        self.found: dict[Path, int] = {}
        table: Path = ()
        self._skip()
        while self._at < len(text):
            plain = _PLAIN.match(text, self._at)
            if plain is not None:
                self.found.setdefault((*table, plain[1]), self._at)
                self._at = plain.end()
                continue
            table = self._header() if text[self._at] == "[" else self._pair(table)
            self._skip()

    def _skip(self) -> None:
        match = _BLANK.match(self._text, self._at)
        self._at = self._at if match is None else match.end()

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"no TOML at {self._at}")
        self._at = match.end()
        return match[0]

    def _key(self) -> list[str]:
        parts = []
        while True:
            quoted = self._text[self._at] in "\"'"
            part = self._take(_STRING if quoted else _BARE_KEY)
            parts.append(part[1:-1] if quoted else part)
            dot = _DOT.match(self._text, self._at)
            if dot is None:
                return parts
            self._at = dot.end()

    def _header(self) -> Path:
        begin = self._at
        row = self._text.startswith("[[", begin)
        self._at += 2 if row else 1
        self._blanks()
        *above, last = self._key()
        self._blanks()
        self._at += 2 if row else 1
        path: Path = ()
        for part in above:
            path += (part,)
            self.found.setdefault(path, begin)
            if path in self._rows:
                path += (self._rows[path] - 1,)
        path += (last,)
        self.found.setdefault(path, begin)
        if row:
            self._rows[path] = number = self._rows.get(path, 0) + 1
            path += (number - 1,)
            self.found[path] = begin
        return path

    def _blanks(self) -> None:
        while self._text[self._at] in " \t":
            self._at += 1

    def _pair(self, table: Path) -> Path:
        begin, path = self._at, table
        for part in self._key():
            path += (part,)
            self.found.setdefault(path, begin)
        self._blanks()
        self._at += 1  # the equals sign
        self._value(path)
        return table

    def _value(self, path: Path) -> None:
        self._blanks()
        match self._text[self._at]:
            case '"' | "'":
                self._take(_STRING)
            case "[":
                self._members(path, "]")
            case "{":
                self._members(path, "}")
            case _:
                self._take(_BARE)

    def _members(self, path: Path, end: str) -> None:
        self._at += 1
        self._skip()
        number = 0
        while self._text[self._at] != end:
            if end == "}":
                self._pair(path)
            else:
                self.found[*path, number] = self._at
                self._value((*path, number))
                number += 1
            self._skip()
            if self._text[self._at] == ",":
                self._at += 1
                self._skip()
        self._at += 1


def _offsets(text: str) -> dict[Path, int]:
    """Where each table and key begins; as far as that is known, for a text that is no TOML."""
    try:
        return _Scanner(text).found
    except (ValueError, IndexError, RecursionError):
        return {}


def positioned(findings: Iterable[Finding], text: str, document: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    """The findings with line and column, from 1, of the key that they are about, or of the table that it is missing in.

    `document`: what `text` says; None: it is no TOML, and the findings say where.
    """
    findings = tuple(findings)
    if not findings:
        return ()
    ends = [match.end() for match in re.finditer("\n", text)]
    offsets = {} if document is None else _offsets(text)
    rows = {} if document is None else _named_rows(document)

    def place(finding: Finding) -> Finding:
        if finding.line is not None:
            return finding
        if document is None:
            said = _AT.search(finding.wrong)
            if said is not None:
                return replace(finding, line=int(said[1]), column=int(said[2]))
            offset = len(text.rstrip()) if _LINES_OF_END.search(finding.wrong) else 0
        else:
            offset = _nearest(offsets, (*_table(finding.where, rows), *_keys(finding.key)))
        line = bisect_right(ends, offset)
        return replace(finding, line=line + 1, column=offset - (ends[line - 1] if line else 0) + 1)

    return tuple(map(place, findings))


def _named_rows(document: Mapping[str, Any]) -> dict[str, Path]:
    """Rows of arrays by how findings call them: tunnel "to-b", where several have a name the last."""
    found: dict[str, Path] = {}
    for word, rows in document.items():
        for number, row in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(row, dict) and isinstance(row.get("name"), str):
                found[shown(f'{word} "{row["name"]}"')] = (word, number)
    return found


def _table(where: str, rows: Mapping[str, Path]) -> Path:
    if where in rows:
        return rows[where]
    numbered = _ROW.fullmatch(where)
    if numbered is not None:
        return numbered[1], int(numbered[2]) - 1
    return (where,) if where else ()


def _keys(key: str) -> Path:
    path: Path = ()
    for part in key.split(".") if key else ():
        numbered = _ROW.fullmatch(part)
        path += (part,) if numbered is None else (numbered[1], int(numbered[2]) - 1)
    return path


def _nearest(offsets: Mapping[Path, int], path: Path) -> int:
    """Of the path, or of the longest part of it that is there."""
    for length in range(len(path), 0, -1):
        if path[:length] in offsets:
            return offsets[path[:length]]
    return 0
