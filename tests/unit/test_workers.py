"""Several workers in one data plane: whose packets are whose, and what is handed over, in order, and counted.

The steps are called one by one, so that each test says which worker sees what first. Tunnel n is owned by worker n modulo the
workers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.dataplane import Action, DataPlane, Encapsulation, MemoryDatagram, OuterPath, PolicyRule, owner_of
from ipsec_dp.gateway.inspection import worker_statuses
from ipsec_dp.host import HostError
from ipsec_dp.host.steering import Steering, queue_program
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.network import workers
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import PlaneRig, keymat, selector

SUITE = parse_suite("aes128gcm16")
HOLD_OCTETS = 65536


def inner(tunnel: int, number: int, octets: int = 64) -> bytes:
    """Packet `number` of the one flow of a tunnel."""
    return udp("10.1.0.1", f"10.2.{tunnel}.1", number.to_bytes(4) + bytes(octets))


def number_of(packet: bytes) -> int:
    return int.from_bytes(packet[28:32])


@dataclass
class Site:
    """A gateway that sends to itself: SAs of every tunnel in both directions, a TUN and a link at each worker."""

    gateway: PlaneRig
    count: int
    spis: list[int]
    children: list
    outbound: list

    @property
    def plane(self) -> DataPlane:
        return self.gateway.plane

    def outbound_step(self, worker: int) -> int:
        return self.plane.step_outbound(self.gateway.clock.ns, worker=worker)

    def inbound_step(self, worker: int) -> int:
        return self.plane.step_inbound(self.gateway.clock.ns, worker=worker)

    def sealed_by(self, worker: int) -> list[MemoryDatagram]:
        return list(iter(lambda: self.plane.pull_link(0, worker), None))

    def delivered_by(self, worker: int) -> list[bytes]:
        return list(iter(lambda: self.plane.pull_tun(0, worker), None))

    def sealed(self, *packets: bytes) -> list[bytes]:
        """ESP packets of these inner ones, each sealed by its owner."""
        found = []
        for packet in packets:
            owner = owner_of(packet[18], self.count)  # 10.2.TUNNEL.1
            self.plane.push_tun(0, packet, owner)
            self.outbound_step(owner)
            found += [datagram.data for datagram in self.sealed_by(owner)]
        return found

    def arrive(self, worker: int, data: bytes, gso_size: int = 0) -> None:
        self.plane.push_link(0, MemoryDatagram(data, self.gateway.endpoint, self.gateway.endpoint, gso_size=gso_size), worker)

    @property
    def handed(self) -> tuple[int, int]:
        counters = self.plane.counters()
        return counters.handed_over, counters.taken_over


def site_of(count: int, tunnels: int = 4) -> Site:
    gateway = PlaneRig("a", "192.0.2.1", workers=count, hold_octets=HOLD_OCTETS)
    for worker in range(1, count):
        gateway.plane.attach_memory_tun(0, 4096, worker)
        assert gateway.plane.attach_memory_link(Encapsulation.UDP, gateway.endpoint, 4096, worker) == gateway.link
    pairs = [(selector("10.1.0.0/16", f"10.2.{t}.0/24"), selector(f"10.2.{t}.0/24", "10.1.0.0/16")) for t in range(tunnels)]
    gateway.set_policy(PolicyRule(out, Action.PROTECT, 0, tunnel) for tunnel, (out, _) in enumerate(pairs))
    site = Site(gateway, count, [], [], [])
    path = OuterPath(gateway.endpoint, gateway.endpoint, Encapsulation.UDP, gateway.link)
    for tunnel, (out, back) in enumerate(pairs):
        keys = keymat(SUITE, f"tunnel {tunnel}")
        spi = gateway.sad.allocate_spi(0x5A000000)
        gateway.sad.install_inbound(
            spi=spi, suite=SUITE, keymat=keys, selectors=[back], tunnel=tunnel, interface=0, replay_window=1024
        )
        child = gateway.sad.add_child(tunnel, [out])
        site.spis.append(spi)
        site.children.append(child)
        site.outbound.append(gateway.sad.install_outbound(spi=spi, suite=SUITE, keymat=keys, path=path, tunnel=tunnel))
        gateway.sad.switch(child, site.outbound[-1])
    return site


@pytest.fixture
def site():
    made = site_of(2)
    yield made
    made.gateway.close()


# ---- inbound


def test_an_aggregate_is_taken_apart_and_what_is_foreign_goes_to_its_owner(site):
    packets = [inner(tunnel, number) for number, tunnel in enumerate((0, 1, 1, 0, 1, 0))]
    sealed = site.sealed(*packets)
    site.arrive(0, b"".join(sealed), len(sealed[0]))
    assert site.inbound_step(0) == 6
    assert site.inbound_step(1) == 3
    assert [number_of(packet) for packet in site.delivered_by(0)] == [0, 3, 5]
    assert [number_of(packet) for packet in site.delivered_by(1)] == [1, 2, 4]
    assert (site.handed, site.gateway.drops) == ((3, 3), {})


def test_ike_and_keepalives_among_foreign_datagrams_stay_where_they_came(site):
    foreign = site.sealed(inner(1, 0), inner(1, 1))
    marked = bytes(4) + b"IKE".ljust(len(foreign[0]) - 4)
    site.arrive(0, foreign[0] + marked + foreign[1] + b"\xff", len(marked))
    site.inbound_step(0)
    site.inbound_step(1)
    assert [number_of(packet) for packet in site.delivered_by(1)] == [0, 1]
    counters = site.plane.worker_counters()
    assert [(each.ike_in, each.keepalives_in, each.packets_in) for each in counters] == [(1, 1, 0), (0, 0, 2)]


def test_a_shorter_last_datagram_is_handed_over_whole(site):
    first, last = site.sealed(inner(1, 0, 100), inner(1, 1, 40))
    site.arrive(0, first + last, len(first))
    site.inbound_step(0)
    site.inbound_step(1)
    assert site.delivered_by(1) == [inner(1, 0, 100), inner(1, 1, 40)]


def test_what_finds_no_room_is_dropped_under_its_own_name_and_the_rest_arrives_in_order(site):
    sealed = site.sealed(*(inner(1, number, 1300) for number in range(3000)))
    for datagram in sealed:
        site.arrive(0, datagram)
        site.inbound_step(0)
    dropped = site.gateway.drops["handover_full"]
    assert 0 < dropped < 3000
    while site.inbound_step(1):
        pass
    assert site.gateway.drops == {"handover_full": dropped}
    assert [number_of(packet) for packet in site.delivered_by(1)] == list(range(3000 - dropped))
    assert site.plane.worker_counters()[0].drops["handover_full"] == dropped
    site.arrive(0, site.sealed(inner(1, 3000))[0])  # there is room again
    site.inbound_step(0)
    site.inbound_step(1)
    assert [number_of(packet) for packet in site.delivered_by(1)] == [3000]


def test_what_was_handed_over_goes_no_further(site):
    """Its SA is gone meanwhile, and the slot has another worker's: that one's window is not touched."""
    (sealed,) = site.sealed(inner(1, 0))
    site.arrive(0, sealed)
    site.inbound_step(0)
    (old,) = (handle for handle, record in site.gateway.sad.records.items() if record.spi == site.spis[1] and record.selectors)
    site.gateway.sad.remove(old)
    site.gateway.sad.install_inbound(
        spi=site.spis[1],
        suite=SUITE,
        keymat=keymat(SUITE, "tunnel 1"),
        selectors=[selector("10.2.1.0/24", "10.1.0.0/16")],
        tunnel=0,
        interface=0,
        replay_window=1024,
    )
    site.inbound_step(1)
    assert site.gateway.drops == {"unknown_spi": 1}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=40),
    st.data(),
)
def test_any_mix_is_delivered_whole_and_each_flow_in_order(made, data):
    """Aggregates of any tunnels' datagrams at any worker that a flow keeps to, steps in any order."""
    site = site_of(3)
    with site.gateway:
        packets = [inner(tunnel, number) for number, tunnel in enumerate(t for t, n in made for _ in range(n % 5 + 1))]
        sealed = site.sealed(*packets)
        receiver = data.draw(st.integers(0, 2), "receiver")
        at = 0
        while at < len(sealed):
            count = data.draw(st.integers(1, 20), "aggregate")
            site.arrive(receiver, b"".join(sealed[at : at + count]), len(sealed[0]))
            at += count
            site.inbound_step(data.draw(st.integers(0, 2), "step"))
        while sum(site.inbound_step(worker) for worker in range(3)):
            pass
        delivered = {worker: site.delivered_by(worker) for worker in range(3)}
        for tunnel in range(4):
            flow = [packet for packet in delivered[tunnel % 3] if packet[18] == tunnel]
            assert flow == [packet for packet in packets if packet[18] == tunnel]
        assert sum(map(len, delivered.values())) == len(packets)
        assert site.handed[0] == site.handed[1]


