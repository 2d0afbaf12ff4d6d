"""What a tunnel has carried by all its SAs, which come and go; and which packets went one way alone, as the data plane sees it."""

from __future__ import annotations

import struct

import pytest

from ipsec_dp.dataplane import Direction, Unanswered
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.packets import ICMP, ICMPV6, ipv4, ipv6, udp
from ipsec_dp.rig.plane import pair
from tests.unit.sites import HOST, arrive, from_a, seal, to_a, to_b

TCP = 6
SYN, ACK, RST = 0x02, 0x10, 0x04
A, B = HOST[4, "a"], HOST[4, "b"]
A6, B6 = HOST[6, "a"], HOST[6, "b"]


def tcp(flags, sequence=1, data=b"", acknowledges=1):
    return struct.pack("!HHIIBBHHH", 40000, 443, sequence, acknowledges, 5 << 4, flags, 1000, 0, 0) + data


def data(sequence, octets=10, **more):
    """A TCP segment that acknowledges and carries data."""
    return ipv4(A, B, tcp(ACK, sequence, bytes(octets), **more), protocol=TCP)


ECHO = ipv4(A, B, struct.pack("!BBHHH", 8, 0, 0, 1, 1), protocol=ICMP)
ECHO_REPLY = ipv4(B, A, struct.pack("!BBHHH", 0, 0, 0, 1, 1), protocol=ICMP)
ECHO6 = ipv6(A6, B6, struct.pack("!BBHHH", 128, 0, 0, 1, 1), protocol=ICMPV6)
OPENS = ipv4(A, B, tcp(SYN), protocol=TCP)
GOES_ON = ipv4(A, B, tcp(ACK), protocol=TCP)
LATER_FRAGMENT = ECHO[:6] + b"\x00\x10" + ECHO[8:10] + b"\0\0" + ECHO[12:]
ASKS = {"echo": ECHO, "echo of IPv6": ECHO6, "TCP": OPENS, "DNS": udp(A, B, b"?", ports=(5000, 53))}
ASKS_NOT = {
    "a stream": to_b(b"stream"),
    "an echo reply": ipv4(A, B, ECHO_REPLY[20:], protocol=ICMP),
    "a DNS answer": udp(A, B, b"!", ports=(53, 5000)),
    "TCP goes on": GOES_ON,
    "TCP ends": ipv4(A, B, tcp(SYN | RST), protocol=TCP),
    "TCP cut off": ipv4(A, B, tcp(SYN)[:13], protocol=TCP),
    "GRE": ipv4(A, B, bytes(8), protocol=47),
}


@pytest.fixture
def site():
    with pair("aes128gcm16") as made:
        yield made


def lost(site, *packets):
    """Site a sends packets that never arrive; what of them is unanswered now, and had to wait for an answer."""
    site.a.push(*packets)
    site.a.step()
    site.a.sent()
    return site.a.plane.unanswered()


# ---- totals


def traffic(site, name):
    return getattr(site, name).sad.traffic(0)


def test_a_rekey_leaves_the_totals_of_a_tunnel_as_they_are(site):
    octets = len(to_b(b"x"))
    assert len(site.transfer([to_b(b"x")] * 3)) == 3
    for _ in range(2):
        old = {name: site.inbound(name) for name in "ab"}
        site.install_inbound()
        site.switch()
        assert len(site.transfer([to_b(b"x")] * 5)) == 5
        for name, handle in old.items():
            getattr(site, name).sad.remove(handle)
        assert traffic(site, "a").packets_out == traffic(site, "b").packets_in, "before and after the memory is freed"
        for gateway in (site.a, site.b):
            gateway.sad.reclaim()
    (a, b) = traffic(site, "a"), traffic(site, "b")
    assert (a.packets_out, a.octets_out, a.packets_in, a.octets_in) == (13, 13 * octets, 0, 0)
    assert (b.packets_in, b.octets_in, b.packets_out, b.octets_out) == (13, 13 * octets, 0, 0)
    assert site.a.sad.read(site.outbound("a")).packets == 5, "an SA counts its own alone"


