"""What others do to interfaces and outer sockets: named, undone at once where it can be, in `warnings` while it lasts."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.host.tun import Fault, Trouble
from ipsec_dp.services.device_watch import SETTLED_S, SWEEP_S, DeviceWatch
from ipsec_dp.util.rest import MOST_S
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import PSK, configured, proxy_id, tunnel
from tests.doubles.host import FIRST_INDEX, MemoryHost, MemoryLinks

BOTH = (
    tunnel("b", keys=proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK),
    tunnel("c", interface="ipsec1", remote="192.0.2.3", keys=proxy_id("10.1.0.0/24", "10.3.0.0/24") + PSK),
)
IPSEC0 = {FIRST_INDEX}
TAKEN = "interface ipsec0: an interface of this name exists already: stop what uses it or choose another name"


class Site:
    """A host with two interfaces, and who watches them."""

    def __init__(self, directory: Any) -> None:
        self.clock = FakeClock()
        config = configured(directory, *BOTH)
        self.host = MemoryHost(config, self.clock)
        self.host.interfaces.numbers = {"ipsec0": 0, "ipsec1": 1}
        self.links: MemoryLinks = self.host.outer_links(None)  # type: ignore[arg-type] # nothing is attached
        self.restored: list[str] = []
        self.watch = DeviceWatch(self.host, lambda: self.links, self.restored.append, self.clock)
        self.config = config

    def happens(self, fault: Fault, detail: str = "", interface: str = "ipsec0") -> None:
        """Somebody does that, and the kernel reports it."""
        self.host.interfaces.faults[interface] = Trouble(fault, detail)
        self.host.reports.report("interface changes", {self.host.interfaces.indices[interface]})

    @property
    def done(self) -> list[str]:
        return [call for call in self.host.calls if "heard" not in call]


@pytest.fixture
def lived(tmp_path):
    def lived(story: Any) -> Site:
        async def life() -> Site:
            site = Site(tmp_path)
            await site.watch.apply(site.config)
            await settle()
            await story(site)
            await site.watch.close()
            return site

        return asyncio.run(life())

    return lived


@pytest.mark.parametrize(
    ("fault", "detail", "named"),
    [
        (Fault.DELETED, "", "was deleted, as `ip link delete`"),
        (Fault.MOVED, "", "was moved into another network namespace"),
        (Fault.RENAMED, "other0", "was renamed to other0"),
        (Fault.DOWN, "", "was set down, as `ip link set … down`"),
        (Fault.RESIZED, "9000", "was given an MTU of 9000"),
        (Fault.CARRIER, "off", "had its carrier set off, as `ip link set … carrier` does"),
        (Fault.UNSET, "net.ipv4.conf.ipsec0.rp_filter = 1", "has net.ipv4.conf.ipsec0.rp_filter = 1 now, as `sysctl -w`"),
        (Fault.UNADDRESSED, "169.254.10.1/30", "lost 169.254.10.1/30, as `ip address flush`"),
    ],
)
def test_what_was_done_is_named_and_undone_at_once_with_the_routes(lived, caplog, fault, detail, named):
    async def story(site: Site) -> None:
        site.happens(fault, detail)
        await settle()
        assert site.done == [f"interface ipsec0 to be restored: {fault.name}", "routes applied"]
        assert site.restored == ["ipsec0"]
        (text,) = site.host.conditions.texts
        assert text.startswith(f"interface ipsec0 {named}")
        assert text.endswith("; it is restored")
        await site.clock.advance(SETTLED_S)
        assert site.host.conditions.texts == []

    lived(story)
    assert caplog.text.count(named) == 1


def test_what_the_kernel_reports_of_others_interfaces_or_of_our_own_work_costs_a_look_at_most(lived):
    async def story(site: Site) -> None:
        site.host.interfaces.faults["ipsec0"] = Trouble(Fault.DOWN)
        site.host.reports.report("interface changes", {4711})
        await settle()
        assert site.done == []
        site.host.reports.report("interface changes", {FIRST_INDEX + 1})
        await settle()
        assert site.done == [], "the other one is as it was"

    lived(story)


def test_where_reports_were_lost_all_are_looked_at(lived):
    async def story(site: Site) -> None:
        site.host.interfaces.faults["ipsec0"] = Trouble(Fault.DOWN)
        site.host.reports.report("interface changes", None)
        await settle()
        assert site.restored == ["ipsec0"]

    lived(story)


def test_what_no_report_told_the_sweep_finds(lived):
    async def story(site: Site) -> None:
        site.host.interfaces.faults["ipsec1"] = Trouble(Fault.RENAMED, "x")
        await site.clock.advance(SWEEP_S - 0.1)
        assert site.restored == []
        await site.clock.advance(0.2)
        assert site.restored == ["ipsec1"]

    lived(story)


def test_one_whose_name_is_taken_waits_closed_and_comes_back_when_the_name_is_free(lived, caplog):
    async def story(site: Site) -> None:
        site.host.interfaces.unmendable["ipsec0"] = TAKEN
        site.happens(Fault.DELETED)
        await site.clock.advance(0.1)
        (text,) = site.host.conditions.texts
        assert text.startswith("interface ipsec0 was deleted")
        assert text.endswith(f"it cannot be restored, and what it carried is dropped: {TAKEN}")
        assert "routes applied" not in site.done
        site.host.interfaces.unmendable.clear()
        site.host.reports.report("interface changes", {4711})  # the other one goes
        await site.clock.advance(0.1)
        assert site.restored == ["ipsec0"]
        await site.clock.advance(SETTLED_S)
        assert site.host.conditions.texts == []

    lived(story)
    assert caplog.text.count("cannot be restored") == 1


def test_a_fault_that_somebody_else_undid_is_over(lived):
    async def story(site: Site) -> None:
        site.host.interfaces.unmendable["ipsec0"] = TAKEN
        site.happens(Fault.RENAMED, "x")
        await site.clock.advance(0.1)
        site.host.interfaces.faults.clear()
        site.host.reports.report("interface changes", IPSEC0)
        await site.clock.advance(0.1)
        assert site.host.conditions.texts == []

    lived(story)


def test_in_a_fight_it_is_restored_each_time_and_told_now_and_then(lived, caplog):
    async def story(site: Site) -> None:
        for _ in range(100):
            site.happens(Fault.DOWN)
            await site.clock.advance(0.1)
        assert len(site.restored) == 100
        (text,) = site.host.conditions.texts
        assert text.endswith("it is restored, 64 times until now")

    lived(story)
    assert caplog.text.count("was set down") < 10


def test_a_device_that_cannot_be_read_is_made_anew(lived):
    async def story(site: Site) -> None:
        site.watch.failed("ipsec1", errno.EINVAL)
        await settle()
        assert site.done[0] == "interface ipsec1 to be restored: FAILED"

    lived(story)


@pytest.mark.parametrize("error", [errno.EIO, errno.EBADFD])
def test_what_a_device_that_is_down_or_gone_answers_only_has_it_looked_at(lived, error):
    async def story(site: Site) -> None:
        site.watch.failed("ipsec1", error)
        await settle()
        assert site.done == []
        site.host.interfaces.faults["ipsec1"] = Trouble(Fault.DELETED)
        await site.clock.advance(0.1)
        site.watch.failed("ipsec1", error)
        await settle()
        assert site.restored == ["ipsec1"]

    lived(story)


def test_an_outer_socket_that_lost_its_mark_is_opened_anew(lived, caplog):
    async def story(site: Site) -> None:
        site.links.faults["UDP port 4500 of 192.0.2.1"] = "lost its mark"
        await site.clock.advance(SWEEP_S + 0.1)
        assert site.links.broken() == {}
        assert site.host.conditions.texts == ["the outer socket UDP port 4500 of 192.0.2.1 lost its mark; it is opened anew"]
        await site.clock.advance(SWEEP_S + 0.1)
        assert site.host.conditions.texts == []

    lived(story)


def test_one_that_cannot_be_opened_is_in_the_warnings_until_it_can(lived):
    async def story(site: Site) -> None:
        what = "UDP port 4500 of 192.0.2.1"
        site.links.faults[what], site.links.unmendable[what] = "is closed", "taken by another program"
        await site.clock.advance(SWEEP_S + 0.1)
        (text,) = site.host.conditions.texts
        assert text.endswith("and cannot be opened anew: taken by another program")
        site.links.unmendable.clear()
        await site.clock.advance(2 * SWEEP_S + 0.1)
        assert site.host.conditions.texts == []

    lived(story)


def test_routes_that_are_refused_keep_nobody_from_hearing_and_are_made_by_the_next_sweep(lived):
    async def story(site: Site) -> None:
        routing: Any = site.host.routing
        apply = routing.apply

        async def refused() -> None:
            raise HostError("rtnetlink: no memory")

        routing.apply = refused
        site.happens(Fault.DELETED)
        await settle()
        assert site.restored == ["ipsec0"]
        assert "devices: rtnetlink: no memory" in site.host.conditions.texts
        routing.apply = apply
        await site.clock.advance(SWEEP_S + 0.1)
        assert site.done.count("routes applied") == 1
        assert site.restored == ["ipsec0"]
        assert site.host.conditions.texts == []
        await site.clock.advance(SWEEP_S + 0.1)
        assert site.done.count("routes applied") == 1

    lived(story)


# ---- faults of ours


@pytest.mark.parametrize("restored", [True, False])
def test_a_fault_in_one_look_ends_neither_the_watch_nor_the_sweep(lived, monkeypatch, restored):
    async def broken(*_: Any) -> Any:
        raise KeyError("ipsec0")

    async def story(site: Site) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(site.host.interfaces, "restore" if restored else "troubles", broken)
            site.happens(Fault.DOWN)
            await site.clock.advance(SWEEP_S + 0.1)
            assert any("KeyError: 'ipsec0'; that is a fault of ipsec-dp" in text for text in site.host.conditions.texts)
            assert site.restored == []
        site.host.reports.report("interface changes", None)
        await site.clock.advance(1.0)
        assert site.restored == ["ipsec0"]
        await site.clock.advance(SWEEP_S + SETTLED_S)
        assert site.host.conditions.texts == []

    lived(story)


# ---- the host is suspended in the middle of work, or somebody else is at work


@pytest.mark.parametrize("asleep_in", ["a look", "a sweep"])
def test_a_suspension_in_the_middle_of_work_makes_it_deaf_for_a_minute_at_the_most(lived, asleep_in):
    async def story(site: Site) -> None:
        interfaces: Any = site.host.interfaces
        troubles = interfaces.troubles

        async def slow(names: Any = None) -> Any:
            await site.clock.sleep(1.0)
            return await troubles(names)

        interfaces.troubles = slow
        if asleep_in == "a look":
            site.host.reports.report("interface changes", IPSEC0)
            await settle()
        else:
            await site.clock.advance(SWEEP_S + 0.1)
        await site.clock.leap(8 * 3600.0)
        interfaces.troubles = troubles
        await settle()
        if asleep_in == "a look":
            site.happens(Fault.DOWN)
        else:
            site.host.interfaces.faults["ipsec0"] = Trouble(Fault.DOWN)
        await site.clock.advance(MOST_S + 1.0)
        assert site.restored == ["ipsec0"]

    lived(story)


def test_waiting_for_somebody_elses_work_is_no_work(lived):
    async def story(site: Site) -> None:
        async with site.host.changing:
            site.host.reports.report("interface changes", IPSEC0)
            await site.clock.advance(30.0)
        await site.clock.advance(0.1)
        site.happens(Fault.DOWN)
        await site.clock.advance(0.1)
        assert site.restored == ["ipsec0"], "the watch"
        site.host.interfaces.faults["ipsec1"] = Trouble(Fault.DOWN)
        await site.clock.advance(SWEEP_S + 0.1)
        assert site.restored == ["ipsec0", "ipsec1"], "the sweep"

    lived(story)
