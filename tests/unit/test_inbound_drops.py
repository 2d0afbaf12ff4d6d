"""Every reason for which a datagram is dropped: provoked, counted once, and with nothing else changed."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipsec_dp.databases.sad_events import DeviceFailure
from ipsec_dp.dataplane import DROP_NAMES, DROP_SENTENCES, Action, Limits, MemoryDatagram, PolicyRule, counted
from ipsec_dp.rig.packets import ipv6, udp
from ipsec_dp.rig.plane import Pair, pair, selector, selectors_of
from tests.unit.sites import HOST, arrive, from_a, inbound, padded, seal, to_a, to_b

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GOOD = to_b(b"good")
V4, V6, DUMMY = 4, 41, 59
FIRST = 2000  # the highest sequence number that was received before; window 64


def authentic(plain: bytes, next_header: int = V4, padding: bytes | None = None) -> Callable[[Pair], bytes]:
    return lambda site: seal(site, padded(plain, next_header, padding), FIRST + 1)


def flipped(at: int) -> Callable[[Pair], bytes]:
    """A good packet with one bit changed."""

    def make(site: Pair) -> bytes:
        data = bytearray(seal(site, padded(GOOD, V4), FIRST + 1))
        data[at] ^= 0x10
        return bytes(data)

    return make


# name: (reason, the datagram). What is dropped before it is authentic changes nothing at all.
FORGED: dict[str, tuple[str, Callable[[Pair], bytes]]] = {
    "one octet": ("runt", lambda site: seal(site, padded(GOOD, V4), FIRST + 1)[:1]),
    "seven octets": ("runt", lambda site: seal(site, padded(GOOD, V4), FIRST + 1)[:7]),
    "no SA": ("unknown_spi", lambda site: seal(site, padded(GOOD, V4), FIRST + 1, spi=site.spis["b"] ^ 0x01000000)),
    "empty slot": ("unknown_spi", lambda site: seal(site, padded(GOOD, V4), FIRST + 1, spi=site.spis["b"] ^ 0x80)),
    "reserved SPI": ("unknown_spi", lambda site: seal(site, padded(GOOD, V4), FIRST + 1, spi=255)),
    "header only": ("esp_length", lambda site: seal(site, padded(GOOD, V4), FIRST + 1)[:8]),
    "no ciphertext": ("esp_length", lambda site: seal(site, padded(GOOD, V4), FIRST + 1)[:32]),
    "off alignment": ("esp_length", lambda site: seal(site, padded(GOOD, V4), FIRST + 1)[:-1]),
    "one octet more": ("esp_length", lambda site: seal(site, padded(GOOD, V4), FIRST + 1) + b"\0"),
    "cut by a word": ("icv", lambda site: seal(site, padded(GOOD, V4), FIRST + 1)[:-4]),
    "lengthened": ("icv", lambda site: seal(site, padded(GOOD, V4), FIRST + 1) + bytes(4)),
    "ICV": ("icv", flipped(-1)),
    "ICV's first bit": ("icv", flipped(-16)),
    "ciphertext": ("icv", flipped(20)),
    "IV": ("icv", flipped(8)),
    "sequence number": ("icv", flipped(6)),
    "other key": ("icv", lambda site: seal(site, padded(GOOD, V4), FIRST + 1)[:-16] + bytes(16)),
    "replayed": ("replay", lambda site: seal(site, padded(GOOD, V4), FIRST)),
    "replayed and forged": ("replay", lambda site: seal(site, padded(GOOD, V4), FIRST)[:-1] + b"\0"),
    "behind the window": ("too_old", lambda site: seal(site, padded(GOOD, V4), FIRST - 64)),
    "sequence 0": ("replay", lambda site: seal(site, padded(GOOD, V4), 0)),
}

# An authentic packet is a sign of life and uses up its sequence number, and nothing more.
HOSTILE: dict[str, tuple[str, Callable[[Pair], bytes]]] = {
    "padding is not 1, 2, 3": ("pad", authentic(GOOD, padding=b"\1\3")),
    "padding of zeros": ("pad", authentic(GOOD, padding=bytes(2))),
    "padding longer than the packet": ("pad", lambda site: seal(site, bytes([1, 2, 3, 4, 5, 6, 200, V4]), FIRST + 1)),
    "padding one octet too long": ("pad", lambda site: seal(site, bytes([1, 2, 3, V4]), FIRST + 1)),
    "next header TCP": ("next_header", authentic(GOOD, 6)),
    "next header 0": ("next_header", authentic(GOOD, 0)),
    "dummy": ("dummy", authentic(b"anything at all", DUMMY)),
    "empty dummy": ("dummy", authentic(b"", DUMMY)),
    "nothing inside": ("inner_length", authentic(b"")),
    "version 5": ("inner_version", authentic(b"\x55" + GOOD[1:])),
    "version 0": ("inner_version", authentic(bytes(40))),
    "IPv6 as IPv4": ("inner_version", authentic(to_b(version=6), V4)),
    "IPv4 as IPv6": ("inner_version", authentic(GOOD, V6)),
    "IPv4 cut": ("inner_length", authentic(GOOD[:-1])),
    "IPv4 header cut": ("inner_length", authentic(GOOD[:12])),
    "IPv4 header of 16 octets": ("inner_length", authentic(b"\x44" + GOOD[1:])),
    "IPv4 header longer than the packet": ("inner_length", authentic(b"\x4f" + GOOD[1:])),
    "IPv4 total length 0": ("inner_length", authentic(GOOD[:2] + b"\0\0" + GOOD[4:])),
    "IPv6 cut": ("inner_length", authentic(to_b(version=6)[:-1], V6)),
    "IPv6 header cut": ("inner_length", authentic(to_b(version=6)[:39], V6)),
    "IPv6 extension cut": ("inner_header", authentic(ipv6(HOST[6, "a"], HOST[6, "b"], b"\x11\xff", protocol=60), V6)),
    "outside the selectors": ("selectors", authentic(udp("192.168.1.1", HOST[4, "b"]))),
    "reversed": ("selectors", authentic(to_a())),
}


@pytest.fixture
def site():
    """b has received up to FIRST, from where a is."""
    with pair(replay_window=64, stranger_burst=1) as made:
        assert arrive(made.b, from_a(made, seal(made, padded(GOOD, V4), FIRST))) == [GOOD]
        made.clock.advance(1)
        yield made


def without_drops(info):
    return info._replace(drops={}, last_drop=None)


def test_what_dropped_nothing_says_so_of_every_reason_and_is_nobodys_to_change(site):
    for drops in (inbound(site).drops, site.b.sad.traffic(0).drops):
        assert drops == dict.fromkeys(DROP_SENTENCES, 0)
        with pytest.raises(TypeError):
            cast("Any", drops)["icv"] = 1
        assert counted(drops) == {}
    assert counted({"icv": 2, "replay": 0}) == {"icv": 2}


def sum_of(drops: Mapping[str, int]) -> int:
    return sum(drops.values())


@pytest.mark.parametrize("name", FORGED)
def test_what_is_not_authentic_is_dropped_and_changes_nothing(site, name):
    reason, make = FORGED[name]
    before, told = inbound(site), site.b.plane.counters()
    stranger = MemoryDatagram(make(site), site.b.endpoint, dataclasses.replace(site.a.endpoint, port=666))
    assert arrive(site.b, stranger) == []
    assert site.b.drops == {reason: 1}
    after = inbound(site)
    assert without_drops(after) == without_drops(before)
    assert sum_of(after.drops) == (0 if reason in ("runt", "unknown_spi") else 1)
    assert after.drops[reason] == sum_of(after.drops)
    assert site.b.plane.counters() == dataclasses.replace(told, drops=site.b.plane.counters().drops)
    assert site.b.events() == []
    # the window did not move: what it would have let in before, it lets in now, and what it would not, not
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST + 1))) == [GOOD]
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST - 62))) == [GOOD]
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST - 63))) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_authentic_and_wrong_uses_up_its_number_and_no_more(site, name):
    reason, make = HOSTILE[name]
    before = inbound(site)
    data = make(site)
    assert arrive(site.b, from_a(site, data)) == []
    assert site.b.drops == {reason: 1}
    after = inbound(site)
    assert after.drops[reason] == 1
    assert without_drops(after) == without_drops(before)._replace(sequence=FIRST + 1, last_use=site.clock.ns)
    assert site.b.events() == []
    assert arrive(site.b, from_a(site, data)) == []
    assert site.b.drops == {reason: 1, "replay": 1}
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST + 2))) == [GOOD]


def test_a_policy_that_discards_the_reverse_flow_drops(site):
    site.b.set_policy([PolicyRule(selector("10.2.0.0/16", "10.1.0.0/16"), Action.DISCARD, 0)])
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST + 1))) == []
    assert site.b.drops == {"policy_inbound": 1}


def test_a_congestion_mark_that_must_not_be_lost_drops(site):
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST + 1), tos=3)) == []
    assert site.b.drops == {"ecn": 1}


def test_a_tun_that_is_gone_drops(site):
    site.b.plane.detach_tun(0)
    site.b.arrive(from_a(site, seal(site, padded(GOOD, V4), FIRST + 1)))
    site.b.step()
    assert site.b.drops == {"tun_gone": 1}
    site.b.plane.attach_memory_tun(0)
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST + 2))) == [GOOD]


def test_a_tun_that_fails_is_reported_once_a_second(site):
    """A pipe's reading end cannot be written, like a device that was deleted."""
    ours, theirs = os.pipe()
    try:
        site.b.plane.detach_tun(0)
        site.b.plane.attach_tun(0, ours)
        site.b.arrive(*[from_a(site, seal(site, padded(GOOD, V4), FIRST + n)) for n in (1, 2)])
        site.b.plane.step_inbound(site.clock.ns)
        assert site.b.drops == {"tun_gone": 2}
        (event,) = site.b.events()
        assert isinstance(event, DeviceFailure)
        assert (event.interface, event.link) == (0, None)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_tun_that_is_full_drops_without_a_report():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, pair() as site:
        site.b.plane.detach_tun(0)
        site.b.plane.attach_tun(0, ours.fileno())
        for number in range(1, 2000):
            site.b.arrive(from_a(site, seal(site, padded(GOOD, V4), number)))
            site.b.plane.step_inbound(site.clock.ns)
            if site.b.drops:
                break
        assert site.b.drops == {"tun_full": 1}
        assert theirs.recv(2000) == GOOD
        assert site.b.events() == []


