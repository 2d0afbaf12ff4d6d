"""What is done beside the rest ends with its owner."""

from __future__ import annotations

import asyncio

from ipsec_dp.util.tasks import Tasks
from tests.doubles.clock import settle


def test_each_is_done_beside_the_rest_and_has_ended_with_its_owner():
    done: list[str] = []

    async def work(name: str, event: asyncio.Event) -> None:
        try:
            await event.wait()
        finally:
            done.append(name)

    async def whole() -> None:
        tasks, come, never = Tasks(), asyncio.Event(), asyncio.Event()
        tasks.begin(work("a", come))
        tasks.begin(work("b", never))
        come.set()
        assert done == []
        await settle()
        assert done == ["a"]
        await tasks.end()
        assert done == ["a", "b"]

    asyncio.run(whole())


def test_what_one_raises_keeps_no_other_from_ending():
    ended: list[bool] = []

    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def whole() -> None:
        tasks = Tasks()
        tasks.begin(fails())
        tasks.begin(waits())
        await settle()
        await tasks.end()

    asyncio.run(whole())
    assert ended == [True]


def test_what_is_under_way_is_waited_for_and_not_ended():
    done: list[str] = []

    async def work(event: asyncio.Event) -> None:
        await event.wait()
        done.append("done")

    async def whole() -> None:
        tasks, come = Tasks(), asyncio.Event()
        tasks.begin(work(come))
        asyncio.get_running_loop().call_soon(come.set)
        await tasks.done()
        assert done == ["done"]

    asyncio.run(whole())
