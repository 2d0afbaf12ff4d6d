"""Path MTU discovery as a service: what it believes, whom it asks, and who gets the MTU that comes of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.databases.sad_events import SendRefusal
from ipsec_dp.host.too_big import TooBig
from ipsec_dp.ike.actions import ProbeResult
from ipsec_dp.ipsec.suites import inner_mtu, parse_suite
from ipsec_dp.services.path_mtu import INTERVALS, QUIET_TICKS, PathMtuDiscovery
from ipsec_dp.services.path_mtu_state import TunnelMtus
from ipsec_dp.services.tunnel_mtu import OuterShape
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import configured, tunnel
from tests.doubles.host import MemoryHost

GCM = parse_suite("aes128gcm16")
OURS, PEER = ip_address("192.0.2.1"), ip_address("192.0.2.2")
WIDE = inner_mtu(1500, GCM, "udp", 4)


class Plane:
    """What each tunnel was set to, and a count of packets that a test moves."""

    def __init__(self) -> None:
        self.mtus: dict[int, int] = {}
        self.packets_out = 0

    def set_tunnel(self, number: int, settings: Any) -> None:
        self.mtus[number] = settings.mtu

    def counters(self) -> Any:
        return SimpleNamespace(packets_out=self.packets_out)


class Sad:
    """Knows what was sent lately: SPI 1, sequence number 7."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def sent_recently(self, spi: int, sequence: int, local: Any, remote: Any) -> bool:
        return (spi, sequence, local, remote) == (1, 7, OURS, PEER)

    def sent(self, remote: Any, local: Any) -> int:
        del remote, local
        return self._plane.packets_out


class Ike:
    """What was probed."""

    def __init__(self) -> None:
        self.probes: list[int] = []
        self.can = True

    def probe(self, name: str, octets: int, first_wait: float) -> bool:
        del name, first_wait
        if self.can:
            self.probes.append(octets)
        return self.can


class Site:
    def __init__(self, directory) -> None:
        self.directory = directory
        self.config = configured(directory, tunnel())
        self.clock = FakeClock()
        self.host = MemoryHost(self.config, self.clock)
        self.plane, self.ike = Plane(), Ike()
        self.service = PathMtuDiscovery(self.config, self.host, lambda: {"to-b": 0, "to-c": 1}, self.clock)

    async def up(self) -> None:
        """A CHILD_SA is negotiated."""
        self.service.negotiated(self.config.tunnels[0], {OuterShape(GCM, True, PEER, OURS)})
        await self.clock.advance(INTERVALS.together_s)

    async def ticks(self, count: int) -> None:
        """So many looks at what is due, with traffic."""
        for _ in range(count):
            self.plane.packets_out += 1
            await self.clock.advance(INTERVALS.tick_s)

    def too_big(self, mtu: int, *, sequence: int = 7) -> None:
        self.host.reports.report("too big", TooBig(mtu, OURS, PEER, True, 1, sequence, 1500))

    @property
    def mtu(self) -> tuple[int, int]:
        """The tunnel's in the data plane and on the host."""
        return self.plane.mtus[0], self.host.interfaces.mtus["to-b"]


@asynccontextmanager
async def running(site):
    await site.service.first()
    site.service.begin(cast("Any", site.plane), cast("Any", Sad(site.plane)), cast("Any", site.ike))
    await site.service.apply(site.config)
    yield site
    await site.service.close()


def lived(directory, story) -> Site:
    site = Site(directory)

    async def life() -> None:
        async with running(site):
            await story(site)

    asyncio.run(life())
    return site


def test_before_anything_is_negotiated_every_suite_that_may_be_fits(tmp_path):
    async def story(site):
        assert site.mtu[0] == site.mtu[1] <= WIDE
        await site.up()
        assert site.mtu == (WIDE, WIDE)
        assert site.service.status("to-b") == TunnelMtus(WIDE, 1500)

    assert "interfaces up" in lived(tmp_path, story).host.calls


# ---- what is believed


