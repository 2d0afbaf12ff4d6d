"""What a kernel does with super-packets, for rigs without one: made of a run of packets, and cut into packets again.

Written from the header formats alone, packet by packet and octet by octet, so that it can be held against the C core.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import Gso, MemoryDatagram, MemoryPacket
from ipsec_dp.rig.packets import UDP, checksum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TCP = 6
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment or UDP datagram in an IP packet. `options`: of TCP, a multiple of four octets."""

    source: bytes  # 4 or 16 octets
    destination: bytes
    protocol: int
    payload: bytes
    ports: tuple[int, int] = (40000, 5201)
    sequence: int = 0
    acknowledgment: int = 0
    flags: int = ACK
    window: int = 512
    options: bytes = b""
    identification: int = 0
    df: bool = True
    tos: int = 0
    ttl: int = 64
    flow_label: int = 0

    def next(self, payload: bytes) -> Segment:
        """The one that follows it in a run."""
        return replace(
            self,
            payload=payload,
            sequence=(self.sequence + len(self.payload)) % 2**32,
            identification=(self.identification + 1) % 2**16,
        )

    @property
    def ip_octets(self) -> int:
        return 20 if len(self.source) == 4 else 40

    def packet(self) -> bytes:
        """The whole packet, checksums right."""
        field, upper = self._upper()
        total = checksum(self._pseudo(len(upper)) + upper)
        upper[field : field + 2] = struct.pack("!H", total or 0xFFFF if self.protocol == UDP else total)
        return self._ip(len(upper)) + bytes(upper)

    def partial(self) -> tuple[bytes, int]:
        """The packet with the sum of its pseudo-header in place of the upper checksum, and where that lies in the upper header."""
        field, upper = self._upper()
        upper[field : field + 2] = struct.pack("!H", ~checksum(self._pseudo(len(upper))) & 0xFFFF)
        return self._ip(len(upper)) + bytes(upper), field

    def _pseudo(self, octets: int) -> bytes:
        return self.source + self.destination + struct.pack("!II", octets, self.protocol)

    def _upper(self) -> tuple[int, bytearray]:
        if self.protocol == UDP:
            return 6, bytearray(struct.pack("!HHHH", *self.ports, 8 + len(self.payload), 0) + self.payload)
        offset = (20 + len(self.options)) // 4 << 4
        head = struct.pack("!HHIIBBHHH", *self.ports, self.sequence, self.acknowledgment, offset, self.flags, self.window, 0, 0)
        return 16, bytearray(head + self.options + self.payload)

    def _ip(self, octets: int) -> bytes:
        ends = self.source + self.destination
        if len(self.source) == 16:
            return struct.pack("!IHBB", 6 << 28 | self.tos << 20 | self.flow_label, octets, self.protocol, self.ttl) + ends
        fragment = 0x4000 if self.df else 0
        head = struct.pack("!BBHHHBB", 0x45, self.tos, 20 + octets, self.identification, fragment, self.ttl, self.protocol)
        return head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """A segment in a UDP tunnel. `header`: what is between the outer UDP header, whose payload counts for nothing, and the inner
    packet. Without `checksum` the outer one is zero."""

    outer: Segment
    header: bytes
    inner: Segment
    checksum: bool = False

    @property
    def network(self) -> int:
        """Octets before the inner IP header."""
        return self.outer.ip_octets + 8 + len(self.header)

    def packet(self) -> bytes:
        """The whole packet, checksums right."""
        return self._finished(replace(self.outer, payload=self.header + self.inner.packet()).packet())

    def partial(self) -> bytes:
        """The packet with the sums of the pseudo-headers in place of the upper checksums."""
        return self._finished(replace(self.outer, payload=self.header + self.inner.partial()[0]).partial()[0])

    def _finished(self, data: bytes) -> bytes:
        at = self.outer.ip_octets + 6
        return data if self.checksum else data[:at] + b"\0\0" + data[at + 2 :]


def vxlan(outer: Segment, inner: Segment, *, checksum: bool = False) -> Tunnelled:
    """In VXLAN (RFC 7348 §5), between two Ethernet addresses."""
    kind = b"\x08\x00" if inner.ip_octets == 20 else b"\x86\xdd"
    header = bytes.fromhex("08000000 00002a00 020000000001 020000000002")
    return Tunnelled(outer, header + kind, inner, checksum)


def super_packet(whole: Segment | Tunnelled, size: int) -> MemoryPacket:
    """The super-packet whose payloads of `size` octets together are that of `whole`."""
    if isinstance(whole, Tunnelled):
        inner = super_packet(whole.inner, size)
        tunnel = Gso.UDP_TUNNEL_IPV4 if whole.outer.ip_octets == 20 else Gso.UDP_TUNNEL_IPV6
        return replace(
            inner,
            data=whole.partial(),
            gso=inner.gso | tunnel,
            checksum_start=whole.network + inner.checksum_start,
            network=whole.network,
            tunnel_checksum=whole.checksum,
        )
    data, field = whole.partial()
    kind = Gso.UDP_L4 if whole.protocol == UDP else Gso.TCPV4 if whole.ip_octets == 20 else Gso.TCPV6
    return MemoryPacket(data, kind, size, needs_checksum=True, checksum_start=whole.ip_octets, checksum_offset=field)


