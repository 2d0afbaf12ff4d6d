"""The clock of a rig, and what each gateway has of it: time that is moved, pauses that last while nothing happens."""

from __future__ import annotations

import asyncio
import time
from math import inf

import pytest

from ipsec_dp.rig import Clock
from ipsec_dp.rig.clock import GatewayClock, RigTimer
from ipsec_dp.rig.ladder import Arrow, drawn
from ipsec_dp.rig.loop import RigError, RigLoop
from ipsec_dp.util.slices import SLICE_S, Slice, in_slices, unsliced, within_slice
from tests.unit.rig_sites import sites


def run(clock, life, until):
    """`life` with a gateway's clock, until that time."""
    loop = RigLoop(clock, lambda: False)
    own = GatewayClock(clock, "a")
    try:
        loop.call_soon(lambda: loop.create_task(life(own)))
        loop.run(lambda: False, until)
    finally:
        loop.end()
    return own


def test_a_clock_alone_moves_as_it_is_told_and_never_back():
    clock = Clock(10.0)
    assert (clock(), clock.ns, clock.advance(2.5)) == (10.0, 10_000_000_000, 12_500_000_000)
    for back in (clock.advance, clock.leap):
        with pytest.raises(ValueError, match="does not go back"):
            back(-0.1)
    assert (clock.utc() - Clock(10.0).utc()).total_seconds() == 2.5


def test_chance_is_the_same_for_one_seed_and_name():
    drawn_by = [GatewayClock(Clock(seed=seed), name).random(8) for seed, name in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))]
    assert drawn_by[0] == drawn_by[1]
    assert len(set(drawn_by)) == 3


def test_what_comes_later_comes_in_order_and_at_its_time():
    clock, seen = Clock(100.0), []

    async def life(own):
        for name, when in (("late", 103.0), ("soon", 101.0), ("same", 101.0), ("never", 102.0), ("now", 99.0)):
            timer = own.call_at(when, lambda name=name: seen.append((name, own.now())))
            if name == "never":
                timer.cancel()

    run(clock, life, 110.0)
    assert seen == [("now", 100.0), ("soon", 101.0), ("same", 101.0), ("late", 103.0)]
    assert clock.now() == 110.0


@pytest.mark.parametrize(
    ("until", "happens", "expected"),
    [
        (None, None, [101.0]),  # the next pause finds that nothing happened, and lasts
        (None, ("packets", 150.3), [101.0, 151.0]),
        (None, ("ike", 150.3), [101.0]),
        (inf, ("packets", 150.3), [101.0, 151.0]),
        (inf, ("ike", 150.3), [101.0]),
        (170.5, None, [101.0, 171.0]),
        (170.5, ("ike", 150.3), [101.0, 171.0]),
        (170.5, ("ike, which changes it to", 150.3), [101.0, 161.0]),
    ],
)
def test_a_pause_lasts_as_long_as_nothing_happens_that_its_look_is_at(until, happens, expected):
    clock, looked, due = Clock(100.0), [], [until]

    async def life(own):
        def happen():
            own.touch(packets=kind == "packets")
            if kind == "ike, which changes it to":
                due[0] = 160.5

        if happens is not None:
            kind, when = happens
            clock.at(when, RigTimer(happen))
        for _ in range(200):
            await own.pause(1.0, None if until is None else lambda: due[0] if own.now() < due[0] else inf)
            looked.append(own.now())

    run(clock, life, 200.0)
    assert looked == expected


def test_what_was_skipped_is_no_absence_and_a_leap_is(caplog):
    caplog.set_level("WARNING", "ipsec_dp")
    with sites() as (a, _):
        a.clock.advance(3600)
        assert "this host was suspended" not in caplog.text
        a.clock.leap(30)
        a.clock.advance(5)
        assert "this host was suspended" in caplog.text


def test_a_task_that_is_not_done_in_time_is_told_with_what_it_waits_for():
    clock = Clock()
    loop = RigLoop(clock, lambda: False)

    async def for_ever():
        await loop.create_future()

    with pytest.raises(RigError, match=r"for_ever.* is not done after 5 s"):
        loop.call(for_ever(), 5)
    loop.end()
    with pytest.raises(RigError, match="closed"):
        loop.run(lambda: True)


def test_a_rig_inside_itself_is_refused_and_what_a_timer_raises_is_raised():
    clock = Clock()
    loop = RigLoop(clock, lambda: False)
    clock.at(1001.0, RigTimer(lambda: loop.run(lambda: True)))
    with pytest.raises(RigError, match="from within"):
        loop.run(lambda: False, 1002.0)
    loop.end()


def test_nothing_ends_a_slice_where_runs_are_to_be_the_same():
    def slow():
        for number in range(3):
            end = time.monotonic() + SLICE_S
            while time.monotonic() < end:
                pass
            yield number

    assert list(within_slice(slow())) == [0]

    async def turns():
        passed: list[int] = []
        done: list[int] = []

        async def other():
            while not done:
                passed.append(1)
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        async for _ in in_slices(slow()):
            pass
        done.append(1)
        await beside
        return len(passed)

    assert asyncio.run(turns()) > 1
    with unsliced():
        assert list(within_slice(slow())) == [0, 1, 2]
        assert not Slice(-1).over
        assert asyncio.run(turns()) <= 1


def test_a_ladder_is_a_column_for_each_and_an_arrow_for_each_datagram():
    arrows = [Arrow(1.0, "a", "b", "request"), Arrow(2.0, "b", "a", "response"), Arrow(3.0, "a", "b", "lost", 0)]
    lines = drawn([*arrows, Arrow(4.0, "c", "a", "far"), Arrow(5.0, "b", "a", "gone", 0), Arrow(6.0, "a", "b", "twice", 2)]).split(
        "\n"
    )
    assert [line.split() for line in lines[:1]] == [["a", "b", "c"]]
    assert lines[1].startswith("     1.000  |-- request ---")
    assert lines[1].rstrip(" |").endswith("->")
    assert "|<---" in lines[2]
    assert "-- lost x" in lines[3]
    assert lines[4].count("|") == 2, "it passes the column between"
    assert "x gone --|" in lines[5]
    assert lines[6].endswith("  2 times")
    assert len({line.rstrip().rfind("|") for line in lines[1:4]}) == 1
