"""Does this kernel do with super-packets what it says? Some take the offload of a TUN device and then refuse a large write, or make
wrong packets of it.

Nothing of this is seen outside, and no interface with traffic takes part: a process of its own makes a network namespace, in it two
TUN devices, and lets the kernel forward from one to the other. It writes super-packets into the first. From the second come the
packets that the kernel has cut, and, once that one has the offload too, super-packets: the two ways that a tunnel's packets go.
Each octet is compared. The namespace ends with the process.

A packet on its own goes first. So what does not arrive because of something else (a host that does not let us forward) is no fault
of an offload, and is said to be untried. Packets are lost for many reasons, so a loss is a fault only if it is there each time.
Each time has hop limits of its own, by which what comes late of the one before is known.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from ipsec_dp.host import HostError, tun
from ipsec_dp.host.probe import TUNSETOFFLOAD, own_network
from ipsec_dp.util.checksum import internet_checksum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TCP, UDP = 6, 17
PAYLOAD, LAST, SEGMENTS = 1400, 900, 45  # octets; the whole is nearly as long as a packet can be
HOPS = 64
ARRIVE_S: Final = 0.5  # after which it is lost: the kernel forwards before a write returns, unless it is very busy
OTHERS_MAX: Final = 256  # packets between two that are waited for: the kernel's own, and what comes late
TRIES: Final = 3  # of a kind, as long as packets are lost
SHORT_OF_MEMORY: Final = (errno.ENOMEM, errno.ENOBUFS)

# <linux/virtio_net.h>: flags, kind, length of headers, size of a payload, start and offset of the checksum
VNET_HEADER: Final = struct.Struct("=BBHHHH")
NEEDS_CHECKSUM = 1
NONE, TCPV4, TCPV6, UDP_L4 = 0, 1, 4, 5  # VIRTIO_NET_HDR_GSO_*
CSUM, TSO4, TSO6, USO = 0x01, 0x02, 0x04, 0x60  # TUN_F_*, <linux/if_tun.h>
PSH, ACK = 0x08, 0x10

SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C  # <linux/sockios.h>
FORWARDING: Final = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
QUIET: Final = (("addr_gen_mode", "1"), ("router_solicitations", "0"))
# Documentation prefixes (RFC 5737, RFC 3849): from a host behind the first device to one behind the second.
ENDS: Final = {4: ("192.0.2.66", "192.0.2.130"), 6: ("2001:db8:1::2", "2001:db8:2::2")}
PREFIX_OCTETS: Final = "255.255.255.192"


class SuperPacketKind(NamedTuple):
    """`offload` as `status` names it, `bits` those of TUNSETOFFLOAD."""

    offload: str
    version: int
    protocol: int
    gso: int
    bits: int


KINDS: Final = (
    SuperPacketKind("tun_tso4", 4, TCP, TCPV4, CSUM | TSO4),
    SuperPacketKind("tun_tso6", 6, TCP, TCPV6, CSUM | TSO6),
    SuperPacketKind("tun_uso4", 4, UDP, UDP_L4, CSUM | USO),
    SuperPacketKind("tun_uso6", 6, UDP, UDP_L4, CSUM | USO),
)


class OffloadFaults(msgspec.Struct, frozen=True):
    """`wrong`: what was, by the offload's name; `tried`: which were; `untried`: why others were not."""

    wrong: dict[str, str] = {}
    tried: tuple[str, ...] = ()
    untried: str = ""


class Forwarder(Protocol):
    """What the two devices are to the trial. Packets have a virtio header."""

    def offloads(self, bits: int) -> bool:
        """Whether both devices take these."""

    def receive_offloads(self, bits: int) -> None:
        """Of the second device alone."""

    def write(self, packet: bytes) -> None:
        """Into the first device. OSError."""

    def read(self, seconds: float) -> bytes | None:
        """What the second device has next; None: nothing within that time."""


# ---- packets


@cache
def _payloads() -> bytes:
    """Of all packets, one behind the other: no two are alike."""
    return bytes((at * 31 + (at >> 8)) & 0xFF for at in range((SEGMENTS - 1) * PAYLOAD + LAST))


def _ends(version: int) -> bytes:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return b"".join(socket.inet_pton(family, each) for each in ENDS[version])


def _ip(kind: SuperPacketKind, upper: bytes, number: int, hops: int) -> bytes:
    ends = _ends(kind.version)
    if kind.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(upper), kind.protocol, hops) + ends + upper
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(upper), 7 + number, 0x4000, hops, kind.protocol, 0)
    return head[:10] + struct.pack("!H", internet_checksum(head + ends)) + ends + upper


