"""Octets that held keys are overwritten."""

from __future__ import annotations

from typing import Final

_ZEROS: Final = bytes(1 << 16)


def wipe(octets: bytearray) -> None:
    """With zeros, and without other memory as large, which would take longer to get than to fill."""
    view = memoryview(octets)
    for at in range(0, len(view), len(_ZEROS)):
        view[at : at + len(_ZEROS)] = _ZEROS[: len(view) - at]