def run_of(whole: Segment, size: int) -> Iterator[Segment]:
    """The segments that a sender makes of `whole` when each carries `size` octets at the most."""
    starts = range(0, max(len(whole.payload), 1), size)
    each = replace(whole, payload=b"")
    for start in starts:
        flags = whole.flags
        if start != starts[-1]:
            flags &= ~(FIN | PSH)
        if start != 0:
            flags &= ~CWR
        each = replace(
            each.next(whole.payload[start : start + size]) if start else replace(each, payload=whole.payload[:size]), flags=flags
        )
        yield each


def tunnelled_run_of(whole: Tunnelled, size: int) -> Iterator[Tunnelled]:
    """The same in a UDP tunnel."""
    first = whole.outer.identification
    for number, inner in enumerate(run_of(whole.inner, size)):
        yield replace(whole, inner=inner, outer=replace(whole.outer, identification=(first + number) % 2**16))


def parse(packet: bytes) -> Segment:
    """The segment in an IPv4 or IPv6 packet without options or extension headers."""
    version_6 = packet[0] >> 4 == 6
    protocol, ip = (packet[6], 40) if version_6 else (packet[9], 20)
    head, upper = packet[:ip], packet[ip:]
    tcp = protocol == TCP
    begin = (upper[12] >> 4) * 4 if tcp else 8
    word = int.from_bytes(head[:4])
    return Segment(
        head[8:24] if version_6 else head[12:16],
        head[24:40] if version_6 else head[16:20],
        protocol,
        upper[begin:],
        ports=struct.unpack("!HH", upper[:4]),
        sequence=int.from_bytes(upper[4:8]) if tcp else 0,
        acknowledgment=int.from_bytes(upper[8:12]) if tcp else 0,
        flags=upper[13] if tcp else ACK,
        window=int.from_bytes(upper[14:16]) if tcp else 512,
        options=upper[20:begin] if tcp else b"",
        identification=0 if version_6 else int.from_bytes(head[4:6]),
        df=version_6 or bool(head[6] & 0x40),
        tos=word >> 20 & 0xFF if version_6 else head[1],
        ttl=head[7] if version_6 else head[8],
        flow_label=word & 0xFFFFF if version_6 else 0,
    )


def checksums_hold(packet: bytes) -> bool:
    """Whether the IPv4 header's checksum and that of TCP or UDP are right, in a packet that is no fragment."""
    version_6 = packet[0] >> 4 == 6
    header = 40 if version_6 else (packet[0] & 15) * 4
    protocol, ends = (packet[6], packet[8:40]) if version_6 else (packet[9], packet[12:20])
    upper = packet[header:]
    if not version_6 and checksum(packet[:header]) != 0:
        return False
    return protocol not in (TCP, UDP) or checksum(ends + struct.pack("!II", len(upper), protocol) + upper) == 0


def cut(packet: MemoryPacket) -> list[bytes]:
    """The packets of a super-packet; of a single packet itself. Raises ValueError when the offload fields do not fit it."""
    if packet.gso == Gso.NONE:
        return [packet.data]
    if packet.network:
        return _cut_in_tunnel(packet)
    whole = parse(packet.data)
    if super_packet(whole, packet.gso_size) != packet:
        raise ValueError(f"headers or checksum of a super-packet are wrong: {packet}")
    return [segment.packet() for segment in run_of(whole, packet.gso_size)]


def _cut_in_tunnel(packet: MemoryPacket) -> list[bytes]:
    outer = parse(packet.data[: packet.network])
    begin = outer.ip_octets + 8
    inner = parse(packet.data[packet.network :])
    whole = Tunnelled(replace(outer, payload=b""), packet.data[begin : packet.network], inner, packet.tunnel_checksum)
    if super_packet(whole, packet.gso_size) != packet:
        raise ValueError(f"headers or checksums of a super-packet in a tunnel are wrong: {packet}")
    return [each.packet() for each in tunnelled_run_of(whole, packet.gso_size)]


def aggregate(datagrams: Iterable[MemoryDatagram], most: int = 64) -> list[MemoryDatagram]:
    """Neighbours of one size and one source in one, as UDP_GRO brings them: the last may be shorter, and nothing follows it."""
    runs: list[list[MemoryDatagram]] = []
    for datagram in datagrams:
        run = runs[-1] if runs else []
        if (
            run
            and len(run) < most
            and len(run[-1].data) == len(run[0].data) >= len(datagram.data)
            and replace(run[0], data=b"") == replace(datagram, data=b"")
        ):
            run.append(datagram)
        else:
            runs.append([datagram])
    return [
        replace(run[0], data=b"".join(each.data for each in run), gso_size=len(run[0].data)) if len(run) > 1 else run[0]
        for run in runs
    ]
