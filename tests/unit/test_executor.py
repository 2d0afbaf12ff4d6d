"""What the IKE core wants is carried out in its order, and what is due is asked of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.keying.executor import Executor
from tests.doubles.clock import FakeClock

from .ike_driver_site import PATH, Double, event


@pytest.fixture
def made():
    """An executor, its core, its links and its clock; what it reports is noted by the links."""

    def make(**answers: Any) -> Any:
        clock: Any = FakeClock()
        core: Any = Double(**{"next_timeout": None, "unfinished": False} | answers)
        links: Any = Double(send_ike=None)
        children: Any = Double()
        executor = Executor(
            core,
            children,
            links,
            clock,
            NO_TRACE,
            changed=children.changed,
            probed=links.probed,
            report=links.report,
            unmade=links.unmade,
        )
        return executor, core, links, clock

    return make


def test_an_event_is_reported_in_its_place_among_the_actions(made):
    executor, _, links, _ = made()
    executor.carry_out([act.Send(b"one", PATH), event(act.Kind.IKE_UP), act.Send(b"two", PATH)])
    assert [call[0] for call in links.calls] == ["send_ike", "report", "send_ike"]


def test_what_was_begun_with_many_is_over_when_it_is_finished(made):
    executor, core, _, _ = made()
    left = [True, True]
    core.unfinished = lambda: bool(left and left.pop())
    executor.finish()
    assert len(core.of("timer")) == 2


def test_nothing_comes_due_once_it_is_stopped(made):
    async def life(stopped: bool) -> int:
        executor, core, _, clock = made(next_timeout=FakeClock().now() + 1800.0)
        executor.carry_out([])
        core.answers["next_timeout"] = None
        if stopped:
            executor.stop()
        await clock.advance(3600.0)
        return len(core.of("timer"))

    assert [asyncio.run(life(stopped)) for stopped in (False, True)] == [1, 0]
