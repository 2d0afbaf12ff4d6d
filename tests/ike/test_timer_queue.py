"""The heap of timers: one time for each owner, the last one that was set."""

import tracemalloc
from math import inf

from ipsec_dp.ike.timer_queue import TimerQueue


def due(queue, now):
    found = []
    while (owner := queue.pop(now)) is not None:
        found.append(owner)
    return found


def test_owners_come_in_the_order_of_their_times_and_then_of_setting():
    queue: TimerQueue[str] = TimerQueue()
    for owner, at in (("c", 3.0), ("b", 1.0), ("a", 1.0)):
        queue.set(owner, at)
    assert queue.next() == 1.0
    assert due(queue, 0.9) == []
    assert due(queue, 1.0) == ["b", "a"]
    assert (queue.next(), len(queue)) == (3.0, 1)
    assert due(queue, 9.0) == ["c"]
    assert queue.next() is None


def test_the_last_time_counts():
    queue: TimerQueue[str] = TimerQueue()
    queue.set("a", 5.0)
    queue.set("a", 2.0)
    assert due(queue, 2.0) == ["a"]
    assert due(queue, 5.0) == []
    queue.set("a", 2.0)
    queue.set("a", 7.0)
    assert due(queue, 6.9) == []
    assert queue.next() == 7.0


def test_who_has_no_time_any_more_is_never_due():
    queue: TimerQueue[str] = TimerQueue()
    queue.set("a", 1.0)
    queue.set("b", 1.0)
    queue.set("a", inf)
    queue.discard("b")
    queue.discard("nobody")
    assert (queue.next(), len(queue)) == (None, 0)
    assert due(queue, 9.0) == []


def test_times_that_were_changed_are_not_kept_until_their_turn_comes():
    """Each request of an IKE SA and its answer change one."""
    queue: TimerQueue[int] = TimerQueue()
    tracemalloc.start()
    try:
        for number in range(20_000):
            queue.set(1, 1000.0 + number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
    assert queue.next() == 20_999.0