def test_a_hop_is_believed_at_once_if_it_quotes_what_was_sent(tmp_path):
    async def story(site):
        await site.up()
        site.too_big(1400)
        assert site.plane.mtus[0] == inner_mtu(1400, GCM, "udp", 4), "the data plane does not wait"
        assert site.host.interfaces.mtus["to-b"] == WIDE, "the host gets what changes together"
        await site.clock.advance(INTERVALS.together_s)
        assert site.mtu == (inner_mtu(1400, GCM, "udp", 4),) * 2

    lived(tmp_path, story)


@pytest.mark.parametrize("forged", [{"sequence": 8}, {"mtu": 500}])
def test_a_hop_that_cannot_have_seen_a_packet_or_asks_too_much_is_not(tmp_path, forged):
    async def story(site):
        await site.up()
        site.too_big(**{"mtu": 1400, **forged})
        await site.clock.advance(1.0)
        assert site.mtu == (WIDE, WIDE)

    lived(tmp_path, story)


def test_the_first_hop_is_looked_at_again_and_again(tmp_path, caplog):
    async def story(site):
        await site.up()
        site.host.routes.mtu = 1450
        await site.ticks(20)
        assert site.mtu == (inner_mtu(1450, GCM, "udp", 4),) * 2

    with caplog.at_level("INFO"):
        lived(tmp_path, story)
    assert "path to 192.0.2.2 from 192.0.2.1: MTU 1450 octets: MTU of the first hop" in caplog.text


# ---- what this host itself refuses


def test_a_size_that_this_host_does_not_send_is_no_longer_used_and_its_routes_are_asked_anew(tmp_path):
    async def story(site):
        await site.up()
        site.host.routes.mtus = {OURS: 1400}
        site.service.refused(SendRefusal(OURS, PEER, 1500))
        await site.clock.advance(INTERVALS.together_s)
        assert site.mtu == (inner_mtu(1400, GCM, "udp", 4),) * 2
        assert site.ike.probes == [], "there is nothing to refute"

    lived(tmp_path, story)


def test_where_the_routes_do_not_explain_it_the_next_smaller_interface_does(tmp_path, caplog):
    async def story(site):
        await site.up()
        site.host.routes.links |= {"wan2": 1440, "wan3": 1400}
        for octets, fitting in ((1500, 1440), (1440, 1400), (1500, 1400)):
            site.service.refused(SendRefusal(OURS, PEER, octets))
            await site.clock.advance(INTERVALS.together_s)
            assert site.plane.mtus[0] == inner_mtu(fitting, GCM, "udp", 4)

    with caplog.at_level("INFO"):
        lived(tmp_path, story)
    assert "MTU 1400 octets: this host sends no packet of 1440 octets" in caplog.text


def test_a_path_that_no_tunnel_uses_is_not_asked_for(tmp_path):
    async def story(site):
        await site.up()
        asked = len(site.host.routes.asked)
        site.service.refused(SendRefusal(PEER, OURS, 1500))
        await settle()
        assert (site.mtu, len(site.host.routes.asked)) == ((WIDE, WIDE), asked)

    lived(tmp_path, story)


def test_a_written_mtu_that_does_not_fit_is_told_while_it_lasts(tmp_path):
    async def story(site):
        site.config = configured(tmp_path, tunnel("to-b", "mtu = 1490"))
        await site.service.apply(site.config)
        await site.up()
        site.service.refused(SendRefusal(OURS, PEER, 1540))
        await settle()
        (told,) = site.host.conditions.texts
        assert told.startswith('tunnel "to-b": mtu = 1490 makes outer packets that this host does not send')
        await site.service.apply(configured(tmp_path, tunnel()))
        assert site.host.conditions.texts == []

    lived(tmp_path, story)


# ---- probes


def test_with_traffic_the_size_in_use_is_probed_and_without_it_is_not(tmp_path):
    async def story(site):
        await site.up()
        for _ in range(30):
            await site.clock.advance(INTERVALS.tick_s)
        assert site.ike.probes == []
        await site.ticks(10)
        assert site.ike.probes == [1500]

    lived(tmp_path, story)