def _upper(kind: SuperPacketKind, payload: bytes, at: int, *, whole: bool, last: bool) -> bytes:
    """`whole`: the checksum is left to who cuts it, and holds the pseudo-header's sum."""
    if kind.protocol == TCP:
        header = struct.pack("!HHIIBBHHH", 9, 9, 1000 + at, 1, 0x50, ACK | (PSH if last else 0), 1000, 0, 0)
    else:
        header = struct.pack("!HHHH", 9, 9, 8 + len(payload), 0)
    octets = len(header) + len(payload)
    pseudo = _ends(kind.version) + struct.pack("!II", octets, kind.protocol)
    checksum = ~internet_checksum(pseudo) & 0xFFFF if whole else internet_checksum(pseudo + header + payload)
    field = _checksum_at(kind)
    return header[:field] + struct.pack("!H", checksum) + header[field + 2 :] + payload


def _checksum_at(kind: SuperPacketKind) -> int:
    return 16 if kind.protocol == TCP else 6


def super_packet(kind: SuperPacketKind, hops: int = HOPS) -> bytes:
    """The payloads of all packets in one, behind its virtio header."""
    start, upper = (20 if kind.version == 4 else 40), (20 if kind.protocol == TCP else 8)
    header = VNET_HEADER.pack(NEEDS_CHECKSUM, kind.gso, start + upper, PAYLOAD, start, _checksum_at(kind))
    return header + _ip(kind, _upper(kind, _payloads(), 0, whole=True, last=True), 0, hops)


def packets(kind: SuperPacketKind, hops: int = HOPS) -> Iterator[bytes]:
    """What it is to be cut into, each behind an empty virtio header."""
    for number in range(SEGMENTS):
        at = number * PAYLOAD
        payload = _payloads()[at : at + PAYLOAD]
        upper = _upper(kind, payload, at, whole=False, last=number == SEGMENTS - 1)
        yield bytes(VNET_HEADER.size) + _ip(kind, upper, number, hops)


# ---- the trial


class _Fault(NamedTuple):
    """`lost`: it is one only if it is there each time."""

    text: str
    lost: bool = False


class _UntriedError(Exception):
    """Nothing is known of a kind, and why."""


def try_out(way: Forwarder, kinds: Iterable[SuperPacketKind] = KINDS) -> OffloadFaults:
    """Sends each kind both ways. OSError: no device works."""
    wrong: dict[str, str] = {}
    tried: list[str] = []
    untried: list[str] = []
    silent: set[int] = set()  # IP versions of which nothing is forwarded
    for kind in kinds:
        if not way.offloads(kind.bits):
            continue  # this kernel does not say that it has it
        try:
            fault = _fault_of(way, kind, silent)
        except _UntriedError as reason:
            untried.append(f"{kind.offload}: {reason}")
            continue
        tried.append(kind.offload)
        if fault is not None:
            wrong[kind.offload] = fault.text
    return OffloadFaults(wrong, tuple(tried), "; ".join(untried))


def _fault_of(way: Forwarder, kind: SuperPacketKind, silent: set[int]) -> _Fault | None:
    """OSError, _UntriedError."""
    fault = None
    for hops in range(HOPS, HOPS - 3 * TRIES, -3):
        if kind.version in silent or not _gets_through(way, kind, hops):
            silent.add(kind.version)
            raise _UntriedError("not even a packet on its own is forwarded")
        fault = _cut_wrongly(way, kind, hops - 1) or _joined_wrongly(way, kind, hops - 2)
        if fault is None or not fault.lost:
            break
    return fault


def _gets_through(way: Forwarder, kind: SuperPacketKind, hops: int) -> bool:
    _send(way, 0, next(packets(kind, hops)))
    return _next(way, kind, hops) is not None


def _next(way: Forwarder, kind: SuperPacketKind, hops: int) -> bytes | None:
    """The next packet of those that were sent with these hops."""
    ends = _ends(kind.version)
    protocol, hops_at, address = (9, 8, 12) if kind.version == 4 else (6, 7, 8)
    for _ in range(OTHERS_MAX):
        got = way.read(ARRIVE_S)
        if got is None:
            return None
        packet = got[VNET_HEADER.size :]
        if packet[address : address + len(ends)] == ends and (packet[protocol], packet[hops_at]) == (kind.protocol, hops - 1):
            return got
    return None


def _send(way: Forwarder, bits: int, packet: bytes) -> None:
    """To a device with these offloads, from which nothing else is left to be read. OSError, _UntriedError."""
    way.receive_offloads(bits)
    while way.read(0) is not None:
        pass
    try:
        way.write(packet)
    except OSError as error:
        if error.errno in SHORT_OF_MEMORY:
            raise _UntriedError("the kernel is short of memory") from error
        raise


def _cut_wrongly(way: Forwarder, kind: SuperPacketKind, hops: int) -> _Fault | None:
    """What is wrong with a super-packet that is written and leaves by a device without the offload."""
    whole = super_packet(kind, hops)
    try:
        _send(way, 0, whole)
    except OSError as error:
        return _Fault(f"a write of {len(whole) - VNET_HEADER.size} octets is refused: {error.strerror}")
    return _differ(way, kind, hops)


