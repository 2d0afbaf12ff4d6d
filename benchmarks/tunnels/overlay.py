"""A network of the hosts' own through the tunnel: VXLAN, as clusters use it, its UDP checksum zero as Linux sends it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ipsec_dp.rig import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import TwoSites

INTERFACE = "vx0"
PREFIX = "10.99.0.0/24"
HERE, THERE = "10.99.0.1", "10.99.0.2"
MTU = 1350  # with its 50 octets of headers no tunnel here has to fragment: the packets are the same for all


def commands(own: str, other: str, address: str) -> tuple[str, ...]:
    """What `ip` is told on the host that has the address `own`."""
    return (
        f"link add {INTERFACE} mtu {MTU} type vxlan id 42 local {own} remote {other} dstport 4789 noudpcsum",
        f"address add {address}/32 dev {INTERFACE}",
        f"link set {INTERFACE} up",
        f"route add {PREFIX} dev {INTERFACE} congctl {netns.CONGESTION_CONTROL}",
    )


@contextlib.contextmanager
def vxlan(sites: TwoSites) -> Iterator[str]:
    """Within it host B is reached at the address that this yields, through VXLAN."""
    (a, b), ends = (netns.HOST_A[0], netns.HOST_B[0]), (sites.host_a, sites.host_b)
    try:
        sites.host_a.ip(*commands(a, b, HERE))
        sites.host_b.ip(*commands(b, a, THERE))
        yield THERE
    finally:
        for host in ends:
            host.run("ip", "link", "delete", INTERFACE, check=False)
