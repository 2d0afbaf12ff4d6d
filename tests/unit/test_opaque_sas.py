"""An SA for later fragments alone, beside one with ports (RFC 4301 §7.2): what goes by which, and what neither takes."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from ipsec_dp.dataplane import Action, Df, PolicyRule
from ipsec_dp.ipsec.selectors import OPAQUE_PORTS, Range
from ipsec_dp.rig.plane import INNER, selector
from tests.unit.opaque_sites import SPI, OpaqueSites, opaque
from tests.unit.ported_sites import MTU, PORT, Sites, datagram, joined, pieces, ported
from tests.unit.sites import HOST

BOTH = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def sites():
    made = []

    def make(*args, **kwargs):
        made.append(OpaqueSites(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def spis(datagrams):
    return [int.from_bytes(each.data[:4]) for each in datagrams]


@BOTH
@pytest.mark.parametrize("octets", [1300, 3000, 20000, 65000])
def test_the_first_goes_by_its_ports_and_the_others_by_the_sa_for_them(sites, version, octets):
    site, parts = sites(), pieces(octets, version)
    sent = site.seal(*parts)
    assert spis(sent) == [0x1000] + [SPI] * (len(parts) - 1)
    arrived = site.open(sent)
    assert joined(arrived, version) == bytes(datagram(octets, version)[UDP].payload)
    assert (site.a.drops, site.b.drops) == ({}, {})


@BOTH
def test_without_that_sa_they_are_dropped(version):
    """The control."""
    site = Sites()
    assert spis(site.seal(*pieces(3000, version))) == [0x1000]
    site.close()


@BOTH
@pytest.mark.parametrize("octets", [100, MTU, 1500, 9000])
def test_whole_datagrams_never_go_by_it(sites, version, octets):
    """What came whole is sealed whole, however long."""
    site, packet = sites(), bytes(datagram(octets, version))
    (sent,) = site.seal(packet)
    assert (spis([sent]), site.open([sent])) == ([0x1000], [packet])
    assert sent.df == (Df.CLEAR if octets > MTU else sent.df)


@BOTH
def test_nor_by_policy_does_a_whole_one_to_another_port(sites, version):
    site = sites()
    assert site.seal(bytes(datagram(100, version, ports=(5000, 22)))) == []
    assert site.a.drops == {"policy_none": 1}


@BOTH
def test_a_whole_datagram_whose_ports_are_cut_off_goes_by_none(sites, version):
    """Nobody may call a packet without a whole header a later fragment."""
    site = sites()
    head = (IP if version == 4 else IPv6)(src=HOST[version, "a"], dst=HOST[version, "b"])
    setattr(head, "proto" if version == 4 else "nh", 17)
    assert site.seal(bytes(head / Raw(b"abc"))) == []
    assert site.a.drops == {"policy_none": 1}


@BOTH
def test_later_fragments_that_do_not_fit_pass_too(sites, version):
    """IPv4 is cut again; a sender of IPv6 understands no "packet too big" about what shows no ports, so the outer packet is cut."""
    site, parts = sites(), pieces(9000, version, size=1496)
    assert len(parts[1]) > MTU
    arrived = site.carry(*parts)
    assert joined(arrived, version) == bytes(datagram(9000, version)[UDP].payload)
    assert (site.a.drops, site.b.drops, site.a.pulled()) == ({}, {}, [])


@BOTH
def test_in_any_order(sites, version):
    site, parts = sites(), pieces(6000, version)
    arrived = site.carry(*reversed(parts))
    assert sorted(arrived) == sorted(parts)
    assert (site.a.drops, site.b.drops) == ({}, {})
    assert len(site.carry(*parts)) == len(parts), "the first datagram is forgotten when it is whole"


def make_lax(site):
    """a checks nothing any more: what shows no ports, or has no other SA, goes by its SA for later fragments."""
    mine = selector(INNER["a"][0], INNER["b"][0]), selector(INNER["a"][1], INNER["b"][1])
    site.a.protect(mine)
    site.a.sad.remove_child(site.hidden["a"])
    site.hidden["a"] = site.a.sad.add_child(0, mine)
    site.send_hidden("a")


@BOTH
def test_inbound_it_admits_later_fragments_and_nothing_else(sites, version):
    """A peer that puts what it likes into it."""
    site = sites()
    first, second, _ = pieces(3000, version)
    head = (IP if version == 4 else IPv6)(src=HOST[version, "a"], dst=HOST[version, "b"])
    setattr(head, "proto" if version == 4 else "nh", 17)
    whole, other = bytes(datagram(100, version)), bytes(datagram(100, version, ports=(5000, 22)))
    cut = bytes(head / Raw(b"abc"))
    make_lax(site)
    site.a.sad.remove_child(site.children["a"])
    sent = site.seal(first, whole, other, cut, second)
    assert spis(sent) == [SPI] * 5
    assert site.open(sent) == [second]
    assert site.b.drops == {"selectors": 4}


def test_nor_an_error_about_a_later_fragment(sites):
    """RFC 1122 §3.2.2 and RFC 4301 §7.2: it is no fragment itself."""
    site = sites()
    quoted = IP(src=HOST[4, "b"], dst=HOST[4, "a"], proto=17, frag=100) / Raw(bytes(64))
    error = IP(src="10.1.0.1", dst=HOST[4, "b"]) / ICMP(type=3, code=4) / Raw(bytes(quoted))
    assert site.seal(bytes(error)) == []
    six = IPv6(src=HOST[6, "b"], dst=HOST[6, "a"]) / IPv6ExtHdrFragment(offset=100, nh=17) / Raw(bytes(64))
    assert site.seal(bytes(IPv6(src=HOST[6, "a"], dst=HOST[6, "b"]) / ICMPv6PacketTooBig() / Raw(bytes(six)))) == []
    assert site.a.drops == {"policy_none": 2}
    shown = IP(src=HOST[4, "b"], dst=HOST[4, "a"]) / UDP(sport=PORT, dport=5000) / Raw(bytes(64))
    assert len(site.seal(bytes(IP(src="10.1.0.1", dst=HOST[4, "b"]) / ICMP(type=3, code=4) / Raw(bytes(shown))))) == 1


def moved(packet, offset, more=True):
    """A later fragment of IPv4 at another offset."""
    made = IP(packet)
    made.frag, made.flags = offset // 8, "MF" if more else 0
    del made.chksum
    return bytes(made)


@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.parametrize("offset", [8, 16, 1168])
@pytest.mark.parametrize("first_comes", ["before", "after"])
def test_what_overlaps_its_first_is_refused_whichever_comes_before(sites, where, offset, first_comes):
    site = sites()
    first, second, third = pieces(3000)
    order = [first, moved(second, offset)] if first_comes == "before" else [moved(second, offset), first]
    if where == "a":
        assert len(site.seal(*order, third)) == 1
        assert site.a.drops == {"fragment_refused": 2}
        return
    make_lax(site)
    sent = site.seal(*order, third)
    assert sorted(spis(sent)) == [0x1000, SPI, SPI]
    assert len(site.open(sent)) == 1
    assert site.b.drops == {"fragment_refused": 2}


@pytest.mark.parametrize("where", ["a", "b"])
def test_an_offset_into_the_transport_header_is_refused_alone(sites, where):
    """RFC 4301 §7.2: receivers must look at the least offset, of which RFC 1858 tells. UDP has no more than eight octets."""
    site = sites()
    both = [
        selector(*(INNER[name][0] for name in ends), protocol=Range(6, 6), local_ports=OPAQUE_PORTS, remote_ports=OPAQUE_PORTS)
        for ends in ("ab", "ba")
    ]
    for gateway, pair in zip((site.a, site.b), both, strict=True):
        gateway.protect([pair])
        gateway.sad.remove_child(site.hidden[gateway.name])
        site.hidden[gateway.name] = gateway.sad.add_child(0, [pair])
        site.install_hidden(gateway.name)
    parts = [
        bytes(IP(src=HOST[4, "a"], dst=HOST[4, "b"], id=number, proto=6, frag=at, flags="MF") / Raw(bytes(64)))
        for number, at in enumerate((1, 2, 3))
    ]
    if where == "b":
        make_lax(site)
    arrived = site.carry(*parts)
    assert arrived == parts[2:]
    assert (site.a if where == "a" else site.b).drops == {"fragment_refused": 2}


@pytest.mark.parametrize("first_comes", ["before", "after"])
def test_ipv6_later_fragments_cannot_claim_another_protocol_than_their_first(sites, first_comes):
    """Only the first fragment's next header counts (RFC 8200 §4.5), so the others could name any."""
    site = sites()
    ends = INNER["a"][1], INNER["b"][1]
    ported_tcp = selector(*ends, protocol=Range(6, 6), remote_ports=Range(PORT, PORT))
    hidden_tcp = selector(*ends, protocol=Range(6, 6), local_ports=OPAQUE_PORTS, remote_ports=OPAQUE_PORTS)
    site.replace_selectors(ported_tcp)
    site.a.protect([ported_tcp, hidden_tcp, opaque("a", 6)])
    first, second, _ = pieces(3000, 6)
    tcp = IPv6(first)
    tcp[IPv6ExtHdrFragment].nh = 6
    order = (bytes(tcp), second)[:: 1 if first_comes == "before" else -1]
    assert len(site.seal(*order)) == 1
    assert site.a.drops == {"fragment_refused": 1}


