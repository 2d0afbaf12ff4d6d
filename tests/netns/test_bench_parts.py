"""The parts of the tunnel benchmark that touch the kernel, on the plain path between two sites."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks.tunnels import generator, iperf, measures, offloads
from benchmarks.tunnels.contenders import Tunnel, check_path, lengthen_queues
from ipsec_dp.bench.traffic import TRAFFIC, Traffic
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError

DROP = """
table inet lossy {
    chain forward {
        type filter hook forward priority 0;
        udp dport %d numgen inc mod 100 < %d drop
    }
}
"""


@pytest.fixture(scope="module", autouse=True)
def program():
    generator.build()


@pytest.fixture
def lossy(shared_sites):
    """Loses so many of a hundred datagrams on the way."""

    def lose(percent: int) -> None:
        shared_sites.gw_a.run("nft", "-f", "-", stdin=DROP % (generator.PORT, percent))

    yield lose
    shared_sites.gw_a.run("nft", "flush", "ruleset")


@pytest.mark.alone("loses nothing where nobody else takes the processor")
@pytest.mark.parametrize("name", list(TRAFFIC))
def test_a_rate_that_the_path_carries_is_without_loss(shared_sites, name):
    attempt = generator.step(shared_sites, TRAFFIC[name], 2000, 0.3)
    assert attempt.loss_free
    assert attempt.sent == pytest.approx(2000, rel=0.25)  # whole sends of 64 in 0.3 s


def test_one_of_a_hundred_lost_is_too_much_and_shows_before_the_end(shared_sites, lossy):
    lossy(1)
    assert not generator.step(shared_sites, TRAFFIC["udp_64"], 2000, 0.3).loss_free
    lossy(50)
    begun = time.monotonic()
    assert not generator.step(shared_sites, TRAFFIC["udp_64"], 2000, 20.0).loss_free
    assert time.monotonic() - begun < 10


def test_hardly_anything_that_arrives_is_no_success(shared_sites, lossy):
    lossy(99)
    assert not generator.step(shared_sites, TRAFFIC["udp_64"], 1000, 0.2).loss_free


def test_a_wrong_size_is_told(shared_sites):
    sending = generator.sender(shared_sites, Traffic("20"), 0, 1, "1")
    assert b"packets of 20 octets cannot be sent" in sending.communicate()[1]


def test_packets_that_pass_beside_a_tunnel_are_seen(shared_sites):
    check_path(shared_sites, Tunnel(None, ()))
    check_path(shared_sites, Tunnel("wan", ()))  # as good as a tunnel: all of them leave there
    with pytest.raises(PeerError, match="beside the tunnel"):
        check_path(shared_sites, Tunnel("lo", ()))


def test_every_contenders_interface_gets_the_queue_that_ours_has(sites):
    lengthen_queues(sites, Tunnel(None, ()))
    lengthen_queues(sites, Tunnel("wan", ()))
    for gateway in (sites.gw_a, sites.gw_b):
        (link,) = json.loads(gateway.run("ip", "-j", "link", "show", "dev", "wan").stdout)
        assert link["txqlen"] == 4096


def test_every_offload_goes_off_and_comes_back(shared_sites):
    def on() -> list[str]:
        return offloads.switched_on(shared_sites.gw_a.run("ethtool", "-k", "wan").stdout)

    before = on()
    assert {"tcp-segmentation-offload", "tx-checksumming", "tx-udp-segmentation"} <= set(before)
    with offloads.all_off(shared_sites):
        assert on() == []
    assert on() == before


def test_iperf_measures_with_the_congestion_control_that_was_asked_for(shared_sites, monkeypatch):
    assert iperf.gbit_s(shared_sites, 1) > 0.01
    monkeypatch.setattr(netns, "CONGESTION_CONTROL", "reno")
    with pytest.raises(iperf.IperfError, match="is cubic, not reno"):
        iperf.gbit_s(shared_sites, 1)


def test_round_trips_are_counted(shared_sites):
    bench = measures.Bench(shared_sites, Tunnel(None, ()), measures.Effort(replies=50))
    found = measures.rtt_idle(bench)
    assert 0 < found["rtt_p50"] <= found["rtt_p99"]
