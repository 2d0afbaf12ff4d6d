"""Captures of an interface into pcapng files, and a scanner that says what crossed it and whether a plaintext marker did.

`Capture` runs this very file as a program inside a namespace: a packet socket with a large buffer that writes every frame in both
directions, so that the measured process and the recorder do not share an interpreter. `scan` reads such a file back and sorts its
packets by what they are; `marked` makes content in which every packet of a stream carries the marker whole.
"""

from __future__ import annotations

import json
import random
import select
import socket
import struct
import subprocess
import sys
from collections import Counter
from ctypes import addressof, c_char, create_string_buffer
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ipsec_dp.rig.netns import Namespace

MARKER = b"ipsec_dp plaintext marker"
MARKED_BLOCK = 256  # octets from one marker to the next: any payload of 512 octets holds a whole one
FRAME_MAX = 1 << 18  # octets: a segmentation-offloaded frame is seen whole
BUFFER_OCTETS = 64 << 20
START_SECONDS = 20.0
STOP_SECONDS = 60.0

ETH_P_ALL = 0x0003
SO_RCVBUFFORCE, SO_ATTACH_FILTER, SO_TIMESTAMPNS = 33, 26, 35  # <asm-generic/socket.h>
TIMESPEC = struct.Struct("@ll")  # what SO_TIMESTAMPNS tells of a frame: seconds since 1970, nanoseconds
SOL_PACKET, PACKET_STATISTICS = 263, 6  # <linux/if_packet.h>
LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101

# pcapng (draft-ietf-opsawg-pcapng): block types and the two blocks that open a file
SECTION, INTERFACE, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER = 0x1A2B3C4D
NANOSECONDS = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)  # option if_tsresol 10^-9, end of options


class CaptureError(Exception):
    """A capture could not be started or stopped, or its file is not one of ours."""


# ---- writing ------------------------------------------------------------------------------------------------------------------


def _block(kind: int, body: bytes) -> bytes:
    total = 12 + len(body)
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


class Writer:
    """A pcapng file of one interface, with times in nanoseconds since 1970."""

    def __init__(self, file: BinaryIO, linktype: int = LINKTYPE_ETHERNET) -> None:
        self._file = file
        file.write(_block(SECTION, struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)))
        file.write(_block(INTERFACE, struct.pack("<HHI", linktype, 0, 0) + NANOSECONDS))

    def write(self, when: int, frame: bytes | memoryview, whole: int | None = None) -> None:
        """`whole`: octets that the frame had, where `frame` is only its beginning."""
        octets = len(frame)
        padding = -octets % 4
        total = 32 + octets + padding
        length = octets if whole is None else whole
        self._file.write(struct.pack("<7I", ENHANCED_PACKET, total, 0, when >> 32, when & 0xFFFFFFFF, octets, length))
        self._file.write(frame)
        self._file.write(struct.pack(f"<{padding}xI", total))


def _drop_all(packets: socket.socket) -> None:
    """Lets no further frame into the socket's queue, so that emptying it comes to an end under load."""
    program = create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K, 0
    packets.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, addressof(c_char.from_buffer(program))))