def test_where_the_peer_agreed_they_follow_their_first(sites):
    """NON_FIRST_FRAGMENTS_ALSO is stricter: nothing passes without a first fragment to its port."""
    site = sites(agreed=(True, True))
    sent = site.seal(*pieces(3000))
    assert spis(sent) == [0x1000] * 3
    assert joined(site.open(sent)) == bytes(datagram(3000)[UDP].payload)


def test_they_wait_for_their_own_sa(sites):
    """The one with ports is there first; nothing is lost, and nothing follows by it that may not."""
    site = sites(peers="b")
    parts = pieces(3000)
    assert spis(site.seal(*parts)) == [0x1000]
    assert site.a.drops == {"no_sa": 2}, "this gateway holds none"
    site.install_hidden("a")
    assert spis(site.seal(*pieces(3000, identification=8))) == [0x1000, SPI, SPI]


def test_an_sa_for_any_ports_gives_way_to_it(sites):
    """Later fragments go by the SA for them, whichever came up first."""
    site = sites()
    everything = selector(INNER["a"][0], INNER["b"][0])
    site.a.protect([everything])
    site.a.sad.remove_child(site.children["a"])
    site.children["a"] = site.a.sad.add_child(0, [everything])
    site.install_outbound(site.a, 0x1000)
    assert spis(site.seal(*pieces(3000))) == [0x1000, SPI, SPI]


def test_a_discard_for_later_fragments_holds_both_ways(sites):
    site = sites()
    sent = site.seal(*pieces(3000))
    rules = [PolicyRule(opaque("b", 4), Action.DISCARD, 0), PolicyRule(ported("b", 4), Action.PROTECT, 0)]
    site.b.set_policy(rules)
    assert site.open(sent) == [pieces(3000)[0]]
    assert site.b.drops == {"policy_inbound": 2}
