"""Keeps the messages of the hand-over as they are now as those of their model."""

from __future__ import annotations

from tests.unit.upgrade_models import write

write()
