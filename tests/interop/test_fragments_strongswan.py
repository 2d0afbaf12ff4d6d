"""A proxy ID with ports and a strongSwan, which does not know NON_FIRST_FRAGMENTS_ALSO: what came whole passes (RFC 4301 §7).

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.rig import netns
from tests.interop.strongswan_meeting import ROLES, TUNNEL, Net
from tests.netns.test_fragments import ALL, ANSWER_S, LOST_S, PORT, TIMES, Talk

pytestmark = pytest.mark.root

WHOLE = {4: (1400, 1450, 1472), 6: (1350, 1400, 1450)}  # octets of UDP payload
THEIR_MOST = {4: 1372, 6: 1352}  # its userspace ESP reads inner packets of 1400 octets at the most
IN_FRAGMENTS = (2000, 4000)
ONE_WAY = (ANSWER_S, LOST_S)  # where it loses the answers


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("role", ROLES)
def test_what_came_whole_passes_and_hosts_own_fragments_do_not(meet, version, role):
    ours, theirs = (nets[version == 6] for nets in (netns.SITE_A_NETS, netns.SITE_B_NETS))
    meeting = meet(
        proxy_ids=((ours, theirs),),
        proxy_lines=(f'protocol = "udp"\n  remote_ports = {PORT}',),
        nets=(Net(ours=f"{ours}[udp]", theirs=f"{theirs}[udp/{PORT}]"),),
    )
    meeting.bring_up(role)
    with Talk(meeting.sites, version) as talk:
        assert {octets: talk.arrived(octets, ONE_WAY)[0] for octets in WHOLE[version]} == dict.fromkeys(WHOLE[version], TIMES)
        assert talk.arrived(THEIR_MOST[version]) == (TIMES, TIMES)
        assert {octets: talk.lost(octets) for octets in IN_FRAGMENTS} == dict.fromkeys(IN_FRAGMENTS, ALL)
    assert meeting.ours.status()["drops"]["fragment_ports"] >= TIMES * len(IN_FRAGMENTS)
    assert meeting.lost() == {}


@pytest.mark.parametrize("role", ROLES)
def test_it_negotiates_an_sa_for_later_fragments(meet, role):
    """RFC 4301 §7.2 in swanctl's words, as a child of its own, rekeyed too."""
    ours, theirs = netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]
    meeting = meet(
        proxy_ids=((ours, theirs),) * 2,
        proxy_lines=(f'protocol = "udp"\n  remote_ports = {PORT}', 'protocol = "udp"\n  remote_ports = "opaque"'),
        nets=(
            Net("net", ours=f"{ours}[udp]", theirs=f"{theirs}[udp/{PORT}]"),
            Net("later", ours=f"{ours}[udp/opaque]", theirs=f"{theirs}[udp/opaque]"),
        ),
    )
    meeting.bring_up(role)
    wanted = {f"{theirs}[17/{PORT}]", f"{theirs}[17/opaque]"}

    def up():
        (tunnel,) = meeting.ours.status()["tunnels"]
        return {text for child in tunnel["children"] for text in child["remote_ts"]}

    meeting.eventually(lambda: up() == wanted, "both CHILD_SAs are up")
    before = meeting.spis()
    meeting.ours.ask("rekey", name=TUNNEL)
    meeting.eventually(lambda: up() == wanted and before.isdisjoint(meeting.spis()), "both are rekeyed")
