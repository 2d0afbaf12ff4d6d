"""Capture files and the scanner: what each packet is called, and that a plaintext marker is found where it is."""

from __future__ import annotations

import struct

import pytest

from ipsec_dp.rig import capture


def ipv4(protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    return header + payload


def ipv6(protocol: int, payload: bytes) -> bytes:
    return struct.pack(">IHBB16s16s", 6 << 28, len(payload), protocol, 64, bytes(16), bytes(16)) + payload


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload


ESP = bytes.fromhex("0000100100000001") + b"sealed"
HOP_BY_HOP = bytes((58, 0)) + bytes(6)
KINDS = [
    ("esp", ipv4(50, ESP)),
    ("esp", ipv6(50, ESP)),
    ("esp", ipv4(50, ESP, fragment=0x00B9)),
    ("esp-udp", ipv4(17, udp(4500, 4500, ESP))),
    ("esp-udp", ipv6(17, udp(4500, 61000, ESP))),
    ("ike", ipv4(17, udp(4500, 4500, bytes(4) + b"ike"))),
    ("ike", ipv4(17, udp(500, 500, b"ike"))),
    ("nat-keepalive", ipv4(17, udp(4500, 4500, b"\xff"))),
    ("udp", ipv4(17, udp(53, 1024, b"name"))),
    ("udp-fragment", ipv4(17, b"later part", fragment=0x00B9)),
    ("tcp", ipv4(6, bytes(20))),
    ("icmp", ipv4(1, bytes(8))),
    ("icmpv6", ipv6(58, bytes((128, 0)))),
    ("nd", ipv6(58, bytes((135, 0)))),
    ("mld", ipv6(0, HOP_BY_HOP + bytes((143, 0)))),
    ("protocol-47", ipv4(47, b"")),
    ("arp", bytes(12) + b"\x08\x06" + bytes(28)),
    ("truncated", ipv4(17, b"\x11")),
    ("not-ip", b""),
]


@pytest.mark.parametrize(("name", "packet"), KINDS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(KINDS)])
def test_kind(name, packet):
    assert capture.kind(packet) == name


def write(path, linktype, frames):
    with path.open("wb") as file:
        writer = capture.Writer(file, linktype)
        for when, frame in frames:
            writer.write(when, frame)


def test_file_returns_times_and_packets_without_ethernet_header(tmp_path):
    packets = [ipv4(50, bytes(size)) for size in range(5)]  # every padding
    path = tmp_path / "wire.pcapng"
    write(path, capture.LINKTYPE_ETHERNET, [(1 << 60 | i, bytes(12) + b"\x08\0" + packet) for i, packet in enumerate(packets)])
    assert list(capture.read(path)) == [(1 << 60 | i, packet) for i, packet in enumerate(packets)]


def test_file_of_bare_ip_packets(tmp_path):
    path = tmp_path / "tun.pcapng"
    write(path, capture.LINKTYPE_RAW, [(1, ipv6(50, ESP))])
    assert list(capture.read(path)) == [(1, ipv6(50, ESP))]


def test_other_file_is_refused(tmp_path):
    path = tmp_path / "other"
    path.write_bytes(struct.pack(">III", capture.SECTION, 28 << 24, 0x01020304) + bytes(16))
    with pytest.raises(capture.CaptureError, match="pcapng"):
        list(capture.read(path))


def test_scan_counts_marker_foreign_and_tunnel(tmp_path):
    path = tmp_path / "wire.pcapng"
    leak = ipv4(17, udp(1, 2, b"x" * 100 + capture.MARKER))
    write(path, capture.LINKTYPE_RAW, [(0, leak), (1, ipv4(50, ESP)), (2, ipv4(17, udp(4500, 4500, ESP)))])
    found = capture.scan(path)
    assert (found.marked, found.foreign()) == (1, {"udp": 1})
    assert found.tunnel_octets() == len(ipv4(50, ESP)) + len(ipv4(17, udp(4500, 4500, ESP)))


def test_esp_packets_are_told_apart_by_sender_spi_and_number(tmp_path):
    """Of each frame only the beginning was kept; bare ESP, ESP in UDP, and what is neither."""
    path = tmp_path / "outer.pcapng"
    sealed = ESP + bytes(1400)
    packets = [ipv4(50, sealed), ipv4(17, udp(4500, 4500, sealed)), ipv4(17, udp(4500, 4500, b"\xff")), ipv4(6, sealed)]
    with path.open("wb") as file:
        writer = capture.Writer(file, capture.LINKTYPE_RAW)
        for packet in packets:
            writer.write(0, packet[:64], len(packet))
    expected = [capture.EspPacket(b"\x0a\0\0\1", 0x1001, 1, len(packet)) for packet in packets[:2]]
    assert list(capture.esp_packets(path)) == expected


def test_any_512_octets_of_marked_content_hold_the_marker():
    content = b"".join(capture.marked(5000))
    assert len(content) == 5000
    assert all(capture.MARKER in content[at : at + 512] for at in range(4000))
    assert b"".join(capture.marked(5000)) == content
    assert b"".join(capture.marked(5000, seed=1)) != content
