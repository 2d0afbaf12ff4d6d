"""The host changes under a running gateway: what is made anew, where we listen, who is called, what moves to another address."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, cast

import pytest

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.services.host_watch import REST, SETTLE_S, HostWatch
from ipsec_dp.util.rest import MOST_S
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import configured, tunnel
from tests.doubles.host import MemoryHost

OURS, MOVED = ip_address("192.0.2.1"), ip_address("198.51.100.1")
PEER = ip_address("192.0.2.2")
CHANGED = "network changes"


class Ike:
    """In the driver's place: where its IKE SAs go from, and what it is asked for."""

    def __init__(self, leaves: bool = True) -> None:
        self._leaves = leaves
        self.calls: list[str] = []

    def listen(self, local: Any) -> None:
        self.calls.append(f"listen at {local}")

    def leaves(self, name: str, remote: Any, local: Any) -> bool:
        del name, remote
        return self._leaves and local == OURS

    def restart(self, name: str) -> None:
        self.calls.append(f"restart {name}")

    def wake(self, name: str) -> None:
        self.calls.append(f"wake {name}")


class Site:
    def __init__(self, directory, ike: Ike, *lines: str) -> None:
        self.config = configured(directory, tunnel("to-b", *lines))
        self.clock, self.ike = FakeClock(), ike
        self.host = MemoryHost(self.config, self.clock, addresses=[str(OURS)])
        self.watch = HostWatch(self.host, lambda: cast("Any", ike), self.clock)

    @asynccontextmanager
    async def running(self):
        await self.watch.apply(self.config)
        yield self
        await self.watch.close()

    async def change(self) -> None:
        self.host.reports.report(CHANGED)
        await self.clock.advance(SETTLE_S)

    @property
    def renewed(self) -> int:
        return self.host.calls.count("host renewed")


def lived(directory, story, *lines: str, ike: Ike | None = None) -> Site:
    """A site after this story of it."""
    site = Site(directory, ike or Ike(), *lines)

    async def life() -> None:
        async with site.running():
            await story(site)

    asyncio.run(life())
    return site


# ---- guard and routes


def test_changes_that_come_together_are_one(tmp_path):
    async def story(site):
        for _ in range(5):
            site.host.reports.report(CHANGED)
            await site.clock.advance(SETTLE_S / 10)
        assert site.renewed == 0, "more may come"
        await site.clock.advance(SETTLE_S)
        assert site.renewed == 1

    lived(tmp_path, story)


def test_without_a_change_nothing_is_done(tmp_path):
    async def story(site):
        await site.clock.advance(3600)
        assert site.renewed == 0

    assert lived(tmp_path, story).ike.calls == []


def test_a_host_that_never_rests_gets_a_part_of_the_time(tmp_path):
    async def story(site):
        async def renew() -> None:
            site.host.calls.append("host renewed")
            await site.clock.sleep(1.0)

        site.host.renew = renew
        await site.change()
        await site.clock.advance(1.0)
        site.host.reports.report(CHANGED)
        await site.clock.advance(REST - 0.1)
        assert site.renewed == 1
        await site.clock.advance(0.1 + SETTLE_S)
        assert site.renewed == 2

    lived(tmp_path, story)


def test_a_suspension_in_the_middle_of_a_change_makes_it_deaf_for_a_minute_at_the_most(tmp_path):
    async def story(site):
        async def renew() -> None:
            site.host.calls.append("host renewed")
            await site.clock.sleep(1.0)

        site.host.renew = renew
        await site.change()
        await site.clock.leap(8 * 3600.0)
        site.host.reports.report(CHANGED)
        await site.clock.advance(MOST_S + SETTLE_S)
        assert site.renewed == 2

    lived(tmp_path, story)


def test_a_reload_is_waited_for_and_that_is_no_work(tmp_path):
    async def story(site):
        async with site.host.changing:
            await site.change()
            await site.clock.advance(30.0)
            assert site.renewed == 0
        await settle()
        assert site.renewed == 1
        await site.change()
        assert site.renewed == 2

    lived(tmp_path, story)


def test_what_the_kernel_refuses_is_said_and_the_next_change_tried(tmp_path, caplog):
    async def story(site):
        renew = site.host.renew

        async def refused() -> None:
            raise IpsecDpError("no memory")

        site.host.renew = refused
        await site.change()
        site.host.renew = renew
        await site.change()
        assert site.renewed == 1

    with caplog.at_level(logging.WARNING):
        lived(tmp_path, story)
    assert [record.message for record in caplog.records] == ["host changes: no memory"]


def test_a_fault_in_one_change_does_not_make_it_deaf(tmp_path):
    async def story(site):
        renew = site.host.renew

        async def broken() -> None:
            raise ValueError("no such table")

        site.host.renew = broken
        await site.change()
        (text,) = site.host.conditions.texts
        assert text.startswith("host changes: ValueError: no such table; that is a fault of ipsec-dp")
        site.host.renew = renew
        await site.change()
        assert site.renewed == 1
        assert site.host.conditions.texts == []

    lived(tmp_path, story)


# ---- who is called, and from where


def test_a_new_address_of_ours_is_listened_at(tmp_path):
    async def story(site):
        site.host.routes.addresses.append(MOVED)
        await site.change()

    site = lived(tmp_path, story, f'local = "{MOVED}"')
    assert site.ike.calls == [f"listen at {MOVED}", "wake to-b"]


def test_a_tunnel_whose_route_begins_elsewhere_is_negotiated_anew_from_there(tmp_path):
    async def story(site):
        site.host.routes.addresses[:] = [MOVED]
        await site.change()
        await site.change()  # once

    assert lived(tmp_path, story).ike.calls == [f"listen at {MOVED}", "restart to-b", f"listen at {MOVED}"]


def test_one_that_the_peer_called_is_not(tmp_path):
    async def story(site):
        site.host.routes.addresses[:] = [MOVED]
        await site.change()

    assert lived(tmp_path, story, ike=Ike(leaves=False)).ike.calls == [f"listen at {MOVED}"]


@pytest.mark.parametrize("lost", ["the route", "the address"])
def test_while_it_is_cut_off_nothing_happens_and_then_it_is_called_at_once(tmp_path, lost):
    async def story(site):
        if lost == "the route":
            site.host.routes.refused = {PEER}
        else:
            site.host.routes.addresses.clear()
        await site.change()
        assert [call for call in site.ike.calls if not call.startswith("listen")] == []
        site.host.routes.refused, site.host.routes.addresses[:] = set(), [OURS]
        await site.change()

    site = lived(tmp_path, story)
    assert [call for call in site.ike.calls if not call.startswith("listen")] == ["wake to-b"]


def test_it_is_deaf_once_it_is_closed(tmp_path):
    async def story(site):
        await site.watch.close()
        await site.change()
        assert site.renewed == 0

    assert lived(tmp_path, story).host.calls == [f"{CHANGED} heard", f"{CHANGED} no longer heard"]
