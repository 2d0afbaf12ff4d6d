"""Services take a configuration over in their order and go in reverse."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.services.service import ServiceError, Services

if TYPE_CHECKING:
    from ipsec_dp.config import Config


FIRST, SECOND = cast("Config", "first"), cast("Config", "second")  # only a service looks into it


class Recorder:
    def __init__(self, name: str, calls: list[str], *, fails: bool = False) -> None:
        self.name, self.calls, self.fails = name, calls, fails

    async def apply(self, config: object) -> None:
        if self.fails:
            raise IpsecDpError("the kernel says no")
        self.calls.append(f"{self.name} {config}")

    async def close(self) -> None:
        if self.fails:
            raise IpsecDpError("the kernel says no")
        self.calls.append(f"{self.name} closed")


def test_applied_in_order_and_closed_in_reverse():
    calls: list[str] = []
    services = Services((Recorder("zones", calls), Recorder("monitor", calls)))

    async def life() -> None:
        await services.apply(FIRST)
        await services.apply(SECOND)
        await services.close()

    asyncio.run(life())

    assert calls == ["zones first", "monitor first", "zones second", "monitor second", "monitor closed", "zones closed"]


def test_a_failure_names_the_component_and_leaves_those_behind_it():
    calls: list[str] = []
    services = Services((Recorder("zones", calls, fails=True), Recorder("monitor", calls)))

    with pytest.raises(ServiceError, match="zones: the kernel says no"):
        asyncio.run(services.apply(FIRST))

    assert calls == []


def test_closing_goes_on_after_a_failure():
    calls: list[str] = []
    services = Services((Recorder("zones", calls), Recorder("monitor", calls, fails=True)))

    asyncio.run(services.close())

    assert calls == ["zones closed"]
