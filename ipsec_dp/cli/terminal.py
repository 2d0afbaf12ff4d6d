"""The terminal while a program has the whole of it: keys one by one, and as it was before when it ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import FrameType

# What terminals send for keys that are no character (ECMA-48, xterm).
KEYS: Final = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[C": "right",
    "\x1bOC": "right",
    "\x1b[D": "left",
    "\x1bOD": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[1~": "home",
    "\x1bOH": "home",
    "\x1b[F": "end",
    "\x1b[4~": "end",
    "\x1bOF": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x1a": "suspend",
}
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
AT_ONCE: Final = 256  # octets of keys
CC: Final = 6  # where tcgetattr(3) has the control characters


def keys_of(text: str) -> list[str]:
    """The keys that were pressed; of a sequence that nobody knows nothing is left but its end."""
    found = []
    while text:
        piece = text[0]
        if text.startswith(("\x1b[", "\x1bO")):
            last = next((at for at, each in enumerate(text) if at > 1 and (each.isalpha() or each == "~")), len(text))
            piece = text[: last + 1]
        found += [KEYS[piece]] if piece in KEYS else [piece] if piece.isprintable() else []
        text = text[len(piece) :]
    return found


class KeyTerminal:
    """Standard input as keys, where it is a terminal. SIGTERM and SIGHUP end the program as `sys.exit` does."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._before: list[Any] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        self._handlers = {each: signal.signal(each, _end) for each in ENDING}
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resized)
        self._keys_only()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._wake)

    def _keys_only(self) -> None:
        if not os.isatty(self._fd):
            return
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        now = termios.tcgetattr(self._fd)
        now[CC][termios.VSUSP] = b"\0"  # Ctrl-Z is a key: first the screen is given back
        termios.tcsetattr(self._fd, termios.TCSADRAIN, now)

    def _restore(self) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error, OSError):  # the terminal may be gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None

    def _resized(self, *_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def suspend(self) -> None:
        """Stops as Ctrl-Z does; comes back when the shell lets it go on."""
        self._restore()
        os.kill(0, signal.SIGTSTP)
        self._keys_only()

    def keys(self, seconds: float) -> list[str]:
        """Those pressed within `seconds`, as soon as there are any; none too when the window was resized."""
        watched = [self._woken, *([self._fd] if os.isatty(self._fd) else [])]
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._woken in ready:
            os.read(self._woken, AT_ONCE)
        return keys_of(os.read(self._fd, AT_ONCE).decode(errors="replace")) if self._fd in ready else []


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