def _joined_wrongly(way: Forwarder, kind: SuperPacketKind, hops: int) -> _Fault | None:
    """The same of one that leaves by a device with the offload; the kernel may cut it all the same."""
    _send(way, kind.bits, super_packet(kind, hops))
    wanted = super_packet(kind, hops - 1)
    first = _next(way, kind, hops)
    if first is None:
        return _Fault("a super-packet does not arrive", lost=True)
    if first[1] == NONE:
        return _differ(way, kind, hops, first)
    if _says(first) != _says(wanted):
        return _Fault("a super-packet that is read says wrongly what it is")
    return _difference(wanted[VNET_HEADER.size :], first[VNET_HEADER.size :], "a super-packet that is read")


def _says(packet: bytes) -> tuple[int, ...]:
    """Its virtio header but for the length of its headers, which is a hint."""
    flags, kind, _, *rest = VNET_HEADER.unpack_from(packet)
    return flags, kind, *rest


def _differ(way: Forwarder, kind: SuperPacketKind, hops: int, first: bytes | None = None) -> _Fault | None:
    wanted = [each[VNET_HEADER.size :] for each in packets(kind, hops - 1)]
    for number, each in enumerate(wanted, 1):
        got = first if number == 1 and first is not None else _next(way, kind, hops)
        if got is None:
            return _Fault(f"packet {number} of {SEGMENTS} does not arrive", lost=True)
        inner = _completed(got)
        if inner in wanted[number:]:
            return _Fault(f"packet {number} of {SEGMENTS} does not arrive before the next", lost=True)
        if (fault := _difference(each, inner, f"packet {number} of {SEGMENTS}")) is not None:
            return fault
    return None


def _completed(packet: bytes) -> bytes:
    """Without its virtio header, which may leave the checksum to us."""
    flags, _, _, _, start, offset = VNET_HEADER.unpack_from(packet)
    inner = packet[VNET_HEADER.size :]
    if not flags & NEEDS_CHECKSUM or start + offset + 2 > len(inner):
        return inner
    at = start + offset
    return inner[:at] + struct.pack("!H", internet_checksum(inner[start:])) + inner[at + 2 :]


def _difference(wanted: bytes, got: bytes, what: str) -> _Fault | None:
    if got == wanted:
        return None
    if len(got) != len(wanted):
        return _Fault(f"{what} has {len(got)} octets instead of {len(wanted)}")
    at = next(at for at, (one, other) in enumerate(zip(wanted, got, strict=True)) if one != other)
    return _Fault(f"{what} differs from octet {at} on")


# ---- on real devices


class TunForwarder:
    """Two TUN devices of the calling process's network namespace, which is new and nobody else's. HostError, OSError."""

    def __init__(self) -> None:
        self._first, self._second = tun.make("first"), tun.make("second")
        for name in FORWARDING:
            with contextlib.suppress(OSError):  # then nothing gets through
                Path("/proc/sys/net", name).write_text("1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
            self._configure(four)
        os.set_blocking(self._second.descriptors[0], False)

    def _configure(self, four: socket.socket) -> None:
        for number, device in enumerate((self._first, self._second), 1):
            name = device.name.encode()
            for setting, value in QUIET:
                with contextlib.suppress(OSError):
                    Path("/proc/sys/net/ipv6/conf", device.name, setting).write_text(value)
            for request, address in ((SIOCSIFADDR, f"192.0.2.{64 * number + 1}"), (SIOCSIFNETMASK, PREFIX_OCTETS)):
                fcntl.ioctl(four, request, struct.pack("16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(address)))
            fcntl.ioctl(four, SIOCSIFFLAGS, struct.pack("16sH22x", name, tun.IFF_UP))
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
                address6 = socket.inet_pton(socket.AF_INET6, f"2001:db8:{number}::1")
                fcntl.ioctl(six, SIOCSIFADDR, struct.pack("16sIi", address6, 64, device.index))

    def offloads(self, bits: int) -> bool:
        try:
            for device in (self._first, self._second):
                fcntl.ioctl(device.descriptors[0], TUNSETOFFLOAD, bits)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        return True

    def receive_offloads(self, bits: int) -> None:
        fcntl.ioctl(self._second.descriptors[0], TUNSETOFFLOAD, bits)

    def write(self, packet: bytes) -> None:
        os.write(self._first.descriptors[0], packet)

    def read(self, seconds: float) -> bytes | None:
        descriptor = self._second.descriptors[0]
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1 << 17) if ready else None


def find_out() -> OffloadFaults:
    """In the calling process, which has one thread and ends afterwards: it is in a network namespace of its own then."""
    try:
        own_network()
        return try_out(TunForwarder())
    except (HostError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return OffloadFaults(untried=f"no network namespace of its own, or no TUN devices in it: {reason}")
