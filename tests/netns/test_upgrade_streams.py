"""Upgrades in a row under numbered UDP both ways and a TCP connection: nothing is lost or doubled, IKE says nothing for it, and how
long nobody forwards.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

The bar, with one tunnel and with 200, on a machine with nothing else to do (IPSEC_DP_BAR_MBIT: the rate of each direction, 200 if
not given):

    python -m pytest -m slow -s tests/netns/test_upgrade_streams.py
"""

from __future__ import annotations

import os
import time
from statistics import median

import pytest

from ipsec_dp.rig import netns
from tests.netns.crowd import Crowd, ends_of, hosts_of, unreached
from tests.netns.fast_stream import OCTETS, connection, fast_stream
from tests.netns.outer_packets import sent_again
from tests.netns.tap import ike_crossing

FEW, FEW_PACKETS_PER_S = 3, 1_000
BAR, BAR_GAP_MS = 20, 50.0
BAR_MBIT = float(os.environ.get("IPSEC_DP_BAR_MBIT", "200"))
BAR_PACKETS_PER_S = int(BAR_MBIT * 1.01e6 / 8 / OCTETS)


def lost_in_queues(gateway):
    """Packets that found a gateway's interface or its outer sockets full: on a machine that is too busy, and at too long a gap."""
    interface = next(line for line in gateway.run("cat", "/proc/net/dev").stdout.splitlines() if "ipsec0:" in line)
    names, values = (line.split() for line in gateway.run("cat", "/proc/net/snmp").stdout.splitlines() if line.startswith("Udp:"))
    return int(interface.partition(":")[2].split()[11]), int(dict(zip(names, values, strict=True))["RcvbufErrors"])


def sas_of(gateway):
    """The SPIs of IKE and of ESP, of every tunnel that is up."""
    up = [tunnel for tunnel in gateway.status()["tunnels"] if tunnel["state"] == "up"]
    return [
        (one["ike"]["spi_i"], one["ike"]["spi_r"], [(each["spi_in"], each["spi_out"]) for each in one["children"]]) for one in up
    ]


def upgraded_under_streams(sites, in_succession, upgrades, packets_per_s, record_property, further=0):
    """Both directions' streams, and for how many ms nobody forwarded at each upgrade. They go by the first tunnel, beside which
    there are further ones."""
    gateways, gaps, ends = in_succession(Crowd(further=further)), [], ends_of(further)
    before, began = sas_of(gateways.a), time.monotonic()
    assert len(before) == len(ends)
    with (
        ike_crossing(sites.gw_a) as messages,
        fast_stream(sites.host_a, sites.host_b, netns.HOST_B[0], packets_per_s) as there,
        fast_stream(sites.host_b, sites.host_a, netns.HOST_A[0], packets_per_s) as back,
        connection(sites.host_a, sites.host_b, netns.HOST_B[0]) as tcp,
    ):
        for _ in range(upgrades):
            answer = gateways.upgrade()
            assert (answer["ike_sas"], answer["child_sas"], answer["left_out"]) == (len(ends), len(ends), [])
            gaps.append(answer["gap_ms"])
            gateways.answers()
    again = sent_again(messages, time.monotonic() - began, (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]))
    full = lost_in_queues(sites.gw_a), lost_in_queues(sites.gw_b)
    drops = {name: count for name, count in gateways.a.status()["drops"].items() if count}
    figures = (
        f"{len(ends)} tunnels, {upgrades} upgrades, gap median {median(gaps):.1f} ms, longest {max(gaps):.1f} ms; "
        + "; ".join(f"{each.mbit_per_s:.1f} Mb/s, sent {each.sent}, missing {each.missing}" for each in (there, back))
        + f"; {tcp.octets} octets of TCP; dropped {drops}, for full queues {full}; {len(messages)} IKE messages, {again} sent again"
    )
    record_property("figures", figures)
    print(figures)
    for each in (there, back):
        assert (each.missing, each.duplicates) == (0, 0), figures
    assert tcp.is_whole, figures
    assert sas_of(gateways.a) == before
    with hosts_of(sites, ends):
        assert unreached(sites.host_a, sites.host_b, ends) == []
    return (there, back), gaps


@pytest.mark.alone("the queues of a machine that is busy otherwise run full")
def test_nothing_is_lost_or_doubled(sites_opened_again, in_succession, record_property):
    upgraded_under_streams(sites_opened_again, in_succession, FEW, FEW_PACKETS_PER_S, record_property, further=FEW)


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tunnels", [1, 200])
def test_twenty_in_a_row_under_fast_streams_stay_within_the_bar(sites_opened_again, in_succession, record_property, tunnels):
    further = tunnels - 1
    streams, gaps = upgraded_under_streams(
        sites_opened_again, in_succession, BAR, BAR_PACKETS_PER_S, record_property, further=further
    )
    assert min(each.mbit_per_s for each in streams) >= BAR_MBIT
    assert median(gaps) <= BAR_GAP_MS
