"""Octets that held keys are overwritten."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ZEROS: Final = bytes(1 << 16)


def wipe(octets: bytearray) -> None:
    """With zeros, and without other memory as large, which would take longer to get than to fill."""
    view = memoryview(octets)
    for at in range(0, len(view), len(_ZEROS)):
        view[at : at + len(_ZEROS)] = _ZEROS[: len(view) - at]


@contextlib.contextmanager
def unless_whole(wipe: Callable[[], None]) -> Iterator[None]:
    """Wipes what was made so far where the block does not come to its end, for whatever reason."""
    try:
        yield
    except BaseException:
        wipe()
        raise
