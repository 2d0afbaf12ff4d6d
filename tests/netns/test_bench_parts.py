"""The parts of the tunnel benchmark that touch the kernel, on the plain path between two sites."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from benchmarks.tunnels import generator, iperf, measures, offloads, overlay, processor
from benchmarks.tunnels.contenders import Tunnel, check_path, lengthen_queues
from ipsec_dp.bench.traffic import TRAFFIC, Traffic
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import UNPACKED, PeerError, wireguard
from tests.netns.traffic import until

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


def test_round_trips_beside_a_load_are_measured_at_that_load(shared_sites):
    bench = measures.Bench(shared_sites, Tunnel(None, ()), measures.Effort(replies=50), matched_gbit_s=0.02)
    found = measures.rtt_matched(bench)
    assert 0 < found["rtt_p50_matched"] <= found["rtt_p99_matched"]
    assert len(bench.samples["rtt_p99_matched"]) == 50


def test_vxlan_between_the_hosts_comes_and_goes(shared_sites):
    with overlay.vxlan(shared_sites) as there:
        shared_sites.host_a.run("ping", "-n", "-q", "-c", "1", "-W", "5", "-s", "1322", "-M", "do", there)  # 1,350 octets fit
        assert "congctl cubic" in shared_sites.host_b.run("ip", "route", "show", overlay.PREFIX).stdout
    for host in (shared_sites.host_a, shared_sites.host_b):
        assert overlay.INTERFACE not in host.run("ip", "link").stdout


def test_udp_is_aggregated_where_it_is_forwarded_and_then_no_more(shared_sites):
    def on() -> list[bool]:
        listings = [shared_sites.gw_b.run("ethtool", "-k", interface).stdout for interface in ("wan", "lan")]
        return [offloads.GRO_FORWARDING in offloads.switched_on(listing) for listing in listings]

    assert on() == [False, False]
    with offloads.gro_forwarding(shared_sites):
        assert on() == [True, True]
    assert on() == [False, False]


def test_what_a_process_and_its_children_use_is_seen(shared_sites):
    busy = shared_sites.host_a.spawn("sh", "-c", "(while :; do :; done) & wait")
    until(lambda: processor.seconds_of([busy.pid]) > 0.05, "a child that works is seen")
    os.killpg(busy.pid, signal.SIGKILL)
    busy.wait()
    with pytest.raises(PeerError, match="has ended"):
        processor.seconds_of([busy.pid])


def test_a_peer_runs_in_the_usr_that_it_is_given(sites, tmp_path):
    (private, _), (_, public) = wireguard.key_pair(), wireguard.key_pair()
    text = f"[Interface]\nPrivateKey = {private}\n[Peer]\nPublicKey = {public}\n"
    peer = wireguard.WireGuard(sites.gw_a, tmp_path / "a", "wg0", text, (), usr=UNPACKED / "usr")
    peer.start()
    assert public in peer.daemon.run("/usr/bin/wg", "show", "wg0", "peers")
    peer.stop()
    with pytest.raises(PeerError, match="holds no wireguard-go"):
        wireguard.WireGuard(sites.gw_a, tmp_path / "b", "wg0", text, (), usr=tmp_path).start()


def started_by(marker: str) -> list[int]:
    """Processes whose environment has it."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [int(environment.parent.name)] if marker.encode() in environment.read_bytes() else []
        except OSError:
            continue
    return found


@pytest.fixture
def temporary():
    """For TMPDIR: paths of control sockets below it are short enough."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def test_a_run_that_is_interrupted_leaves_nothing_but_what_it_measured(tmp_path, temporary):
    log = tmp_path / "log"
    options = "--quick --rounds 50 --contender ipsec-dp --measure tcp_1 --output".split()
    command = (sys.executable, "-m", "benchmarks.tunnel", *options, str(tmp_path / "results"))
    with log.open("w") as output:
        run = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "TMPDIR": str(temporary)})
    until(lambda: "round 1/50" in log.read_text() or run.poll() is not None, "the first round is over", 60)
    until(lambda: list(temporary.glob("ipsec-dp-bench-*")) or run.poll() is not None, "the second one has begun", 60)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130, log.read_text()
    assert netns.owned(run.pid) == []
    assert started_by(f"TMPDIR={temporary}") == []
    assert list(temporary.iterdir()) == []
    answer = json.loads((tmp_path / "results/tunnel.json").read_text())
    assert answer["interrupted"]
    assert answer["rounds"]["tcp_1"]["ipsec-dp"][0] > 0
    assert answer["cores"]["ipsec-dp"][0] > 0
    assert "This run was interrupted" in (tmp_path / "results/tunnel.html").read_text()
