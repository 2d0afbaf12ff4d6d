"""Two gateways in memory whose tunnel carries UDP to one port, and datagrams for it, whole and in fragments."""

from __future__ import annotations

from scapy.layers.inet import IP, UDP, defragment, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6, fragment6
from scapy.packet import Raw

from ipsec_dp.dataplane import TunnelSettings
from ipsec_dp.ipsec.selectors import Range
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.clock import Clock
from ipsec_dp.rig.plane import INNER, OUTER, PlaneRig, keymat, selector
from tests.unit.sites import HOST

MTU = 1400
PORT = 6000  # of b, and what the selectors ask for
SUITE = parse_suite("aes128gcm16")
UDP_PROTOCOL = Range(17, 17)
TCP_TO_PORT = selector(INNER["a"][1], INNER["b"][1], protocol=Range(6, 6), remote_ports=Range(PORT, PORT))
ANYTHING = selector(INNER["a"][0], INNER["b"][0])


def ported(site, version):
    """What site "a" or "b" sees of UDP to port 6000 of b."""
    other = "b" if site == "a" else "a"
    ports = {"remote_ports" if site == "a" else "local_ports": Range(PORT, PORT)}
    return selector(INNER[site][version == 6], INNER[other][version == 6], protocol=UDP_PROTOCOL, **ports)


class Sites:
    """Gateways a and b whose one tunnel carries UDP to port 6000 of b, both ways; `agreed` by both: later fragments too."""

    def __init__(self, agreed=(False, False), workers=1):
        self.clock = Clock()
        self.a, self.b = (PlaneRig(name, OUTER[4][name], clock=self.clock, workers=workers) for name in ("a", "b"))
        self.agreed = dict(zip("ab", agreed, strict=True))
        self.children = {}
        for gateway in (self.a, self.b):
            gateway.plane.set_tunnel(0, TunnelSettings(mtu=MTU))
            selectors = [ported(gateway.name, version) for version in (4, 6)]
            gateway.protect(selectors)
            self.children[gateway.name] = gateway.sad.add_child(0, selectors)
            self.install_inbound(gateway, 0x1000)
        for gateway in (self.a, self.b):
            self.install_outbound(gateway, 0x1000)

    def install_inbound(self, gateway, spi):
        child = self.children[gateway.name]
        child.inbound = self.inbound = gateway.sad.install_inbound(
            spi=spi,
            suite=SUITE,
            keymat=keymat(SUITE, f"to {gateway.name} {spi}"),
            tunnel=0,
            interface=0,
            selectors=child.selectors,
            fragments_also=self.agreed[gateway.name],
        )

    def install_outbound(self, gateway, spi):
        peer = self.b if gateway is self.a else self.a
        handle = gateway.sad.install_outbound(
            spi=spi,
            suite=SUITE,
            keymat=keymat(SUITE, f"to {peer.name} {spi}"),
            tunnel=0,
            path=gateway.path_to(peer.endpoint),
            fragments_also=self.agreed[gateway.name],
        )
        gateway.sad.switch(self.children[gateway.name], handle)

    def replace_selectors(self, *selectors):
        """What a sends by, whatever b was told."""
        self.a.protect(selectors)
        self.a.sad.remove_child(self.children["a"])
        self.children["a"] = self.a.sad.add_child(0, selectors)
        self.install_outbound(self.a, 0x1000)

    def replace_inbound(self, *selectors):
        """What b takes by its SA."""
        self.b.sad.remove(self.inbound)
        self.children["b"].selectors = tuple(
            selector(str(INNER["b"][1]), str(INNER["a"][1]), protocol=pair.protocol, local_ports=pair.remote_ports)
            for pair in selectors
        )
        self.install_inbound(self.b, 0x1000)

    def close(self):
        self.a.close()
        self.b.close()

    def seal(self, *packets):
        """What leaves a."""
        self.a.push(*packets)
        self.a.step()
        return self.a.sent()

    def open(self, datagrams):
        """What b makes of it."""
        for each in datagrams:
            self.b.plane.push_link(self.b.link, each.__class__(each.data, each.remote, each.local, each.tos))
        self.b.step()
        return self.b.pulled()

    def carry(self, *packets):
        return self.open(self.seal(*packets))


def datagram(octets, version=4, identification=7, ports=(5000, PORT), hosts=("a", "b"), df=False):
    """A UDP datagram of so many octets in all."""
    source, destination = (HOST[version, host] for host in hosts)
    payload = UDP(sport=ports[0], dport=ports[1]) / Raw(bytes(i % 251 for i in range(octets - (28 if version == 4 else 48))))
    if version == 4:
        return IP(src=source, dst=destination, id=identification, flags="DF" if df else 0) / payload
    return IPv6(src=source, dst=destination) / payload


def pieces(octets, version=4, size=1200, identification=7, **fields):
    """The fragments that a host makes of it."""
    whole = datagram(octets, version, identification, **fields)
    if version == 4:
        return [bytes(each) for each in fragment(whole, size)]
    whole = IPv6(bytes(whole))
    header = IPv6(src=whole.src, dst=whole.dst) / IPv6ExtHdrFragment(id=identification) / whole.payload
    return [bytes(each) for each in fragment6(header, size)]


def joined(packets, version=4):
    """The datagram of these fragments: its payload."""
    if version == 4:
        (whole,) = defragment([IP(each) for each in packets])
        return bytes(whole[UDP].payload)
    return bytes(defragment6([IPv6(each) for each in packets])[UDP].payload)
