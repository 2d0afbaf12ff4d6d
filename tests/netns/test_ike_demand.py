"""Tunnels made by IKE when they are needed: on demand, by verbs, ended when idle, one CHILD_SA or several.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

gwB only answers. Nothing but IKE and ESP ever crosses the outer link.
"""

from __future__ import annotations

import contextlib

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway import control
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.traffic import kinds_between_sites, ping, tcp_both_ways, until

HOST_B = netns.HOST_B[0]
ONE_PING = ("ping", "-n", "-q", "-c", "1", "-W", "15")  # its one packet must not be lost


@pytest.fixture
def pair(shared_sites, tmp_path):
    """Starts two gateways for one test."""
    with contextlib.ExitStack() as stack:

        def pair(**settings):
            settings.setdefault("start", ("on-demand", "respond"))
            return stack.enter_context(GatewayPair(shared_sites, tmp_path, IkePair(**settings)))

        yield pair


def tunnel(gateway):
    (only,) = gateway.status()["tunnels"]
    return only


def state(gateway):
    return tunnel(gateway)["state"]


def spis(gateway):
    """SPIs of the IKE SA and of the CHILD_SAs."""
    found = tunnel(gateway)
    return found["ike"]["spi_i"], {child["spi_in"] for child in found["children"]}


# ---- on demand


def test_the_first_packet_makes_the_tunnel_and_is_delivered(shared_sites, pair, tmp_path):
    gateways = pair()
    with capture.Capture(shared_sites.gw_a, "wan", tmp_path / "wan") as recording:
        assert (state(gateways.a), state(gateways.b)) == ("waiting", "waiting")
        assert tunnel(gateways.a)["state_text"] == "waiting for traffic"
        assert tunnel(gateways.b)["state_text"].startswith("waiting for the peer to call; ")
        assert tunnel(gateways.a)["ike"] is None
        said = shared_sites.host_a.run(*ONE_PING, HOST_B, check=False).stdout
        recording.stop()
    assert "1 received" in said
    assert (state(gateways.a), state(gateways.b)) == ("up", "up")
    assert set(capture.scan(tmp_path / "wan").packets) <= {"ike", "esp-udp", *capture.LINK_KINDS}
    assert kinds_between_sites(tmp_path / "wan") == set()


def test_without_traffic_nothing_is_negotiated(shared_sites, pair, tmp_path):
    with capture.Capture(shared_sites.gw_a, "wan", tmp_path / "wan") as recording:
        gateways = pair()
        until(lambda: state(gateways.a) == "waiting", "the tunnel waits")
        assert gateways.a.terminate() == 0
        recording.stop()
    assert set(capture.scan(tmp_path / "wan").packets) <= set(capture.LINK_KINDS)


def test_a_connection_opened_over_no_tunnel_loses_nothing(shared_sites, pair):
    pair()
    tcp_both_ways(shared_sites.host_a, shared_sites.host_b, HOST_B, 1 << 18)


def test_idle_tunnels_end_and_come_back_with_the_next_packet(shared_sites, pair):
    gateways = pair(esp=('  idle_timeout = "1s"', ""))
    assert "1 received" in shared_sites.host_a.run(*ONE_PING, HOST_B, check=False).stdout
    until(lambda: (state(gateways.a), state(gateways.b)) == ("waiting", "waiting"), "both ended")
    assert tunnel(gateways.a)["children"] == []
    assert tunnel(gateways.a)["last_error"] is None
    assert "1 received" in shared_sites.host_a.run(*ONE_PING, HOST_B, check=False).stdout
    until(lambda: gateways.a.text().count("IKE SA up [") == 2, "another IKE SA, which may have ended by now")


def test_a_peer_that_only_answers_does_not_call(shared_sites, pair):
    gateways = pair()
    shared_sites.host_b.run("ping", "-n", "-q", "-c", "1", "-W", "0.3", netns.HOST_A[0], check=False)
    until(lambda: tunnel(gateways.b)["last_error"], "gwB says that traffic has no SA")
    assert "no SA to carry it" in tunnel(gateways.b)["last_error"]
    assert (state(gateways.a), state(gateways.b)) == ("waiting", "waiting")
    ping(shared_sites.host_a, HOST_B)  # gwA calls, and nothing is wrong any more
    assert tunnel(gateways.b)["last_error"] is None


