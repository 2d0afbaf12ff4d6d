"""The form of ipsec.conf and ipsec.secrets, which strongSwan and Libreswan share: sections of indented keys, `also`, includes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ipsec_dp.migrate.draft import SourceError, SourceLine, SourceText
from ipsec_dp.migrate.secrets_of import SharedKey
from ipsec_dp.migrate.source_files import SourceFiles

ALSO_DEEP: Final = 16
ENTRIES_MOST: Final = 200_000
INHERITED_MOST: Final = 2_000_000  # keys and sections that `also` and %default bring, in all
_HEADER: Final = re.compile(r"(config|conn|ca)\s+(\S+)\s*")
_KEY: Final = re.compile(r"([A-Za-z0-9_.-]+)\s*=\s*(.*)")
_COMMENT: Final = re.compile(r'((?:[^"#]|"[^"]*"|(?<=\S)#)*?)(?:(?:^|\s)#.*)?')
_KIND: Final = re.compile(r"(.*?)(?:^|[\s:])(PSK|RSA|ECDSA|PKCS8|PKCS12|P12|PIN|EAP|XAUTH|NTLM|PPKS?|BLISS)\s+(.*)", re.DOTALL)
_SECRET: Final = re.compile(r"\"([^\"]*)\"|'([^']*)'|(\S+)")
_WORD: Final = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(slots=True)
class ConfSection:
    """`conn NAME`, `ca NAME` or `config setup`, as written: `also` is in `also`, not yet followed."""

    kind: str
    name: str
    at: SourceLine
    values: dict[str, SourceText] = field(default_factory=dict)
    also: list[SourceText] = field(default_factory=list)


@dataclass(slots=True)
class ConfFile:
    """All sections of a file and of what it includes; those of one name are one."""

    sections: dict[tuple[str, str], ConfSection] = field(default_factory=dict)
    entries: int = 0
    inherited: int = 0

    def of_kind(self, kind: str) -> list[ConfSection]:
        return [section for section in self.sections.values() if section.kind == kind]

    def whole(self, section: ConfSection) -> dict[str, SourceText]:
        """Its keys, with what `also` and `%default` bring: its own first. SourceError where `also` goes in circles."""
        found = dict(section.values)
        self._inherit(section, found, (section.name,))
        default = self.sections.get((section.kind, "%default"))
        if default is not None:
            self._inherit(default, found, (section.name, "%default"))
            self._count(len(default.values), section.at)
            found = {**default.values, **found}
        return found

    def _inherit(self, section: ConfSection, found: dict[str, SourceText], under: tuple[str, ...]) -> None:
        for also in section.also:
            other = self.sections.get((section.kind, also.text))
            if other is None:
                raise SourceError(also.at, f"also = {also.text}: there is no such section")
            if also.text in under or len(under) > ALSO_DEEP:
                raise SourceError(also.at, f"also = {also.text}: sections take each other over in circles, or too deep")
            self._count(1 + len(other.values), also.at)
            for key, value in other.values.items():
                found.setdefault(key, value)
            self._inherit(other, found, (*under, also.text))

    def _count(self, more: int, at: SourceLine) -> None:
        self.inherited += more
        if self.inherited > INHERITED_MOST:
            raise SourceError(at, f"sections take more than {INHERITED_MOST} settings over from each other")


def parse_conf(text: str, path: Path, files: SourceFiles) -> ConfFile:
    """ipsec.conf, with what it includes. Raises SourceError."""
    made = ConfFile()
    _read(text, path, files, 0, made)
    return made


def _read(text: str, path: Path, files: SourceFiles, depth: int, made: ConfFile) -> None:
    section: ConfSection | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        at = SourceLine(path.name, number)
        line = _without_comment(raw, at)
        if not line.strip():
            continue
        made.entries += 1
        if made.entries > ENTRIES_MOST:
            raise SourceError(at, f"more than {ENTRIES_MOST} lines")
        if line[0] in " \t":
            _key(line.strip(), at, section)
            continue
        word, _, rest = line.partition(" ") if " " in line else line.partition("\t")
        if word == "include":
            for included in files.included(_unquoted(rest.strip(), at), path, depth + 1, at):
                _read(files.read(included, at), included, files, depth + 1, made)
            section = None
        elif word != "version":
            section = _header(line, at, made)


def _without_comment(raw: str, at: SourceLine) -> str:
    line = raw.rstrip("\r").expandtabs(1)
    if "#" not in line:
        return line
    match = _COMMENT.fullmatch(line)
    if match is None:
        raise SourceError(at, "a quote has no end")
    return match[1]


def _header(line: str, at: SourceLine, made: ConfFile) -> ConfSection:
    header = _HEADER.fullmatch(line)
    if header is None:
        raise SourceError(
            at, f"{line.split(maxsplit=1)[0]!r} begins no section: conn, ca, config setup, or include is to stand here"
        )
    return made.sections.setdefault((header[1], header[2]), ConfSection(header[1], header[2], at))


def _key(line: str, at: SourceLine, section: ConfSection | None) -> None:
    if section is None:
        raise SourceError(at, "an indented line that is in no section")
    match = _KEY.fullmatch(line)
    if match is None:
        raise SourceError(at, "is no key = value")
    key, value = match[1].lower(), SourceText(_unquoted(match[2].strip(), at), at)
    if key == "also":
        section.also += (SourceText(name, at) for name in value.text.split())
    else:
        section.values[key] = value


def _unquoted(text: str, at: SourceLine) -> str:
    if not text.startswith('"'):
        return text
    if len(text) < 2 or not text.endswith('"'):
        raise SourceError(at, "a quote has no end")
    return text[1:-1]


# ---- ipsec.secrets ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SecretsFile:
    """Shared keys, files of private keys (with the identities that they are for), and what is neither."""

    keys: list[SharedKey] = field(default_factory=list)
    private: list[SourceText] = field(default_factory=list)
    others: list[SourceText] = field(default_factory=list)


def parse_secrets(text: str, path: Path, files: SourceFiles) -> SecretsFile:
    """ipsec.secrets, with what it includes. Raises SourceError; no secret is in its text."""
    made = SecretsFile()
    _read_secrets(text, path, files, 0, made)
    return made


def _read_secrets(text: str, path: Path, files: SourceFiles, depth: int, made: SecretsFile) -> None:
    entry, begin = "", 0
    for number, raw in enumerate([*text.split("\n"), "end"], 1):
        at = SourceLine(path.name, number)
        line = _without_comment(raw, at)
        if line[:1] in (" ", "\t"):
            entry += f" {line.strip()}"
            continue
        if not line.strip():
            continue
        if entry:
            _secret(entry, SourceLine(path.name, begin), made)
        entry, begin = line, number
        word, _, rest = line.partition(" ")
        if word == "include":
            entry = ""
            for included in files.included(_unquoted(rest.strip(), at), path, depth + 1, at):
                _read_secrets(files.read(included, at), included, files, depth + 1, made)


def _secret(entry: str, at: SourceLine, made: SecretsFile) -> None:
    match = _KIND.fullmatch(entry)
    if match is None:
        raise SourceError(at, "is no secret: identities, a colon, PSK or RSA, and the secret are to stand here")
    identities = tuple(word[0] or word[1] for word in _WORD.findall(match[1].rstrip().removesuffix(":")))
    value = _SECRET.match(match[3].strip())
    text = "" if value is None else next((each for each in value.groups() if each is not None), "")
    quoted = value is not None and value[3] is None
    if match[3].strip().startswith(("'", '"')) and not quoted:
        raise SourceError(at, "a quote has no end")
    if match[2] == "PSK":
        made.keys.append(SharedKey(at, identities, text, literal=quoted))
    elif match[2] in ("RSA", "ECDSA", "PKCS8") and not text.startswith("{"):
        made.private.append(SourceText(text, at))
    else:
        made.others.append(SourceText(match[2], at))
