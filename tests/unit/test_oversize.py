"""The data plane and the size of inner packets, and the outer header's fields: MTU, fragments, MSS, hop limit, flow label, DSCP."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import ICMP, IP, IPerror, defragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from ipsec_dp.dataplane import Channel, Df, Dscp, Outer, TunnelSettings
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.offload import run_of, super_packet
from ipsec_dp.rig.plane import pair
from tests.unit.sites import HOST, from_a, outbound, to_b
from tests.unit.test_offloads import content, segment, turn_on

MTU = 1400


@pytest.fixture
def site():
    with pair() as made:
        made.a.plane.set_tunnel(0, TunnelSettings(mtu=MTU))
        yield made


def send(site, *packets):
    """What left by the link, what came back to the host."""
    for packet in packets:
        site.a.plane.push_tun(0, packet)
    site.a.step()
    return site.a.sent(), site.a.pulled()


def opened(site, datagrams):
    """What the peer's host gets of datagrams of a."""
    site.b.arrive(*(from_a(site, each.data, each.tos) for each in datagrams))
    site.b.step()
    return site.b.pulled()


def sized(octets, version=4, **fields):
    return to_b(bytes(octets - (28 if version == 4 else 48)), version, **fields)


def test_the_mtu_passes_whole_and_one_octet_more_is_answered(site):
    for version in (4, 6):
        packet = sized(MTU, version, df=True)
        sent, back = send(site, packet)
        assert (opened(site, sent), back) == ([packet], [])
        assert send(site, sized(MTU + 1, version, df=True))[0] == []
    assert site.a.drops == {"mtu": 2}


def test_the_answer_names_the_mtu_and_quotes_the_packet(site):
    packet = sized(MTU + 1, df=True)
    (answer,) = send(site, packet)[1]
    said = IP(answer)
    assert (said.src, said.dst) == (HOST[4, "b"], HOST[4, "a"])
    assert (said[ICMP].type, said[ICMP].code, said[ICMP].nexthopmtu) == (3, 4, MTU)
    assert bytes(said[IPerror])[:20] == packet[:20]
    (answer6,) = send(site, sized(MTU + 1, 6))[1]
    assert IPv6(answer6)[ICMPv6PacketTooBig].mtu == MTU
    assert (IPv6(answer6).src, IPv6(answer6).dst) == (HOST[6, "b"], HOST[6, "a"])


def test_a_sender_is_told_at_a_bounded_rate(site):
    assert len(send(site, *[sized(MTU + 1, df=True)] * 200)[1]) == 50


def test_packets_that_may_be_are_fragmented_before_they_are_sealed(site):
    packet = sized(4000, tos=0xB8)
    sent, back = send(site, packet)
    parts = [IP(each) for each in opened(site, sent)]
    assert back == []
    assert [len(part) for part in parts] == [1396, 1396, 1248]
    assert {part.tos for part in parts} == {0xB8}
    (whole,) = defragment(parts)
    assert bytes(whole.payload)[-3972:] == packet[28:]
    assert outbound(site).packets == 3
    assert site.a.drops == {}


def test_or_the_outer_packet_is_when_asked_for(site):
    site.a.plane.set_tunnel(0, TunnelSettings(mtu=MTU, fragment_after=True))
    packet = sized(4000)
    (sent,) = send(site, packet)[0]
    assert (sent.df, opened(site, [sent])) == (Df.CLEAR, [packet])
    assert send(site, sized(MTU + 1, df=True))[0] == []


def test_ipv6_of_1280_octets_passes_a_narrower_path_in_outer_fragments(site):
    """RFC 8200 §5: no sender can be told to use less."""
    site.a.plane.set_tunnel(0, TunnelSettings(mtu=1218))
    (sent,) = send(site, sized(1280, 6))[0]
    assert sent.df == Df.CLEAR
    sent, back = send(site, sized(1281, 6))
    assert (sent, IPv6(back[0])[ICMPv6PacketTooBig].mtu) == ([], 1280)
    assert send(site, sized(1218, 6))[0][0].df == Df.SET


def test_a_tcp_super_packet_is_cut_to_the_mtu(site):
    """Its sender's segments were longer: TCP does not mind where its stream is cut."""
    turn_on(site.a)
    for version in (4, 6):
        whole = segment(content(6000), version, identification=7)
        sent, back = send(site, super_packet(whole, 1460))
        wanted = list(run_of(whole, MTU - (40 if version == 4 else 60)))
        assert back == []
        assert opened(site, sent) == [one.packet() for one in wanted]
    assert site.a.drops == {}


