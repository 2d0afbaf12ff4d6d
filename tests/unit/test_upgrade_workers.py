"""A data plane with several workers goes on in another process: SAs, flows, counters and packets that wait have their workers."""

from __future__ import annotations

import errno
import struct
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipsec_dp.databases.sad_shape import StandingSad, ToldSad
from ipsec_dp.dataplane import MemoryDatagram, Offload, owner_of
from ipsec_dp.dataplane.carried import CarriedFlows
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.host import HostError
from ipsec_dp.host.tun import Tun
from ipsec_dp.network.workers import attach_inherited
from tests.unit.successors import over_the_wire
from tests.unit.test_spread import FLOWS, OUT, Site, inner, parts, site_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = struct.Struct("=2I5Q4I4H")  # loop, set, and when its places and none last sent; whose they are, by which worker


def record(loop: int, number: int, worker: int) -> bytes:
    return RECORD.pack(loop, number, 1, *[0] * 8, worker, *[0] * 3)


FIRST_HALF, SECOND_HALF = range(FLOWS // 2), range(FLOWS // 2, FLOWS)


def stopped(site: Site) -> Site:
    site.settle()
    site.gateway.plane.pause_receiving()
    return site


@contextmanager
def successor(before: Site, tunnel: int = 0) -> Iterator[Site]:
    """All goes on there; `tunnel`: its number there."""
    with before.gateway, site_of(before.count, 0).gateway as gateway:
        sad, plane = gateway.sad, gateway.plane
        gateway.protect([OUT], tunnel=tunnel)
        sad.remove_child(sad.add_child(tunnel, [OUT]))  # CHILD_SAs have other numbers
        told = ToldSad(before.gateway.sad, {0: "t"})
        standing = StandingSad(sad, {"t": tunnel}, {"t": 0}, lambda *_: gateway.link)
        assert standing.take(over_the_wire(told.news())) == []
        stopped(before)
        plane.pause_receiving()
        flows = before.gateway.plane.export_flows(before.gateway.clock.ns)
        sad.import_all(over_the_wire(before.gateway.sad.export_all()), standing.handles)
        plane.import_counters([over_the_wire(each) for each in before.gateway.plane.export_counters()])
        plane.import_flows(over_the_wire(flows))
        plane.resume_receiving()
        handles = [standing.handles[int(handle)] for handle in before.outbound]
        yield Site(gateway, before.count, handles, list(sad.children.values()))


def taken_by(site: Site, flow: int) -> int:
    """Which CHILD_SA seals the next packet of a flow."""
    before = site.senders()
    site.send(flow, 0)
    site.settle()
    (by,) = (each for each, (new, old) in enumerate(zip(site.senders(), before, strict=True)) if new != old)
    return by


def arrived(site: Site) -> list[tuple[int, int]]:
    """What has left comes in again: flows and numbers, in the order of arrival."""
    plane, found = site.gateway.plane, []
    for left in site.sealed():
        for data in left:
            plane.push_link(0, MemoryDatagram(data, site.gateway.endpoint, site.gateway.endpoint), 0)
    for worker in (0, *range(site.count)):
        plane.step_inbound(site.gateway.clock.ns, worker=worker)
        found += [parts(packet) for packet in iter(partial(plane.pull_tun, 0, worker), None)]
    return found


# ---- SAs


@pytest.mark.parametrize("tunnel", [0, 4])
def test_each_sa_is_of_the_worker_that_is_as_far_from_the_tunnels_own(tunnel):
    before = site_of(3, 3)
    with successor(before, tunnel) as after:
        records = after.gateway.sad.records.values()
        assert sorted(record.worker for record in records) == [0, 0, 1, 1, 2, 2]
        workers = [after.gateway.sad.records[handle].worker for handle in after.outbound]
        assert workers == [owner_of(tunnel, 3, resource) for resource in range(3)]
        for flow in range(FLOWS):
            after.send(flow, 0)
        after.settle()
        assert all(after.senders())
        assert len(arrived(after)) == FLOWS
        assert after.gateway.drops == {}


# ---- flows


@pytest.mark.parametrize("count", [2, 3])
def test_flows_that_are_under_way_keep_to_their_workers_whatever_a_new_one_would_get(count):
    """Those of the first half began while there was one SA."""
    before = site_of(count, 1)
    for flow in FIRST_HALF:
        before.send(flow, 0)
    for resource in range(1, count):
        before.add(resource)
    with_whom = [taken_by(before, flow) for flow in range(FLOWS)]
    assert {with_whom[flow] for flow in FIRST_HALF} == {0}
    assert {with_whom[flow] for flow in SECOND_HALF} == set(range(count))
    with successor(before) as after:
        assert [taken_by(after, flow) for flow in range(FLOWS)] == with_whom
        after.rest()
        assert {taken_by(after, flow) for flow in FIRST_HALF} == set(range(count))
        assert [taken_by(after, flow) for flow in SECOND_HALF] == with_whom[FLOWS // 2 :], "the seed is the same"


def test_what_has_rested_is_not_told():
    site = site_of(2, 2)
    with site.gateway as gateway:
        for flow in range(FLOWS):
            site.send(flow, 0)
        site.rest()
        site.send(0, 1)
        stopped(site)
        assert len(gateway.plane.export_flows(gateway.clock.ns).records) == RECORD.size


def test_with_one_worker_there_is_a_seed_alone():
    with site_of(1, 1).gateway as gateway:
        gateway.plane.pause_receiving()
        flows = gateway.plane.export_flows(gateway.clock.ns)
        assert flows.records == b""
        gateway.plane.import_flows(flows)


def test_while_devices_are_read_no_flow_is_told():
    with site_of(2, 2).gateway as gateway, pytest.raises(DataPlaneError) as refused:
        gateway.plane.export_flows(gateway.clock.ns)
    assert refused.value.errno == errno.EBUSY


@pytest.mark.parametrize(
    "records",
    [
        b"\0",
        record(2, 0, 0),
        record(0, 4096, 0),
        record(0, 0, 2),
    ],
    ids=["cut", "no such loop", "no such place", "no such worker"],
)
def test_flows_that_cannot_be_are_refused_as_a_whole(records):
    site = site_of(2, 2)
    with site.gateway as gateway:
        with_whom = [taken_by(site, flow) for flow in range(FLOWS)]
        with pytest.raises(DataPlaneError) as refused:
            gateway.plane.import_flows(CarriedFlows(1, record(0, 7, 0) + records))
        assert refused.value.errno == errno.EINVAL
        site.rest()
        assert [taken_by(site, flow) for flow in range(FLOWS)] == with_whom


# ---- counters


def test_each_worker_counts_on():
    before = site_of(3, 3)
    for flow in range(FLOWS):
        before.send(flow, 0)
    before.settle()
    plane = before.gateway.plane
    workers, together = plane.worker_counters(), plane.counters()
    assert all(each.packets_out for each in workers)
    with successor(before) as after:
        assert after.gateway.plane.worker_counters() == workers
        assert after.gateway.plane.counters() == together


def test_a_worker_that_is_not_there_counts_nothing():
    with site_of(2, 0).gateway as gateway, site_of(3, 0).gateway as more:
        with pytest.raises(DataPlaneError) as refused:
            gateway.plane.import_counters(more.plane.export_counters())
        assert refused.value.errno == errno.EINVAL


# ---- packets that wait for an SA


def test_a_packet_waits_on_at_the_worker_that_reads_what_is_behind_it():
    """The SA that comes is that worker's, so that what is behind it is not handed over."""
    before, after = site_of(2, 0), site_of(2, 0)
    with before.gateway, after.gateway:
        before.send(5, 0, worker=1)
        (packet,) = stopped(before).gateway.plane.export_kept()
        after.gateway.plane.pause_receiving()
        after.gateway.plane.import_kept(over_the_wire(packet), after.gateway.clock.ns)
        after.add(1)
        after.gateway.plane.resume_receiving()
        after.gateway.plane.push_tun(0, inner(5, 1), 1)
        for worker in (1, 0, 1):
            after.outbound_step(worker)
        assert arrived(after) == [(5, 0), (5, 1)]


# ---- interfaces


class Attached:
    """A data plane of three workers, which notes who has which descriptor and who does not read it."""

    workers = 3

    def __init__(self) -> None:
        self.descriptors: dict[int, tuple[int, Offload | None]] = {}
        self.unread: list[int] = []

    def attach_tun(self, _interface: int, descriptor: int, worker: int, *, on: Offload | None) -> None:
        self.descriptors[worker] = descriptor, on

    def receive_off_tun(self, _interface: int, worker: int) -> None:
        self.unread.append(worker)


ON = [Offload(0), Offload.TUN_CSUM, Offload(0)]


def attached(descriptors: list[int], reader: int = 0) -> Attached:
    plane = Attached()
    attach_inherited(cast("Any", plane), 0, Tun("ipsec0", 7, True, descriptors, reader), ON)
    return plane


def test_each_worker_has_the_queue_that_it_had():
    plane = attached([40, 41, 42])
    assert (plane.descriptors, plane.unread) == ({n: (40 + n, ON[n]) for n in range(3)}, [])


def test_an_only_queue_is_read_by_whoever_read_it():
    plane = attached([40], reader=1)
    assert (plane.descriptors, plane.unread) == ({n: (40, ON[n]) for n in range(3)}, [0, 2])


@pytest.mark.parametrize(("descriptors", "reader"), [([40, 41], 0), ([], 0), ([40], 3)])
def test_queues_for_another_number_of_workers_are_refused(descriptors, reader):
    with pytest.raises(HostError, match="queues for 3 workers"):
        attached(descriptors, reader)
