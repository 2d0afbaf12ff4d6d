"""A proxy ID with ports, and datagrams that do not fit the tunnel: what came whole passes, and hosts' own fragments where both
sides agree (RFC 4301 §7.3).

hostA -- gwA == gwB -- hostB, or with a narrow link in the middle (`middle`)
"""

from __future__ import annotations

import re
import socket
from contextlib import contextmanager
from functools import partial

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns.middle import build, outer
from tests.netns.traffic import until

PORT = 9000
WHOLE = {4: (1400, 1450, 1472), 6: (1350, 1400, 1452)}  # octets of UDP payload that a host of MTU 1500 sends whole
IN_FRAGMENTS = (1500, 4000, 20000, 60000)
TIMES = 3
ALL = (TIMES, TIMES)
LOST_S = 0.3  # within which an answer would have come, where none may
ANSWER_S = 5.0  # for one that is to come
LOST = (LOST_S, LOST_S)
IP_MTU_DISCOVER, DONT = 10, 0


@pytest.fixture(scope="module")
def sites():
    with netns.Lab() as lab:
        yield netns.two_sites(lab)


PROXY_ID = re.compile(r"\[\[tunnel\.proxy_id\]\]\n((?:  \w+ = .*\n)+)")


@contextmanager
def ported(sites, directory, pair, *, opaque=(False, False)):
    """Both gateways, whose proxy IDs are for UDP port 9000 of site B, each with one for later fragments beside it or without."""
    made = GatewayPair(sites, directory, pair)
    for gateway, key, later in zip((made.a, made.b), ("remote_ports", "local_ports"), opaque, strict=True):
        ports = [str(PORT), '"opaque"'] if later else [str(PORT)]
        lines = "".join(rf'[[tunnel.proxy_id]]\n  protocol = "udp"\n  {key} = {each}\n\1' for each in ports)
        gateway.config.write_text(PROXY_ID.sub(lines, gateway.config.read_text()))
    with made as gateways:
        if opaque == (True, False):
            until(lambda: gateways.a.status()["tunnels"][0]["state"] == "partial", "all but what the other side has not")
        elif isinstance(pair, IkePair):
            gateways.a.wait_negotiated()
        yield gateways


def udp(version, bound):
    made = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(ANSWER_S)
    if version == 4:  # without DF
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DONT)
    made.bind(bound)
    return made


