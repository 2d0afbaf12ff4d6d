"""IKE messages and ESP packets of a capture of an outer link, over IPv4, each in its own UDP datagram."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.rig import capture

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

MARKER_OCTETS = 4  # before IKE on port 4500 (RFC 3948 §2.2)
RESPONSE, INITIATOR = 0x20, 0x08
NAT_PORT = 4500
INFORMATIONAL = 37
PROBES_S = 60.0  # from one probe of the path's MTU to the next, while packets pass


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


def sent_again(messages: Sequence[IkeMessage], seconds: float, ours: Collection[str]) -> int:
    """How many requests are others once more; where in so many seconds nothing of IKE crossed but what goes by itself while packets
    pass: probes of the path's MTU by those of these addresses, again where an answer is late, and the answers. AssertionError."""
    requests = Counter((one.source, one.spis, one.message_id) for one in messages if one.is_request)
    asking = Counter(source for source, *_ in requests)
    assert {one.exchange for one in messages} <= {INFORMATIONAL}
    assert asking.keys() <= {ip_address(each).packed for each in ours}
    assert all(count <= 1 + seconds / PROBES_S for count in asking.values()), asking
    return requests.total() - len(requests)
