"""What goes wrong, as one small hierarchy. The command line turns each into its exit status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Severity = Literal["error", "warning"]


class IpsecDpError(Exception):
    """Anything this package raises on purpose; its text is one line for a person."""

    exit_status: ClassVar[int] = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """As people are told of it."""
        return (str(self),)


class BadValueError(IpsecDpError, ValueError):
    """A text that does not mean what its place asks for: what is wrong with it, and what would be right."""

    exit_status: ClassVar[int] = 2

    def __init__(self, wrong: str, right: str) -> None:
        super().__init__(f"{wrong}; {right}")
        self.wrong = wrong
        self.right = right


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing `check` has to say: where it is, what is wrong, what would be right. Its text is one line."""

    severity: Severity
    file: str
    where: str  # 'tunnel "to-b"', "policy #2", "gateway"; empty for the file itself
    key: str  # "esp.lifetime"; empty for a whole table
    wrong: str
    right: str
    line: int | None = None  # from 1, as the column; None: it is about no place in a file
    column: int | None = None

    def __str__(self) -> str:
        file = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        place = ": ".join(part for part in (file, self.where, self.key) if part != "")
        word = "warning: " if self.severity == "warning" else ""
        return f"{place}: {word}{self.wrong}; {self.right}"


class ConfigError(IpsecDpError):
    """A configuration that is refused, with everything that was found at once, warnings included."""

    exit_status: ClassVar[int] = 2

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(str, self.findings))


class NoDaemonError(IpsecDpError):
    """No gateway answers at the control socket."""

    exit_status: ClassVar[int] = 3


class ControlError(IpsecDpError):
    """A gateway answered, but refused the request or broke off."""


class DataPlaneError(IpsecDpError):
    """The C core refused a call; `errno` says why."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno
