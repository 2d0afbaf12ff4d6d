"""IKEv1 with strongSwan through a NAT that nobody was told of, before either side.

    hostA -- gwA (ours) wan -- in router out -- wan gwB (charon) -- hostB
                   10.0.0.1  10.0.0.254  192.0.2.254  192.0.2.2

The router hides one of them behind its own address and other ports; only that one can call.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.netns import Lab, Port, TwoSites
from tests.interop.ikev1_meeting import AGREED, renew_phase_1, renew_phase_2, settle
from tests.interop.strongswan_meeting import Agreement, Meeting

pytestmark = pytest.mark.root

WE, THEY = "10.0.0.1", netns.GW_B_OUTER[0]
ROUTER = {"in": "10.0.0.254", "out": "192.0.2.254"}
HIDES = """table ip nat {{
  chain out {{
    type nat hook postrouting priority srcnat
    oifname "{interface}" ip protocol udp masquerade to :20000-29999
  }}
}}"""
# Who is behind it: the router's interface to the other one, both ends as we have them, and as the peer has them.
BEHIND = {
    "we": ("out", (WE, THEY), (ROUTER["out"], THEY)),
    "they": ("in", (WE, ROUTER["in"]), (WE, THEY)),
}


@pytest.fixture(scope="module")
def topology():
    with Lab() as lab:
        sites = TwoSites(*(lab.namespace(name, forwarding=name.startswith("gw")) for name in ("hostA", "gwA", "gwB", "hostB")))
        router = lab.namespace("router", forwarding=True)
        lab.link(Port(sites.host_a, "eth0", (f"{netns.HOST_A[0]}/24",)), Port(sites.gw_a, "lan", (f"{netns.GW_A_INNER[0]}/24",)))
        lab.link(Port(sites.gw_a, "wan", (f"{WE}/24",)), Port(router, "in", (f"{ROUTER['in']}/24",)))
        lab.link(Port(router, "out", (f"{ROUTER['out']}/24",)), Port(sites.gw_b, "wan", (f"{THEY}/24",)))
        lab.link(Port(sites.gw_b, "lan", (f"{netns.GW_B_INNER[0]}/24",)), Port(sites.host_b, "eth0", (f"{netns.HOST_B[0]}/24",)))
        sites.host_a.ip(f"route add default via {netns.GW_A_INNER[0]}")
        sites.gw_a.ip(f"route add default via {ROUTER['in']}")
        sites.gw_b.ip(f"route add default via {ROUTER['out']}")
        sites.host_b.ip(f"route add default via {netns.GW_B_INNER[0]}")
        yield sites, router


@pytest.mark.parametrize("behind", BEHIND)
def test_a_nat_is_found(topology, tmp_path, behind):
    """Both phases come up through it and are renewed by the side outside, which knows the mapping alone."""
    (sites, router), (interface, ours, theirs) = topology, BEHIND[behind]
    router.run("nft", "flush", "ruleset")
    router.run("nft", HIDES.format(interface=interface))
    with ExitStack() as stack:
        agreement = Agreement(**AGREED, outer=ours, their_outer=theirs, forced=False)
        meeting = stack.enter_context(Meeting(sites, tmp_path, agreement))
        meeting.bring_up(behind)
        # Its userspace ESP exists in UDP only, so it always says that a NAT is before itself.
        assert meeting.tunnel()["nat"] == ("both" if behind == "we" else "remote")
        meeting.assert_carries()
        outside = "they" if behind == "we" else "we"
        renew_phase_2(meeting, outside)
        settle(meeting)
        renew_phase_1(meeting, outside)
        meeting.assert_carries()
