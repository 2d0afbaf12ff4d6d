"""Fail closed, both ways: whatever becomes of a gateway, what it protects neither leaves nor comes in without ESP.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

hostA sends marked UDP datagrams and TCP segments to hostB all the time, over IPv4 and IPv6. Each gateway's default route is the
other one, so without us they cross in clear: every test first, or at its end, sees the same capture find them.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness, held
from tests.netns.leaks import guarded, leaks_without_us, watched
from tests.netns.traffic import (
    EVERY_KIND,
    between_sites,
    kinds_between_sites,
    stream,
    to_gateway_a,
    to_gateway_b,
    until,
    until_sent,
)

KEEP_CLOSED = ManualPair(gateway="keep_closed = true")


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


@pytest.fixture
def streaming(sites):
    with stream(sites.host_a, harness.BOTH):
        yield


@pytest.fixture
def pair(sites, tmp_path):
    made = GatewayPair(sites, tmp_path, ManualPair())
    yield made
    made.a.kill()
    made.b.kill()


def test_at_start_nothing_leaves_once_the_guard_is_there_and_it_is_there_first(sites, pair, streaming, tmp_path):
    with watched(sites, tmp_path) as crossed:
        until_sent(sites.host_a, 40)  # which leak
        pair.a.program = held.PROGRAM
        pair.a.start()
        until(lambda: guarded(sites), "the guard, before there is an interface")
        since = time.time_ns()
        until_sent(sites.host_a, 40)
        held.let_go(pair.a)
        pair.b.start()
        pair.a.wait_up()
        pair.b.wait_up()
        until(lambda: pair.a.status()["tunnels"][0]["children"][0]["packets_out"] > 100, "traffic in the tunnel")
        assert crossed(since) == set()
    outer = tmp_path / "wan-outer.pcapng"
    assert kinds_between_sites(outer) == EVERY_KIND  # the control: it did leak before the guard was there
    sealed = [when for when, packet in capture.read(outer) if capture.kind(packet) == "esp-udp"]
    clear = [when for when, packet in capture.read(outer) if between_sites(packet)]
    assert max(clear) < min(sealed)


@contextmanager
def taken_port(sites):
    """Another program has UDP port 4500."""

    def take():
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind((netns.GW_A_OUTER[0], 4500))
        return other

    with sites.gw_a.call(take):
        yield ("-m", "ipsec_dp", "up")


@contextmanager
def taken_interface(sites):
    sites.gw_a.ip("tuntap add ipsec0 mode tun")
    yield ("-m", "ipsec_dp", "up")
    sites.gw_a.ip("link delete ipsec0")


CHECK_THEN_SPOIL = """
import sys
from pathlib import Path
from ipsec_dp.gateway import daemon
from ipsec_dp.config import load
file, control = Path(sys.argv[1]), Path(sys.argv[3])
config = load(file)
file.with_name("a-to-b.key").chmod(0o644)
sys.exit(daemon.run(config, control))
"""


@contextmanager
def key_open_to_others_since_the_check(sites):
    yield ("-c", CHECK_THEN_SPOIL)


@pytest.mark.parametrize(
    ("broken", "status", "cause"),
    [
        (taken_port, 1, "UDP port 4500 of 192.0.2.1: taken by another program"),
        (taken_interface, 1, "interface ipsec0: an interface of this name exists already"),
        (key_open_to_others_since_the_check, 2, "has mode 0644"),
    ],
)
def test_a_failed_start_leaves_the_guard(sites, pair, streaming, tmp_path, broken, status, cause):
    assert leaks_without_us(sites, tmp_path)
    with broken(sites) as program, watched(sites, tmp_path) as crossed:
        where = (str(pair.a.config), "--control", str(pair.a.control))
        done = sites.gw_a.run(sys.executable, *program, *where, check=False)
        since = time.time_ns()
        assert done.returncode == status, done.stderr
        assert cause in done.stderr
        assert "the guard and unreachable routes keep protected traffic from leaving in clear" in done.stderr
        assert "`ipsec-dp open gwA` takes all of it away" in done.stderr
        assert guarded(sites)
        assert crossed(since) == set()


def test_kill_and_adoption(sites, pair, streaming, tmp_path):
    """Killed under the stream, closed until the next start, which adopts what was left; not one packet in between."""
    pair.start()
    with watched(sites, tmp_path) as crossed:
        pair.a.kill()
        assert guarded(sites)
        until_sent(sites.host_a, 200)
        pair.b.terminate()
        pair.start()
        until(lambda: pair.a.status()["tunnels"][0]["children"][0]["packets_out"] > 100, "traffic in the tunnel")
        assert crossed() == set()
    assert pair.stop() == (0, 0)
    assert not guarded(sites)
    assert leaks_without_us(sites, tmp_path)  # the control


def test_stop_with_keep_closed(sites, streaming, tmp_path):
    pair = GatewayPair(sites, tmp_path, KEEP_CLOSED)
    assert leaks_without_us(sites, tmp_path)
    with watched(sites, tmp_path) as crossed:
        pair.a.start()
        until(lambda: guarded(sites), "the guard")
        since = time.time_ns()
        pair.a.wait_up()
        assert pair.a.terminate() == 0
        assert guarded(sites)
        assert crossed(since) == set()
    assert "ipsec0" not in sites.gw_a.run("ip", "link", "show").stdout


# ---- cleartext from outside ----------------------------------------------------------------------------------------------------

SPOOFED = tuple(udp(a, b, capture.MARKER, ports=(7777, 7777)) for a, b in harness.BOTH)
SPOOFED_BACK = tuple(udp(b, a, capture.MARKER, ports=(7777, 7777)) for a, b in harness.BOTH)


def spoofed_arrivals(sites, tmp_path):
    """IP versions of the spoofed packets that reached hostB and hostA, put on the outer link next to each gateway."""
    found = []
    for host, inject, packets in (
        (sites.host_b, to_gateway_b, SPOOFED),
        (sites.host_a, to_gateway_a, SPOOFED_BACK),
    ):
        path = tmp_path / f"{host.label}.pcapng"
        with capture.Capture(host, "eth0", path) as recording:
            for _ in range(3):
                inject(sites, *packets)
            harness.settle(host, "eth0")
            recording.stop()
        found.append({packet[0] >> 4 for _, packet in capture.read(path) if b"\x1e\x61\x1e\x61" in packet})
    return found


def test_spoofed_cleartext_never_reaches_a_host(sites, tmp_path):
    pair = GatewayPair(sites, tmp_path, KEEP_CLOSED)
    assert spoofed_arrivals(sites, tmp_path) == [{4, 6}, {4, 6}]  # the control: without us it does
    pair.start()
    assert spoofed_arrivals(sites, tmp_path) == [set(), set()]
    until(lambda: [pair.b.status()["guard"][f"cleartext_in{version}"] for version in (4, 6)] == [3, 3], "each is counted")
    pair.a.kill()
    pair.b.kill()
    assert spoofed_arrivals(sites, tmp_path) == [set(), set()]
    pair.start()
    assert pair.stop() == (0, 0)
    assert spoofed_arrivals(sites, tmp_path) == [set(), set()]  # keep_closed


def test_every_gateways_own_traffic_is_protected_too(sites, pair, tmp_path):
    """What the gateway itself sends between protected addresses takes the tunnel, and does not leave in clear without it."""

    def ask():
        for source, target in zip(netns.GW_A_INNER, netns.HOST_B, strict=True):
            sites.gw_a.run("ping", "-n", "-c", "2", "-i", "0.01", "-W", "0.2", "-I", source, target, check=False)

    def crossed(name):
        path = Path(tmp_path, name)
        harness.crossed(sites.gw_a, "wan", path, ask)
        return kinds_between_sites(path)

    assert crossed("before") == {"icmp4", "icmpv66"}
    pair.start()
    assert crossed("up") == set()
    pair.a.kill()
    assert crossed("killed") == set()
