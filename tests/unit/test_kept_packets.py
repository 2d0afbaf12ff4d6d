"""Packets that wait for an SA wait on in another process: those of a tunnel that is coming up, and ESP that came before its SA."""

from __future__ import annotations

import errno
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from ipsec_dp._native import ffi

from ipsec_dp.dataplane import Direction, MemoryDatagram
from ipsec_dp.dataplane.kept import KeptPacket, kept_of, packets_of
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.plane import OUTER, PlaneRig, keymat, pair, selectors_of
from ipsec_dp.util.leaves import LEAVES, NEVER
from tests.unit.sites import to_b
from tests.unit.successors import over_the_wire, params_of, send

HELD = 4096
HOLD_S, EARLY_S = 10, 2
PACKETS = [to_b(bytes([n]) * 10) for n in range(4)]


@pytest.fixture
def site():
    """a's CHILD has no outbound SA yet."""
    with pair(hold_octets=HELD) as made:
        made.a.sad.switch(made.children["a"], None)
        yield made


def successor(site, name, **options):
    rig = PlaneRig(name, OUTER[4][name], clock=site.clock, encapsulation=site.a.encapsulation, **{"hold_octets": HELD} | options)
    rig.protect(selectors_of(name))
    rig.plane.pause_receiving()
    return rig


def left_by(rig):
    rig.plane.pause_receiving()
    return [over_the_wire(one) for one in rig.plane.export_kept()]


def take(rig, site, packets):
    """How many were taken, and why others were not."""
    why = []
    for one in packets:
        try:
            rig.plane.import_kept(one, site.clock.ns)
        except DataPlaneError as error:
            why.append(error.errno)
        assert not any(one.packet)
    return len(packets) - len(why), why


def open_tunnel(site, rig):
    """The SA comes to the successor; what it sends then, opened by b."""
    sender = next(record for record in site.a.sad.records.values() if record.direction is Direction.OUTBOUND)
    child = rig.sad.add_child(0, selectors_of("a"))
    rig.sad.switch(child, rig.plane.import_sa(params_of(sender), site.a.plane.export_sa(sender.handle, sender.suite)))
    rig.plane.resume_receiving()
    rig.push(to_b(b"new"))
    rig.step()
    site.b.arrive(*(MemoryDatagram(each.data, each.remote, each.local) for each in rig.sent()))
    site.b.step()
    return site.b.pulled()


def test_packets_of_a_tunnel_that_is_coming_up_go_along_in_order(site):
    site.transfer(PACKETS)
    packets = left_by(site.a)
    assert len(packets) == len(PACKETS)
    with successor(site, "a") as after:
        assert take(after, site, packets) == (4, [])
        assert open_tunnel(site, after) == [*PACKETS, to_b(b"new")]
        assert after.drops == {}


def test_they_wait_on_where_they_were_for_the_case_that_nobody_takes_them(site):
    site.transfer(PACKETS)
    left_by(site.a)
    site.a.plane.resume_receiving()
    site.a.sad.switch(site.children["a"], next(h for h, r in site.a.sad.records.items() if r.direction is Direction.OUTBOUND))
    assert site.transfer([]) == PACKETS


def test_nothing_that_waits_is_let_go_of_while_receiving_is_paused(site):
    site.transfer(PACKETS)
    site.a.plane.pause_receiving()
    site.a.sad.switch(site.children["a"], next(h for h, r in site.a.sad.records.items() if r.direction is Direction.OUTBOUND))
    assert site.transfer([]) == []
    assert len(site.a.plane.export_kept()) == len(PACKETS)
    site.a.plane.resume_receiving()
    assert site.transfer([]) == PACKETS


def test_a_packet_waits_no_longer_for_having_been_carried(site):
    site.transfer(PACKETS[:1])
    site.clock.advance(HOLD_S - 1)
    site.transfer(PACKETS[1:2])
    with successor(site, "a") as after:
        assert take(after, site, left_by(site.a)) == (2, [])
        site.clock.advance(2)
        assert take(after, site, left_by(site.a)) == (1, [errno.ENOSPC])
        assert open_tunnel(site, after) == [PACKETS[1], PACKETS[1], to_b(b"new")]


def test_no_more_is_taken_than_there_is_room_for(site):
    site.transfer(PACKETS)
    with successor(site, "a", hold_octets=2 * len(PACKETS[0])) as after:
        assert take(after, site, left_by(site.a)) == (2, [errno.ENOSPC] * 2)


