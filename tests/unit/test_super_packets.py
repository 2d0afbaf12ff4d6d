"""A kernel that takes an offload and then refuses or mangles large writes is found out at the start, and used without it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from ipsec_dp.cli import doctor
from ipsec_dp.dataplane import ALL_OFFLOADS, MemoryPacket, Offload, offloads_named
from ipsec_dp.host import super_packets
from ipsec_dp.host.offload_trial import PROCESS_S
from ipsec_dp.host.super_packets import (
    KINDS,
    NONE,
    SEGMENTS,
    TRIES,
    VNET_HEADER,
    OffloadFaults,
    packets,
    super_packet,
    try_out,
)
from ipsec_dp.rig.offload import cut

EVERY = tuple(kind.offload for kind in KINDS)


class Kernel:
    """Forwards as Linux does, but for its faults: each changes the list of packets that leave, for one kind, `times` times."""

    def __init__(
        self,
        kind=None,
        *,
        cut=lambda rows: rows,
        joined=lambda rows: rows,
        refuses=0,
        offers=lambda _: True,
        dead=(),
        times=1_000,
        late=False,
    ):
        self.kind, self.cut, self.joined, self.refuses, self.offers = kind, cut, joined, refuses, offers
        self.dead, self.times, self.late = dead, times, late
        self.queue: list[bytes] = []
        self.held: list[bytes] = []  # comes before what the next super-packet becomes
        self.bits = self.waited = self.singles = 0

    def offloads(self, bits):
        return self.offers(bits)

    def receive_offloads(self, bits):
        self.bits = bits

    def write(self, packet):
        inner = packet[VNET_HEADER.size :]
        version = inner[0] >> 4
        hops = inner[8 if version == 4 else 7]
        kind = next(each for each in KINDS if packet in (super_packet(each, hops), next(packets(each, hops))))
        single = VNET_HEADER.unpack_from(packet)[1] == NONE
        self.singles += single
        mine = kind.offload == self.kind and not single and self.times > 0
        if mine and self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if version in self.dead:
            return
        noise = bytes(VNET_HEADER.size) + b"\x60" + bytes(60)  # the kernel's own, as a router solicitation
        if single:
            rows = [next(packets(kind, hops - 1))]
        elif self.bits & kind.bits == kind.bits:
            rows = self.changed(self.joined, [super_packet(kind, hops - 1)], mine)
        else:
            rows = self.changed(self.cut, list(packets(kind, hops - 1)), mine)
        if single:
            self.queue += [noise, *rows]
            return
        self.queue += [noise, *self.held, *rows]
        self.held = []
        if mine and self.late:
            self.queue, self.held = [], rows
            self.times -= 1

    def changed(self, how, rows, mine):
        if not mine or how(rows) == rows:
            return rows
        self.times -= 1
        return how(rows)

    def read(self, seconds):
        if not self.queue:
            self.waited += seconds > 0
            return None
        return self.queue.pop(0)


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
    whole = Kernel("tun_tso4", joined=lambda rows: list(packets(KINDS[0], rows[0][VNET_HEADER.size + 8])))
    assert try_out(whole).wrong == {}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "refused": ({"refuses": errno.EINVAL}, "is refused: Invalid argument"),
    "an octet": ({"cut": flipped}, "packet 4 of 45 differs from octet 200 on"),
    "its header": ({"cut": lambda rows: flipped(rows, 0, 4)}, "packet 1 of 45 differs from octet 4 on"),
    "shorter": ({"cut": lambda rows: [rows[0][:-1], *rows[1:]]}, "packet 1 of 45 has"),
    "exchanged": ({"cut": lambda rows: [rows[1], rows[0], *rows[2:]]}, "packet 1 of 45 does not arrive before the next"),
    "lost": ({"cut": lambda rows: rows[:-1]}, "packet 45 of 45 does not arrive"),
    "lost within": ({"cut": lambda rows: [*rows[:20], *rows[21:]]}, "packet 21 of 45 does not arrive before the next"),
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


LOSSES = [text for text in FAULTS if "lost" in text or text == "exchanged"]


@pytest.mark.parametrize("fault", LOSSES)
def test_a_loss_is_a_fault_only_if_it_is_there_each_time(fault):
    changes = FAULTS[fault][0]
    now_and_then = Kernel("tun_tso6", **changes, times=TRIES - 1)
    assert try_out(now_and_then) == OffloadFaults({}, EVERY, "")
    assert now_and_then.singles == len(KINDS) + TRIES - 1, "a packet on its own goes before each"
    always = Kernel("tun_tso6", **changes)
    assert list(try_out(always).wrong) == ["tun_tso6"]
    assert always.singles == len(KINDS) + TRIES - 1


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - LOSSES))
def test_every_other_fault_is_one_at_once(fault):
    kernel = Kernel("tun_tso6", **FAULTS[fault][0], times=1)
    assert list(try_out(kernel).wrong) == ["tun_tso6"]
    assert kernel.singles == len(KINDS)


def test_what_comes_late_is_not_taken_for_what_was_sent_after_it():
    assert try_out(Kernel("tun_tso4", late=True, times=1)) == OffloadFaults({}, EVERY, "")


@pytest.mark.parametrize("short", [errno.ENOMEM, errno.ENOBUFS], ids=errno.errorcode.get)
def test_a_kernel_short_of_memory_says_nothing_of_an_offload(short):
    found = try_out(Kernel("tun_uso4", refuses=short))
    assert (found.wrong, found.tried) == ({}, tuple(each for each in EVERY if each != "tun_uso4"))
    assert found.untried == "tun_uso4: the kernel is short of memory"


def test_where_nothing_is_forwarded_nothing_is_said_of_offloads():
    kernel = Kernel(dead=(4, 6))
    found = try_out(kernel)
    assert (found.wrong, found.tried) == ({}, ())
    for each in EVERY:
        assert f"{each}: not even a packet on its own is forwarded" in found.untried
    assert kernel.waited == 2, "once for each IP version"


def test_where_one_ip_version_is_not_forwarded_the_other_is_tried():
    found = try_out(Kernel(dead=(6,)))
    assert found.tried == ("tun_tso4", "tun_uso4")


def test_what_waits_for_an_answer_waits_for_the_longest_trial():
    """Once for each kind and each time, or once for each IP version."""
    assert len(KINDS) * TRIES * super_packets.ARRIVE_S < doctor.TRIAL_S < PROCESS_S


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


def test_where_no_namespace_can_be_made_it_says_so(monkeypatch):
    def refuse():
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(super_packets, "own_network", refuse)
    assert "no network namespace" in super_packets.find_out().untried
