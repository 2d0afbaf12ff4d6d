"""systemd-networkd and firewalld themselves beside a running gateway, under traffic both ways: nothing is in clear at any moment.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import time

import pytest

from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.foreign import EVERY_WAY, Crossing, both_ways, flows_again, leaks_without_us, until_restored
from tests.netns.foreign_programs import firewalld, networkd


@pytest.fixture(scope="module")
def up(shared_sites, tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    with both_ways(shared_sites):
        assert leaks_without_us(shared_sites, directory)
        with GatewayPair(shared_sites, directory, ManualPair()) as pair:
            yield pair
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)


def test_networkd_removes_rules_and_routes_and_they_are_made_again(shared_sites, up, tmp_path):
    before = up.a.status()["restored"]
    with Crossing(shared_sites, tmp_path, "networkd") as crossing:
        since = time.time_ns()
        with networkd(shared_sites.gw_a, tmp_path / "networkd") as daemon:
            status = until_restored(up.a, before, {"rules", "routes"})
            flows_again(up.a)
            assert "Removing foreign routing policy rule" in daemon.text()
            assert "Removing foreign route" in daemon.text()
        clear = crossing.end()
    assert clear.inner == EVERY_WAY, "the control: the capture sees what there is"
    assert clear.kinds(since) == set(), "the guard was there all the time"
    for word in ("routing rules", "routes (protocol"):
        assert [text for text in status["warnings"] if text.startswith(word)], status["warnings"]


def test_firewalld_starts_reloads_and_stops_beside_the_guard(shared_sites, up, tmp_path):
    before = up.a.status()["restored"]
    with Crossing(shared_sites, tmp_path, "firewalld") as crossing:
        since = time.time_ns()
        with firewalld(shared_sites.gw_a, tmp_path / "firewalld") as command:
            assert command("--state").strip() == "running"
            assert command("--reload").strip() == "success"
            assert command("--complete-reload").strip() == "success"
            flows_again(up.a)
        flows_again(up.a)
        clear = crossing.end()
    assert clear.inner == EVERY_WAY, "the control: the capture sees what there is"
    assert clear.kinds(since) == set()
    assert up.a.status()["restored"] == before, "nothing of ours was touched"
