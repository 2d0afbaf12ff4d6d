"""Several SAs of one tunnel, each another worker's: which of them a packet takes, and in which order flows arrive (RFC 9611).

The gateway sends to itself. The steps are called one by one. Tunnel 0 has one CHILD_SA for each worker, with the same selectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.databases.sad_records import ChildSa
from ipsec_dp.dataplane import Action, Encapsulation, MemoryDatagram, OuterPath, PolicyRule, SaHandle
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.packets import checksum, udp
from ipsec_dp.rig.plane import PlaneRig, keymat, selector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ipsec.selectors import SelectorPair

SUITE = parse_suite("aes128gcm16")
REST_S = 0.5  # DP_SPREAD_REST_NS
FLOWS = 96  # no worker is without any: 3 * (2/3) ** 96 is nothing
OUT, BACK = selector("10.1.0.0/16", "10.2.0.0/24"), selector("10.2.0.0/24", "10.1.0.0/16")
MORE = selector("10.3.0.0/16", "10.4.0.0/24")


def inner(flow: int, number: int) -> bytes:
    return udp("10.1.0.1", f"10.2.0.{flow}", number.to_bytes(4) + bytes(60))


def parts(packet: bytes) -> tuple[int, int]:
    """Flow and number."""
    return packet[19], int.from_bytes(packet[28:32])


@dataclass
class Site:
    gateway: PlaneRig
    count: int
    outbound: list[SaHandle]
    children: list[ChildSa]

    def add(self, resource: int, selectors: Sequence[SelectorPair] = (OUT,)) -> None:
        """A CHILD_SA of the worker that is `resource` after the tunnel's own."""
        gateway, keys = self.gateway, keymat(SUITE, f"resource {resource} {len(self.children)}")
        spi = gateway.sad.allocate_spi(0x5A000000 + (len(self.children) << 12))
        gateway.sad.install_inbound(
            spi=spi, suite=SUITE, keymat=keys, selectors=[BACK], tunnel=0, interface=0, replay_window=1024, resource=resource
        )
        child = gateway.sad.add_child(0, selectors)
        path = OuterPath(gateway.endpoint, gateway.endpoint, Encapsulation.UDP, gateway.link)
        self.outbound.append(
            gateway.sad.install_outbound(spi=spi, suite=SUITE, keymat=keys, path=path, tunnel=0, resource=resource)
        )
        self.children.append(child)
        gateway.sad.switch(child, self.outbound[-1])

    def send(self, flow: int, number: int, worker: int = 0) -> None:
        self.gateway.plane.push_tun(0, inner(flow, number), worker)
        self.outbound_step(worker)

    def outbound_step(self, worker: int) -> int:
        return self.gateway.plane.step_outbound(self.gateway.clock.ns, worker=worker)

    def settle(self) -> None:
        while sum(map(self.outbound_step, range(self.count))):
            pass

    def sealed(self) -> list[list[bytes]]:
        """By worker, what it has sent since the last time."""
        plane = self.gateway.plane
        return [[one.data for one in iter(partial(plane.pull_link, 0, worker), None)] for worker in range(self.count)]

    def senders(self) -> list[int]:
        """By CHILD_SA, the packets that it has sealed."""
        return [self.gateway.plane.read_sa(handle).packets for handle in self.outbound]

    def rest(self) -> None:
        self.gateway.clock.advance(2 * REST_S)


def site_of(count: int, resources: int) -> Site:
    gateway = PlaneRig("a", "192.0.2.1", workers=count, hold_octets=65536)
    for worker in range(1, count):
        gateway.plane.attach_memory_tun(0, 4096, worker)
        gateway.plane.attach_memory_link(Encapsulation.UDP, gateway.endpoint, 4096, worker)
    gateway.set_policy([PolicyRule(OUT, Action.PROTECT, 0, 0)])
    site = Site(gateway, count, [], [])
    for resource in range(resources):
        site.add(resource)
    return site


@pytest.mark.parametrize("count", [2, 3])
def test_each_worker_seals_with_its_own_and_a_flow_keeps_to_one(count):
    site = site_of(count, count)
    with site.gateway:
        for number in range(3):
            for flow in range(FLOWS):
                site.send(flow, number)
        site.settle()
        sent = site.senders()
        assert sum(sent) == 3 * FLOWS
        assert all(packets and packets % 3 == 0 for packets in sent)
        assert [len(one) for one in site.sealed()] == sent
        assert site.gateway.drops == {}


def test_the_first_takes_the_packets_of_a_worker_that_has_none():
    site = site_of(3, 2)
    with site.gateway:
        for flow in range(FLOWS):
            site.send(flow, 0)
        site.settle()
        sent = site.senders()
        assert all(sent)
        assert sum(sent) == FLOWS
        assert site.sealed()[2] == []


