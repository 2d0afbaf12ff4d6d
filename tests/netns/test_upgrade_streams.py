"""Upgrades in a row under numbered UDP both ways and a TCP connection: nothing is lost or doubled, and how long nobody forwards.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

The bar, on a machine with nothing else to do (IPSEC_DP_BAR_MBIT: the rate of each direction, 200 if not given):

    python -m pytest -m slow -s tests/netns/test_upgrade_streams.py
"""

from __future__ import annotations

import os
from statistics import median

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import IkePair
from tests.netns.fast_stream import OCTETS, connection, fast_stream

FEW, FEW_PACKETS_PER_S = 3, 1_000
BAR, BAR_GAP_MS = 20, 50.0
BAR_MBIT = float(os.environ.get("IPSEC_DP_BAR_MBIT", "200"))
BAR_PACKETS_PER_S = int(BAR_MBIT * 1.01e6 / 8 / OCTETS)


def lost_in_queues(gateway):
    """Packets that found a gateway's interface or its outer sockets full: on a machine that is too busy, and at too long a gap."""
    interface = next(line for line in gateway.run("cat", "/proc/net/dev").stdout.splitlines() if "ipsec0:" in line)
    names, values = (line.split() for line in gateway.run("cat", "/proc/net/snmp").stdout.splitlines() if line.startswith("Udp:"))
    return int(interface.partition(":")[2].split()[11]), int(dict(zip(names, values, strict=True))["RcvbufErrors"])


def upgraded_under_streams(sites, in_succession, upgrades, packets_per_s, record_property):
    """Both directions' streams, and for how many ms nobody forwarded at each upgrade."""
    gateways, gaps = in_succession(IkePair(encapsulation="udp")), []
    with (
        fast_stream(sites.host_a, sites.host_b, netns.HOST_B[0], packets_per_s) as there,
        fast_stream(sites.host_b, sites.host_a, netns.HOST_A[0], packets_per_s) as back,
        connection(sites.host_a, sites.host_b, netns.HOST_B[0]) as tcp,
    ):
        for _ in range(upgrades):
            gaps.append(gateways.upgrade()["gap_ms"])
            gateways.answers()
    full = lost_in_queues(sites.gw_a), lost_in_queues(sites.gw_b)
    drops = {name: count for name, count in gateways.a.status()["drops"].items() if count}
    figures = (
        f"{upgrades} upgrades, gap median {median(gaps):.1f} ms, longest {max(gaps):.1f} ms; "
        + "; ".join(f"{each.mbit_per_s:.1f} Mb/s, sent {each.sent}, missing {each.missing}" for each in (there, back))
        + f"; {tcp.octets} octets of TCP; dropped {drops}, for full queues {full}"
    )
    record_property("figures", figures)
    print(figures)
    for each in (there, back):
        assert (each.missing, each.duplicates) == (0, 0), figures
    assert tcp.is_whole, figures
    return (there, back), gaps


@pytest.mark.alone("the queues of a machine that is busy otherwise run full")
def test_nothing_is_lost_or_doubled(sites_opened_again, in_succession, record_property):
    upgraded_under_streams(sites_opened_again, in_succession, FEW, FEW_PACKETS_PER_S, record_property)


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.timeout(600)
def test_twenty_in_a_row_under_fast_streams_stay_within_the_bar(sites_opened_again, in_succession, record_property):
    streams, gaps = upgraded_under_streams(sites_opened_again, in_succession, BAR, BAR_PACKETS_PER_S, record_property)
    assert min(each.mbit_per_s for each in streams) >= BAR_MBIT
    assert median(gaps) <= BAR_GAP_MS
