"""A configuration beside its tunnels, as two programs can compare it."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipsec_dp.config import Config

LEFT_OUT: Final = frozenset({"tunnels", "path", "warnings", "_by_name"})


def fields_of(config: Config) -> dict[str, str]:
    """What it says, as text."""
    return {each.name: _text(getattr(config, each.name)) for each in fields(config) if each.name not in LEFT_OUT}


def _text(value: object) -> str:
    """A set has no order, and another one in each process."""
    return repr(sorted(value) if isinstance(value, frozenset) else value)
