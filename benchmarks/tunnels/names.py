"""What is measured, in which unit, and who is compared: the names in benchmarks/results/tunnel.json."""

from __future__ import annotations

from ipsec_dp.bench.names import MEASURES, Measure

__all__ = ["CEILING", "MEASURES", "OURS", "PLAIN", "QUICK", "REQUIRED", "USERSPACE_PEERS", "Measure"]

OURS = "ipsec-dp"
PLAIN = "plain"
CEILING = "ceiling"
# Every implementation that runs in user space and is not ours: of these the bars' "best peer" is taken.
USERSPACE_PEERS = ("strongswan", "wireguard-go", "openvpn", "wireguard-go-2025", "openconnect")
REQUIRED = (PLAIN, CEILING, OURS, "strongswan", "wireguard-go", "openvpn")

QUICK = ("tcp_1", "udp_64", "rtt_p50", "rtt_p99")
