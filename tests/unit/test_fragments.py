"""Fragments where selectors ask for ports, which only the first one shows (RFC 4301 §7): what passes, and what is cut where."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from ipsec_dp.dataplane import Action, Df, PolicyRule
from ipsec_dp.ipsec.selectors import Range
from ipsec_dp.rig.offload import run_of, super_packet
from ipsec_dp.rig.plane import INNER, OUTER, PlaneRig, keymat, selector
from tests.unit.ported_sites import ANYTHING, MTU, PORT, SUITE, TCP_TO_PORT, Sites, datagram, joined, pieces, ported
from tests.unit.sites import HOST
from tests.unit.test_offloads import content, segment, turn_on


@pytest.fixture
def sites():
    made = []

    def make(*agreed, workers=1):
        made.append(Sites(agreed or (False, False), workers))
        return made[-1]

    yield make
    for each in made:
        each.close()


BOTH = pytest.mark.parametrize("version", [4, 6])
AGREED = (True, True)


# ---- what came whole


@BOTH
@pytest.mark.parametrize("octets", [MTU + 1, 1478, 1500, 9000])
def test_what_came_whole_is_sealed_whole_and_fragmented_outside(sites, version, octets):
    """RFC 4303 §3.3.4: the peer would discard later fragments, so there are none."""
    site, packet = sites(), bytes(datagram(octets, version))
    (sent,) = site.seal(packet)
    assert (sent.df, site.a.pulled()) == (Df.CLEAR, [])
    assert site.open([sent]) == [packet]
    (fits,) = site.seal(bytes(datagram(MTU, version, df=True)))
    assert fits.df == Df.SET


def test_it_is_fragmented_before_where_the_peer_agreed(sites):
    site, packet = sites(*AGREED), datagram(4000)
    sent = site.seal(bytes(packet))
    assert len(sent) == 3
    arrived = site.open(sent)
    assert max(map(len, arrived)) <= MTU
    assert joined(arrived) == bytes(packet[UDP].payload)
    assert (site.a.drops, site.b.drops) == ({}, {})


@pytest.mark.parametrize("agreed", [(False, False), AGREED])
def test_what_must_not_be_fragmented_is_answered(sites, agreed):
    site = sites(*agreed)
    assert site.seal(bytes(datagram(MTU + 1, df=True))) == []
    (answer,) = site.a.pulled()
    assert IP(answer)[ICMP].nexthopmtu == MTU
    assert site.a.drops == {"mtu": 1}


@pytest.mark.parametrize("agreed", [(False, False), AGREED])
def test_ipv6_is_not_answered_since_its_sender_would_send_fragments_from_then_on(sites, agreed):
    site, packet = sites(*agreed), bytes(datagram(MTU + 1, 6))
    (sent,) = site.seal(packet)
    assert (sent.df, site.a.pulled(), site.open([sent])) == (Df.CLEAR, [], [packet])
    site.replace_selectors(selector(INNER["a"][1], INNER["b"][1]))
    assert site.seal(packet) == []
    (answer,) = site.a.pulled()  # the control: an SA for any ports
    assert IPv6(answer)[ICMPv6PacketTooBig].mtu == MTU


def test_an_sa_for_any_ports_fragments_before_as_ever(sites):
    """The control: selectors that hold what shows no ports need no agreement."""
    site = sites()
    site.replace_selectors(ANYTHING)
    assert len(site.seal(bytes(datagram(4000)))) == 3


@BOTH
def test_datagrams_of_a_super_packet_stay_whole(sites, version):
    site = sites()
    turn_on(site.a)
    whole = segment(content(4350), version, protocol=17, df=False, ports=(5000, PORT))
    sent = site.seal(super_packet(whole, 1450))
    assert [each.df for each in sent] == [Df.CLEAR] * 3
    assert site.open(sent) == [one.packet() for one in run_of(whole, 1450)]


def tcp_segment(octets, **fields):
    """Over IPv6, of so many octets in all, to the port that the selectors ask for."""
    return segment(content(octets - 60), 6, ports=(5000, PORT), **fields)


@pytest.mark.parametrize("agreed", [(False, False), AGREED])
def test_a_tcp_segment_over_ipv6_is_cut_as_its_sender_could_have(sites, agreed):
    """Nobody tells the sender, and outer fragments of every segment would cost twice the packets of both gateways."""
    site = sites(*agreed)
    site.replace_selectors(TCP_TO_PORT)
    site.replace_inbound(TCP_TO_PORT)
    whole = tcp_segment(3000, flags=0x98, sequence=2**32 - 100)  # CWR, PSH, ACK
    sent = site.seal(whole.packet())
    assert {each.df for each in sent} == {Df.SET}
    assert site.open(sent) == [one.packet() for one in run_of(whole, MTU - 60)]
    assert site.a.drops == {}


@pytest.mark.parametrize("flags", [0x02, 0x04, 0x20], ids=["SYN", "RST", "URG"])
def test_what_is_more_than_data_stays_whole(sites, flags):
    site = sites()
    site.replace_selectors(TCP_TO_PORT)
    (sent,) = site.seal(tcp_segment(1500, flags=0x10 | flags).packet())
    assert sent.df == Df.CLEAR


def test_a_wrong_checksum_stays_wrong(sites):
    site = sites()
    site.replace_selectors(TCP_TO_PORT)
    site.replace_inbound(TCP_TO_PORT)
    wrong = bytearray(tcp_segment(1500).packet())
    wrong[-1] ^= 1
    (sent,) = site.seal(bytes(wrong))
    assert (sent.df, site.open([sent])) == (Df.CLEAR, [bytes(wrong)])


# ---- hosts' own fragments


@BOTH
def test_without_an_agreement_later_fragments_are_dropped_and_counted_as_what_they_are(sites, version):
    site = sites()
    assert len(site.seal(*pieces(3000, version))) == 1  # the first, which shows its ports
    assert site.a.drops == {"fragment_ports": 2}


@BOTH
@pytest.mark.parametrize("octets", [1201, 3000, 20000, 65000])
def test_with_one_they_follow_their_first(sites, version, octets):
    site = sites(*AGREED)
    arrived = site.carry(*pieces(octets, version))
    assert arrived == pieces(octets, version)
    assert joined(arrived, version) == bytes(datagram(octets, version)[UDP].payload)
    assert (site.a.drops, site.b.drops) == ({}, {})


@BOTH
def test_none_is_admitted_without_its_first(sites, version):
    site = sites(*AGREED)
    _, second, third = pieces(3000, version)
    assert site.seal(second, third) == []
    assert site.a.drops == {"fragment_ports": 2}
    assert len(site.seal(*pieces(3000, version))) == 3


@BOTH
def test_nor_behind_a_first_one_to_another_port(sites, version):
    site = sites(*AGREED)
    assert site.seal(*pieces(3000, version, ports=(5000, 22))) == []
    assert site.a.drops == {"policy_none": 1, "fragment_ports": 2}


@BOTH
def test_the_peers_are_checked_alike(sites, version):
    """a sends whatever it likes; b has agreed, or not."""
    for agreed, wanted in ((False, {"fragment_ports": 2}), (True, {})):
        site = sites(True, agreed)
        parts = pieces(3000, version)
        assert len(site.open(site.seal(*parts))) == (3 if agreed else 1)
        assert site.b.drops == wanted
    sent = sites(True, True).seal(*parts)
    strict = sites(True, True)
    strict.open(sent[1:])
    assert strict.b.drops == {"fragment_ports": 2}, "no first fragment came"


def field(packet, offset, more):
    """A fragment of `packet` (IPv4) whose offset and flags are these."""
    made = IP(packet)
    made.frag, made.flags = offset // 8, "MF" if more else 0
    del made.chksum
    return bytes(made)


@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("offset", [8, 16, 1168])
def test_what_overlaps_the_first_is_refused(sites, where, offset):
    """Offsets into the transport header among it, which would change the ports that were checked (RFC 1858)."""
    site = sites(*AGREED)
    first, second, third = pieces(3000)
    bad = field(second, offset, more=True)
    if where == "a":
        assert len(site.seal(first, bad, third)) == 1
        assert site.a.drops == {"fragment_refused": 2}
    else:
        site.replace_selectors(ANYTHING)
        sent = site.seal(first, bad, third)
        assert len(sent) == 3, "a peer that checks nothing"
        assert site.open(sent) == [first]
        assert site.b.drops == {"fragment_refused": 2}


def test_a_first_fragment_without_its_whole_transport_header_is_refused(sites):
    site = sites(*AGREED)
    site.replace_selectors(selector(INNER["a"][0], INNER["b"][0], remote_ports=Range(PORT, PORT)))
    tcp = struct.pack("!HHIIBBHHH", 5000, PORT, 1, 1, 0x50, 2, 100, 0, 0)

    def part(identification, flags, at, octets):
        head = IP(src=HOST[4, "a"], dst=HOST[4, "b"], id=identification, proto=6, flags=flags, frag=at)
        return bytes(head / Raw(octets))

    assert site.seal(part(9, "MF", 0, tcp[:16]), part(9, 0, 2, tcp[16:])) == []
    assert site.a.drops == {"fragment_refused": 1, "fragment_ports": 1}
    assert len(site.seal(part(10, "MF", 0, tcp + bytes(4)))) == 1


def test_what_is_remembered_ages(sites):
    site = sites(*AGREED)
    first, second, third = pieces(3000)
    assert len(site.seal(first, second)) == 2
    site.clock.advance(15)
    assert site.seal(third) == []
    assert site.a.drops == {"fragment_ports": 1}


def test_a_rekey_in_between_does_not_matter(sites):
    site = sites(*AGREED)
    first, second, third = pieces(3000)
    arrived = site.carry(first)
    site.install_inbound(site.b, 0x1001)
    site.install_outbound(site.a, 0x1001)
    arrived += site.carry(second, third)
    assert arrived == [first, second, third]


def test_a_rekey_after_which_the_peer_no_longer_agrees_does(sites):
    site = sites(*AGREED)
    first, second, _ = pieces(3000)
    site.carry(first)
    site.agreed = {"a": False, "b": False}
    site.install_outbound(site.a, 0x1001)
    assert site.seal(second) == []
    assert site.a.drops == {"fragment_ports": 1}


def test_they_wait_for_their_sa_together(sites):
    """The first datagram of a tunnel that comes up on demand."""
    with PlaneRig("a", OUTER[4]["a"], hold_octets=1 << 20) as a:
        selectors = [ported("a", 4)]
        a.protect(selectors)
        child = a.sad.add_child(0, selectors)
        parts = pieces(3000)
        a.push(*parts)
        a.step()
        assert a.sent() == []
        peer = PlaneRig("b", OUTER[4]["b"])
        path = a.path_to(peer.endpoint)
        peer.close()
        handle = a.sad.install_outbound(
            spi=0x1000, suite=SUITE, keymat=keymat(SUITE, "x"), tunnel=0, path=path, fragments_also=True
        )
        a.sad.switch(child, handle)
        a.step()
        assert len(a.sent()) == 3
        assert a.drops == {}


def test_policy_says_of_later_fragments_what_it_says_of_the_first(sites):
    """A discard of that port above holds against all of them, inbound too."""
    site = sites(*AGREED)
    sent = site.seal(*pieces(3000))
    mine = ported("b", 4)
    site.b.set_policy([PolicyRule(mine, Action.DISCARD, 0), PolicyRule(mine, Action.PROTECT, 0)])
    assert site.open(sent) == []
    assert site.b.drops == {"policy_inbound": 3}


def test_fragments_for_any_ports_need_no_first(sites):
    """The control: nothing changes where no selector asks for ports."""
    site = sites()
    site.replace_selectors(ANYTHING)
    _, second, third = pieces(3000)
    assert len(site.seal(third, second, second)) == 3
    assert site.a.drops == {}


def test_whichever_worker_reads_them_they_find_their_first(sites):
    """The kernel chooses queues by addresses, so mostly one worker reads all of a datagram; where it changes its mind, no fragment
    is lost. The tunnel's SAs are worker 0's."""
    site = sites(*AGREED, workers=2)
    site.a.plane.attach_memory_tun(0, worker=1)
    parts = pieces(6000)
    for number, part in enumerate(parts):
        worker = number % 2
        site.a.plane.push_tun(0, part, worker=worker)
        site.a.plane.step_outbound(site.clock.ns, worker=worker)
    site.a.plane.step_outbound(site.clock.ns, worker=0)
    assert len(site.a.sent()) == len(parts)
    assert site.a.drops == {}
