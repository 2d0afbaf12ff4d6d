"""Upgrades while something falls due every second: rekeys, a monitor and liveness checks go on, and no packet is lost for it.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

What falls due on the way itself: tests/ike/carried/test_due_meanwhile.py, by a clock that stands still.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from ipsec_dp.ike.v2.wire import ExchangeType
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import IkePair
from tests.netns import harness
from tests.netns.numbered import numbered
from tests.netns.outer_packets import ike_messages
from tests.netns.traffic import until

UPGRADES = 2
LATE_S = 30.0
SOON = 'rekey_after = "1s"\nlifetime = "60s"'
LIVENESS = 'liveness = { interval = "1s", retries = 5 }'
MONITOR = f'[tunnel.monitor]\ntarget = "{netns.HOST_B[0]}"\ninterval = "1s"\nthreshold = 5\n'
REKEYED = "CHILD_SA rekeyed ["


@dataclass(frozen=True, kw_only=True)
class Monitored(IkePair):
    """The first gateway watches a host behind the second."""

    def keys(self, directory):
        first, second = super().keys(directory)
        return first + MONITOR, second


def test_rekeys_and_a_monitor_of_every_second_go_on(sites_opened_again, in_succession):
    sites, gateways = sites_opened_again, in_succession(Monitored(encapsulation="udp", esp=(SOON, "")))

    def counted():
        (tunnel,) = gateways.a.status()["tunnels"]
        return gateways.a.text().count(REKEYED), tunnel["monitor"]["sent"]

    def two_more(before):
        return all(now >= then + 2 for now, then in zip(counted(), before, strict=True))

    with (
        numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
        numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
    ):
        until(lambda: there.arrived and back.arrived, "both streams")
        for _ in range(UPGRADES):
            gateways.upgrade()
            gateways.answers()
            before = counted()
            until(partial(two_more, before), "two more of each", LATE_S)
    for each in (there, back):
        assert (each.lost(), each.repeated) == ([], 0)
    (tunnel,) = gateways.a.status()["tunnels"]
    assert (tunnel["state"], tunnel["monitor"]["state"], len(gateways.processes)) == ("up", "up", UPGRADES)
    assert "CHILD_SA down" not in gateways.a.text()


def test_liveness_checks_of_every_second_go_on(sites_opened_again, in_succession, tmp_path):
    """Each of them with the next message ID, and where one is sent again, as the octets that it was."""
    sites, gateways = sites_opened_again, in_succession(IkePair(encapsulation="udp", ike=(LIVENESS, "")))
    path, ours = tmp_path / "wan", ip_address(netns.GW_A_OUTER[0]).packed
    (before,) = gateways.a.status()["tunnels"]

    def have_crossed(packets):
        return harness.crossings(sites.gw_a, "wan") >= packets

    with capture.Capture(sites.gw_a, "wan", path) as recording:
        for _ in range(UPGRADES):
            gateways.upgrade()
            until(partial(have_crossed, harness.crossings(sites.gw_a, "wan") + 4), "two more checks", LATE_S)
        gateways.answers()
        assert recording.stop().lost == 0
    requests = [one for one in ike_messages(path) if one.is_request]
    assert {(one.source, one.exchange) for one in requests} == {(ours, ExchangeType.INFORMATIONAL)}
    contents = {one.message_id: one.octets for one in requests}
    assert [one for one in requests if one.octets != contents[one.message_id]] == []
    assert sorted(contents) == list(range(min(contents), min(contents) + len(contents)))
    assert len(contents) >= UPGRADES
    (after,) = gateways.a.status()["tunnels"]
    assert [one["ike"]["spi_i"] for one in (before, after)] == [before["ike"]["spi_i"]] * 2
    assert after["state"] == "up"
