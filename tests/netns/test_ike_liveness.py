"""A peer that dies, stops or returns: what each side does, and that nothing leaves in clear meanwhile.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

A stream of marked packets goes from hostA to hostB all the time; the capture on the outer link must never show one.
"""

from __future__ import annotations

import contextlib

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns import harness
from tests.netns.traffic import kinds_between_sites, ping, stream, until

HOST_B = netns.HOST_B[0]
LATE = 30.0  # seconds; a dead peer is noticed after some repetitions


def liveness(action):
    return f'  liveness = {{ interval = "1s", retries = 1, action = "{action}" }}'


def state(gateway):
    (only,) = gateway.status()["tunnels"]
    return only["state"]


@pytest.fixture
def watched(shared_sites, tmp_path):
    """Starts two gateways that are up and a stream between the sites; in the end checks that nothing crossed in clear."""
    with contextlib.ExitStack() as stack:
        for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
            stack.callback(harness.open_guard, namespace, name)

        def watched(**settings):
            gateways = stack.enter_context(GatewayPair(shared_sites, tmp_path, IkePair(**settings)))
            gateways.a.wait_negotiated()
            gateways.b.wait_negotiated()
            ping(shared_sites.host_a, HOST_B)
            stack.enter_context(capture.Capture(shared_sites.gw_a, "wan", tmp_path / "wan"))
            stack.enter_context(stream(shared_sites.host_a, harness.BOTH))
            return gateways

        yield watched
    assert kinds_between_sites(tmp_path / "wan") == set()
    assert capture.scan(tmp_path / "wan").packets.get("esp-udp", 0) > 100


def back(gateway):
    """The gateway comes up again after a kill."""
    gateway.start()
    gateway.wait_up()


def test_restart_calls_a_killed_peer_until_it_is_back(shared_sites, watched):
    gateways = watched(ike=(liveness("restart"), ""))
    gateways.b.kill()
    until(lambda: state(gateways.a) in ("failed", "negotiating"), "gwA notices", LATE)
    back(gateways.b)
    until(lambda: state(gateways.a) == state(gateways.b) == "up", "up again", LATE)
    ping(shared_sites.host_a, HOST_B)


@pytest.mark.slow
def test_trap_waits_for_traffic_and_calls_then(shared_sites, watched):
    """Started once, it is only called again because packets come."""
    gateways = watched(ike=(liveness("trap"), ""))
    gateways.b.kill()
    until(lambda: "no answer" in gateways.a.text() or "did not answer" in gateways.a.text(), "gwA notices", LATE)
    back(gateways.b)
    until(lambda: state(gateways.a) == state(gateways.b) == "up", "up again", LATE)
    ping(shared_sites.host_a, HOST_B)


@pytest.mark.slow
def test_clear_waits_until_it_is_asked_for(shared_sites, watched):
    gateways = watched(ike=(liveness("clear"), ""))
    gateways.b.kill()
    until(lambda: state(gateways.a) == "down", "gwA gives up", LATE)
    back(gateways.b)
    assert state(gateways.a) == "down"  # although the stream goes on
    gateways.a.ask("initiate", name="a-to-b")
    until(lambda: state(gateways.a) == state(gateways.b) == "up", "up again")
    ping(shared_sites.host_a, HOST_B)


@pytest.mark.slow
def test_a_peer_that_returns_before_it_was_missed_takes_over(shared_sites, watched):
    """Its INITIAL_CONTACT says that it has nothing of the old SA."""
    gateways = watched(start=("start", "start"))
    gateways.b.kill()
    back(gateways.b)
    until(lambda: state(gateways.b) == "up", "up again")
    until(lambda: len(gateways.a.status()["tunnels"][0]["children"]) == 1, "gwA dropped the old SA")
    ping(shared_sites.host_a, HOST_B)


def test_a_peer_that_stops_says_so_and_is_called_again(shared_sites, watched):
    gateways = watched()
    assert gateways.b.terminate() == 0
    until(lambda: state(gateways.a) in ("failed", "negotiating"), "gwA knows at once")
    back(gateways.b)
    until(lambda: state(gateways.a) == state(gateways.b) == "up", "up again", LATE)
    ping(shared_sites.host_a, HOST_B)


def test_both_killed_and_back(shared_sites, watched):
    gateways = watched(start=("start", "start"))
    gateways.a.kill()
    gateways.b.kill()
    gateways.a.start()
    gateways.b.start()
    gateways.a.wait_up()
    gateways.b.wait_up()
    until(lambda: state(gateways.a) == state(gateways.b) == "up", "up again", LATE)
    until(lambda: len(gateways.a.status()["tunnels"][0]["children"]) == 1, "one CHILD_SA is left")
    ping(shared_sites.host_a, HOST_B)
