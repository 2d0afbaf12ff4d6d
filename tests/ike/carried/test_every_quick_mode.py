"""As `test_every_step`, of IKEv1: main mode that is over, quick modes under way, renewals, DPD, fragments."""

from __future__ import annotations

import pytest

from tests.ike.carried.carrying import carried_at_every_step, ladders_of

TESTS = ladders_of("ikev1_life", "ikev1_quick_mode", "ikev1_fragments")
assert len(TESTS) > 30
globals().update(TESTS)
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, params=["a", "b"])
def carried(request, monkeypatch):
    with carried_at_every_step(monkeypatch, request.param):
        yield
