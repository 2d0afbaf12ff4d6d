"""What a capture shows of a data plane in memory: packets inside and outside, what was dropped and why, and what found no room."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from ipsec_dp.dataplane import Encapsulation, Endpoint, MemoryDatagram
from ipsec_dp.dataplane.tap import OUTER_KEY, Tap, TappedTunnel
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.offload import Segment, super_packet
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import pair
from ipsec_dp.util import pcapng
from tests.unit.sites import HOST, from_a, padded, seal, to_b

INBOUND, OUTBOUND = 1, 2
TCP = 6
COMMENT, FLAGS = 1, 2
OUTER, INNER = 0, 1  # numbers that `seen` gives
LEAST_RING = 1 << 18


class Seen(NamedTuple):
    """A packet of a capture. `whole`: octets that it had."""

    interface: int
    direction: int
    data: bytes
    whole: int
    comment: str | None


def options(octets):
    found, at = {}, 0
    while at + 4 <= len(octets):
        code, length = struct.unpack_from("<HH", octets, at)
        if code == 0:
            break
        found[code] = octets[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return found


def packet(block):
    interface, _, _, kept, whole = struct.unpack_from("<5I", block, 8)
    said = options(block[28 + kept + -kept % 4 : -4])
    comment = said.get(COMMENT)
    (direction,) = struct.unpack("<I", said[FLAGS])
    return Seen(interface, direction, block[28 : 28 + kept], whole, None if comment is None else comment.decode())


def seen(tap):
    """Everything that is there; TUN interface 0 is INNER."""
    octets = b""
    while True:
        more, unnamed = tap.read()
        octets += more
        if unnamed is not None:
            tap.name(unnamed, unnamed)
        elif not more:
            return [packet(block.octets) for block in pcapng.Blocks().feed(octets)]


@pytest.fixture
def site():
    with pair("aes128gcm16", replay_window=64) as made:
        yield made


def capture(rig, **options):
    return Tap(rig.plane, **{"inner": True, "outer": True} | options)


def ones_complement(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_packet_is_seen_inside_and_outside_at_both_ends(site):
    at_a, at_b = capture(site.a), capture(site.b)
    assert site.transfer([to_b(b"hello")]) == [to_b(b"hello")]
    inner, outer = seen(at_a)
    assert inner == (INNER, OUTBOUND, to_b(b"hello"), len(to_b(b"hello")), None)
    assert (outer.interface, outer.direction, outer.comment) == (OUTER, OUTBOUND, None)
    assert outer.data[:1] == b"\x45"
    assert outer.data[9] == 17
    assert outer.data[12:20] == ip_address("192.0.2.1").packed + ip_address("192.0.2.2").packed
    assert ones_complement(outer.data[:20]) == 0xFFFF
    assert struct.unpack_from("!HHH", outer.data, 20) == (4500, 4500, len(outer.data) - 20)
    assert int.from_bytes(outer.data[28:32]) == site.spis["b"]
    arrived, opened = seen(at_b)
    assert arrived.data[20:] == outer.data[20:]
    assert (arrived.direction, opened) == (INBOUND, (INNER, INBOUND, to_b(b"hello"), len(to_b(b"hello")), None))


def test_bare_esp_over_ipv6_and_a_checksum_of_udp_that_holds():
    for encapsulation, protocol in ((Encapsulation.ESP, 50), (Encapsulation.UDP, 17)):
        with pair("aes128gcm16", encapsulation=encapsulation, outer=6) as site:
            tap = capture(site.a, inner=False)
            site.transfer([to_b(b"hello")])
            (outer,) = seen(tap)
            header, payload = outer.data[:40], outer.data[40:]
            assert (header[0] >> 4, header[6], int.from_bytes(header[4:6])) == (6, protocol, len(payload))
            if encapsulation is Encapsulation.UDP:
                even = payload + bytes(len(payload) % 2)
                assert ones_complement(header[8:40] + struct.pack("!II", len(payload), 17) + even) == 0xFFFF


def test_each_datagram_of_a_run_is_one_packet_and_a_super_packet_is_whole(site):
    tap = capture(site.a)
    whole = super_packet(Segment(ip_address(HOST[4, "a"]).packed, ip_address(HOST[4, "b"]).packed, TCP, bytes(3000)), 1000)
    site.a.plane.push_tun(0, whole)
    site.a.step()
    inner, *outer = seen(tap)
    assert (inner.data, inner.whole) == (whole.data, len(whole.data))
    assert [each.interface for each in outer] == [OUTER] * 3
    assert [int.from_bytes(each.data[32:36]) for each in outer] == [1, 2, 3]


REPLAYED, FORGED, OUTSIDE = range(3)


@pytest.mark.parametrize(
    ("what", "make", "interface", "reason"),
    [
        (REPLAYED, lambda site: seal(site, padded(to_b(b"x"), 4), 5), OUTER, "replay"),
        (FORGED, lambda site: seal(site, padded(to_b(b"x"), 4), 6)[:-1] + b"\0", OUTER, "icv"),
        (OUTSIDE, lambda site: seal(site, padded(udp("192.168.1.1", HOST[4, "b"]), 4), 6), INNER, "selectors"),
    ],
)
def test_what_is_dropped_on_its_way_in_says_why(site, what, make, interface, reason):
    site.b.arrive(from_a(site, seal(site, padded(to_b(b"x"), 4), 5)))
    site.b.step()
    tap, datagram = capture(site.b), make(site)
    site.b.arrive(from_a(site, datagram))
    site.b.step()
    found = seen(tap)
    assert site.b.drops == {reason: 1}
    (dropped,) = [each for each in found if each.comment is not None]
    assert dropped.comment.startswith(f"dropped: {reason}: ")
    assert dropped.interface == interface
    assert found[0].data[28:] == datagram  # as it came, not as opening it in place left it
    assert len(found) == (2 if what == OUTSIDE else 1)


def test_what_is_dropped_inside_is_told_of_the_datagram_where_only_those_are_captured(site):
    tap = capture(site.b, inner=False)
    site.b.arrive(from_a(site, seal(site, padded(udp("192.168.1.1", HOST[4, "b"]), 4), 6)))
    site.b.arrive(from_a(site, seal(site, padded(to_b(b"x"), 4), 7)))
    site.b.step()
    dropped, good = seen(tap)
    assert dropped.comment.startswith("dropped: selectors: ")
    assert good.comment is None


def test_what_is_dropped_on_its_way_out_says_why(site):
    tap = capture(site.a)
    site.a.push(udp("10.1.0.1", "203.0.113.9"))
    site.a.step()
    assert seen(tap) == [
        (INNER, OUTBOUND, udp("10.1.0.1", "203.0.113.9"), 28, "dropped: policy_none: no policy or proxy ID holds the packet")
    ]


def test_only_the_beginning_is_kept_where_that_is_asked_for(site):
    tap = capture(site.a, snap=24)
    site.transfer([to_b(bytes(500))])
    assert [(len(each.data), each.whole > 500) for each in seen(tap)] == [(24, True), (24, True)]


@pytest.mark.parametrize(("inner", "outer", "kinds"), [(True, False, [INNER]), (False, True, [OUTER])])
def test_one_side_alone(site, inner, outer, kinds):
    tap = capture(site.a, inner=inner, outer=outer)
    site.transfer([to_b(b"x")])
    assert [each.interface for each in seen(tap)] == kinds


def test_what_finds_no_room_is_counted_and_holds_no_packet_up(site):
    tap = capture(site.a, ring_octets=LEAST_RING)
    sent = [to_b(bytes(1000))] * 400
    assert site.transfer(sent) == sent
    kept = seen(tap)
    (inner, missed_inner), (outer, missed_outer) = tap.counts(INNER), tap.counts(OUTER_KEY)
    assert inner + outer == len(kept)
    assert (inner + missed_inner, outer + missed_outer) == (400, 400)
    assert missed_inner + missed_outer > 0
    site.transfer(sent[:10])  # there is room again
    assert len(seen(tap)) == 20


def test_a_ring_goes_round(site):
    tap = capture(site.a, ring_octets=LEAST_RING)
    for number in range(1000):
        site.transfer([to_b(number.to_bytes(2) * 300)])
        inner, _ = seen(tap)
        assert inner.data == to_b(number.to_bytes(2) * 300)
    assert tap.counts(INNER) == (1000, 0)


def test_one_tunnel_alone_with_the_ike_of_its_peer(site):
    peer, other = site.b.endpoint.address, ip_address("198.51.100.1")
    for tunnel, expected in ((0, [INNER, OUTER]), (1, [])):
        tap = capture(site.a, tunnel=TappedTunnel(tunnel, tunnel))
        site.transfer([to_b(b"x")])
        assert [each.interface for each in seen(tap)] == expected
        tap.close()
    tap = capture(site.a, tunnel=TappedTunnel(0, 0, (peer,)))
    for address in (peer, other):
        site.a.plane.ike_sent(site.a.endpoint, Endpoint(address, 4500), b"a message of ours" * 2)
    (sent,) = seen(tap)
    assert sent.data[16:20] == peer.packed
    assert sent.data[28:] == bytes(4) + b"a message of ours" * 2  # behind the non-ESP marker


def test_ike_that_comes_to_the_port_of_esp(site):
    tap = capture(site.b)
    message = bytes(4) + b"a message of the peer's" * 2
    site.b.arrive(
        MemoryDatagram(message, site.b.endpoint, site.a.endpoint), MemoryDatagram(b"\xff", site.b.endpoint, site.a.endpoint)
    )
    site.b.step()
    ike, keepalive = seen(tap)
    assert (ike.data[28:], ike.comment, ike.direction) == (message, None, INBOUND)
    assert keepalive.data[28:] == b"\xff"


def test_there_is_one_at_a_time_and_none_after_its_end(site):
    tap = capture(site.a)
    with pytest.raises(DataPlaneError, match="busy"):
        capture(site.a)
    tap.close()
    tap.close()
    with pytest.raises(DataPlaneError, match="over"):
        tap.read()
    site.transfer([to_b(b"x")])
    again = capture(site.a)
    assert seen(again) == []
    site.a.close()
    with pytest.raises(DataPlaneError):
        again.read()
    again.close()


def test_a_stream_is_cut_into_blocks_wherever_it_was_cut_before():
    file = pcapng.section("test") + pcapng.interface("outer", "all", 64) + pcapng.statistics(0, 1, 10, 3)
    for step in (1, 7, len(file)):
        blocks = pcapng.Blocks()
        found = [block for at in range(0, len(file), step) for block in blocks.feed(file[at : at + step])]
        assert [block.kind for block in found] == [pcapng.SECTION, pcapng.INTERFACE, pcapng.STATISTICS]
        assert found[2].missed == 3
        assert b"".join(block.octets for block in found) == file
    for total in (0, 8, 13, 1 << 20):
        with pytest.raises(pcapng.PcapngError):
            list(pcapng.Blocks().feed(struct.pack("<III", 6, total, 0)))