# ---- verbs


def test_initiate_rekey_and_terminate(shared_sites, pair):
    gateways = pair()
    gateways.a.ask("initiate", name="a-to-b")
    gateways.a.wait_negotiated()
    gateways.b.wait_negotiated()
    ping(shared_sites.host_a, HOST_B)
    ike, children = spis(gateways.a)

    gateways.a.ask("rekey", name="a-to-b")
    until(lambda: spis(gateways.a)[1].isdisjoint(children) and state(gateways.a) == "up", "other CHILD_SAs")
    assert spis(gateways.a)[0] == ike
    ping(shared_sites.host_a, HOST_B)

    children = spis(gateways.a)[1]
    gateways.b.ask("rekey", name="b-to-a", ike=True)
    until(lambda: spis(gateways.a)[0] != ike and state(gateways.a) == "up", "another IKE SA")
    assert spis(gateways.a)[1] == children
    assert tunnel(gateways.a)["ike"]["role"] == "responder"  # of the rekey (RFC 7296 §2.18)
    ping(shared_sites.host_a, HOST_B)

    gateways.a.ask("terminate", name="a-to-b")
    until(lambda: (state(gateways.a), state(gateways.b)) == ("waiting", "waiting"), "both ended")
    assert tunnel(gateways.b)["children"] == []


def test_a_started_tunnel_that_is_terminated_stays_down_until_asked(shared_sites, pair):
    gateways = pair(start=("start", "respond"))
    gateways.a.wait_negotiated()
    gateways.a.ask("terminate", name="a-to-b")
    until(lambda: state(gateways.a) == "down" and state(gateways.b) == "waiting", "the tunnel ended")
    shared_sites.host_a.run("ping", "-n", "-q", "-c", "1", "-W", "0.3", HOST_B, check=False)
    assert state(gateways.a) == "down"
    gateways.a.ask("initiate", name="a-to-b")
    gateways.a.wait_negotiated()
    ping(shared_sites.host_a, HOST_B)


def test_verbs_that_cannot_be_carried_out_say_why(pair):
    gateways = pair()
    with pytest.raises(ControlError, match='no tunnel "x" that IKE negotiates; there are: a-to-b'):
        gateways.a.ask("initiate", name="x")
    with pytest.raises(ControlError, match="has no IKE SA; start it with: ipsec-dp initiate a-to-b"):
        gateways.a.ask("rekey", name="a-to-b")
    assert control.request(gateways.a.control, {"verb": "terminate", "name": "a-to-b"})["tunnel"] == "a-to-b"


# ---- selectors and encapsulation


def test_each_proxy_id_carries_its_traffic(shared_sites, pair):
    """IPv4, IPv6 and a single port between hosts elsewhere; the packet that asks is held whichever it belongs to."""
    gateways = pair(proxy_ids=tuple(zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True)))
    assert "1 received" in shared_sites.host_a.run(*ONE_PING, netns.HOST_B[1], check=False).stdout
    ping(shared_sites.host_a, HOST_B)
    held = {ts for child in tunnel(gateways.a)["children"] for ts in child["local_ts"]}
    assert all(any(net in ts for ts in held) for net in netns.SITE_A_NETS)


def test_esp_is_ip_protocol_50_where_that_is_written(shared_sites, pair, tmp_path):
    gateways = pair(encapsulation="esp")
    with capture.Capture(shared_sites.gw_a, "wan", tmp_path / "wan") as recording:
        ping(shared_sites.host_a, HOST_B)
        recording.stop()
    assert tunnel(gateways.a)["nat"] == "none"
    protocols = {packet[9] for _, packet in capture.read(tmp_path / "wan") if packet[0] >> 4 == 4}
    assert 50 in protocols
