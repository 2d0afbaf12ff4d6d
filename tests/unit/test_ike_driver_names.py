"""Peers with DNS names: the core and status hear what a name means now."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.interface import IkeStatus
from tests.doubles.config import PSK, tunnel

from .ike_driver_site import AT_ONCE, ON_DEMAND, PATH, Site

NAMED = PSK + '  remote_id = "b.example"\n'
MEANT, MEANT_NOW = ip_address("192.0.2.2"), ip_address("192.0.2.9")


@pytest.fixture
def made(tmp_path):
    return lambda *tables: Site(tmp_path, *(tables or (tunnel("to-b", AT_ONCE),)))


def named(*lines):
    return tunnel("to-b", ON_DEMAND, *lines, remote="gw.example", keys=NAMED)


def test_what_a_name_means_is_told_to_the_core_when_it_changes(made):
    site = made(named())

    async def life():
        assert site.driver.peer("to-b").named
        for addresses in ((MEANT,), (MEANT,), (MEANT_NOW,)):
            site.driver.located("to-b", addresses)
        site.driver.located("gone", (MEANT,))
        assert [peer.remotes for _, peer in site.core.of("set_peer")] == [(MEANT,), (MEANT_NOW,)]
        assert site.core.of("terminate", "leave", "reconfigure") == []

    site.run(life)


def test_a_reload_keeps_what_a_name_means(made):
    site = made(named())

    async def life():
        site.driver.located("to-b", (MEANT,))
        await site.driver.reconfigure(*site.read(named("mtu = 1400")), {"to-b": Effect.IN_PLACE})
        assert site.driver.peer("to-b").remotes == (MEANT,)

    site.run(life)


@pytest.mark.parametrize(("known", "shown"), [((), None), ((MEANT,), True), ((MEANT_NOW,), False)])
def test_status_says_whether_the_peer_is_where_its_name_says(made, known, shown):
    site = made(named())
    newest = IkeStatus("negotiating", bytes(8), bytes(8), "responder", "", PATH, "none", "", 0.0, 0.0, ())

    async def life():
        site.driver.located("to-b", known)
        assert site.driver.status("to-b").remote_in_dns is None, "there is no peer yet"
        site.core.answers["latest"] = (newest,)
        assert site.driver.status("to-b").remote_in_dns is shown

    site.run(life)
    fixed = made(tunnel("to-b", ON_DEMAND))

    async def of_an_address():
        fixed.core.answers["latest"] = (newest,)
        assert fixed.driver.status("to-b").remote_in_dns is None

    fixed.run(of_an_address)
