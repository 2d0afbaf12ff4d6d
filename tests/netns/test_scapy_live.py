"""A gateway and a live peer of another making: scapy's ESP in gwB's namespace, over IP protocol 50.

hostA eth0 -- lan gwA wan == wan gwB (scapy, which also answers for hostB)
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayProcess, ManualPair, write_pair
from tests.netns import harness
from tests.netns.traffic import TIMEOUT_S, ping

SUITES = ("aes256gcm16", "chacha20poly1305", "aes128-sha256")


@pytest.fixture(params=[(version, esn) for version in (0, 1) for esn in ("", "-esn")], ids=["ipv4", "ipv4-esn", "ipv6", "ipv6-esn"])
def peers(request, shared_sites, tmp_path):
    """gwA, and scapy as its peer; a pair of outer IP version and suite for each case."""
    version, esn = request.param
    outer = (netns.GW_A_OUTER[version], netns.GW_B_OUTER[version])
    suite = SUITES[(2 * version + bool(esn)) % len(SUITES)] + esn
    config, _ = write_pair(tmp_path, ManualPair(suite=suite, encapsulation="esp", outer=outer))
    argument = {
        "ours": outer[1],
        "gateway": outer[0],
        "suite_name": suite,
        "spis": [0x1001, 0x1002],
        "keys": [(tmp_path / name).read_text() for name in ("a-to-b.key", "b-to-a.key")],
    }
    pipe = subprocess.PIPE
    program = (sys.executable, "-m", "tests.netns.scapy_responder", json.dumps(argument))
    gateway = GatewayProcess(shared_sites.gw_a, config)
    gateway.start()
    with (tmp_path / "scapy.log").open("wb") as log:
        scapy = shared_sites.gw_b.spawn(*program, stdin=pipe, stdout=pipe, stderr=log)
    assert scapy.stdout.readline() == b"ready\n", (tmp_path / "scapy.log").read_text()
    gateway.wait_up()
    yield gateway, scapy
    scapy.kill()
    scapy.communicate()
    assert gateway.terminate() == 0
    assert (tmp_path / "scapy.log").read_text() == ""


def test_ping_and_udp_both_ways(shared_sites, peers, tmp_path):
    gateway, scapy = peers
    path = tmp_path / "wan"
    with capture.Capture(shared_sites.gw_a, "wan", path) as recording:
        for address in netns.HOST_B:
            ping(shared_sites.host_a, address)
            assert asked(shared_sites, address) == b"answer to question"
        for source, destination in zip(netns.HOST_B, netns.HOST_A, strict=True):
            assert sent_by_itself(shared_sites, scapy, source, destination) == b"of its own accord"
        recording.stop()
    assert capture.scan(path).foreign() == {}
    status = gateway.status()
    assert {reason: count for reason, count in status["drops"].items() if count} == {}
    (child,) = status["tunnels"][0]["children"]
    assert child["packets_in"] == child["packets_out"] + 2  # each is answered, and two came of their own accord


def listening(namespace, address, port):
    def listen():
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.settimeout(TIMEOUT_S)
        return made

    return namespace.call(listen)


def asked(sites, address):
    mine = {far: near for near, far in harness.BOTH}[address]
    with listening(sites.host_a, mine, 0) as here:
        here.sendto(b"question", (address, 7))
        return here.recv(2048)


def sent_by_itself(sites, scapy, source, destination):
    with listening(sites.host_a, destination, 7000) as here:
        scapy.stdin.write(f"{source} {destination}\n".encode())
        scapy.stdin.flush()
        return here.recv(2048)
