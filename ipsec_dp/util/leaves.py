"""Where a field of state that is carried to another process may go, which each says in its type: into a field of msgspec's."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

from msgspec import Meta

T = TypeVar("T")

NEVER: Final = "never"
SEALED: Final = "sealed"
LEAVES: Final = "leaves"  # the key under which a field says whether it may leave the host

Here = Annotated[T, Meta(extra={LEAVES: NEVER})]
"""A field that means something on this host alone: a number, an instant of its clock, an address of its own."""
Sealed = Annotated[T, Meta(extra={LEAVES: SEALED})]
"""A field that may leave the host one day, and then sealed alone, be it a key or not."""
