"""A process that dies or stands still while it hands itself over, and a successor that does right after it: whoever is left goes on
alone, or nobody does; nothing leaves in clear.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import IkePair
from tests.netns import upgrade_faults
from tests.netns.leaks import guarded, nothing_in_clear
from tests.netns.numbered import numbered
from tests.netns.succession import flows, heirs, parameters, wait_ended
from tests.netns.traffic import tcp_both_ways, until, until_sent

PAIR = IkePair(encapsulation="udp")
PACKETS = 50  # of each kind
LATE_S = 60.0


def spis_of(upgraded):
    """Of the tunnel's CHILD_SAs, while it is up."""
    (tunnel,) = upgraded.a.status()["tunnels"]
    return {child["spi_in"] for child in tunnel["children"]} if tunnel["state"] == "up" else set()


def renewed(upgraded, spis):
    """What there is instead, once the tunnel is up with none of these SAs."""

    def others():
        now = spis_of(upgraded)
        return now if now.isdisjoint(spis) else set()

    return until(others, "the tunnel, with other SAs")


def unanswered(upgraded, program):
    """An upgrade of which nobody says what became of it."""
    with pytest.raises((ControlError, NoDaemonError)):
        upgraded.ask(program=program)


def left_to(upgraded, program):
    """The successor is the gateway, and answers."""
    upgraded.processes += until(lambda: heirs(program), "a successor")
    upgraded.answers()


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


@pytest.mark.parametrize("fault", parameters(upgrade_faults.LEFT))
def test_who_forwards_goes_on_though_the_other_dies_before_it_has_given_ike(sites, in_succession, faulty, tmp_path, fault):
    program = faulty(upgrade_faults.SOUND)
    with nothing_in_clear(sites, tmp_path, lambda: in_succession(PAIR, *upgrade_faults.of(fault))) as upgraded:
        spis = spis_of(upgraded)
        unanswered(upgraded, program)
        assert upgraded.a.wait(10) == -signal.SIGKILL
        left_to(upgraded, program)
        renewed(upgraded, spis)
    assert guarded(sites)
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


@pytest.mark.parametrize("fault", parameters(upgrade_faults.NEITHER))
def test_where_no_sa_arrives_nobody_goes_on_and_the_guard_stays_closed(sites, in_succession, faulty, tmp_path, fault):
    program = faulty(upgrade_faults.SOUND)
    with nothing_in_clear(sites, tmp_path, lambda: in_succession(PAIR, *upgrade_faults.of(fault))) as upgraded:
        unanswered(upgraded, program)
        assert upgraded.a.wait(10) != 0
        until(lambda: not heirs(program), "the end of the successor")
        assert guarded(sites)


def test_who_has_everything_goes_on_though_the_other_dies_unheard(sites, in_succession, faulty):
    program, upgraded = faulty(upgrade_faults.SOUND), in_succession(PAIR, *upgrade_faults.of(upgrade_faults.UNHEARD))
    spis = spis_of(upgraded)
    with (
        numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
        numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
    ):
        until(lambda: there.arrived and back.arrived, "both streams")
        unanswered(upgraded, program)
        assert upgraded.a.wait(10) == -signal.SIGKILL
        left_to(upgraded, program)
        flows(there, back)
    assert [(each.lost(), each.repeated) for each in (there, back)] == [([], 0)] * 2
    assert spis_of(upgraded) == spis


def test_one_that_stood_still_and_wakes_up_disturbs_nobody(sites, in_succession, faulty, tmp_path):
    """Its successor has gone on alone by then, with SAs that it does not know."""
    program, standing = faulty("waits little"), upgrade_faults.of(upgrade_faults.STANDS_STILL)
    with nothing_in_clear(sites, tmp_path, lambda: in_succession(PAIR, *standing)) as upgraded, ThreadPoolExecutor(1) as asking:
        spis = spis_of(upgraded)
        answer = asking.submit(upgraded.ask, program=program)
        until(lambda: "the process before this one has not ended" in upgraded.a.text(), "word of it", LATE_S)
        left_to(upgraded, program)
        others = renewed(upgraded, spis)
        upgraded.a.process.send_signal(signal.SIGCONT)
        assert answer.result()["left_out"] == [{"tunnel": "", "why": "all IKE SAs: the other process did not go on in time"}]
        assert upgraded.a.wait(10) == 0
        assert guarded(sites)
    assert spis_of(upgraded) == others
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


@pytest.mark.parametrize("fault", upgrade_faults.LATE)
def test_once_the_other_has_gone_its_end_leaves_what_any_end_leaves(sites, in_succession, faulty, tmp_path, fault):
    with nothing_in_clear(sites, tmp_path, lambda: in_succession(PAIR)) as upgraded:
        process = upgraded.upgrade(program=faulty(fault))["process"]
        until_sent(sites.host_a, PACKETS)  # past one that hangs
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        wait_ended(process)
        assert guarded(sites)
