"""Reloads that SIGHUP asks for: at once, once what holds them back is over, or in another process."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.asked_reloads import AskedReloads
from tests.doubles.clock import settle

if TYPE_CHECKING:
    from collections.abc import Callable


class Asked:
    """What came of what was asked for."""

    def __init__(self, story: Callable[[Asked], None], *, refuses: bool = False) -> None:
        self.reloads, self.passed_on, self.stopping, self.elsewhere = 0, 0, False, False

        async def reload(_: object) -> None:
            self.reloads += 1
            if refuses:
                raise ControlError("the file has an error")

        def passed_on() -> bool:
            self.passed_on += self.elsewhere
            return self.elsewhere

        async def life() -> None:
            verbs: Any = SimpleNamespace(reload=reload)
            self.reloader = AskedReloads(
                verbs,
                asyncio.get_running_loop().create_task,
                reloading=contextlib.nullcontext,
                stopping=lambda: self.stopping,
                passed_on=passed_on,
            )
            story(self)
            await settle()

        asyncio.run(life())

    @property
    def came_of_it(self) -> tuple[int, int]:
        return self.reloads, self.passed_on


def up(asked: Asked) -> None:
    asked.reloader.release()


def test_each_is_done_while_the_gateway_is_up():
    def story(asked: Asked) -> None:
        up(asked)
        asked.reloader.ask()
        asked.reloader.ask()

    assert Asked(story).came_of_it == (2, 0)


def test_none_is_done_before_and_nothing_when_nobody_asked():
    assert Asked(lambda asked: asked.reloader.ask()).came_of_it == (0, 0)
    assert Asked(up).came_of_it == (0, 0)


@pytest.mark.parametrize("fails", [False, True], ids=["over", "broken off"])
def test_those_that_are_held_back_are_one_afterwards(fails):
    def story(asked: Asked) -> None:
        up(asked)
        with contextlib.suppress(ControlError), asked.reloader.held():
            asked.reloader.ask()
            asked.reloader.ask()
            if fails:
                raise ControlError("not upgraded")

    assert Asked(story).came_of_it == (1, 0)


def test_they_are_held_back_until_all_that_holds_them_is_over():
    def story(asked: Asked) -> None:
        with asked.reloader.held():
            asked.reloader.ask()
        assert asked.reloads == 0

    assert Asked(story).came_of_it == (0, 0)


def test_another_process_hears_of_them_where_that_is_the_gateway():
    def story(asked: Asked) -> None:
        up(asked)
        with asked.reloader.held():
            asked.reloader.ask()
            asked.elsewhere = asked.stopping = True
        asked.reloader.ask()

    assert Asked(story).came_of_it == (0, 2)


def test_a_gateway_that_stops_reads_nothing_again():
    def story(asked: Asked) -> None:
        asked.reloader.ask()
        asked.stopping = True
        up(asked)

    assert Asked(story).came_of_it == (0, 0)


def test_what_is_refused_is_in_the_log(caplog):
    def story(asked: Asked) -> None:
        up(asked)
        asked.reloader.ask()

    assert Asked(story, refuses=True).came_of_it == (1, 0)
    assert [(record.event, record.message) for record in caplog.records] == [("reload_failed", "the file has an error")]
