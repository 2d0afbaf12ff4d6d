"""What we sent ourselves comes out of a TUN interface: it is dropped before it is sealed, told, and nothing else is held up."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.dataplane import Encapsulation, Endpoint, MemoryPacket, OuterPath
from ipsec_dp.gateway.second_line import LASTS_S, SecondLine
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.packets import ipv4, udp
from ipsec_dp.rig.plane import PlaneRig, keymat, selector
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock

GCM = parse_suite("aes128gcm16")
SPI = 0xC0DE_0001
OURS, PEER, LAN = "192.0.2.1", "192.0.2.2", "10.1.0.9"
HERE, THERE = (Endpoint(ip_address(address), 4500) for address in (OURS, PEER))
IKE = bytes(range(1, 17)) + bytes(12)
GSO_UDP = 5  # VIRTIO_NET_HDR_GSO_UDP_L4


@pytest.fixture
def gateway():
    """Everything goes into one tunnel, the peer's own address too."""
    anything = selector("0.0.0.0/0", "0.0.0.0/0")
    with PlaneRig("a", OURS) as made:
        made.protect([anything])
        sa = made.plane.install_outbound(spi=SPI, suite=GCM, keymat=keymat(GCM, "k"), tunnel=0, path=made.path_to(THERE))
        made.plane.switch(0, made.plane.add_child(0, [anything]), sa)
        yield made


def sealed(gateway: PlaneRig, packet: bytes | MemoryPacket) -> int:
    """How many ESP packets leave for it."""
    gateway.plane.push_tun(0, packet)
    gateway.step()
    return len(gateway.sent())


def esp(source: str = OURS, to: str = PEER, spi: int = SPI) -> bytes:
    return ipv4(source, to, spi.to_bytes(4) + bytes(60), protocol=50)


def in_udp(payload: bytes, source: str = OURS, ports: tuple[int, int] = (4500, 4500)) -> bytes:
    return udp(source, PEER, payload, ports=ports)


OWN = {
    "esp": esp(),
    "esp in udp": in_udp(SPI.to_bytes(4) + bytes(60)),
    "ike at 500": in_udp(IKE, ports=(500, 500)),
    "ike at 4500": in_udp(bytes(4) + IKE),
}
OTHERS = {
    "a LAN host's": esp(source=LAN),
    "a LAN host's with an SPI of its own": esp(source=LAN, spi=0x1234),
    "another program's": esp(spi=SPI + 1),
    "another program's in udp": in_udp((SPI + 1).to_bytes(4) + bytes(60)),
    "another program's ike": in_udp(bytes(reversed(IKE)), ports=(500, 500)),
    "a LAN host's ike": in_udp(IKE, source=LAN, ports=(500, 500)),
    "to another peer": esp(to="192.0.2.77"),
    "udp of any other kind": in_udp(SPI.to_bytes(4) + bytes(60), ports=(53, 53)),
}


@pytest.mark.parametrize("packet", OWN.values(), ids=OWN.keys())
def test_what_is_ours_is_dropped_before_it_is_sealed(gateway, packet):
    gateway.plane.ike_sent(HERE, THERE, IKE)
    assert sealed(gateway, udp(LAN, "203.0.113.5")) == 1, "the control: the tunnel carries what is sent into it"
    assert sealed(gateway, packet) == 0
    assert gateway.drops == {"own_outer": 1}


@pytest.mark.parametrize("packet", OTHERS.values(), ids=OTHERS.keys())
def test_ipsec_of_others_passes(gateway, packet):
    gateway.plane.ike_sent(HERE, THERE, IKE)
    assert sealed(gateway, packet) == 1
    assert gateway.drops == {}


def test_a_run_of_ours_is_dropped_whole(gateway):
    """ESP in UDP that we send by UDP_SEGMENT comes back as one super-packet."""
    payload = (SPI.to_bytes(4) + bytes(996)) * 10
    packet = in_udp(payload)
    run = MemoryPacket(packet, GSO_UDP, 1000, needs_checksum=True, checksum_start=20, checksum_offset=6)
    assert sealed(gateway, run) == 0
    assert gateway.drops == {"own_outer": 10}
    others = in_udp(((SPI + 1).to_bytes(4) + bytes(996)) * 10)
    assert sealed(gateway, MemoryPacket(others, GSO_UDP, 1000, needs_checksum=True, checksum_start=20, checksum_offset=6)) == 10


def test_what_waits_for_an_sa_is_not_ours(gateway):
    """The IKE message that is to bring the SA would otherwise ask for it again."""
    gateway.plane.ike_sent(HERE, THERE, IKE)
    gateway.plane.switch(0, 1, None)
    assert sealed(gateway, OWN["ike at 500"]) == 0
    assert gateway.events() == []
    assert gateway.drops == {"own_outer": 1}


def test_an_sa_that_moved_is_known_at_its_new_place(gateway):
    spi, path = SPI + 7, gateway.path_to(THERE)
    handle = gateway.plane.install_outbound(spi=spi, suite=GCM, keymat=keymat(GCM, "m"), tunnel=1, path=path)
    moved = Endpoint(ip_address("192.0.2.99"), 4500)
    gateway.plane.set_path(handle, OuterPath(HERE, moved, Encapsulation.UDP, gateway.link))
    assert sealed(gateway, esp(spi=spi)) == 1
    assert sealed(gateway, esp(to="192.0.2.99", spi=spi)) == 0


# ---- what is said of it


def test_it_is_told_while_it_lasts(caplog):
    clock, count = FakeClock(), {"own_outer": 0}
    conditions = Conditions(clock)
    plane = cast("Any", SimpleNamespace(counters=lambda: SimpleNamespace(drops=count)))
    line = SecondLine(plane, conditions, clock)
    line.look()
    assert conditions.texts == []

    async def life() -> None:
        count["own_outer"] = 3
        line.look()
        (text,) = conditions.texts
        assert "meta mark set" in text
        assert "0xe5" in text
        await clock.advance(LASTS_S - 1)
        count["own_outer"] = 4
        line.look()
        await clock.advance(LASTS_S - 1)
        line.look()
        assert conditions.texts == [text]
        await clock.advance(1)
        line.look()
        assert conditions.texts == []

    asyncio.run(life())
    assert caplog.text.count("come back into a tunnel interface") == 1
