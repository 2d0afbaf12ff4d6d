"""Every SA of a gateway goes on in another process in one call: whose a record is, and what becomes of one that is nobody's."""

from __future__ import annotations

import errno
import time
from dataclasses import replace

import msgspec
import pytest
from ipsec_dp._native import lib

from ipsec_dp.databases.sad import Sad
from ipsec_dp.dataplane import Direction, MemoryDatagram, SaFlag, SaHandle, moving
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.plane import OUTER, PlaneRig, keymat, pair, selectors_of
from tests.unit.sites import outbound, to_a
from tests.unit.successors import PACKET, number_of, over_the_wire, params_of, send


@pytest.fixture
def site():
    with pair("aes128gcm16-esn", sequence=2**32 - 3) as made:
        yield made


class Successor(PlaneRig):
    """`ours`: its SAs, by the handles that gateway a has them by."""

    ours: dict[int, SaHandle]


@pytest.fixture
def after(site):
    """A successor of gateway a with its SAs, which wait, in another order; it sends by the one that a sends by."""
    with Successor("a", OUTER[4]["a"], clock=site.clock, encapsulation=site.a.encapsulation) as rig:
        rig.protect(selectors_of("a"))
        child = rig.sad.add_child(0, selectors_of("a"))
        rig.ours = {}
        with rig.sad.awaiting():
            for handle, record in reversed(site.a.sad.records.items()):
                rig.ours[handle] = new = rig.sad.install(params_of(record))
                if handle == site.outbound("a"):
                    rig.sad.switch(child, new)
        yield rig


def go_on(rig, carried):
    """What was left over on either side."""
    rig.plane.pause_receiving()
    try:
        return rig.sad.import_all(carried, rig.ours)
    finally:
        rig.plane.resume_receiving()


def test_all_go_on_whatever_their_order(site, after):
    site.transfer([PACKET])
    sent = send(site.a, 2)
    was = (outbound(site),)
    site.clock.advance(5)
    assert (send(after), after.drops) == ([], {"retired": 1})
    carried = over_the_wire(site.a.sad.export_all())
    assert (send(site.a), site.a.drops) == ([], {"retired": 1})
    assert go_on(after, carried) == ((), (), ())
    assert not any(carried.records)
    now = after.plane.read_sa(next(handle for handle, one in after.sad.records.items() if one.direction is Direction.OUTBOUND))
    assert (now.packets, now.sequence, now.last_use) == (was[0].packets, was[0].sequence, was[0].last_use)
    sent += send(after, 2)
    assert [number_of(each) & 0xFFFFFFFF for each in sent] == [2**32 - 1, 0, 1, 2]


def test_the_window_goes_along(site, after):
    site.b.push(*[to_a(bytes(72))] * 3)
    site.b.step()
    sent = [MemoryDatagram(each.data, each.remote, each.local) for each in site.b.sent()]
    site.a.arrive(sent[1])
    site.a.step()
    assert go_on(after, site.a.sad.export_all()) == ((), (), ())
    after.arrive(*sent)
    after.step()
    assert (len(after.pulled()), after.drops) == (2, {"replay": 1})


def test_a_condition_that_was_told_is_not_told_again(site, after):
    site.a.sad.records[site.outbound("a")].reported = SaFlag.SOFT_LIMIT
    go_on(after, site.a.sad.export_all())
    assert [record.reported for record in after.sad.records.values() if record.path is not None] == [SaFlag.SOFT_LIMIT]


def test_each_side_names_what_the_other_does_not_have(site, after):
    here = after.sad.records
    (receiver,) = (handle for handle, record in here.items() if record.direction is Direction.INBOUND)
    with after.sad.awaiting():
        alone = after.sad.install(params_of(here[receiver], spi=here[receiver].spi + 1))
    after.sad.remove(receiver)
    assert go_on(after, site.a.sad.export_all()) == ((alone,), (site.inbound("a"),), ())
    assert len(send(after)) == 1


@pytest.mark.parametrize("change", [{"layout": bytes(32)}, {"records": bytearray(b"k" * 400)}, {"handles": []}])
def test_records_that_cannot_be_read_here_are_refused_and_wiped(site, after, change):
    carried = msgspec.structs.replace(site.a.sad.export_all(), **change)
    assert any(carried.records)
    with pytest.raises(DataPlaneError) as refused:
        go_on(after, carried)
    assert refused.value.errno == errno.EINVAL
    assert not any(carried.records)
    assert send(after) == []


