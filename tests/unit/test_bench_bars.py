"""The bars of the tunnel benchmark, each against numbers on both sides of it."""

from __future__ import annotations

import copy

import pytest

from benchmarks.tunnels.bars import verdicts
from benchmarks.tunnels.names import CEILING, OURS, PLAIN

PEERS = {"strongswan": 0.60, "wireguard-go": 0.58, "openvpn": 0.74}
UDP_PEERS = {"strongswan": 55e3, "wireguard-go": 60e3, "openvpn": 63e3}
RTT_PEERS = {"strongswan": 214.0, "wireguard-go": 138.0, "openvpn": 68.0}
# Medians that meet every bar, most of them just so.
GOOD = {
    "tcp_1": {PLAIN: 18.0, CEILING: 8.8, OURS: 8.0, **PEERS},
    "tcp_8": {OURS: 8.0},
    "tcp_bidir": {OURS: 8.0},
    "tcp_1_nooffload": {PLAIN: 2.4, OURS: 1.5, **PEERS},
    "udp_64": {PLAIN: 180e3, OURS: 145e3, **UDP_PEERS},
    "udp_1400": {PLAIN: 500e3, OURS: 190e3, **UDP_PEERS},
    "udp_64_gso": {OURS: 380e3, **UDP_PEERS},
    "udp_1400_gso": {OURS: 380e3, **UDP_PEERS},
    "rtt_p50": {PLAIN: 9.0, OURS: 68.0, **RTT_PEERS},
    "rtt_p99": {OURS: 68.0, **RTT_PEERS},
    "rtt_p99_loaded": {OURS: 34.0, **RTT_PEERS},
    "cpu_s_per_gb": {OURS: 4.0, "strongswan": 20.0, "wireguard-go": 10.0, "openvpn": 15.0},
    "tcp_1_default": {OURS: 7.8},
    "tcp_1_vxlan": {OURS: 5.7},
    "tcp_1_v6": {OURS: 6.9},
    "tcp_1_aes256": {OURS: 6.9},
    "udp_quic": {OURS: 260e3, **UDP_PEERS},
    "rtt_p99_matched": {OURS: 34.0, **RTT_PEERS},
    "rss_idle_mb": {OURS: 46.0},
    "rss_flood_mb": {OURS: 110.0},
}


def unmet(medians):
    return [verdict.text for verdict in verdicts(medians) if not verdict.met]


def changed(measure, contender, value):
    medians = copy.deepcopy(GOOD)
    medians[measure][contender] = value
    return medians


def test_numbers_that_meet_every_bar():
    assert unmet(GOOD) == []
    assert len(verdicts(GOOD)) == 24  # neither wireguard-go-2025 nor that of Debian 13 was there


@pytest.mark.parametrize(
    ("measure", "contender", "value", "bar"),
    [
        ("tcp_1", "strongswan", 0.67, "12 × strongswan"),
        ("tcp_1", "wireguard-go", 0.67, "12 × wireguard-go"),
        ("tcp_1", "wireguard-go-2025", 3.3, "2.5 × wireguard-go-2025"),
        ("tcp_1", "openvpn", 0.81, "10 × openvpn"),
        ("tcp_1", PLAIN, 20.1, "0.4 × plain"),
        ("tcp_1", "wireguard-go-13", 1.8, "4.5 × wireguard-go-13"),
        ("tcp_1", CEILING, 9.5, "0.85 × ceiling"),
        ("tcp_1_default", OURS, 7.7, "tcp_1_default: ipsec-dp ≥ 0.97 × its tcp_1"),
        ("tcp_1_vxlan", OURS, 5.5, "tcp_1_vxlan: ipsec-dp ≥ 0.7 × its tcp_1"),
        ("tcp_1_v6", OURS, 6.7, "tcp_1_v6"),
        ("tcp_1_aes256", OURS, 6.7, "tcp_1_aes256"),
        ("udp_quic", "wireguard-go-13", 66e3, "4 × best peer (wireguard-go-13)"),
        ("rtt_p99_matched", OURS, 35.0, "rtt_p99_matched"),
        ("tcp_1", CEILING, 7.5, "ceiling ≥ 0.42 × plain"),
        ("tcp_8", OURS, 7.9, "tcp_8: no less than one stream"),
        ("tcp_bidir", OURS, 7.9, "tcp_bidir: no less than one stream"),
        ("tcp_1_nooffload", OURS, 1.47, "2 × best peer (openvpn)"),
        ("udp_64", OURS, 143e3, "0.8 × plain"),
        ("udp_1400", OURS, 188e3, "3 × best peer (openvpn)"),
        ("udp_64_gso", OURS, 377e3, "udp_64_gso"),
        ("udp_1400_gso", "wireguard-go-2025", 64e3, "best peer (wireguard-go-2025)"),
        ("rtt_p50", OURS, 68.1, "rtt_p50"),
        ("rtt_p99", "strongswan", 60.0, "best peer (strongswan)"),
        ("rtt_p99_loaded", OURS, 35.0, "0.5 × best peer (openvpn)"),
        ("cpu_s_per_gb", OURS, 4.1, "0.4 × best peer (wireguard-go)"),
        ("rss_flood_mb", OURS, 110.1, "memory under a flood"),
    ],
)
def test_each_bar_can_be_missed_alone(measure, contender, value, bar):
    (missed,) = unmet(changed(measure, contender, value))
    assert bar in missed


def test_a_kernel_implementation_is_no_userspace_peer():
    assert unmet(changed("tcp_1_nooffload", "kernel-wireguard", 9.0)) == []


def test_what_was_not_measured_is_not_judged():
    assert [verdict.text for verdict in verdicts({"rtt_p50": {OURS: 1.0}, "tcp_1": {PLAIN: 1.0}})] == []


def test_without_avx_512_less_of_the_ceiling_is_asked_for():
    medians = changed("tcp_1", CEILING, 12.0)  # 0.67 of it are reached
    assert [verdict.met for verdict in verdicts(medians) if "ceiling" in verdict.text.partition("≥")[2]] == [False]
    assert [verdict.met for verdict in verdicts(medians, avx512=False) if "0.62 × ceiling" in verdict.text] == [True]
