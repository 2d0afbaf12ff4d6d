"""What has to be confirmed goes back by itself, when its time is over and not before; on a clock that stands still."""

from __future__ import annotations

import asyncio

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.confirmation import Confirmation, Trial
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import configured, tunnel


class Site:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.confirmation = Confirmation(self.conditions, self.clock)
        self.went_back = 0

    def go_back(self) -> None:
        self.went_back += 1

    def expect(self, seconds: float = 60):
        return self.confirmation.expect("gw", "this start", seconds, "it stops", self.go_back)


def test_it_goes_back_when_the_time_is_over_and_not_before(caplog):
    async def life() -> None:
        site = Site()
        started = site.expect()
        assert site.conditions.texts == ["this start waits for `ipsec-dp confirm gw`, for 60 s; otherwise it stops"]
        await site.clock.advance(59.9)
        assert (site.went_back, site.confirmation.waits_for) == (0, "this start")
        await site.clock.advance(0.2)
        assert (site.went_back, site.confirmation.waits_for, started.confirmed) == (1, None, False)
        assert site.conditions.texts == []
        with pytest.raises(ControlError, match="nothing waits"):
            site.confirmation.confirm()

    asyncio.run(life())
    assert "ERROR" in caplog.text
    assert "this start was not confirmed within 60 s: it stops" in caplog.text


def test_what_is_confirmed_stays():
    async def life() -> None:
        site = Site()
        started = site.expect()
        await site.clock.advance(59)
        assert site.confirmation.confirm() == "this start"
        assert started.confirmed
        await site.clock.advance(1000)
        assert (site.went_back, site.conditions.texts) == (0, [])

    asyncio.run(life())


@pytest.mark.parametrize(("way", "passes"), [("", "nothing passes"), ("TCP port 22", "nothing but TCP port 22 passes")])
def test_what_passes_after_a_start_that_nobody_confirmed_is_said_before(tmp_path, way, passes):
    """Where no session is known, who administers the host is cut off too."""
    trial = Trial(60, configured(tmp_path, tunnel()), way)
    assert trial.otherwise == f"the gateway stops, and of what it protects {passes}"


def test_what_is_taken_away_meanwhile_does_not_go_back():
    async def life() -> None:
        site = Site()
        started = site.expect()
        site.confirmation.cancel()
        await site.clock.advance(1000)
        assert (site.went_back, started.confirmed) == (0, False)

    asyncio.run(life())