@pytest.mark.parametrize("df", [True, False])
def test_a_udp_super_packet_keeps_its_datagrams(site, df):
    turn_on(site.a)
    whole = segment(content(4000), protocol=17, df=df)
    sent, back = send(site, super_packet(whole, 1450))
    if df:
        assert (sent, IP(back[0])[ICMP].nexthopmtu, site.a.drops) == ([], MTU, {"mtu": 3})
    else:
        parts = opened(site, sent)
        assert len(parts) == 5
        assert max(map(len, parts)) <= MTU
        assert b"".join(part[20:] if part[6] & 0x1F or part[7] else part[28:] for part in parts) == whole.payload


def test_without_settings_there_is_no_bound():
    with pair() as site:
        assert len(send(site, sized(1401, df=True), sized(9000, df=True))[0]) == 2


@pytest.mark.parametrize("version", [4, 6])
def test_the_mss_of_a_syn_is_lowered_both_ways(version):
    options = bytes([2, 4, 1460 >> 8, 1460 & 255])
    syn = segment(b"", version, flags=2, options=options)
    with pair() as site:
        for gateway in (site.a, site.b):
            gateway.plane.set_tunnel(0, TunnelSettings(mss4=1360, mss6=1340))
        lower = 1360 if version == 4 else 1340
        want = segment(b"", version, flags=2, options=bytes([2, 4, lower >> 8, lower & 255])).packet()
        sent, _ = send(site, syn.packet())
        site.b.plane.set_tunnel(0, TunnelSettings())
        assert opened(site, sent) == [want]
    with pair() as site:
        site.b.plane.set_tunnel(0, TunnelSettings(mss4=1360, mss6=1340))
        assert opened(site, send(site, syn.packet())[0]) == [want]
        assert opened(site, send(site, segment(b"", version, flags=0x10, options=options).packet())[0])[0][-4:] == options


def test_an_unknown_tunnel_is_refused(site):
    with pytest.raises(DataPlaneError):
        site.a.plane.set_tunnel(1 << 20, TunnelSettings())


# ---- the outer header


def test_the_hop_limit_is_the_hosts_a_number_or_the_inner_one():
    for settings, wanted in (({}, 0), ({"hop_limit": 17}, 17), ({"outer": Outer.HOP_LIMIT_COPY}, 64)):
        with pair(settings=settings) as site:
            for version in (4, 6):
                assert [each.hop_limit for each in send(site, to_b(b"x", version))[0]] == [wanted]


def test_flow_labels_tell_flows_apart_and_only_on_ipv6():
    settings = {"outer": Outer.FLOW_LABEL}
    with pair(outer=6, settings=settings) as site:
        flows = [to_b(b"x", version, ports=(port, 80)) for version in (4, 6) for port in range(1000, 1020)]
        labels = [each.flow_label for each in send(site, *flows)[0]]
        assert len(set(labels)) > 35
        assert all(0 < label < 1 << 20 for label in labels)
        assert [each.flow_label for each in send(site, *flows)[0]] == labels
    with pair(settings=settings) as site:
        assert [each.flow_label for each in send(site, to_b(b"x"))[0]] == [0]


def test_a_run_shares_what_the_outer_header_says():
    """One send has one TOS, hop limit and flow label."""
    with pair(outer=6, settings={"outer": Outer.FLOW_LABEL}) as site:
        turn_on(site.a)
        packets = [to_b(bytes(100), tos=tos, ports=(port, 80)) for port in (1, 2) for tos in (0, 2, 3) for _ in range(3)]
        sent = send(site, *packets)[0]
        assert [each.tos for each in sent] == [0, 0, 0, 2, 2, 2, 3, 3, 3] * 2
        assert [each.flow_label for each in sent] == [sent[0].flow_label] * 9 + [sent[9].flow_label] * 9
        assert sent[0].flow_label != sent[9].flow_label


def test_a_fixed_dscp_leaves_the_ecn_field_as_it_is():
    with pair(settings={"dscp": Dscp.VALUE, "dscp_value": 46}) as site:
        assert [each.tos for each in send(site, to_b(tos=0x29))[0]] == [46 << 2 | 1]


def test_the_outer_dscp_comes_in_when_asked_for():
    with pair() as site:
        site.b.plane.set_tunnel(0, TunnelSettings(dscp_in=True))
        sent, _ = send(site, to_b(tos=0x2A))
        site.b.arrive(from_a(site, sent[0].data, 0xB8))
        site.b.step()
        (packet,) = site.b.pulled()
        assert IP(packet).tos == 0xBA
        assert sum(struct.unpack("!10H", packet[:20])) % 0xFFFF == 0


# ---- what was sent lately


def test_the_sequence_numbers_of_the_last_twenty_seconds_are_recent(site):
    def after(seconds, packets):
        site.clock.advance(seconds)
        send(site, *[to_b(b"x")] * packets)
        info = outbound(site)
        return info.recent, info.sequence

    assert after(0, 5) == (0, 5)
    assert after(9, 5) == (0, 10)
    assert after(2, 5) == (0, 15)
    assert after(10, 5) == (10, 20)
    assert after(25, 5) == (20, 25)
    assert site.a.events(Channel.TRUSTED) == []
