"""Markers by directory, a host of their own for tests that run as root, and the one reason for which a test may be skipped."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import own_host

# How long examples take measures the machine, not the code: others build and test on it at the same time. A test's examples are the
# same in every run, so that a change is judged by what it changes; what looks for new ones is `make fuzz`.
settings.register_profile("the same in every run", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("the same in every run")

TESTS = Path(__file__).parent
MARKED_DIRECTORIES = ("netns", "interop")
NEEDS_ROOT = pytest.mark.skip(reason="needs root: makes network namespaces, TUN devices or raw sockets; run `sudo make test`")


def pytest_configure(config: pytest.Config) -> None:
    """Prepares a process that runs tests: the only one, or each of those that share them out (pytest-xdist).

    A run that a shell started in the background can be interrupted too, and so can what its tests start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shares_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if os.geteuid() == 0 and not shares_out:
        own_host.sweep()
        with contextlib.suppress(PermissionError):  # a root without CAP_SYS_ADMIN runs the tests that make no namespaces
            own_host.enter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives every test under tests/netns and tests/interop its marker; skips what needs root when we are not."""
    for item in items:
        directory = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if directory in MARKED_DIRECTORIES:
            item.add_marker(directory)
        if item.get_closest_marker("measure"):
            item.add_marker(pytest.mark.alone("it measures"))
        if any(not marker.args for marker in item.iter_markers("alone")):
            raise pytest.UsageError(f"{item.nodeid}: the marker alone wants its reason")
        if os.geteuid() != 0 and (item.get_closest_marker("root") or item.get_closest_marker("netns")):
            item.add_marker(NEEDS_ROOT)