def test_a_probe_that_is_lost_narrows_the_path(tmp_path):
    async def story(site):
        await site.up()
        await site.ticks(10)
        site.service.probed(ProbeResult("to-b", 1500, 1500, passed=False))
        await site.clock.advance(INTERVALS.together_s)
        assert site.mtu == (inner_mtu(1280, GCM, "udp", 4),) * 2
        await site.ticks(1)
        assert site.ike.probes == [1500, 1280], "what nearly every path takes, before a search between"

    lived(tmp_path, story)


def test_a_black_hole_is_told_while_it_lasts_and_a_hop_that_speaks_is_not(tmp_path):
    async def story(site):
        await site.up()
        await site.ticks(10)
        site.too_big(1400)
        assert site.host.conditions.texts == []
        await site.ticks(1)
        site.service.probed(ProbeResult("to-b", 1500, 1500, passed=False))
        await site.ticks(1)
        site.service.probed(ProbeResult("to-b", 1400, 1400, passed=False))
        (told,) = site.host.conditions.texts
        assert "path to 192.0.2.2 from 192.0.2.1: longer packets are lost on the way and no ICMP message says so" in told
        site.host.routes.mtu = 1300
        await site.ticks(20)
        assert site.host.conditions.texts == []

    lived(tmp_path, story)


def test_a_path_that_no_sa_goes_by_is_forgotten_after_a_while_and_not_before(tmp_path):
    roaming = OuterShape(GCM, True, ip_address("198.51.100.7"), OURS)

    async def story(site):
        await site.up()
        site.service.negotiated(site.config.tunnels[0], {roaming})
        await site.clock.advance(INTERVALS.together_s)
        site.service.negotiated(site.config.tunnels[0], set(), {roaming})
        await site.ticks(int(INTERVALS.raise_s))
        assert roaming.ends in site.service.paths
        await site.ticks(2 * QUIET_TICKS)
        assert set(site.service.paths) == {(PEER, OURS)}

    lived(tmp_path, story)


def test_a_probe_that_could_not_be_sent_is_tried_again(tmp_path):
    async def story(site):
        await site.up()
        site.ike.can = False
        await site.ticks(10)
        site.ike.can = True
        await site.ticks(3)
        assert site.ike.probes == [1500]

    lived(tmp_path, story)


# ---- configurations


def test_a_tunnel_that_stays_keeps_what_is_known_and_one_that_is_gone_is_forgotten(tmp_path):
    async def story(site):
        await site.up()
        site.too_big(1400)
        await settle()
        both = configured(tmp_path, tunnel(), tunnel("to-c", remote="192.0.2.3", interface="ipsec1"))
        await site.service.apply(both)
        assert site.plane.mtus[0] == inner_mtu(1400, GCM, "udp", 4)
        assert set(site.host.interfaces.mtus) == {"to-b", "to-c"}
        await site.service.apply(configured(tmp_path, tunnel("to-c", remote="192.0.2.3", interface="ipsec1")))
        assert site.service.status("to-b") == TunnelMtus(None, None)
        assert set(site.host.interfaces.mtus) == {"to-c"}

    lived(tmp_path, story)


def test_a_new_tunnel_has_an_mtu_before_its_interface_is_made(tmp_path):
    async def story(site):
        (new,) = configured(tmp_path, tunnel("to-c", "mtu = 1300", remote="192.0.2.3")).tunnels
        assert await site.service.first_of(new) == 1300
        (new,) = configured(tmp_path, tunnel("to-c", remote="192.0.2.3")).tunnels
        site.host.routes.mtu = 1400
        site.host.peers.forget()
        assert await site.service.first_of(new) <= inner_mtu(1400, GCM, "udp", 4)

    lived(tmp_path, story)


def test_it_is_silent_once_it_is_closed(tmp_path):
    async def story(site):
        await site.up()
        await site.service.close()
        await site.ticks(100)
        site.too_big(1400)
        assert (site.ike.probes, site.mtu) == ([], (WIDE, WIDE))

    assert lived(tmp_path, story).host.calls.count("too big no longer heard") == 1
