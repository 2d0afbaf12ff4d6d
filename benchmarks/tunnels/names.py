"""What is measured, in which unit, and who is compared: the names in benchmarks/results/tunnel.json."""

from __future__ import annotations

from ipsec_dp.bench.names import MEASURES, Measure

__all__ = ["CEILING", "MEASURES", "OURS", "PLAIN", "QUICK", "REQUIRED", "USERSPACE_PEERS", "WIREGUARD_13", "Measure"]

OURS = "ipsec-dp"
PLAIN = "plain"
CEILING = "ceiling"
WIREGUARD_13 = "wireguard-go-13"  # of Debian 13: with offloads of TUN and of UDP
# Every implementation that runs in user space and is not ours: of these the bars' "best peer" is taken.
USERSPACE_PEERS = ("strongswan", "wireguard-go", WIREGUARD_13, "openvpn", "wireguard-go-2025", "openconnect")
REQUIRED = (PLAIN, CEILING, OURS, "strongswan", "wireguard-go", WIREGUARD_13, "openvpn")

QUICK = ("tcp_1", "udp_64", "rtt_p50", "rtt_p99")