def test_a_dead_sa_drops(site):
    site.b.plane.expire_all()
    before = inbound(site)
    assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), FIRST + 1))) == []
    assert site.b.drops == {"guest_cloned": 1}
    assert without_drops(inbound(site)) == without_drops(before)


def test_an_sa_at_its_hard_limit_drops():
    with pair(limits=Limits(hard_packets=1)) as site:
        for number in (1, 2):
            site.b.arrive(from_a(site, seal(site, padded(GOOD, V4), number)))
        site.b.step()
        assert site.b.pulled() == [GOOD]
        assert site.b.drops == {"hard_limit": 1}
        assert inbound(site).sequence == 1


# Reasons that no datagram from the outer network can provoke, and the test that does.
ELSEWHERE = {
    "mtu": "test_oversize",
    "fragment_ports": "test_fragments",
    "fragment_refused": "test_fragments",
    "policy_none": "test_outbound",
    "policy_discard": "test_outbound",
    "multicast_shared": "test_multicast",
    "policy_bypass": "test_icmp_errors",
    "no_sa": "test_outbound",
    "sequence_exhausted": "test_life",
    "too_big": "test_outbound, test_batch",
    "send_full": "test_outbound",
    "send_error": "test_outbound",
    "no_link": "test_outbound",
    "offload_kind": "test_offloads",
    "offload_fields": "test_offloads",
    "own_outer": "test_own_outer",
    "retired": "test_carried_sas",
    "unreserved": "test_reserved_sas",
    "unpublished": "test_reserved_sas",
    "ike_limited": "test_punt",
    "ike_icv": "test_ike_gate",
    "handover_full": "test_workers",
    "reserved_dropped": "test_early_packets",
    "punt_full": "test_punt",
    "crypto_fault": "a cryptographic library that fails: tests/native",
}
HERE = {"policy_inbound", "ecn", "tun_gone", "tun_full", "guest_cloned", "hard_limit"}


def test_every_reason_there_is_has_a_test():
    tabled = {reason for reason, _ in (*FORGED.values(), *HOSTILE.values())}
    assert tabled | HERE | set(ELSEWHERE) == set(DROP_NAMES) - {"ok"}
    assert not tabled & set(ELSEWHERE)


def test_selectors_of_the_rig_hold_the_good_packet():
    """The control for everything above: the packet that is refused in so many forms is itself welcome."""
    assert selectors_of("b")[0].version == 4
    with pair() as site:
        assert arrive(site.b, from_a(site, seal(site, padded(GOOD, V4), 1))) == [GOOD]
