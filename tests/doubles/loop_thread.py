"""An event loop in a thread of its own, so that a test can ask what it serves as another process would."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

CLOSING_S = 10


@contextlib.contextmanager
def running(loop: asyncio.AbstractEventLoop, close: Callable[[], Coroutine[Any, Any, object]]) -> Iterator[None]:
    """Runs `loop`, in the end `close` in it, and closes it."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(CLOSING_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