# ---- ESP before its SA -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def early():
    """Three datagrams of a for an SA that b is about to have, and the SPI that b has announced; b keeps them."""
    with pair() as made:
        record = made.b.sad.records[made.inbound("b")]
        waiting = send(made.a, 3)
        made.b.sad.remove(record.handle)
        made.b.plane.claim_spi(record.spi)
        made.b.sad.expect_spi(record.spi, made.a.endpoint)
        made.b.arrive(*(MemoryDatagram(each.data, each.remote, each.local) for each in waiting))
        made.b.step()
        assert made.b.drops == {}
        yield made, record


def installed(rig, record, site):
    rig.sad.install(params_of(record, keymat=keymat(site.suite, "to b 1")))
    rig.plane.resume_receiving()
    rig.step()
    return rig.pulled()


@pytest.mark.parametrize("there", [False, True], ids=["its-sa-comes", "its-sa-is-there"])
def test_esp_that_came_before_its_sa_goes_along(early, there):
    site, record = early
    packets = left_by(site.b)
    assert {one.spi for one in packets} == {record.spi}
    with successor(site, "b") as after:
        if there:
            after.sad.install(params_of(record, keymat=keymat(site.suite, "to b 1")))
            assert take(after, site, packets) == (3, [])
            after.plane.resume_receiving()
            after.step()
            assert len(after.pulled()) == 3
            return
        after.plane.claim_spi(record.spi)
        after.sad.expect_spi(record.spi, site.a.endpoint)
        assert take(after, site, packets) == (3, [])
        assert len(installed(after, record, site)) == 3


def test_what_nobody_expects_is_not_taken(early):
    site, record = early
    packets = left_by(site.b)
    with successor(site, "b") as after:
        assert take(after, site, packets) == (0, [errno.ENOENT] * 3)
        assert installed(after, record, site) == []


def test_early_esp_waits_no_longer_for_having_been_carried(early):
    site, record = early
    packets = left_by(site.b)
    site.clock.advance(EARLY_S)
    with successor(site, "b") as after:
        after.plane.claim_spi(record.spi)
        after.sad.expect_spi(record.spi, site.a.endpoint)
        take(after, site, packets)
        assert installed(after, record, site) == []
        assert after.drops == {"reserved_dropped": 3}


# ---- bad input -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"tunnel": 16},
        {"worker": 1},
        {"interface": 9},
        {"tunnel": -1},
        {"since": 0},
        {"packet": bytearray()},
        {"packet": bytearray(65536)},
        {"encapsulation": 7},
        {"gso_size": 1 << 16},
    ],
)
def test_what_cannot_be_is_refused(site, change):
    site.transfer(PACKETS[:1])
    (packet,) = left_by(site.a)
    with successor(site, "a") as after:
        assert take(after, site, [msgspec.structs.replace(packet, **change)]) == (0, [errno.EINVAL])


def test_while_devices_are_read_nothing_is_copied_or_taken(site):
    site.transfer(PACKETS[:1])
    with pytest.raises(DataPlaneError) as refused:
        site.a.plane.export_kept()
    assert refused.value.errno == errno.EBUSY
    packets = left_by(site.a)
    with successor(site, "a") as after:
        after.plane.resume_receiving()
        assert take(after, site, packets) == (0, [errno.EBUSY])


def test_no_packet_leaves_the_host_or_shows():
    packet = KeptPacket(packet=bytearray(b"in the clear"), since=1)
    assert "clear" not in repr(packet) + str(packet)
    for name, hint in get_type_hints(KeptPacket, include_extras=True).items():
        assert get_origin(hint) is Annotated, name
        assert [one.extra[LEAVES] for one in get_args(hint)[1:] if isinstance(one, msgspec.Meta) and one.extra] == [NEVER], name


def test_every_number_of_a_packet_goes_along():
    names = dict(ffi.typeof("struct dp_kept").fields).keys() - {"octets", "local", "remote", "lent_port"}
    numbers: dict[str, Any] = dict.fromkeys(names, 1)
    packet = KeptPacket(packet=bytearray(8), **numbers)
    assert packets_of(bytearray(ffi.buffer(kept_of(packet))) + packet.packet) == [packet]
