"""A gateway goes on in another process, several times in a row, and strongSwan notices nothing, whoever initiated the IKE SA.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import ip_address

import pytest

from ipsec_dp.rig import capture, netns
from tests.interop.stream import PEER_DELIVERS
from tests.interop.strongswan_meeting import ROLES
from tests.interop.strongswan_versions import NEWER, OWN
from tests.interop.test_ike_strongswan_rekey import rekey_child, rekey_ike
from tests.netns import harness
from tests.netns.numbered import numbered
from tests.netns.outer_packets import ike_messages, sent_again
from tests.netns.succession import flows
from tests.netns.traffic import until

pytestmark = pytest.mark.root

UPGRADES = 3
KEPT = 80  # octets of a frame: all headers up to that of IKE or ESP
BY_VERSION = pytest.mark.parametrize("version", [OWN, pytest.param(NEWER, marks=pytest.mark.slow)])


def nothing_is_lost_by_us(path, there, back):
    """Nor doubled. What went in came out as ESP and the other way round; a peer that is busy loses some by itself."""
    crossed = Counter(packet.source for packet in set(capture.esp_packets(path)))
    ours, theirs = (crossed[ip_address(outer[0]).packed] for outer in (netns.GW_A_OUTER, netns.GW_B_OUTER))
    assert (ours, theirs) == (there.sent - there.refused, len(back.arrived))
    assert (there.repeated, back.repeated) == (0, 0)
    for each in (there, back):
        assert len(each.arrived) >= each.sent * PEER_DELIVERS


@BY_VERSION
@pytest.mark.parametrize("role", ROLES)
def test_no_packet_is_lost_or_comes_twice_and_none_of_ike_is_sent_for_it(met, tmp_path, role, version):
    meeting, succession = met(version)
    meeting.bring_up(role)
    before, sites = (meeting.spis(), meeting.ike_spis()), meeting.sites
    sites.gw_a.run("ethtool", "-K", "wan", "tx-udp-segmentation", "off")  # each packet is seen by itself
    began = time.monotonic()
    with capture.Capture(sites.gw_a, "wan", tmp_path / "wan", KEPT) as recording:
        with (
            numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
            numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
        ):
            until(lambda: there.arrived and back.arrived, "both streams")
            for _ in range(UPGRADES):
                answer = succession.upgrade()
                assert (answer["ike_sas"], answer["child_sas"], answer["left_out"]) == (1, 1, [])
                succession.answers()
                flows(there, back)
        harness.settle(sites.gw_a, "wan")
        assert recording.stop().lost == 0
    nothing_is_lost_by_us(recording.path, there, back)
    sent_again(ike_messages(recording.path), time.monotonic() - began, (netns.GW_A_OUTER[0],))
    assert (meeting.spis(), meeting.ike_spis()) == before
    assert meeting.lost() == {}
    meeting.assert_carries()


@BY_VERSION
@pytest.mark.parametrize("role", ROLES)
def test_either_side_rekeys_right_after_it(met, role, version):
    meeting, succession = met(version)
    meeting.bring_up(role)
    for who in ROLES:
        succession.upgrade()
        succession.answers()
        for rekey in (rekey_child, rekey_ike):
            rekey(meeting, who)
            meeting.assert_carries()
    assert "Traceback" not in meeting.ours.text()
