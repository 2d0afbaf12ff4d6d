"""Markers by directory, and the one reason for which a test may be skipped: it needs root and we are not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline per example measures the machine, not the code: others build and test on it at the same time.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

TESTS = Path(__file__).parent
MARKED_DIRECTORIES = ("netns", "interop")
NEEDS_ROOT = pytest.mark.skip(reason="needs root: makes network namespaces, TUN devices or raw sockets; run `sudo make test`")


def pytest_configure() -> None:
    """A run that a shell started in the background can be interrupted too, and so can what its tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives every test under tests/netns and tests/interop its marker; skips what needs root when we are not."""
    for item in items:
        directory = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if directory in MARKED_DIRECTORIES:
            item.add_marker(directory)
        if os.geteuid() != 0 and (item.get_closest_marker("root") or item.get_closest_marker("netns")):
            item.add_marker(NEEDS_ROOT)
