"""What is measured, in which unit, and who is compared: the names in benchmarks/results/tunnel.json."""

from __future__ import annotations

from typing import NamedTuple

OURS = "ipsec-dp"
PLAIN = "plain"
CEILING = "ceiling"
# Every implementation that runs in user space and is not ours: of these the bars' "best peer" is taken.
USERSPACE_PEERS = ("strongswan", "wireguard-go", "openvpn", "wireguard-go-2025", "openconnect")
REQUIRED = (PLAIN, CEILING, OURS, "strongswan", "wireguard-go", "openvpn")


class Measure(NamedTuple):
    """One figure per contender and round."""

    name: str
    unit: str
    larger_is_better: bool
    title: str


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("tcp_1", "Gb/s", True, "TCP, one stream"),
        Measure("tcp_8", "Gb/s", True, "TCP, eight streams"),
        Measure("tcp_bidir", "Gb/s", True, "TCP, one stream each way, sum"),
        Measure("tcp_1_nooffload", "Gb/s", True, "TCP, one stream, every offload off"),
        Measure("udp_64", "packets/s", True, "UDP, 64 octets, loss-free"),
        Measure("udp_512", "packets/s", True, "UDP, 512 octets, loss-free"),
        Measure("udp_1400", "packets/s", True, "UDP, 1400 octets, loss-free"),
        Measure("udp_imix", "packets/s", True, "UDP, 7 × 64 + 4 × 576 + 1 × 1400 octets, loss-free"),
        Measure("udp_64_gso", "packets/s", True, "UDP_SEGMENT, 64 octets, loss-free"),
        Measure("udp_1400_gso", "packets/s", True, "UDP_SEGMENT, 1400 octets, loss-free"),
        Measure("rtt_p50", "µs", False, "Round trip, idle, median"),
        Measure("rtt_p99", "µs", False, "Round trip, idle, 99th percentile"),
        Measure("rtt_p99_loaded", "µs", False, "Round trip beside a full TCP stream, 99th percentile"),
        Measure("cpu_s_per_gb", "s/GB", False, "CPU time beyond the plain path's"),
        Measure("rss_idle_mb", "MiB", False, "Memory, idle"),
        Measure("rss_flood_mb", "MiB", False, "Memory under a flood"),
    )
}
QUICK = ("tcp_1", "udp_64", "rtt_p50", "rtt_p99")
