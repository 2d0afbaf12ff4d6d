"""Twenty upgrades in a row with strongSwan under numbered UDP both ways and a TCP connection, with 200 CHILD_SAs of one IKE SA.

hostA -- gwA (ours) wan == wan gwB (charon) -- hostB

The bar, on a machine with nothing else to do:

    python -m pytest -m slow -s tests/interop/test_upgrade_bar.py

IPSEC_DP_BAR_MBIT is the rate of each direction, 200 if not given, and is cut to a quarter of what the peer carries one way without
loss, which is measured first: its userspace ESP is the slower one, and what it loses by itself is not ours. So it is counted on the
wire: towards the peer everything that hostA sent crosses, and everything that crosses from there arrives at hostA.
"""

from __future__ import annotations

import os
import time
from statistics import median

import pytest

from benchmarks.tunnels import generator
from ipsec_dp.rig import netns
from tests.interop.rekey_bar import loss_free_rate
from tests.interop.strongswan_meeting import ROLES, Net
from tests.interop.strongswan_versions import OWN
from tests.netns.crowd import ends_of, hosts_of, nets_of, unreached
from tests.netns.fast_stream import OCTETS, connection, fast_stream
from tests.netns.outer_packets import sent_again
from tests.netns.tap import esp_crossing, ike_crossing

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

FEW, FEW_PACKETS_PER_S, FEW_UPGRADES = 3, 200, 2
CHILD_SAS, UPGRADES, GAP_MS = 200, 20, 50.0
BAR_MBIT = float(os.environ.get("IPSEC_DP_BAR_MBIT", "200"))
MEASURE_S = 1.0
UP_S = 120.0
OUTER_OCTETS = 20 + 8 + 8 + 8 + (OCTETS + 4) + 16  # IPv4, UDP, ESP, IV, padded, ICV (RFC 4303 §2, RFC 4106 §3)
SEGMENT = 1000  # of TCP, which is shorter then


def per_s(mbit_per_s):
    return int(mbit_per_s * 1e6 / 8 / OCTETS)


def come_up(met, role, child_sas):
    ends = [(ours, netns.HOST_B[0]) for ours, _ in ends_of(child_sas - 1)]  # charon wants an address of its own in what is its
    nets = tuple(Net(f"net{number}", *nets_of(pair)) for number, pair in enumerate(ends))
    meeting, succession = met(OWN, nets=nets, proxy_ids=tuple((net.ours, net.theirs) for net in nets))
    meeting.bring_up(role)
    meeting.eventually(lambda: meeting.is_up() and len(meeting.spis()) == child_sas, "all CHILD_SAs", UP_S)
    meeting.sites.gw_a.run("ethtool", "-K", "wan", "tx-udp-segmentation", "off")  # each packet is seen by itself
    return meeting, succession, ends


def upgraded(meeting, succession, ends, upgrades, packets_per_s):
    """How long the gaps were in ms, and what there is to say."""
    before, began, sites, gaps = (meeting.spis(), meeting.ike_spis()), time.monotonic(), meeting.sites, []
    ours, theirs = netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]
    with (
        ike_crossing(sites.gw_a) as messages,
        esp_crossing(sites.gw_a, ours, OUTER_OCTETS) as sealed,
        esp_crossing(sites.gw_a, theirs, OUTER_OCTETS) as came,
        fast_stream(sites.host_a, sites.host_b, netns.HOST_B[0], packets_per_s) as there,
        fast_stream(sites.host_b, sites.host_a, netns.HOST_A[0], packets_per_s) as back,
        connection(sites.host_a, sites.host_b, netns.HOST_B[0], segment=SEGMENT) as tcp,
    ):
        for _ in range(upgrades):
            answer = succession.upgrade()
            assert (answer["ike_sas"], answer["child_sas"], answer["left_out"]) == (1, len(ends), [])
            gaps.append(answer["gap_ms"])
            succession.answers()
    again = sent_again(messages, time.monotonic() - began, (ours,))
    figures = (
        f"{len(ends)} CHILD_SAs, {upgrades} upgrades, gap median {median(gaps):.1f} ms, longest {max(gaps):.1f} ms; "
        f"there {there.mbit_per_s:.1f} Mb/s, sent {there.sent}, on the wire {sealed[0]}, received {there.received}; "
        f"back {back.mbit_per_s:.1f} Mb/s, sent {back.sent}, on the wire {came[0]}, received {back.received}; "
        f"{tcp.octets} octets of TCP; {len(messages)} IKE messages, {again} sent again; dropped {meeting.lost()}"
    )
    print(figures)
    assert (sealed[0] - there.sent, came[0] - back.received) == (0, 0), figures
    assert (there.duplicates, back.duplicates, tcp.is_whole, meeting.lost()) == (0, 0, True, {}), figures
    assert (meeting.spis(), meeting.ike_spis()) == before
    with hosts_of(sites, ends):
        assert unreached(sites.host_a, sites.host_b, ends) == []
    return gaps, figures


@pytest.mark.alone("the queues of a machine that is busy otherwise run full")
def test_a_few_under_a_slow_stream(met):
    meeting, succession, ends = come_up(met, "we", FEW)
    upgraded(meeting, succession, ends, FEW_UPGRADES, FEW_PACKETS_PER_S)


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.parametrize("role", ROLES)
def test_twenty_in_a_row_under_fast_streams_stay_within_the_bar(met, role, record_property):
    generator.build()
    meeting, succession, ends = come_up(met, role, CHILD_SAS)
    free = loss_free_rate(meeting, MEASURE_S) * OCTETS * 8 / 1e6
    gaps, figures = upgraded(meeting, succession, ends, UPGRADES, per_s(min(BAR_MBIT * 1.01, free / 4)))
    figures = f"{role} initiated, peer loss-free at {free:.0f} Mb/s one way: {figures}"
    record_property("figures", figures)
    print(figures)
    assert median(gaps) <= GAP_MS
