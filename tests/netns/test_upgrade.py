"""A gateway goes on in another process, several times in a row, under streams: none lost, none twice, and the peer notices nothing.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import IkePair, ManualPair
from tests.netns import upgrade_faults
from tests.netns.leaks import guarded, nothing_in_clear
from tests.netns.numbered import numbered
from tests.netns.succession import flows, parameters
from tests.netns.traffic import tcp_both_ways, until

ROOT = Path(__file__).parents[2]
UPGRADES = 5
FEW = ("is older", "refuses its configuration", "is killed before it is ready")
PAIRS = {
    "IKEv2, UDP": IkePair(encapsulation="udp"),
    "IKEv2, IP protocol 50": IkePair(encapsulation="esp"),
    "IKEv1": IkePair(encapsulation="udp", ike=('version = "1"',) * 2),
    "manual keys": ManualPair(),
}


def wait_told(upgraded, times, fault):
    until(lambda: upgraded.a.text().count("not upgraded") == times, f"the event, where it {fault}")


def up_with_others(tunnel, spis):
    now = {child["spi_in"] for child in tunnel["children"]}
    return tunnel["state"] == "up" and now and now.isdisjoint(spis)


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_no_packet_is_lost_and_none_comes_twice(sites, in_succession, pair):
    upgraded, gaps = in_succession(pair), []
    before = upgraded.a.status()
    counts = int(before["tunnels"][0]["ike"] is not None), len(before["tunnels"][0]["children"])
    with (
        numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
        numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
    ):
        until(lambda: there.arrived and back.arrived, "both streams")
        for _ in range(UPGRADES):
            answer = upgraded.upgrade()
            assert (answer["ike_sas"], answer["child_sas"], answer["left_out"]) == (*counts, [])
            gaps.append(answer["gap_ms"])
            upgraded.answers()
            flows(there, back)
    print("gaps in ms:", gaps)
    for each in (there, back):
        assert (each.lost(), each.repeated) == ([], 0)
    after = upgraded.a.status()
    assert (before["upgraded_at"], after["upgraded_at"] is not None) == (None, True)
    assert after["traffic"]["packets_out"] >= len(there.arrived)
    assert after["tunnels"][0]["children"][0]["spi_in"] == before["tunnels"][0]["children"][0]["spi_in"]
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(FEW, id="some"),
        pytest.param(tuple(upgrade_faults.KILLED), id="killed", marks=pytest.mark.slow),
        pytest.param(tuple(upgrade_faults.HUNG), id="hung", marks=pytest.mark.slow),
        pytest.param(
            tuple(sorted(upgrade_faults.BEFORE.keys() - FEW - upgrade_faults.POINTED)), id="the others", marks=pytest.mark.slow
        ),
    ],
)
def test_whatever_becomes_of_a_successor_that_is_not_ready_the_process_goes_on(sites, in_succession, faulty, faults):
    """With one event that says why; an upgrade that does succeed comes after all that."""
    upgraded = in_succession(PAIRS["IKEv2, UDP"], *upgrade_faults.of("impatient"))
    with (
        numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
        numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
    ):
        until(lambda: there.arrived and back.arrived, "both streams")
        for told, fault in enumerate(faults, 1):
            with pytest.raises(ControlError, match="not upgraded, and everything goes on as before"):
                upgraded.ask(program=faulty(fault))
            wait_told(upgraded, told, fault)
            flows(there, back)
        upgraded.upgrade()
        upgraded.answers()
        flows(there, back)
    for each in (there, back):
        assert (each.lost(), each.repeated) == ([], 0)


@pytest.mark.parametrize("fault", upgrade_faults.ALONE)
def test_a_successor_without_keys_or_ike_negotiates_anew_and_nothing_leaves_in_the_clear(
    sites, in_succession, faulty, tmp_path, fault
):
    with nothing_in_clear(sites, tmp_path, lambda: in_succession(PAIRS["IKEv2, UDP"])) as upgraded:
        before = {child["spi_in"] for child in upgraded.a.status()["tunnels"][0]["children"]}
        answer = upgraded.upgrade(program=faulty(fault))
        assert answer["left_out"] != []
        upgraded.answers()
        until(lambda: up_with_others(upgraded.a.status()["tunnels"][0], before), "the tunnel, with other SAs")
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


@pytest.mark.parametrize("fault", parameters(upgrade_faults.AFTER))
def test_after_the_point_of_no_return_the_guard_stays_closed(sites, in_succession, faulty, tmp_path, fault):
    impatient = upgrade_faults.of("impatient")
    with nothing_in_clear(sites, tmp_path, lambda: in_succession(PAIRS["IKEv2, UDP"], *impatient)) as upgraded:
        with pytest.raises(ControlError, match="has given its SAs away"):
            upgraded.ask(program=faulty(fault))
        assert upgraded.a.wait(10) == 1
        assert guarded(sites)
