"""IKE messages and ESP packets of a capture of an outer link, over IPv4, each in its own UDP datagram."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.rig import capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER_OCTETS = 4  # before IKE on port 4500 (RFC 3948 §2.2)
RESPONSE, INITIATOR = 0x20, 0x08
NAT_PORT = 4500


class IkeMessage(NamedTuple):
    """`source`: the IPv4 address of who sent it. `octets`: from its header on, as many as were captured."""

    source: bytes
    octets: bytes

    @property
    def spis(self) -> bytes:
        return self.octets[:16]

    @property
    def exchange(self) -> int:
        return self.octets[18]

    @property
    def is_request(self) -> bool:
        return not self.octets[19] & RESPONSE

    @property
    def from_initiator(self) -> bool:
        return bool(self.octets[19] & INITIATOR)

    @property
    def message_id(self) -> int:
        return int.from_bytes(self.octets[20:24], "big")


class EspInUdp(NamedTuple):
    source: bytes
    octets: bytes

    @property
    def spi(self) -> int:
        return int.from_bytes(self.octets[:4], "big")


def packets(path: Path) -> Iterator[IkeMessage | EspInUdp]:
    """In their order."""
    for _, packet in capture.read(path):
        kind = capture.kind(packet)
        if kind not in ("ike", "esp-udp") or packet[0] >> 4 != 4:
            continue
        at = (packet[0] & 15) * 4
        payload = packet[at + capture.UDP_HEADER :]
        if kind == "esp-udp":
            yield EspInUdp(packet[12:16], payload)
        else:
            marked = NAT_PORT in struct.unpack_from(">HH", packet, at)
            yield IkeMessage(packet[12:16], payload[MARKER_OCTETS:] if marked else payload)


def ike_messages(path: Path) -> list[IkeMessage]:
    return [one for one in packets(path) if isinstance(one, IkeMessage)]
