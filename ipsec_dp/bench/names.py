"""What is measured of a path, and in which unit: the names in the JSON of `bench client` and of benchmarks/results/tunnel.json."""

from __future__ import annotations

from typing import NamedTuple


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
        Measure("tcp_1_default", "Gb/s", True, "TCP, one stream, `encapsulation` not written"),
        Measure("tcp_1_esp", "Gb/s", True, "TCP, one stream, IP protocol 50"),
        Measure("tcp_1_vxlan", "Gb/s", True, "TCP, one stream in VXLAN"),
        Measure("udp_quic", "packets/s", True, "UDP_SEGMENT, payloads of 1252 octets, GRO forwarding, loss-free"),
        Measure("tcp_1_v6", "Gb/s", True, "TCP, one stream over IPv6"),
        Measure("tcp_1_aes256", "Gb/s", True, "TCP, one stream, AES-256"),
        Measure("tcp_1_chacha", "Gb/s", True, "TCP, one stream, ChaCha20-Poly1305"),
        Measure("rtt_p50_matched", "µs", False, "Round trip beside the best peer's tcp_1, median"),
        Measure("rtt_p99_matched", "µs", False, "Round trip beside the best peer's tcp_1, 99th percentile"),
    )
}
