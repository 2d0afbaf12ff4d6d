"""Packets that wait for an SA wait on in the process that goes on, whatever numbers its data plane has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ipsec_dp.databases.carried_sas import CarriedRecords
from ipsec_dp.databases.sad_shape import SadShape, StandingSad
from ipsec_dp.dataplane import Encapsulation
from ipsec_dp.dataplane.carried import CarriedFlows, EndpointValue
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.gateway.upgrade import sas
from ipsec_dp.gateway.upgrade.messages import GivenSas
from ipsec_dp.gateway.upgrade.waiting import WaitingPacket, wait_on, waiting_in
from tests.unit.sites import to_b
from tests.unit.successors import over_the_wire
from tests.unit.test_kept_packets import PACKETS, early, installed, open_tunnel, site, successor  # noqa: F401 - two are fixtures

NS_PER_S = 1e9
HERE: Any = SimpleNamespace(
    tunnel_names={0: "to-b"}, interface_names={0: "ipsec0"}, tunnel_numbers={"to-b": 0}, interface_numbers={"ipsec0": 0}
)


def given(rig, **changes):
    """What is handed over, as it is read; `changes`: the numbers that the former data plane had."""
    rig.plane.pause_receiving()
    waiting = [over_the_wire(one) for one in waiting_in(rig.plane, HERE)]
    return [msgspec.structs.replace(one, packet=msgspec.structs.replace(one.packet, **changes)) for one in waiting]


def take(waiting, rig, ns, link=lambda *_: 0):
    wait_on(waiting, rig.plane, HERE, link, ns / NS_PER_S)
    assert not any(any(one.packet.packet) for one in waiting)


def test_packets_of_a_tunnel_are_sealed_when_its_sa_comes_by_the_number_that_it_has_here(site):  # noqa: F811
    site.transfer(PACKETS)
    waiting = given(site.a, tunnel=5, interface=3)
    assert {(one.tunnel, one.interface) for one in waiting} == {("to-b", "ipsec0")}
    with successor(site, "a") as after:
        take(waiting, after, site.clock.ns)
        assert open_tunnel(site, after) == [*PACKETS, to_b(b"new")]


class Noting:
    """A data plane that notes what it takes."""

    def __init__(self):
        self.taken = []

    def import_kept(self, packet, _now):
        self.taken.append(packet)


def test_esp_before_its_sa_comes_by_the_sockets_of_its_address(early):  # noqa: F811
    site, record = early  # noqa: F811
    waiting = given(site.b, link=9)
    assert {(one.packet.spi, one.tunnel, one.interface) for one in waiting} == {(record.spi, "", "")}
    asked, plane = set(), Noting()

    def link(address, encapsulation):
        asked.add((address, encapsulation))
        return 4

    take(waiting, SimpleNamespace(plane=plane), site.clock.ns, link)
    assert asked == {(site.b.endpoint.address, Encapsulation.UDP)}
    assert [(one.spi, one.link) for one in plane.taken] == [(record.spi, 4)] * 3


def come_with_sas(before, spi, after, wait):
    """The whole message, of which nothing is left."""
    message = over_the_wire(
        GivenSas(
            stopped=0,
            shape=SadShape(gone=[], sas=[], ended=[], children=[]),
            records=CarriedRecords(record_layout(), [], {}, bytearray(b"k" * 400)),
            expected=[(spi, EndpointValue.of(before.a.endpoint))],
            counters=[],
            flows=CarriedFlows(0, b""),
            waiting=given(before.b),
        )
    )
    octets = [message.records.records, *(one.packet.packet for one in message.waiting)]
    assert len(octets) == 4
    assert all(map(any, octets))
    sas.taken(after.sad, StandingSad(after.sad, {}, {}, lambda *_: 0), message, wait)
    assert not any(map(any, octets))


def test_they_are_taken_when_the_spi_that_they_came_on_is_expected(early):  # noqa: F811
    site, record = early  # noqa: F811
    with successor(site, "b") as after:
        come_with_sas(site, record.spi, after, lambda waiting: take(waiting, after, site.clock.ns))
        assert len(installed(after, record, site)) == 3


def test_nothing_of_them_is_left_where_they_cannot_be_taken(early):  # noqa: F811
    site, record = early  # noqa: F811
    with successor(site, "b") as after:
        come_with_sas(site, record.spi, after, lambda _waiting: None)
        assert installed(after, record, site) == []


def test_packets_that_cannot_be_had_hinder_nothing(site, caplog):  # noqa: F811
    site.transfer(PACKETS)
    assert waiting_in(site.a.plane, HERE) == []  # devices are read
    assert "packets that wait for an SA do not come along" in caplog.text


def no_tunnel(waiting):
    return [msgspec.structs.replace(one, tunnel="to-c") for one in waiting]


def no_interface(waiting):
    return [msgspec.structs.replace(one, interface="ipsec9") for one in waiting]


def early_without_ends(waiting):
    return [WaitingPacket(msgspec.structs.replace(one.packet, spi=0x1001)) for one in waiting]


@pytest.mark.parametrize("change", [no_tunnel, no_interface, early_without_ends], ids=lambda change: change.__name__)
def test_what_belongs_to_nothing_here_is_dropped_and_told_once(site, change, caplog):  # noqa: F811
    site.transfer(PACKETS)
    waiting = change(given(site.a))
    with successor(site, "a") as after:
        take(waiting, after, site.clock.ns, link=lambda *_: None)
        assert open_tunnel(site, after) == [to_b(b"new")]
    (record,) = [one for one in caplog.records if "did not come along" in one.getMessage()]
    assert record.getMessage().startswith("4 of 4 packets that wait for an SA did not come along")


def test_for_which_there_is_no_room_it_is_dropped_and_the_others_wait(site, caplog):  # noqa: F811
    site.transfer(PACKETS)
    waiting = given(site.a)
    with successor(site, "a", hold_octets=2 * len(PACKETS[0])) as after:
        take(waiting, after, site.clock.ns)
        assert open_tunnel(site, after) == [*PACKETS[:2], to_b(b"new")]
    assert "2 of 4 packets that wait for an SA did not come along" in caplog.text
