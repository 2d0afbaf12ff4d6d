"""A site is carried after each step of these ladders, in both roles, and nobody can tell: every test of these modules holds.

`test_every_ladder` does the same with all of them.
"""

from __future__ import annotations

import pytest

from tests.ike.carried.carrying import carried_at_every_step, ladders_of

TESTS = ladders_of("rekey")
assert len(TESTS) > 15
globals().update(TESTS)
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, params=["a", "b"])
def carried(request, monkeypatch):
    with carried_at_every_step(monkeypatch, request.param) as times:
        yield
    assert times[0]
