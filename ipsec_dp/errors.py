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

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.where, self.key) if part != "")
        word = "warning: " if self.severity == "warning" else ""
        return _printable(f"{place}: {word}{self.wrong}; {self.right}")


def _printable(text: str) -> str:
    """The text on one line: what a file wrote must neither break it nor steer the terminal it is shown on."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class ConfigError(IpsecDpError):
    """A configuration that is refused, with everything that was found at once, warnings included."""

    exit_status: ClassVar[int] = 2

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


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