def test_selectors_are_the_same_in_any_order_and_however_often_each_is_said():
    site = site_of(3, 0)
    with site.gateway:
        for resource, selectors in enumerate(([OUT, MORE], [MORE, OUT], [OUT, MORE, OUT])):
            site.add(resource, selectors)
        for flow in range(FLOWS):
            site.send(flow, 0)
        site.settle()
        assert all(site.senders())


def test_a_flow_that_is_under_way_goes_to_another_worker_only_when_it_has_rested():
    site = site_of(2, 1)
    with site.gateway:
        for flow in range(FLOWS):
            site.send(flow, 0)
        site.add(1)
        for number in range(1, 4):
            site.gateway.clock.advance(REST_S / 2)
            for flow in range(FLOWS):
                site.send(flow, number)
        site.settle()
        assert site.senders() == [4 * FLOWS, 0]
        site.rest()
        for flow in range(FLOWS):
            site.send(flow, 4)
        site.settle()
        assert site.senders()[1] > 0


def test_when_one_ends_the_first_takes_its_flows_and_what_was_on_the_way_to_it():
    site = site_of(2, 2)
    with site.gateway:
        for flow in range(FLOWS):
            site.send(flow, 0)  # some of it waits for worker 1 now
        site.gateway.sad.switch(site.children[1], None)
        for flow in range(FLOWS):
            site.send(flow, 1)
        site.settle()
        assert site.senders() == [2 * FLOWS, 0]
        assert site.gateway.drops == {}


def test_a_rekey_changes_the_sa_and_not_the_worker():
    site = site_of(2, 2)
    with site.gateway:
        for flow in range(FLOWS):
            site.send(flow, 0)
        site.settle()
        before = [len(one) for one in site.sealed()]
        old = site.outbound[1]
        site.add(1)
        new, child = site.outbound.pop(), site.children.pop()
        site.gateway.sad.switch(child, None)
        site.gateway.sad.remove_child(child)
        site.gateway.sad.switch(site.children[1], new)
        site.gateway.sad.remove(old)
        for flow in range(FLOWS):
            site.send(flow, 1)
        site.settle()
        assert [len(one) for one in site.sealed()] == before
        assert site.gateway.drops == {}


def test_fragments_go_with_the_rest_of_their_flow():
    site = site_of(3, 3)
    with site.gateway:

        def taken_by(packet: bytes) -> int:
            before = site.senders()
            site.gateway.plane.push_tun(0, packet, 0)
            site.settle()
            (by,) = (each for each, (new, old) in enumerate(zip(site.senders(), before, strict=True)) if new != old)
            return by

        for flow in range(FLOWS):
            assert taken_by(later_fragment(inner(flow, 0))) == taken_by(inner(flow, 0))


def later_fragment(packet: bytes) -> bytes:
    """It lies 8 octets into its datagram, and shows no ports."""
    header = bytearray(packet[:20])
    header[6:8], header[10:12] = (1).to_bytes(2), bytes(2)
    header[10:12] = checksum(bytes(header)).to_bytes(2)
    return bytes(header) + packet[20:]


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 12), st.integers(0, 2)), min_size=1, max_size=40),
    st.sets(st.integers(0, 40)),
)
def test_every_flow_arrives_whole_and_in_order_whatever_sas_come_meanwhile(sent, comings):
    """`sent`: flow, how many, and who takes a step then. What leaves arrives at one worker, in the order of leaving."""
    site = site_of(3, 1)
    with site.gateway:
        plane, numbers = site.gateway.plane, dict.fromkeys(range(8), 0)
        received: dict[int, list[int]] = {flow: [] for flow in numbers}

        def move(worker: int) -> None:
            site.outbound_step(worker)
            for left in site.sealed():
                for data in left:
                    plane.push_link(0, MemoryDatagram(data, site.gateway.endpoint, site.gateway.endpoint), 0)
            for each in range(3):
                plane.step_inbound(site.gateway.clock.ns, worker=each)
                for packet in iter(partial(plane.pull_tun, 0, each), None):
                    flow, number = parts(packet)
                    received[flow].append(number)

        for turn, (flow, count, worker) in enumerate(sent):
            if turn in comings and len(site.children) < 3:
                site.add(len(site.children))
            for _ in range(count):
                site.send(flow, numbers[flow])
                numbers[flow] += 1
            move(worker)
        for _ in range(len(sent) + 3):
            for worker in range(3):
                move(worker)
        assert {flow: list(range(count)) for flow, count in numbers.items()} == received
        assert site.gateway.drops == {}
