"""What a person sees while a command takes longer than one likes to wait: what it waits for, and for how long already."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AFTER_S: Final = 2.0
SHOWN: Final = 60  # characters of what is waited for


@contextlib.contextmanager
def patience(text: str, console: Console | None = None, after_s: float = AFTER_S) -> Iterator[Callable[[str], None]]:
    """Around what may take long. After `after_s` seconds a line shows `text`, on standard error and only where that is a terminal;
    it is gone when this ends. Gives what changes the text."""
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(shown(text, SHOWN), total=None)
    timer = threading.Timer(after_s, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda new: progress.update(task, description=shown(new, SHOWN))
    finally:
        timer.cancel()
        timer.join()
        progress.stop()