# ---- outbound


def test_a_packet_is_sealed_by_its_owner_wherever_it_was_read(site):
    for number, worker in enumerate((0, 1, 0)):
        site.plane.push_tun(0, inner(1, number), worker)
        site.outbound_step(worker)
    site.outbound_step(1)
    assert len(site.sealed_by(1)) == 3
    assert site.sealed_by(0) == []
    assert (site.handed, site.gateway.drops) == ((2, 2), {})


def test_what_waits_for_an_sa_is_handed_over_before_what_comes_later(site):
    site.gateway.sad.switch(site.children[1], None)
    site.plane.push_tun(0, inner(1, 0), 0)
    site.outbound_step(0)
    site.gateway.sad.switch(site.children[1], site.outbound[1])
    site.plane.push_tun(0, inner(1, 1), 0)
    site.outbound_step(0)
    site.outbound_step(1)
    assert [int.from_bytes(each.data[4:8]) for each in site.sealed_by(1)] == [1, 2]
    for datagram in site.sealed(inner(1, 2)):
        site.arrive(1, datagram)
    assert site.gateway.drops == {}


def test_packets_that_waited_where_they_were_handed_to_go_before_those_handed_over_later(site):
    site.plane.push_tun(0, inner(1, 0), 0)
    site.outbound_step(0)  # on its way to worker 1
    site.gateway.sad.switch(site.children[1], None)
    site.outbound_step(1)  # waits there
    site.gateway.sad.switch(site.children[1], site.outbound[1])
    site.plane.push_tun(0, inner(1, 1), 0)
    site.outbound_step(0)
    site.outbound_step(1)
    sealed = site.sealed_by(1)
    for datagram in sealed:
        site.arrive(1, datagram.data)
    site.inbound_step(1)
    assert [number_of(packet) for packet in site.delivered_by(1)] == [0, 1]


