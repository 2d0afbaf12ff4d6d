"""The monitors of a gateway: what they send and take for an answer, when routes move and keys are renewed, what `status` shows."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.services.tunnel_monitor import NO_SOURCE, TOKEN_OCTETS, TunnelMonitors
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import PSK, configured, proxy_id, tunnel
from tests.doubles.host import MemoryEchoes, MemoryHost

TARGET, SOURCE = ip_address("10.2.0.9"), ip_address("169.254.10.1")
EVERY_S, THRESHOLD = 2, 3


def monitored(name="to-b", action="fail-over", interface="ipsec0", address='["169.254.10.1/30"]', every=EVERY_S, keys=PSK):
    monitor = (
        f'  [tunnel.monitor]\n  target = "10.2.0.9"\n  interval = "{every}s"\n  threshold = {THRESHOLD}\n  action = "{action}"\n'
    )
    return tunnel(name, f"address = {address}", interface=interface, keys=keys + monitor)


class Site:
    def __init__(self, directory, *tables: str) -> None:
        self.directory = directory
        self.config = configured(directory, *tables)
        self.clock = FakeClock()
        self.host = MemoryHost(self.config, self.clock)
        self.renewed: list[str] = []
        self.told: list[tuple[str, bool, str]] = []
        self.monitors = TunnelMonitors(self.host, self.renewed.append, self.clock, lambda *event: self.told.append(event))

    @property
    def echoes(self) -> MemoryEchoes:
        assert self.host.reports.probes is not None
        return self.host.reports.probes

    async def apply(self, *tables: str) -> None:
        if tables:
            self.config = configured(self.directory, *tables)
        await self.monitors.apply(self.config)
        await settle()

    async def rounds(self, count: int, *, answered: bool) -> None:
        """So many probes of every monitor."""
        for _ in range(count):
            before = len(self.echoes.sent)
            await self.clock.advance(EVERY_S)
            for _, echo in self.echoes.sent[before:] if answered else []:
                self.echoes.answer(echo)
            await settle()


@asynccontextmanager
async def running(site):
    await site.apply()
    yield site
    await site.monitors.close()


def lived(directory, story, *tables: str) -> Site:
    site = Site(directory, *(tables or (monitored(),)))

    async def life() -> None:
        async with running(site):
            await story(site)

    asyncio.run(life())
    return site


# ---- probes


def test_a_probe_is_sent_at_once_and_then_at_its_interval_each_with_its_own_number(tmp_path):
    async def story(site):
        assert len(site.echoes.sent) == 1
        await site.clock.advance(3 * EVERY_S)

    sent = lived(tmp_path, story).echoes.sent
    assert [(interface, echo.source, echo.destination, echo.sequence) for interface, echo in sent] == [
        ("ipsec0", SOURCE, TARGET, number) for number in (1, 2, 3, 4)
    ]
    assert {len(echo.data) for _, echo in sent} == {TOKEN_OCTETS}


def test_what_answers_must_have_got_the_probe(tmp_path):
    async def story(site):
        for _ in range(THRESHOLD + 1):
            _, echo = site.echoes.sent[-1]
            site.echoes.answer(echo._replace(data=b"guessed".ljust(TOKEN_OCTETS)))
            site.echoes.answer(echo._replace(destination=ip_address("10.2.0.1")))
            await site.rounds(1, answered=False)
        assert site.renewed == ["to-b"]

    lived(tmp_path, story)


def test_without_a_source_nothing_is_sent_and_it_says_what_to_write(tmp_path, caplog):
    async def story(site):
        await site.rounds(THRESHOLD, answered=False)

    with caplog.at_level(logging.WARNING):
        site = lived(tmp_path, story, monitored(address="[]", keys=proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK))
    assert site.echoes.sent == []
    assert NO_SOURCE in caplog.text


# ---- what follows


def test_a_tunnel_that_is_down_gives_its_routes_to_others_and_gets_new_keys(tmp_path):
    async def story(site):
        await site.rounds(THRESHOLD - 1, answered=False)
        assert (site.renewed, site.host.routing.withdrawn) == ([], frozenset())
        await site.rounds(1, answered=False)
        assert (site.renewed, site.host.routing.withdrawn) == (["to-b"], {"ipsec0"})
        await site.rounds(5, answered=False)
        assert site.renewed == ["to-b"], "once"

    lived(tmp_path, story)


def test_and_takes_them_back_after_as_many_answers(tmp_path):
    async def story(site):
        await site.rounds(THRESHOLD, answered=False)
        await site.rounds(THRESHOLD - 1, answered=True)
        assert site.host.routing.withdrawn == {"ipsec0"}
        assert [event[:2] for event in site.told] == [("to-b", False)]
        await site.rounds(1, answered=True)
        assert site.host.routing.withdrawn == frozenset()
        assert [event[:2] for event in site.told] == [("to-b", False), ("to-b", True)]
        assert "got no answer through the tunnel" in site.told[0][2]

    site = lived(tmp_path, story)
    assert [call for call in site.host.calls if "withdrawn" in call] == [
        "routes withdrawn from ipsec0",
        "routes withdrawn from nothing",
    ]


def test_one_that_waits_keeps_its_routes(tmp_path):
    async def story(site):
        await site.rounds(THRESHOLD + 2, answered=False)
        assert (site.renewed, site.host.routing.withdrawn) == (["to-b"], frozenset())

    lived(tmp_path, story, monitored(action="wait-recover"))


def test_routes_that_could_not_move_are_tried_again(tmp_path, caplog):
    async def story(site):
        withdraw = site.host.routing.withdraw

        async def refused(interfaces):
            raise HostError("no memory")

        site.host.routing.withdraw = refused
        await site.rounds(THRESHOLD, answered=False)
        assert "monitors: routes stay as they were: no memory" in caplog.text
        site.host.routing.withdraw = withdraw
        await site.rounds(1, answered=False)
        assert site.host.routing.withdrawn == {"ipsec0"}

    lived(tmp_path, story)


# ---- configurations


def test_a_monitor_that_stays_keeps_what_it_knows(tmp_path):
    async def story(site):
        await site.rounds(THRESHOLD, answered=False)
        await site.apply(monitored(), tunnel("to-c", remote="192.0.2.3", interface="ipsec1"))
        assert site.host.routing.withdrawn == {"ipsec0"}
        assert site.echoes.listening == {("ipsec0", 4), ("ipsec1", 4)}, "an answer may come back by any tunnel"

    lived(tmp_path, story)


def test_one_that_is_changed_begins_anew(tmp_path):
    async def story(site):
        await site.rounds(THRESHOLD, answered=False)
        await site.apply(monitored(every=EVERY_S + 1))
        assert site.host.routing.withdrawn == frozenset()
        assert site.echoes.sent[-1][1].sequence == 1

    lived(tmp_path, story)


def test_one_that_is_gone_asks_no_more(tmp_path):
    async def story(site):
        await site.apply(tunnel())
        before = len(site.echoes.sent)
        await site.clock.advance(10 * EVERY_S)
        assert len(site.echoes.sent) == before
        assert site.echoes.listening == set()

    lived(tmp_path, story)


@pytest.mark.parametrize("answered", [True, False])
def test_status(tmp_path, answered):
    async def story(site):
        await site.rounds(THRESHOLD, answered=answered)

        shown = site.monitors.status("to-b")
        assert (shown.state, shown.sent, shown.target) == ("up" if answered else "down", THRESHOLD + 1, str(TARGET))
        assert (shown.source, site.monitors.status("other")) == (str(SOURCE), None)
        assert (site.monitors.trouble("to-b") is None) is answered
        assert site.monitors.trouble("other") is None

    lived(tmp_path, story)


def test_an_interface_that_was_made_anew_is_asked_and_listened_at_again(tmp_path):
    async def story(site):
        site.monitors.restored("ipsec0")
        assert site.echoes.reopened == ["ipsec0"]

    lived(tmp_path, story)


def test_one_that_cannot_be_listened_at_is_told_once_however_often_it_comes(tmp_path, caplog):
    async def story(site):
        reopen = site.echoes.reopen

        def refused(_interface):
            raise HostError("ipsec0: no socket")

        for _ in range(20):
            site.echoes.reopen = refused
            site.monitors.restored("ipsec0")
            assert site.host.conditions.texts == ["monitors: ipsec0: no socket"]
            site.echoes.reopen = reopen
            site.monitors.restored("ipsec0")
            assert site.host.conditions.texts == []

    lived(tmp_path, story)
    assert caplog.text.count("no socket") == 1


@pytest.mark.parametrize(("on_its_way_s", "asks_after_s"), [(1.0, 0.5), (2.0, 0.0)], ids=["before it is due", "when it is due"])
def test_one_that_is_carried_asks_when_it_was_to_and_goes_on_counting(tmp_path, on_its_way_s, asks_after_s):
    async def story(site):
        site.echoes.answer(site.echoes.sent[0][1])
        await site.rounds(3, answered=True)
        await site.clock.advance(0.5)
        other = Site(tmp_path, monitored())
        other.clock, other.monitors = site.clock, TunnelMonitors(other.host, other.renewed.append, site.clock)
        carried = site.monitors.export()
        await site.monitors.close()
        await site.clock.advance(on_its_way_s)
        other.monitors.take(carried, frozenset())
        async with running(other):
            assert len(other.echoes.sent) == (asks_after_s == 0)
            await site.clock.advance(asks_after_s)
            assert [echo.sequence for _, echo in other.echoes.sent] == [5]
            for number in (6, 7):
                other.echoes.answer(other.echoes.sent[-1][1])
                await site.clock.advance(EVERY_S)
                assert other.echoes.sent[-1][1].sequence == number
            shown = other.monitors.status("to-b")
            assert shown is not None
            assert (shown.state, shown.sent, shown.lost) == ("up", 7, 0)
        assert other.renewed == []

    lived(tmp_path, story)