def test_drops_of_sas_that_are_gone_are_kept(site):
    forged = bytearray(seal(site, b"\0" * 14 + b"\0\x04", 1))
    forged[-1] ^= 1
    assert arrive(site.b, from_a(site, bytes(forged))) == []
    old = site.inbound("b")
    site.install_inbound()
    site.b.sad.remove(old)
    assert {reason: count for reason, count in traffic(site, "b").drops.items() if count} == {"icv": 1}


def test_another_tunnel_of_the_same_number_begins_with_nothing(site):
    site.transfer([to_b()])
    site.a.sad.remove_child(site.children["a"])
    assert traffic(site, "a").packets_out == 1
    site.a.plane.forget_tunnel(0)
    assert traffic(site, "a").packets_out == 0
    site.a.push(to_b())
    site.a.step()
    site.a.plane.forget_tunnel(0)
    assert site.a.plane.take_acquire(0) is False
    with pytest.raises(DataPlaneError):
        site.a.plane.forget_tunnel(99)
    with pytest.raises(DataPlaneError):
        site.a.sad.traffic(99)


# ---- what went one way alone


@pytest.mark.parametrize("packet", ASKS.values(), ids=ASKS.keys())
def test_what_wants_an_answer_and_has_none(site, packet):
    assert lost(site, packet, packet) == [Unanswered(0, Direction.OUTBOUND, False, 2, 2, 0)]
    assert lost(site, packet) == [Unanswered(0, Direction.OUTBOUND, False, 3, 3, 0)], "as long as that is so"


@pytest.mark.parametrize("packet", ASKS_NOT.values(), ids=ASKS_NOT.keys())
def test_a_flow_that_goes_one_way_by_its_nature_wants_none(site, packet):
    assert lost(site, *[packet] * 20) == []
    assert lost(site, ECHO) == [Unanswered(0, Direction.OUTBOUND, packet == GOES_ON, 1, 21, 0)], "the counter-test"


def test_data_that_tcp_sends_again_wants_an_answer(site):
    assert lost(site, data(1), data(11), data(21)) == []
    assert lost(site, data(21), data(21)) == [Unanswered(0, Direction.OUTBOUND, True, 2, 5, 0)]


def test_acknowledgements_alone_are_nothing_sent_again(site):
    """Of data that comes by another way."""
    assert lost(site, *[data(1, 0, acknowledges=number) for number in range(20)]) == []


def test_a_later_fragment_is_no_question(site):
    assert lost(site, LATER_FRAGMENT) == []
    assert traffic(site, "a").packets_out == 1


def test_anything_that_comes_back_is_an_answer(site):
    site.clock.advance(1)
    assert lost(site, ECHO)
    assert site.transfer([to_a(b"of another flow")], back=True)
    assert site.a.plane.unanswered() == []
    (found,) = lost(site, ECHO)
    assert (found.asked, found.last) == (1, site.clock.ns)


def test_the_other_end_knows_what_came_and_has_no_answer(site):
    site.clock.advance(1)
    site.transfer([ECHO] * 3)
    (found,) = site.b.plane.unanswered()
    assert (found.direction, found.asked) == (Direction.INBOUND, 3)
    site.b.push(ECHO_REPLY)
    site.exchange()
    assert site.b.plane.unanswered() == []


def test_a_rekey_answers_nothing_and_a_tunnel_without_sas_asks_nothing(site):
    lost(site, ECHO)
    old = site.inbound("a")
    site.install_inbound()
    site.switch()
    site.a.sad.remove(old)
    site.a.sad.reclaim()
    assert [found.asked for found in lost(site, ECHO)] == [2]
    site.a.sad.remove_child(site.children["a"])
    assert site.a.plane.unanswered() == []