def test_an_sa_is_never_used_by_two_workers(site):
    """A packet on its way to an SA's owner finds another SA there, and goes on to its owner: one sequence counter, one writer."""
    site.plane.push_tun(0, inner(1, 0), 0)
    site.outbound_step(0)
    path = OuterPath(site.gateway.endpoint, site.gateway.endpoint, Encapsulation.UDP, site.gateway.link)
    other = site.plane.install_outbound(spi=0x1234, suite=SUITE, keymat=keymat(SUITE, "x"), path=path, tunnel=1, worker=0)
    site.plane.switch(1, site.children[1].number, other)
    site.outbound_step(1)
    assert site.sealed_by(1) == []
    assert site.plane.read_sa(other).sequence == 0
    site.outbound_step(0)
    assert site.plane.read_sa(other).sequence == 1
    assert site.gateway.drops == {}


# ---- who receives what


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_spis_are_given_out_for_the_worker_that_shall_receive(count):
    with DataPlane(sa_slots=256, workers=count) as plane:
        steering = Steering(count, 256)
        for number in range(256 // count * count):
            wanted = number % count
            assert steering.receiver(plane.allocate_spi(0xABCDE000, wanted)) == wanted


def test_tunnels_to_one_peer_are_received_by_one_worker():
    remotes = {"a": ("192.0.2.2",), "b": ("192.0.2.2",), "c": ("192.0.2.3",), "road": (), "road-2": ()}
    tunnels = {name: SimpleNamespace(name=name, remotes=to) for name, to in remotes.items()}
    numbers = {name: number for number, name in enumerate(tunnels)}
    for count, expected in ((1, [0, 0, 0, 0, 0]), (2, [0, 0, 0, 1, 0]), (4, [0, 0, 2, 3, 0])):
        config: Any = SimpleNamespace(
            workers=count, tunnels=tuple(tunnels.values()), has_tunnel=tunnels.__contains__, tunnel=tunnels.__getitem__
        )
        assert [workers.receiver(config, numbers, name) for name in tunnels] == expected
        assert workers.receiver(config, numbers, "removed meanwhile") == 0


def test_threads_take_cpus_by_turns():
    usable = sorted(os.sched_getaffinity(0))
    assert workers.pins(False, 2) == []
    assert workers.pins([usable[0]], 2) == [(usable[0], usable[0])] * 2
    first, second = workers.pins(True, 2)
    assert {*first, *second} <= set(usable)
    assert len({*first, *second}) == min(4, len(usable))


def test_a_cpu_that_is_not_ours_is_named():
    with pytest.raises(HostError, match=r"^\[gateway\] pin: CPU 1023 is none that this process may use; there are "):
        workers.pins([0, 1023], 1)


def test_an_interface_of_one_owner_has_one_queue_for_all_packets():
    both = [(ip_network("10.0.0.0/8"), 1), (ip_network("2001:db8::/32"), 1)]
    assert queue_program(both) == queue_program([(ip_network("0.0.0.0/0"), 1)])
    assert len(queue_program(both)) == 16


def test_status_counts_each_worker(site):
    (sealed,) = site.sealed(inner(1, 0))
    site.arrive(0, sealed)
    site.inbound_step(0)
    site.inbound_step(1)
    first, second = worker_statuses(site.plane)
    assert (first.handed_over, first.packets_in, second.taken_over, second.packets_in) == (1, 0, 1, 1)
    assert (second.worker, second.packets_out, second.drops) == (1, 1, {})
