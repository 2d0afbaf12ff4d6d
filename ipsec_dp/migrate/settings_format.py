"""strongSwan's settings format (strongswan.conf(5)), in which swanctl.conf is written: sections, keys, references, includes.

    section : reference, section.reference {
      key = value   # comment
      include more/*.conf
    }

Read strictly: what is no such file is a SourceError with its line. Values keep their line, over includes and references.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ipsec_dp.migrate.draft import SourceError, SourceLine, SourceText
from ipsec_dp.migrate.source_files import SourceFiles

SECTIONS_DEEP: Final = 32
ENTRIES_MOST: Final = 200_000  # keys and sections, what references bring among them
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_SPACE: Final = re.compile(r"[ \t\r]*")
_NAME: Final = re.compile(r'[^#{}="\s,:]+')
_REFERENCES: Final = re.compile(r'[ \t\r]*:[ \t\r]*([^#{}="\n]*)')
_INCLUDE: Final = re.compile(r"include[ \t]+(?!=)")
_INCLUDED: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"|((?:\\.|[^\s#}"\\])+)')
_UNQUOTED: Final = re.compile(r'[^#}"\r\n\t ]+')
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "\n": ""}


@dataclass(slots=True)
class SettingsSection:
    """A section with its own keys and sections, and references to those that it inherits from, as absolute paths."""

    name: str
    at: SourceLine
    values: dict[str, SourceText] = field(default_factory=dict)
    sections: dict[str, SettingsSection] = field(default_factory=dict)
    references: dict[SourceText, None] = field(default_factory=dict)  # in order

    def text(self, key: str, default: str = "") -> str:
        found = self.values.get(key)
        return default if found is None else found.text

    def below(self, name: str) -> SettingsSection:
        """A section of it; an empty one where there is none."""
        return self.sections.get(name, SettingsSection(name, self.at))


def parse_settings(text: str, path: Path, files: SourceFiles) -> SettingsSection:
    """The whole file, with what it includes, and references resolved."""
    root = SettingsSection("", SourceLine(path.name, 1))
    budget = _Budget()
    _SettingsParser(text, path, files, budget).run(root)
    _resolve(root, root, budget, 0, ())
    return root


class _Budget:
    """How many entries may still come."""

    def __init__(self) -> None:
        self._left = ENTRIES_MOST

    def take(self, at: SourceLine) -> None:
        self._left -= 1
        if self._left < 0:
            raise SourceError(at, f"more than {ENTRIES_MOST} settings")


class _SettingsParser:
    """One file. `depth`: files around it; `above`: sections around it."""

    def __init__(self, text: str, path: Path, files: SourceFiles, budget: _Budget, depth: int = 0, above: int = 0) -> None:
        self._text, self._path, self._files, self._budget = text, path, files, budget
        self._depth, self._above = depth, above
        self._at = 0
        self._line, self._counted = 1, 0

    def _origin(self) -> SourceLine:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return SourceLine(self._path.name, self._line)

    def _skip(self, form: re.Pattern[str]) -> None:
        match = form.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def run(self, section: SettingsSection, deep: int = 0) -> None:
        """Reads into `section` until its brace, or the end of a file at the top."""
        opened = self._origin()
        if self._above + deep > SECTIONS_DEEP:
            raise SourceError(opened, f"sections are more than {SECTIONS_DEEP} deep")
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                if deep:
                    raise SourceError(opened, f'section "{section.name}" has no end: the file ends before its "}}"')
                return
            if self._text[self._at] == "}":
                if not deep:
                    raise SourceError(self._origin(), 'a "}" that ends nothing')
                self._at += 1
                return
            include = _INCLUDE.match(self._text, self._at)
            if include is not None:
                self._at = include.end()
                self._include(section, deep)
            else:
                self._entry(section, deep)

    def _entry(self, section: SettingsSection, deep: int) -> None:
        at = self._origin()
        self._budget.take(at)
        name = _NAME.match(self._text, self._at)
        if name is None:
            raise SourceError(at, f"{self._text[self._at]!r} where a key or a section is to begin")
        self._at = name.end()
        references = _REFERENCES.match(self._text, self._at)
        if references is not None:
            self._at = references.end()
        self._skip(_BLANK if references is not None else _SPACE)
        if references is None and self._text[self._at : self._at + 1] == "=":
            self._at += 1
            section.values[name[0]] = SourceText(self._value(), at)
            return
        self._skip(_BLANK)  # the brace may stand on the next line
        if self._text[self._at : self._at + 1] != "{":
            raise SourceError(at, 'a key has neither "=" nor "{" behind it')
        self._at += 1
        below = section.sections.setdefault(name[0], SettingsSection(name[0], at))
        if references is not None:
            below.references |= dict.fromkeys(SourceText(one.strip(), at) for one in references[1].split(",") if one.strip())
        self.run(below, deep + 1)

    def _value(self) -> str:
        """What follows "=", to the end of the line, a comment or a brace."""
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            if self._at >= len(self._text) or self._text[self._at] in "#}\n":
                return " ".join(parts)
            if self._text[self._at] == '"':
                parts.append(self._string())
                continue
            word = _UNQUOTED.match(self._text, self._at)
            if word is None:  # unreachable by the sets of characters above; the loop must end all the same
                raise SourceError(self._origin(), "a value that cannot be read")
            self._at = word.end()
            parts.append(word[0])

    def _string(self) -> str:
        begin = self._origin()
        self._at += 1
        made: list[str] = []
        while self._at < len(self._text):
            each = self._text[self._at]
            self._at += 1
            if each == '"':
                return "".join(made)
            if each == "\\" and self._at < len(self._text):
                escaped = self._text[self._at]
                self._at += 1
                made.append(_ESCAPES.get(escaped, escaped))
            elif each != "\r":
                made.append(each)
        raise SourceError(begin, "a string has no end: its closing quote is missing")

    def _include(self, section: SettingsSection, deep: int) -> None:
        at = self._origin()
        match = _INCLUDED.match(self._text, self._at)
        if match is None:
            raise SourceError(at, "include names no file")
        self._at = match.end()
        pattern = re.sub(r'\\(["#} \\])', r"\1", match[1] if match[1] is not None else match[2])
        for path in self._files.included(pattern, self._path, self._depth + 1, at):
            text = self._files.read(path, at)
            _SettingsParser(text, path, self._files, self._budget, self._depth + 1, self._above + deep).run(section)


def _find(root: SettingsSection, reference: SourceText) -> SettingsSection:
    found = root
    for name in reference.text.split("."):
        if name not in found.sections:
            raise SourceError(reference.at, f'refers to "{reference.text}", which there is not')
        found = found.sections[name]
    return found


def _resolve(section: SettingsSection, root: SettingsSection, budget: _Budget, deep: int, under: tuple[int, ...]) -> None:
    """Takes over what the references bring and the section has not itself; of several the first counts."""
    if id(section) in under or deep > SECTIONS_DEEP:
        raise SourceError(section.at, f'section "{section.name}" refers to itself, or references are too deep')
    under = (*under, id(section))
    references, section.references = section.references, {}
    for reference in references:
        budget.take(reference.at)
        other = _find(root, reference)
        if other.references:
            _resolve(other, root, budget, deep + 1, under)
        if id(other) in under:
            raise SourceError(reference.at, f'"{reference.text}" refers to itself')
        _take_over(section, other, budget, deep)
    for below in section.sections.values():
        _resolve(below, root, budget, deep + 1, under)


def _take_over(section: SettingsSection, other: SettingsSection, budget: _Budget, deep: int) -> None:
    if deep > SECTIONS_DEEP:
        raise SourceError(section.at, f"sections are more than {SECTIONS_DEEP} deep")
    for key, value in other.values.items():
        budget.take(section.at)
        section.values.setdefault(key, value)
    for name, inherited in other.sections.items():
        budget.take(section.at)
        below = section.sections.setdefault(name, SettingsSection(name, inherited.at))
        for each in inherited.references:
            budget.take(section.at)
            below.references.setdefault(each)
        _take_over(below, inherited, budget, deep + 1)