class Talk:
    """A host of each site that talk by UDP, IPv4 or IPv6, to and from port 9000 of the second."""

    def __init__(self, sites, version):
        self.address = netns.HOST_B[version == 6]
        self.there = sites.host_b.call(partial(udp, version, (self.address, PORT)))
        self.here = sites.host_a.call(partial(udp, version, ("", 0)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.there.close()
        self.here.close()

    def arrived(self, octets, seconds=(ANSWER_S, ANSWER_S)):
        """How many of TIMES datagrams arrive there, and how many here, each within `seconds` of its way."""
        self.here.sendto(b"hello", (self.address, PORT))
        _, peer = self.there.recvfrom(65535)
        return tuple(
            sum(_passes(source, target, to, bytes([number % 251]) * octets, most) for number in range(TIMES))
            for source, target, to, most in (
                (self.here, self.there, (self.address, PORT), seconds[0]),
                (self.there, self.here, peer, seconds[1]),
            )
        )

    def all_arrive(self, octets):
        return self.arrived(octets, LOST) == ALL

    def lost(self, octets):
        """How many of TIMES datagrams do not arrive there, and how many not here."""
        return tuple(TIMES - number for number in self.arrived(octets, LOST))


def _passes(source, target, to, content, seconds=ANSWER_S):
    """One that comes before it was waited for in vain: it is late."""
    source.sendto(content, to)
    target.settimeout(seconds)
    try:
        while target.recv(65535) != content:
            pass
    except TimeoutError:
        return False
    finally:
        target.settimeout(ANSWER_S)
    return True


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("outer", "encapsulation"), [(4, "udp"), (4, "esp"), (6, "udp"), (6, "esp")])
def test_between_two_that_agree_datagrams_of_any_size_pass(sites, tmp_path, version, outer, encapsulation):
    ends = netns.GW_A_OUTER[outer == 6], netns.GW_B_OUTER[outer == 6]
    with ported(sites, tmp_path, IkePair(outer=ends, encapsulation=encapsulation)) as gateways, Talk(sites, version) as talk:
        sizes = (*WHOLE[version], *IN_FRAGMENTS)
        assert {octets: talk.arrived(octets) for octets in sizes} == dict.fromkeys(sizes, ALL)
        for gateway in (gateways.a, gateways.b):
            drops = gateway.status()["drops"]
            assert (drops["fragment_ports"], drops["fragment_refused"]) == (0, 0)


@pytest.mark.parametrize("version", [4, 6])
def test_without_an_agreement_what_came_whole_passes_and_hosts_own_fragments_do_not(sites, tmp_path, version):
    """Keys set by hand agree on nothing, and so does a peer that does not know the notify."""
    with ported(sites, tmp_path, ManualPair(encapsulation="udp")) as gateways, Talk(sites, version) as talk:
        assert {octets: talk.arrived(octets) for octets in WHOLE[version]} == dict.fromkeys(WHOLE[version], ALL)
        assert {octets: talk.lost(octets) for octets in IN_FRAGMENTS} == dict.fromkeys(IN_FRAGMENTS, ALL)
        for gateway in (gateways.a, gateways.b):
            assert gateway.status()["drops"]["fragment_ports"] >= TIMES * len(IN_FRAGMENTS)


def children_of(gateway):
    """The remote selectors of its CHILD_SAs, and the packets that each has sent."""
    (tunnel,) = gateway.status()["tunnels"]
    return {text: child["packets_out"] for child in tunnel["children"] for text in child["remote_ts"]}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("encapsulation", ["udp", "esp"])
def test_later_fragments_pass_by_an_sa_of_their_own(sites, tmp_path, version, encapsulation):
    """RFC 4301 §7.2: nothing has to be agreed on, and each packet goes by the SA for it."""
    with (
        ported(sites, tmp_path, IkePair(encapsulation=encapsulation), opaque=(True, True)) as gateways,
        Talk(sites, version) as talk,
    ):
        sizes = (*WHOLE[version], *IN_FRAGMENTS)
        until(lambda: len(children_of(gateways.a)) == 4, "both kinds of CHILD_SA of both IP versions")
        assert {octets: talk.arrived(octets) for octets in sizes} == dict.fromkeys(sizes, ALL)
        for gateway in (gateways.a, gateways.b):
            drops = gateway.status()["drops"]
            assert (drops["fragment_ports"], drops["fragment_refused"], drops["selectors"]) == (0, 0, 0)
            sent = {text: packets for text, packets in children_of(gateway).items() if (":" in text) == (version == 6)}
            assert all(sent.values()), sent


@pytest.mark.parametrize("version", [4, 6])
def test_the_first_fragment_alone_is_no_datagram(sites, tmp_path, version):
    """The control: one side alone has a proxy ID for the later ones."""
    with (
        ported(sites, tmp_path, IkePair(encapsulation="udp"), opaque=(True, False)) as gateways,
        Talk(sites, version) as talk,
    ):
        assert talk.arrived(WHOLE[version][0]) == ALL
        assert talk.lost(IN_FRAGMENTS[0]) == ALL
        assert not any("opaque" in text for text in children_of(gateways.b))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("outer_version", "encapsulation"), [(4, "udp"), (6, "udp"), (6, "esp")])
def test_over_a_narrow_middle_too(lab, tmp_path, version, outer_version, encapsulation):
    """Nobody told the hosts: what they send whole passes in outer fragments once the path is known."""
    path = build(lab, 1500)
    path.narrow(1400)
    with (
        ported(path.sites, tmp_path, IkePair(outer=outer(outer_version), encapsulation=encapsulation)),
        Talk(path.sites, version) as talk,
    ):
        for octets in WHOLE[version]:
            until(partial(talk.all_arrive, octets), f"{octets} octets to pass")


def test_the_gateways_own_datagrams_are_not_cut_before_either(sites, tmp_path):
    """Its kernel has the interface's MTU: everything is handed over whole."""
    with ported(sites, tmp_path, ManualPair(encapsulation="udp")), Talk(sites, 4) as talk:
        own = sites.gw_a.call(partial(udp, 4, (netns.GW_A_INNER[0], 0)))
        with own, capture.Capture(sites.gw_a, "wan", tmp_path / "wan.pcapng") as recording:
            assert sum(_passes(own, talk.there, (netns.HOST_B[0], PORT), bytes([n]) * 8000) for n in range(TIMES)) == TIMES
            recording.stop()
    pieces = [packet for _, packet in capture.read(tmp_path / "wan.pcapng") if packet[6] & 0x3F or packet[7]]
    assert len(pieces) >= 6 * TIMES, "outer fragments"
