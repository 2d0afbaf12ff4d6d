"""Which of several sockets and TUN queues the kernel gives what, and what is done where it refuses to be told.

gwA wan == wan gwB
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import struct
from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.dataplane import DataPlane
from ipsec_dp.host import HostError, sockets, steering, tun
from ipsec_dp.host.steering import RefusedError, Steering
from ipsec_dp.network import workers
from ipsec_dp.rig import netns
from tests.netns import harness

WORKERS = 3
STEERING = Steering(WORKERS, 256)
SPIS = [0x5A000100 + slot for slot in range(0, 256, 7)]


def sockets_of(sites, kind, version):
    make = sockets.udp_pair if kind == "udp" else sockets.esp_pair
    return sites.gw_a.call(lambda: make(ip_address(netns.GW_A_OUTER[version]), steering=STEERING))


def send(sites, kind, version, *payloads):
    family = socket.AF_INET6 if version else socket.AF_INET
    types = (socket.SOCK_DGRAM, 0) if kind == "udp" else (socket.SOCK_RAW, 50)

    def go():
        with socket.socket(family, *types) as sender:
            for payload in payloads:
                sender.sendto(payload, (netns.GW_A_OUTER[version], 4500 if kind == "udp" else 0))

    sites.gw_b.call(go)


def received(receiver, count, header):
    found: list[bytes] = []
    while len(found) < count and select.select([receiver], [], [], 5)[0]:
        found.append(receiver.recv(2048)[header:])
    return found


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("kind", ["udp", "esp"])
def test_each_socket_gets_its_share_by_spi_and_nothing_twice(shared_sites, kind, version):
    made = sockets_of(shared_sites, kind, version)
    try:
        payloads = [spi.to_bytes(4) + bytes(20) for spi in SPIS]
        send(shared_sites, kind, version, *payloads)
        header = 20 if kind == "esp" and version == 0 else 0
        for worker, receiver in enumerate(made.receivers):
            mine = [payload for payload in payloads if int.from_bytes(payload[:4]) % 256 % WORKERS == worker]
            assert received(receiver, len(mine), header) == mine
        for each in (*made.receivers, made.other):
            assert select.select([each], [], [], 0)[0] == []
    finally:
        made.close()


@pytest.mark.parametrize("version", [0, 1])
def test_what_is_no_esp_comes_to_the_first(shared_sites, version):
    made = sockets_of(shared_sites, "udp", version)
    try:
        payloads = [bytes(4) + b"IKE", b"\xff", b"abc", b""]
        send(shared_sites, "udp", version, *payloads)
        assert received(made.receive, len(payloads), 0) == payloads
    finally:
        made.close()


@pytest.mark.parametrize("kind", ["udp", "esp"])
def test_where_the_kernel_takes_no_program_one_socket_receives_all(shared_sites, kind, monkeypatch, caplog):
    attach = steering.attach

    def refusing(target, option, program):
        if len(program) > 1:
            raise RefusedError(1, "Operation not permitted")
        attach(target, option, program)

    monkeypatch.setattr(steering, "attach", refusing)
    with caplog.at_level(logging.WARNING):
        made = sockets_of(shared_sites, kind, 0)
    try:
        assert len(made.receivers) == 1
        assert "one worker receives for all: the kernel does not take the program that shares" in caplog.text
        payloads = [spi.to_bytes(4) + bytes(20) for spi in SPIS]
        send(shared_sites, kind, 0, *payloads)
        assert received(made.receive, len(payloads), 20 if kind == "esp" else 0) == payloads
    finally:
        made.close()


# ---- TUN queues

TUNGETVNETHDRSZ = 0x800454D7  # <linux/if_tun.h>
DESTINATIONS = [(ip_network("10.77.1.0/24"), 1), (ip_network("10.77.2.0/24"), 2), (ip_network("10.77.3.0/24"), 0)]


def into(sites, device, *destinations):
    """Sends a datagram to each; what the queues have then, by queue the destinations."""
    sites.gw_a.ip(f"link set {device.name} up", f"route add 10.77.0.0/16 dev {device.name}")
    for destination in destinations:
        harness.send_udp(sites.gw_a, (destination, 9))
    found = []
    for descriptor in device.descriptors:
        os.set_blocking(descriptor, False)
        (header,) = struct.unpack("i", fcntl.ioctl(descriptor, TUNGETVNETHDRSZ, bytes(4)))
        mine = []
        while select.select([descriptor], [], [], 0)[0]:
            packet = os.read(descriptor, 2048)[header:]
            if packet[0] >> 4 == 4:
                mine.append(str(ip_address(packet[16:20])))
        found.append(mine)
    return found


def test_packets_come_by_the_queue_of_their_tunnels_owner(shared_sites):
    with DataPlane(workers=WORKERS) as plane:
        device = shared_sites.gw_a.call(lambda: workers.attach_interface(plane, "steer0", 0, DESTINATIONS))
        try:
            found = into(shared_sites, device, "10.77.1.9", "10.77.2.9", "10.77.3.9", "10.77.1.200", "10.77.99.1", "10.77.99.1")
            other = [queue for queue, seen in enumerate(found) if "10.77.99.1" in seen]
            assert [[each for each in seen if each != "10.77.99.1"] for seen in found] == [
                ["10.77.3.9"],
                ["10.77.1.9", "10.77.1.200"],
                ["10.77.2.9"],
            ]
            assert len(other) == 1  # by a hash: one queue for both
        finally:
            device.close()


@pytest.mark.parametrize("refused", ["queues", "steering"])
def test_where_the_kernel_refuses_one_worker_reads_for_all(shared_sites, refused, monkeypatch, caplog):
    make = tun.make

    def one_only(name, *, queues=1, **settings):
        if queues > 1:
            raise HostError("the kernel does not take these flags")
        return make(name, **settings)

    def unsteered(_tun, _program):
        raise PermissionError(1, "Operation not permitted")

    if refused == "queues":
        monkeypatch.setattr(tun, "make", one_only)
    else:
        monkeypatch.setattr(workers, "steer_queues", unsteered)
    with caplog.at_level(logging.WARNING), DataPlane(workers=WORKERS) as plane:
        device = shared_sites.gw_a.call(lambda: workers.attach_interface(plane, "steer0", 0, DESTINATIONS))
        try:
            assert len(device.descriptors) == 1
            assert "interface steer0: " in caplog.text
            into(shared_sites, device)
            harness.send_udp(shared_sites.gw_a, ("10.77.3.9", 9))
            moved = [plane.step_outbound(1, worker=worker) for worker in range(WORKERS)]
            assert [worker for worker, count in enumerate(moved) if count] == [1]  # the owner of the first tunnel
        finally:
            workers.detach_interface(plane, 0)
            device.close()
