"""SAs that go on in another data plane: the successor of a gateway, at any moment of its traffic and of its rekeys."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Annotated, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsec_dp.databases.carried_sas import CarriedRecords, CarriedSa, CarriedSad, records_of
from ipsec_dp.dataplane import (
    CarriedTraffic,
    DataPlane,
    Direction,
    ExportedSa,
    Limits,
    MemoryDatagram,
    Offload,
    SaFlag,
)
from ipsec_dp.dataplane.carried import EndpointValue
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.plane import PlaneRig, keymat, pair
from ipsec_dp.util.leaves import LEAVES, NEVER, SEALED
from tests.unit.sites import inbound, outbound, to_a, to_b
from tests.unit.successors import OTHER, PACKET, iv_of, number_of, over_the_wire, params_of, send, succeed

GCM = parse_suite("aes128gcm16")

# ---- exact: the source has stopped -----------------------------------------------------------------------------------------------


def test_what_was_handed_over_is_refused_where_it_was():
    with pair() as site:
        waiting = send(site.a, 2)
        before = {name: succeed(site, name) for name in "ab"}
        before["a"].push(PACKET)
        before["a"].step()
        assert (before["a"].sent(), before["a"].drops) == ([], {"retired": 1})
        before["b"].arrive(*(MemoryDatagram(each.data, each.remote, each.local) for each in waiting))
        before["b"].step()
        assert (before["b"].pulled(), before["b"].drops) == ([], {"retired": 2})
        assert [gateway.plane.arena().in_use for gateway in before.values()] == [0, 0]
        assert site.transfer([PACKET] * 2) == [PACKET] * 2  # the control: its successor has them


@pytest.mark.parametrize("suite", ["aes128gcm16", "aes256gcm16-esn", "chacha20poly1305", "aes128-sha256-esn"])
def test_counters_and_times_go_on(suite):
    with pair(suite) as site:
        assert len(site.transfer([PACKET] * 3)) == 3
        site.clock.advance(7)
        assert len(site.transfer([PACKET] * 2)) == 2
        was = outbound(site), inbound(site)
        succeed(site, "a")
        succeed(site, "b")
        assert (outbound(site), inbound(site)) == was
        assert len(site.transfer([PACKET])) == 1
        assert (outbound(site).sequence, outbound(site).packets, inbound(site).octets) == (6, 6, 600)
        assert outbound(site).first_use == was[0].first_use


def test_the_window_is_carried_whole():
    with pair(replay_window=64) as site:
        sent = send(site.a, 10)

        def arrive(*places):
            site.b.arrive(*(MemoryDatagram(sent[i].data, sent[i].remote, sent[i].local) for i in places))
            site.b.step()
            return len(site.b.pulled())

        assert arrive(9, 2, 4) == 3
        succeed(site, "b")
        assert arrive(9, 2, 4) == 0
        assert site.b.drops == {"replay": 3}
        assert arrive(0, 1, 3, 8) == 4


LAST = {"aes128gcm16": 2**32 - 1, "aes128gcm16-esn": 2**64 - 1}


@pytest.mark.parametrize("suite", LAST)
def test_near_its_end_an_sa_is_refused_and_does_not_begin_anew(suite):
    with pair(suite, sequence=LAST[suite] - 2) as site:
        assert len(send(site.a)) == 1
        succeed(site, "a")
        assert len(send(site.a, 3)) == 1
        assert site.a.drops == {"sequence_exhausted": 2}
        succeed(site, "a")
        assert send(site.a) == []
        assert SaFlag.SEQUENCE_EXHAUSTED in outbound(site).flags


def test_both_halves_of_an_extended_number_are_carried():
    with pair("aes128gcm16-esn", sequence=2**32 - 2) as site:
        for expected in (2**32 - 1, 2**32, 2**32 + 1):
            site.a.plane.switch(0, site.children["a"].number, site.outbound("a"))
            assert len(site.transfer([PACKET])) == 1
            succeed(site, "a")
            succeed(site, "b")
            assert (outbound(site).sequence, inbound(site).sequence) == (expected, expected)


@pytest.mark.parametrize("limits", [Limits(hard_packets=5), Limits(hard_octets=500)])
def test_limits_count_what_the_source_has_used(limits):
    with pair(limits=limits) as site:
        assert len(site.transfer([PACKET] * 3)) == 3
        succeed(site, "a")
        succeed(site, "b")
        assert len(site.transfer([PACKET] * 3)) == 2
        assert site.a.drops == {"hard_limit": 1}
        assert SaFlag.HARD_LIMIT in outbound(site).flags


def test_a_condition_that_was_told_is_not_told_again():
    with pair(limits=Limits(soft_packets=1)) as site:
        send(site.a)
        assert len(site.a.events()) == 1
        succeed(site, "a")
        assert outbound(site).flags == SaFlag.SOFT_LIMIT
        send(site.a)
        assert (site.a.events(), list(site.a.sad.rescan())) == ([], [])
        site.a.sad.acted(site.outbound("a"), SaFlag.SOFT_LIMIT)
        send(site.a)
        assert len(site.a.events()) == 1  # the control


STEPS = st.lists(
    st.sampled_from(["a sends", "b sends", "on the way", "new inbound", "switch", "old goes", "a moves", "b moves"]), max_size=24
)


class Story:
    """A site whose gateways are replaced in the middle of traffic and rekeys, and all that was on the wire."""

    def __init__(self, site):
        self.site, self.old, self.new = site, {}, False
        self.count, self.numbers, self.ivs = 0, [], []
        self.expected: dict[str, list[bytes]] = {"a": [], "b": []}
        self.arrived: dict[str, list[bytes]] = {"a": [], "b": []}

    def packet(self, receiver):
        self.count += 1
        made = (to_a if receiver == "a" else to_b)(self.count.to_bytes(4))
        self.expected[receiver].append(made)
        return made

    def leave(self, name):
        gateway = getattr(self.site, name)
        gateway.step()
        for datagram in gateway.sent():
            self.numbers.append((name, number_of(datagram)))
            self.ivs.append((name, iv_of(datagram)))
            self.site.wire.send(name, OTHER[name], MemoryDatagram(datagram.data, datagram.remote, datagram.local))

    def come(self, name):
        gateway = getattr(self.site, name)
        self.site.deliver(gateway)
        gateway.step()
        self.arrived[name] += gateway.pulled()

    def sends(self, name, *, arrive):
        getattr(self.site, name).push(self.packet(OTHER[name]), self.packet(OTHER[name]))
        self.leave(name)
        if arrive:
            self.come(OTHER[name])

    def take(self, step):
        site = self.site
        match step:
            case "a sends" | "b sends":
                self.sends(step[0], arrive=True)
            case "on the way":
                self.sends("a", arrive=False)
            case "new inbound" if not self.new and not self.old:
                self.old = {name: site.inbound(name) for name in "ab"}
                site.install_inbound()
                self.new = True
            case "switch" if self.new:
                site.switch()
                self.new = False
            case "old goes" if self.old and not self.new:
                for name in "ab":
                    self.come(name)
                    spi = self.old_spi[name]
                    handle = next(h for h, r in getattr(site, name).sad.records.items() if r.spi == spi and r.replay_window)
                    getattr(site, name).sad.remove(handle)
                self.old = {}
            case "a moves" | "b moves":
                self.come(step[0])  # what the kernel holds for it waits for its successor; the rig's queue does not
                self.old_spis()
                succeed(site, step[0]).close()
        self.old_spis()

    old_spi: dict[str, int]

    def old_spis(self):
        """The old SAs by their SPIs, since handles change."""
        if self.old and not hasattr(self, "old_spi"):
            self.old_spi = {name: getattr(self.site, name).sad.records[self.old[name]].spi for name in "ab"}
        if not self.old and hasattr(self, "old_spi"):
            del self.old_spi


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from(["aes128gcm16", "aes128gcm16-esn", "aes128-sha256"]), st.sampled_from([0, 2**32 - 20]))
def test_traffic_and_rekeys_go_on_as_if_nothing_had_happened(steps, suite, sequence):
    """SAs that are being rekeyed too, in the middle of it, on either side: new ones that only receive, old ones that still do."""
    with pair(suite, sequence=sequence if suite.endswith("esn") else 0) as site:
        story = Story(site)
        for step in steps:
            story.take(step)
        for name in "ab":
            story.come(name)
        assert story.arrived == story.expected
        assert len(set(story.numbers)) == len(story.numbers)
        assert len(set(story.ivs)) == len(story.ivs)
        assert (site.a.drops, site.b.drops) == ({}, {})
        assert outbound(site).sequence - (sequence if outbound(site).sequence >= sequence else 0) <= story.count


def test_a_clone_exports_nothing():
    with pair() as site:
        site.a.plane.expire_all()
        carried = site.a.sad.export()
        assert carried.sas == ()
        assert {spi for spi, _ in carried.left_out} == {record.spi for record in site.a.sad.records.values()}


# ---- what is carried -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [ExportedSa, CarriedTraffic, CarriedSa, CarriedSad, CarriedRecords])
def test_each_field_says_whether_it_may_leave_the_host(part):
    for name, hint in get_type_hints(part, include_extras=True).items():
        assert get_origin(hint) is Annotated, name
        leaves = [meta.extra[LEAVES] for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta) and meta.extra]
        assert leaves in ([NEVER], [SEALED]), name


def test_no_key_shows_and_none_is_left():
    with pair() as site:
        key = bytes(keymat(site.suite, "to b 1"))
        carried = site.a.sad.export()
        (state,) = [each.sa for each in carried.sas if (each.sa.direction, each.sa.spi) == (Direction.OUTBOUND, site.spis["b"])]
        assert bytes(state.keymat) == key  # the control
        for shown in (repr(state), str(state), repr(carried), f"{carried.sas}"):
            assert key[:4].hex() not in shown
            assert repr(key[:4])[2:-1] not in shown
        with pytest.raises(DataPlaneError) as again:
            site.a.plane.export_sa(site.outbound("a"), site.suite)
        assert again.value.errno == errno.EALREADY
        records_of(carried)
        assert not any(state.keymat)


def test_two_peers_that_chose_one_spi_are_told_apart_by_their_keys_or_addresses():
    elsewhere = EndpointValue(b"\xcb\0\x71\x09", 4500, 0)
    with pair() as site:
        record = site.a.sad.records[site.outbound("a")]
        state = site.a.plane.export_sa(record.handle, record.suite)
        assert state.path is not None
        assert record.path is not None
        its = msgspec.structs.replace(state, keymat=keymat(GCM, "y"), path=msgspec.structs.replace(state.path, remote=elsewhere))
        by_key = params_of(record, keymat=keymat(GCM, "y"))
        by_address = params_of(record, path=replace(record.path, remote=elsewhere.endpoint))
        for wanted in (by_key, by_address):
            with pytest.raises(DataPlaneError):
                site.b.plane.import_sa(wanted, state)
            site.b.plane.import_sa(wanted, its)


NUMBERS = st.one_of(st.integers(-1, 2**65), st.sampled_from([0, 64, 2**32, 2**64 - 1]))
FIELDS = ("sequence", "bound", "iv", "window", "packets", "octets", "flags", "first_use", "period_sequence", "model")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), NUMBERS), st.binary(max_size=40), st.sampled_from(list(Direction)))
def test_whatever_a_state_says_it_is_imported_or_refused(changes, words, direction):
    with pair() as site:
        record = next(r for r in site.a.sad.records.values() if r.direction is direction)
        good = ExportedSa(
            exact=True, direction=direction, spi=record.spi, suite=str(GCM), keymat=keymat(GCM, "z"), sequence=1, words=words
        )
        with PlaneRig("c", "192.0.2.9") as after:
            try:
                handle = after.plane.import_sa(params_of(record), msgspec.structs.replace(good, **changes))
            except DataPlaneError:
                assert after.plane.arena().in_use == 0
            else:
                assert after.plane.read_sa(handle).sequence == changes.get("sequence", 1)


def test_a_state_of_a_newer_model_or_of_another_sa_is_refused():
    with pair() as site, PlaneRig("c", "192.0.2.9") as after:
        record = site.a.sad.records[site.outbound("a")]
        state = site.a.plane.export_sa(record.handle, record.suite)
        wrong = [
            (params_of(record), msgspec.structs.replace(state, model=2)),
            (params_of(record, spi=record.spi + 1), state),
            (params_of(record, suite=parse_suite("aes128gcm16-esn")), state),
            (params_of(record, keymat=bytes(20)), state),
        ]
        for params, each in wrong:
            with pytest.raises(DataPlaneError) as refused:
                after.plane.import_sa(params, each)
            assert refused.value.errno == errno.EINVAL
        after.plane.import_sa(params_of(record), state)  # the control


def test_times_of_another_hosts_clock_are_moved():
    with pair() as site, PlaneRig("c", "192.0.2.9") as after:
        send(site.a)
        record = site.a.sad.records[site.outbound("a")]
        state = site.a.plane.export_sa(record.handle, record.suite)
        info = after.plane.read_sa(after.plane.import_sa(params_of(record), state, clock=10**9))
        assert info.last_use == state.last_use + 10**9
        assert state.path is not None
        assert record.path is not None
        assert state.path.over(3) == replace(record.path, link=3)


def test_drops_of_reasons_that_are_not_known_here_are_left_out():
    with pair() as site, PlaneRig("c", "192.0.2.9") as after:
        record = site.b.sad.records[site.inbound("b")]
        state = site.b.plane.export_sa(record.handle, record.suite)
        more = msgspec.structs.replace(state, drops={"icv": 3, "of the future": 9}, last_drop="of the future")
        info = after.plane.read_sa(after.plane.import_sa(params_of(record), more))
        assert (info.drops["icv"], info.last_drop) == (3, None)


# ---- the plane around them -------------------------------------------------------------------------------------------------------


def test_what_a_tunnel_and_a_plane_have_counted_goes_on():
    with pair() as site, PlaneRig("c", "192.0.2.9") as after:
        site.transfer([PACKET] * 4)
        site.a.push(to_b(version=6), b"\0" * 20)
        site.a.step()
        handle = site.outbound("a")
        site.a.sad.remove(handle)
        site.a.sad.reclaim()
        was = site.a.sad.traffic(0)
        assert was.packets_out == 5
        after.plane.import_traffic(0, over_the_wire(site.a.plane.export_traffic(0)))
        after.plane.import_counters(site.a.plane.export_counters())
        assert after.sad.traffic(0) == was
        assert after.plane.counters() == site.a.plane.counters()
        with pytest.raises(DataPlaneError):
            after.plane.import_traffic(16, CarriedTraffic())


def test_an_spi_that_was_announced_elsewhere_is_not_given_again():
    with DataPlane(sa_slots=256, tunnels=4, interfaces=2) as plane:
        plane.claim_spi(0x5A0007)
        with pytest.raises(DataPlaneError) as taken:
            plane.claim_spi(0x7B0007)
        assert taken.value.errno == errno.EEXIST
        assert 7 not in {plane.allocate_spi(0) & 255 for _ in range(255)}


def test_a_paused_plane_reads_nothing_and_says_when_it_is_idle():
    with pair() as site:
        assert not site.a.plane.is_idle()
        site.a.plane.pause_receiving()
        assert site.a.plane.is_idle()
        assert send(site.a) == []
        site.a.plane.resume_receiving()
        site.a.step()
        assert len(site.a.sent()) == 1


def test_offloads_of_a_device_that_cannot_have_them_are_refused():
    with PlaneRig("c", "192.0.2.9") as rig, open("/dev/null", "rb") as device, pytest.raises(DataPlaneError):
        rig.plane.attach_tun(1, device.fileno(), on=Offload.UDP_GRO)