def _record(interface: str, path: str, most: int) -> None:
    """The recorder's program: until standard input ends, every frame of `interface` goes to `path`, `most` octets of each.

    Its time is the kernel's, of when it crossed: a recorder that waits for a processor reads it later.
    """
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_OCTETS)
    packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    packets.bind((interface, ETH_P_ALL))
    buffer, room = memoryview(bytearray(most)), socket.CMSG_SPACE(TIMESPEC.size)
    with open(path, "wb", buffering=1 << 20) as file, packets:
        writer = Writer(file)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        stopping = False
        while True:
            try:
                for _ in range(1024):
                    octets, told, _, _ = packets.recvmsg_into([buffer], room, socket.MSG_TRUNC)  # tells the frame's own length
                    seconds, nanoseconds = TIMESPEC.unpack(told[0][2])
                    writer.write(seconds * 10**9 + nanoseconds, buffer[:octets], octets)
            except BlockingIOError:
                if stopping:
                    break
                select.select([packets, sys.stdin], [], [])
            if not stopping and select.select([sys.stdin], [], [], 0)[0]:
                _drop_all(packets)
                stopping = True
        seen, lost = struct.unpack("II", packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    sys.stdout.write(json.dumps({"packets": seen - lost, "lost": lost}) + "\n")


@dataclass(frozen=True)
class Recorded:
    """How many frames a capture wrote, and how many it lost because its buffer was full."""

    packets: int
    lost: int


class Capture:
    """Records `interface` of a namespace into a pcapng file from `start` to `stop`. A context manager.

    `most`: octets kept of each frame; a fast stream needs few to be told apart.
    """

    def __init__(self, namespace: Namespace, interface: str, path: Path, most: int = FRAME_MAX) -> None:
        self.path = path
        self._most = most
        self._namespace = namespace
        self._interface = interface
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self.stop()

    def start(self) -> None:
        """Returns when frames are being recorded. CaptureError when that takes longer than START_SECONDS or fails."""
        pipe = subprocess.PIPE
        program = (sys.executable, "-I", str(Path(__file__).resolve()), self._interface, str(self.path.resolve()), str(self._most))
        self._process = self._namespace.spawn(*program, stdin=pipe, stdout=pipe, stderr=pipe)
        output = self._process.stdout
        if output is None or not select.select([output], [], [], START_SECONDS)[0] or output.readline() != b"ready\n":
            self._process.kill()
            _, text = self._process.communicate()
            raise CaptureError(f"{self._namespace.label}: no capture of {self._interface}: {text.decode(errors='replace').strip()}")

    def stop(self) -> Recorded:
        """Writes what was seen before this call to the file, and ends. CaptureError when the recorder failed."""
        if self._process is None:
            raise CaptureError(f"{self._namespace.label}: the capture of {self._interface} is not running")
        process, self._process = self._process, None
        out, text = process.communicate(timeout=STOP_SECONDS)
        if process.returncode != 0:
            raise CaptureError(f"{self._namespace.label}: capture of {self._interface}: {text.decode(errors='replace').strip()}")
        return Recorded(**json.loads(out))


# ---- reading and scanning -----------------------------------------------------------------------------------------------------


def read(path: Path) -> Iterator[tuple[int, bytes]]:
    """The packets of a file that `Writer` made, as (nanoseconds since 1970, packet without its Ethernet header).

    ARP and other packets that are not IP keep their header. CaptureError: another kind of file.
    """
    linktype = LINKTYPE_ETHERNET
    with path.open("rb") as file:
        while header := file.read(8):
            kind, total = struct.unpack("<II", header)
            body = file.read(total - 8)
            if kind == SECTION and body[:4] != struct.pack("<I", BYTE_ORDER):
                raise CaptureError(f"{path}: not a little-endian pcapng file")
            if kind == INTERFACE:
                (linktype,) = struct.unpack_from("<H", body)
            if kind == ENHANCED_PACKET:
                _, high, low, octets = struct.unpack_from("<4I", body)
                frame = body[20 : 20 + octets]
                strip = linktype == LINKTYPE_ETHERNET and frame[12:14] in (b"\x08\x00", b"\x86\xdd")
                yield high << 32 | low, frame[14:] if strip else frame


PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp", 58: "icmpv6"}
IPV6_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination options: next header, length in 8 octets (RFC 8200 §4)
IPV6_FRAGMENT = 44
ND_TYPES = range(133, 138)  # RFC 4861 §4
MLD_TYPES = (130, 131, 132, 143)  # RFC 2710, RFC 3810

ESP_FIELDS = struct.Struct(">II")  # SPI, sequence number (RFC 4303 §2)
UDP_HEADER = 8


@dataclass(frozen=True, slots=True)
class EspPacket:
    """An ESP packet on the wire: who sent it, and what tells it from every other. `octets` of the whole IPv4 packet."""

    source: bytes
    spi: int
    sequence: int
    octets: int


def esp_packets(path: Path) -> Iterator[EspPacket]:
    """The ESP packets over IPv4 of a capture, bare or in UDP. Of each, its headers are enough."""
    for _, packet in read(path):
        name = kind(packet)
        if name in ("esp", "esp-udp") and packet[0] >> 4 == 4:
            at = (packet[0] & 15) * 4 + (UDP_HEADER if name == "esp-udp" else 0)
            spi, sequence = ESP_FIELDS.unpack_from(packet, at)
            yield EspPacket(packet[12:16], spi, sequence, int.from_bytes(packet[2:4], "big"))


# What may cross an outer link: the tunnel, and what an Ethernet link needs for itself.
TUNNEL_KINDS = frozenset({"esp", "esp-udp", "ike", "nat-keepalive"})
LINK_KINDS = frozenset({"arp", "nd", "mld"})


def _upper(packet: bytes) -> tuple[int, int, bool]:
    """Protocol, offset of its header, whether this is a fragment without one."""
    if packet[0] >> 4 == 4:
        return packet[9], (packet[0] & 15) * 4, bool(int.from_bytes(packet[6:8], "big") & 0x1FFF)
    protocol, offset, later = packet[6], 40, False
    while protocol in IPV6_EXTENSIONS or protocol == IPV6_FRAGMENT:
        if protocol == IPV6_FRAGMENT:
            later = later or bool(int.from_bytes(packet[offset + 2 : offset + 4], "big") >> 3)
            protocol, offset = packet[offset], offset + 8
        else:
            protocol, offset = packet[offset], offset + (packet[offset + 1] + 1) * 8
    return protocol, offset, later


def _kind_of_udp(header_and_payload: bytes) -> str:
    ports = struct.unpack_from(">HH", header_and_payload)
    payload = header_and_payload[8:12]
    if 4500 in ports:  # RFC 3948 §2
        if payload[:1] == b"\xff" and len(header_and_payload) == 9:
            return "nat-keepalive"
        return "ike" if payload == bytes(4) else "esp-udp"
    return "ike" if 500 in ports else "udp"


def kind(packet: bytes) -> str:
    """What an IP packet (or a whole Ethernet frame that is not IP) is: one of TUNNEL_KINDS, LINK_KINDS, or a protocol's name."""
    if packet[12:14] == b"\x08\x06":
        return "arp"
    if not packet or packet[0] >> 4 not in (4, 6):
        return "not-ip"
    try:
        protocol, offset, later = _upper(packet)
        name = PROTOCOLS.get(protocol, f"protocol-{protocol}")
        if name == "esp":
            return name
        if later:
            return f"{name}-fragment"
        if name == "udp":
            return _kind_of_udp(packet[offset:])
        if name == "icmpv6":
            return "nd" if packet[offset] in ND_TYPES else "mld" if packet[offset] in MLD_TYPES else name
    except (IndexError, struct.error):
        return "truncated"
    return name


@dataclass
class Scan:
    """What a capture holds: packets and octets (IP header included) by kind, and how many packets carry the marker."""

    packets: Counter[str] = field(default_factory=Counter)
    octets: Counter[str] = field(default_factory=Counter)
    marked: int = 0

    def foreign(self) -> dict[str, int]:
        """Packets by kind that are neither the tunnel's nor the link's own."""
        return {name: count for name, count in self.packets.items() if name not in TUNNEL_KINDS | LINK_KINDS}

    def tunnel_octets(self) -> int:
        """Octets of ESP, bare or in UDP."""
        return self.octets["esp"] + self.octets["esp-udp"]


def scan(path: Path, marker: bytes = MARKER) -> Scan:
    """Reads a whole capture. Looks for `marker` in each packet: a stream that `marked` made shows it in every full one."""
    found = Scan()
    for _, packet in read(path):
        name = kind(packet)
        found.packets[name] += 1
        found.octets[name] += len(packet)
        found.marked += marker in packet
    return found


def marked(octets: int, *, marker: bytes = MARKER, seed: int = 0) -> Iterator[bytes]:
    """`octets` of content in chunks of up to 1 MiB: the marker every MARKED_BLOCK octets, pseudo-random octets between."""
    source = random.Random(seed)  # noqa: S311 - filler, not a key
    while octets > 0:
        chunk = bytearray(source.randbytes(min(octets, 1 << 20)))
        for at in range(0, len(chunk) - len(marker) + 1, MARKED_BLOCK):
            chunk[at : at + len(marker)] = marker
        yield bytes(chunk)
        octets -= len(chunk)


if __name__ == "__main__":
    try:
        _record(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except OSError as failed:
        sys.exit(str(failed))
