"""A kernel that takes an offload and then refuses or mangles large writes is found out at the start, and used without it."""

from __future__ import annotations

import errno
import os

import pytest

from ipsec_dp.dataplane import ALL_OFFLOADS, MemoryPacket, Offload, offloads_named
from ipsec_dp.host import super_packets
from ipsec_dp.host.super_packets import (
    HOPS,
    KINDS,
    NONE,
    SEGMENTS,
    VNET_HEADER,
    OffloadFaults,
    OffloadTrial,
    packets,
    super_packet,
    try_out,
)
from ipsec_dp.rig.offload import cut

EVERY = tuple(kind.offload for kind in KINDS)


class Kernel:
    """Forwards as Linux does, but for its faults: each changes the list of packets that leave, for one kind."""

    def __init__(self, kind=None, *, cut=lambda rows: rows, joined=lambda rows: rows, refuses=0, offers=lambda _: True, dead=False):
        self.kind, self.cut, self.joined, self.refuses, self.offers, self.dead = kind, cut, joined, refuses, offers, dead
        self.queue: list[bytes] = []
        self.bits = 0

    def offloads(self, bits):
        return self.offers(bits)

    def receive_offloads(self, bits):
        self.bits = bits

    def write(self, packet):
        kind = next(each for each in KINDS if packet in (super_packet(each), next(packets(each))))
        single = VNET_HEADER.unpack_from(packet)[1] == NONE
        mine = kind.offload == self.kind
        if mine and self.refuses and not single:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if self.dead:
            return
        noise = bytes(VNET_HEADER.size) + b"\x60" + bytes(60)  # the kernel's own, as a router solicitation
        if single:
            rows = [next(packets(kind, HOPS - 1))]
        elif self.bits & kind.bits == kind.bits:
            rows = [super_packet(kind, HOPS - 1)]
            rows = self.joined(rows) if mine else rows
        else:
            rows = list(packets(kind, HOPS - 1))
            rows = self.cut(rows) if mine else rows
        self.queue += [noise, *rows]

    def read(self, _seconds):
        return self.queue.pop(0) if self.queue else None


def flipped(rows, row=3, at=200):
    octets = bytearray(rows[row])
    octets[VNET_HEADER.size + at] ^= 1
    return [*rows[:row], bytes(octets), *rows[row + 1 :]]


def says(rows, at, value):
    octets = bytearray(rows[0])
    octets[at] = value
    return [bytes(octets)]


def test_a_kernel_that_does_what_it_says_has_no_fault():
    assert try_out(Kernel()) == OffloadFaults({}, EVERY, "")


def test_one_that_cuts_where_it_need_not_has_none_either():
    whole = Kernel("tun_tso4", joined=lambda _: list(packets(KINDS[0], HOPS - 1)))
    assert try_out(whole).wrong == {}


FAULTS = {
    "refused": ({"refuses": errno.EINVAL}, "is refused: Invalid argument"),
    "an octet": ({"cut": flipped}, "packet 4 of 45 differs from octet 200 on"),
    "its header": ({"cut": lambda rows: flipped(rows, 0, 4)}, "packet 1 of 45 differs from octet 4 on"),
    "shorter": ({"cut": lambda rows: [rows[0][:-1], *rows[1:]]}, "packet 1 of 45 has"),
    "exchanged": ({"cut": lambda rows: [rows[1], rows[0], *rows[2:]]}, "packet 1 of 45 differs"),
    "lost": ({"cut": lambda rows: rows[:-1]}, "packet 45 of 45 does not arrive"),
    "read: an octet": (
        {"joined": lambda rows: flipped(rows, 0, 30_000)},
        "that is read differs from octet 30000 on",
    ),
    "read: cut off": ({"joined": lambda rows: [rows[0][:-500]]}, "a super-packet that is read has"),
    "read: another size": ({"joined": lambda rows: says(rows, 4, 1)}, "says wrongly what it is"),
    "read: no checksum to do": ({"joined": lambda rows: says(rows, 0, 0)}, "says wrongly what it is"),
    "read: lost": ({"joined": lambda _: []}, "a super-packet does not arrive"),
    "read: as one packet": ({"joined": lambda rows: says(rows, 1, NONE)}, "packet 1 of 45 has"),
}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(("fault", "text"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_found_and_is_of_that_offload_alone(kind, fault, text):
    found = try_out(Kernel(kind, **fault))
    assert list(found.wrong) == [kind]
    assert text in found.wrong[kind]
    assert found.tried == EVERY


def test_what_a_kernel_does_not_offer_is_not_tried():
    assert try_out(Kernel(offers=lambda bits: not bits & super_packets.USO)).tried == ("tun_tso4", "tun_tso6")


def test_where_nothing_is_forwarded_nothing_is_said_of_offloads():
    found = try_out(Kernel(dead=True))
    assert (found.wrong, found.tried) == ({}, ())
    assert "tun_tso4: not even a packet on its own is forwarded" in found.untried


@pytest.mark.parametrize("kind", KINDS, ids=EVERY)
def test_a_super_packet_is_the_packets_that_are_expected_of_it(kind):
    """By the rig's own cutting, which knows nothing of this module."""
    flags, gso, _, size, start, offset = VNET_HEADER.unpack_from(super_packet(kind))
    assert flags == super_packets.NEEDS_CHECKSUM
    whole = MemoryPacket(super_packet(kind)[VNET_HEADER.size :], gso, size, True, start, offset)
    assert cut(whole) == [each[VNET_HEADER.size :] for each in packets(kind)]
    assert len(list(packets(kind))) == SEGMENTS


def test_the_names_are_those_of_a_configuration():
    assert offloads_named(EVERY) == ALL_OFFLOADS & (Offload.TUN_TSO4 | Offload.TUN_TSO6 | Offload.TUN_USO4 | Offload.TUN_USO6)


# ---- the process -----------------------------------------------------------------------------------------------------------------


def test_the_process_tells_what_it_found_and_is_gone(monkeypatch):
    monkeypatch.setattr(super_packets, "find_out", lambda: OffloadFaults({"tun_tso4": "x"}, EVERY, ""))
    trial = OffloadTrial.start()
    assert trial.result(30) == OffloadFaults({"tun_tso4": "x"}, EVERY, "")
    trial.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_one_that_says_nothing_is_not_waited_for(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(super_packets, "find_out", lambda: os.read(reading, 1))
    trial = OffloadTrial.start()
    assert "no answer" in trial.result(0).untried
    trial.close()
    for each in (reading, writing):
        os.close(each)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_where_no_namespace_can_be_made_it_says_so(monkeypatch):
    def refuse():
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(super_packets, "own_network", refuse)
    assert "no network namespace" in super_packets.find_out().untried