def test_while_devices_are_read_nothing_goes_on(site, after):
    carried = site.a.sad.export_all()
    with pytest.raises(DataPlaneError) as refused:
        after.sad.import_all(carried, after.ours)
    assert refused.value.errno == errno.EBUSY
    assert not any(carried.records)


def test_no_key_shows(site):
    key = bytes(keymat(site.suite, "to b 1"))
    carried = site.a.sad.export_all()
    assert key in carried.records  # the control
    for shown in (repr(carried), str(carried)):
        assert key[:4].hex() not in shown
        assert repr(key[:4])[2:-1] not in shown


# ---- what keeps an SA from leaving -----------------------------------------------------------------------------------------------


class Busy:
    """Of a plane: a loop has a burst of the SAs that it `holds`."""

    def __init__(self, monkeypatch, plane):
        self.holds = set()
        for name in ("check_leaving", "export_sa", "export_many"):
            monkeypatch.setattr(plane, name, self.guarded(getattr(plane, name)))

    def guarded(self, call):
        def guard(handle, *rest):
            if not self.holds.isdisjoint(handle if isinstance(handle, list) else [handle]):
                raise DataPlaneError(errno.EAGAIN, "a loop has a burst of it")
            return call(handle, *rest)

        return guard


def count(carried):
    return len(carried.sas if hasattr(carried, "sas") else carried.handles)


@pytest.mark.parametrize("export", [Sad.export, Sad.export_all])
def test_an_sa_that_was_asked_for_before_leaves_with_all_or_not_at_all(site, monkeypatch, export):
    """It was retired before the others, so that a loop may have let go of it alone."""
    busy = Busy(monkeypatch, site.a.plane)
    first, last = site.a.sad.records
    busy.holds = {last}
    with pytest.raises(DataPlaneError):
        site.a.plane.export_sa(last, site.suite)
    busy.holds = {first}
    with pytest.raises(DataPlaneError) as again:
        export(site.a.sad)
    assert again.value.errno == errno.EAGAIN
    busy.holds = set()
    carried = export(site.a.sad)
    assert (count(carried), carried.left_out) == (2, ())


@pytest.mark.parametrize("export", [Sad.export, Sad.export_all])
def test_an_sa_that_has_left_already_is_named(site, export):
    alone = site.a.plane.export_sa(site.inbound("a"), site.suite)
    carried = export(site.a.sad)
    assert [spi for spi, _ in carried.left_out] == [alone.spi]
    assert count(carried) == 1


def test_of_one_that_is_named_twice_none_leaves(site):
    handles = list(site.a.sad.records)
    with pytest.raises(DataPlaneError) as refused:
        site.a.plane.export_many([*handles, handles[0]])
    assert refused.value.errno == errno.EINVAL
    assert count(site.a.sad.export()) == 2


def test_records_are_wiped_when_they_cannot_be_had(site, monkeypatch):
    """Whatever the core has written by then."""
    core, written = lib, []

    class Failing:
        def dp_sa_export_many(self, _plane, _handles, _count, records, room, octets):
            if not room:
                octets[0] = 64
                return -errno.ENOBUFS
            records[0:64] = b"k" * 64
            written.append(records)
            return -errno.EALREADY

        def __getattr__(self, name):
            return getattr(core, name)

    monkeypatch.setattr(moving, "lib", Failing())
    with pytest.raises(DataPlaneError):
        site.a.plane.export_many(list(site.a.sad.records))
    assert not any(written[0])


# ---- ten thousand ----------------------------------------------------------------------------------------------------------------


@pytest.mark.measure
def test_ten_thousand_sas_leave_and_go_on_within_a_second():
    """CPU seconds of both processes together; installing them is not counted, since the old one forwards meanwhile."""
    many = 10_000
    with pair() as site, PlaneRig("c", "192.0.2.7") as old, PlaneRig("d", "192.0.2.8") as new:
        record = site.a.sad.records[site.outbound("a")]
        ours: dict[int, SaHandle] = {}
        for number in range(many):
            params = params_of(record, spi=0x1000 + number)
            handle = old.sad.install(replace(params, keymat=bytearray(20)))
            with new.sad.awaiting():
                ours[handle] = new.sad.install(params)
        new.plane.pause_receiving()
        began = time.process_time()
        others = new.sad.import_all(over_the_wire(old.sad.export_all()), ours)
        took = time.process_time() - began
    assert others == ((), (), ())
    assert took < 1.0, f"{took:.3f} s"
