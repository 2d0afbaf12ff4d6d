"""Two sites with two routers between them, whose middle link a test makes narrow and whose routers a test lets mark packets.

hostA eth0 -- lan gwA wan == west m1 -- east (middle) west -- m2 east == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsec_dp.rig import netns
from ipsec_dp.rig.netns import Namespace, Port, TwoSites

OUTER_A = ("192.0.2.1", "2001:db8:a::1")
OUTER_B = ("198.51.100.1", "2001:db8:b::1")
WEST = ("192.0.2.254", "2001:db8:a::fe")  # m1, as gwA sees it
EAST = ("198.51.100.254", "2001:db8:b::fe")
MIDDLE = (("203.0.113.1", "2001:db8:c::1"), ("203.0.113.2", "2001:db8:c::2"))


@dataclass(frozen=True)
class Path:
    """The topology above."""

    sites: TwoSites
    m1: Namespace
    m2: Namespace

    def narrow(self, mtu):
        for router, interface in ((self.m1, "east"), (self.m2, "west")):
            router.ip(f"link set {interface} mtu {mtu}")


def masked(addresses):
    return tuple(f"{address}/{length}" for address, length in zip(addresses, netns.LENGTHS, strict=True))


def default(gateways):
    return tuple(f"route add default via {gateway} congctl cubic" for gateway in gateways)


def build(lab, wide):
    names = ("hostA", "gwA", "m1", "m2", "gwB", "hostB")
    host_a, gw_a, m1, m2, gw_b, host_b = (lab.namespace(name, forwarding=name[:4] != "host") for name in names)
    lab.link(Port(host_a, "eth0", masked(netns.HOST_A)), Port(gw_a, "lan", masked(netns.GW_A_INNER)), mtu=wide)
    lab.link(Port(gw_a, "wan", masked(OUTER_A)), Port(m1, "west", masked(WEST)), mtu=wide)
    lab.link(Port(m1, "east", masked(MIDDLE[0])), Port(m2, "west", masked(MIDDLE[1])), mtu=wide)
    lab.link(Port(m2, "east", masked(EAST)), Port(gw_b, "wan", masked(OUTER_B)), mtu=wide)
    lab.link(Port(gw_b, "lan", masked(netns.GW_B_INNER)), Port(host_b, "eth0", masked(netns.HOST_B)), mtu=wide)
    for namespace, gateways in (
        (host_a, netns.GW_A_INNER),
        (gw_a, WEST),
        (m1, MIDDLE[1]),
        (m2, MIDDLE[0]),
        (gw_b, EAST),
        (host_b, netns.GW_B_INNER),
    ):
        namespace.ip(*default(gateways))
    return Path(TwoSites(host_a, gw_a, gw_b, host_b), m1, m2)


def outer(version):
    return OUTER_A[version == 6], OUTER_B[version == 6]
