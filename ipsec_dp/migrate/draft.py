"""What every reader makes of its source, and the one writer of TOML takes: settings with where they come from, and remarks.

Keys are those of the TOML tables (`config.tables`), dotted below a tunnel ("esp.lifetime"). A secret is in no setting and no repr.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipsec_dp.config import tables

Plain = str | int | bool
SettingValue = Plain | tuple[str, ...] | dict[str, Plain]

NAME_MOST: Final = 64
TUNNELS_MOST: Final = 10_000
PROXY_IDS_MOST: Final = 256  # that two lists of selectors may multiply to
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a source, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}"


class SourceError(IpsecDpError):
    """A source that cannot be read as what it is said to be: one line, with its place."""

    exit_status = 2

    def __init__(self, at: SourceLine, wrong: str) -> None:
        super().__init__(f"{at}: {shown(wrong)}")
        self.at = at


@dataclass(frozen=True, slots=True)
class Remark:
    """What became of a line that has no exact counterpart. "left out": nothing of it is in the result."""

    kind: Literal["left out", "note"]
    at: SourceLine
    what: str
    why: str

    def __str__(self) -> str:
        return shown(f"{self.at}: {self.what}: {self.why}", LINE)


@dataclass(frozen=True, slots=True)
class SourceText:
    """A word or value of a source, and its line."""

    text: str
    at: SourceLine


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of a TOML key; `comment` says whose default it is, or what it stands for."""

    value: SettingValue
    comment: str = ""


@dataclass(slots=True)
class TunnelDraft:
    """One [[tunnel]]. `withheld`: why it is written as a comment alone; empty: it is not."""

    name: str
    origin: SourceLine
    settings: dict[str, Setting] = field(default_factory=dict)
    proxy_ids: list[tables.ProxyId] = field(default_factory=list)
    secret: bytes | None = field(default=None, repr=False)  # what `auth.psk_file` is to hold
    withheld: list[str] = field(default_factory=list)

    def put(self, key: str, value: SettingValue, comment: str = "") -> None:
        self.settings[key] = Setting(value, comment)

    def withhold(self, why: str) -> None:
        if why not in self.withheld:
            self.withheld.append(why)


@dataclass(frozen=True, slots=True)
class RouteDraft:
    """One [[route]]."""

    prefix: str
    tunnel: str
    metric: int | None = None


@dataclass(slots=True)
class FileDraft:
    """All that a source comes to."""

    title: str
    gateway: dict[str, Setting] = field(default_factory=dict)
    tunnels: list[TunnelDraft] = field(default_factory=list)
    routes: list[RouteDraft] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def left_out(self, at: SourceLine, what: str, why: str) -> None:
        self._remark(Remark("left out", at, what, why))

    def note(self, at: SourceLine, what: str, why: str) -> None:
        self._remark(Remark("note", at, what, why))

    def _remark(self, remark: Remark) -> None:
        if remark not in self.remarks:
            self.remarks.append(remark)

    def tunnel(self, text: str, at: SourceLine) -> TunnelDraft:
        """A new one, under a name that a tunnel may have and no other has. SourceError where there are too many."""
        if len(self.tunnels) >= TUNNELS_MOST:
            raise SourceError(at, f"more than {TUNNELS_MOST} tunnels")
        made = TunnelDraft(unique_name(text, {each.name for each in self.tunnels}), at)
        self.tunnels.append(made)
        return made

    def leave_out_known(self, given: Mapping[str, SourceText], reasons: Mapping[str, str], prefix: str = "") -> None:
        """A remark for each of the words that a table has a reason for."""
        for word, value in given.items():
            why = reasons.get(word)
            if why is not None:
                self.left_out(value.at, f"{prefix}{word} = {value.text}", why)


def unique_name(text: str, taken: set[str]) -> str:
    """`text` as the name of a tunnel: other characters become "-", and a number follows where it is taken."""
    plain = _NO_NAME.sub("-", text).lstrip("_.-")[:NAME_MOST] or "tunnel"
    name, number = plain, 2
    while name in taken:
        name = f"{plain[: NAME_MOST - len(str(number)) - 1]}-{number}"
        number += 1
    return name
