"""ICMP messages that a packet of ours was too big, with the part of it that they quote.

They are read from raw ICMP sockets and not from the error queues of the outer sockets (IP_RECVERR). With the error queue every
forged ICMP error makes the next send on that socket fail, for whatever peer; IPv6 sockets that do not let ICMP change what they
send get no entries; and of two sockets that share a port the kernel picks one by chance.

Nothing here believes anything: whether the quoted packet was sent is for the SAD to say.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from ipsec_dp.host import MARK, HostError, steering
from ipsec_dp.host.sockets import NAT_PORT, PROTOCOL_ESP, SO_MARK

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address

BUFFER_OCTETS = 64 << 10  # a flood overflows it here, in the kernel
MESSAGE_MAX = 2048
UDP = 17
ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED = 3, 4  # RFC 792, RFC 1191 §4
ICMPV6_TOO_BIG = 2  # RFC 4443 §3.2
SOL_RAW, ICMP_FILTER = 255, 1  # <linux/icmp.h>
IPPROTO_ICMPV6, ICMPV6_FILTER = 58, 1  # <linux/icmpv6.h>: a bit for each type, set: blocked
SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>


@dataclass(frozen=True, slots=True)
class TooBig:
    """`mtu`: what the hop says it takes. The rest is of the packet of ours that it quotes; `octets` is its total length."""

    mtu: int
    local: Address
    remote: Address
    udp: bool
    spi: int
    sequence: int  # the low 32 bits
    octets: int


def read_v4(packet: bytes) -> TooBig | None:
    """What a raw IPv4 socket gave, IP header first. None: no such message, or it quotes nothing of ours."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    icmp = packet[(packet[0] & 15) * 4 :]
    if len(icmp) < 8 or icmp[:2] != bytes((ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED)):
        return None
    quoted = icmp[8:]
    header = (quoted[0] & 15) * 4 if quoted else 0
    if header < 20 or len(quoted) < header or quoted[0] >> 4 != 4:
        return None
    octets, fragment = struct.unpack_from("!H2xH", quoted, 2)
    if fragment & 0x1FFF:
        return None
    mtu = int.from_bytes(icmp[6:8])
    local, remote = IPv4Address(quoted[12:16]), IPv4Address(quoted[16:20])
    return _upper(quoted[header:], quoted[9], mtu, local, remote, octets)


def read_v6(message: bytes) -> TooBig | None:
    """What a raw ICMPv6 socket gave, ICMP header first. As `read_v4`."""
    quoted = message[8:]
    if len(message) < 8 or message[0] != ICMPV6_TOO_BIG or len(quoted) < 40 or quoted[0] >> 4 != 6:
        return None
    mtu, octets = int.from_bytes(message[4:8]), 40 + int.from_bytes(quoted[4:6])
    return _upper(quoted[40:], quoted[6], mtu, IPv6Address(quoted[8:24]), IPv6Address(quoted[24:40]), octets)


def _upper(upper: bytes, protocol: int, mtu: int, local: Address, remote: Address, octets: int) -> TooBig | None:
    """ESP, alone or behind our UDP port. A hop that takes as much as the packet had does not complain about it."""
    if protocol == UDP:
        if int.from_bytes(upper[:2]) != NAT_PORT:
            return None
        upper = upper[8:]
    elif protocol != PROTOCOL_ESP:
        return None
    if len(upper) < 8 or mtu >= octets:
        return None
    spi, sequence = struct.unpack_from("!II", upper)
    return TooBig(mtu, local, remote, protocol == UDP, spi, sequence, octets) if spi else None


READERS = {4: read_v4, 6: read_v6}


def open_socket(version: int) -> socket.socket:
    """A raw socket that gets no other ICMP messages, non-blocking, in the namespace of the calling thread. HostError."""
    try:
        if version == 4:
            made = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMP)
            made.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~(1 << ICMP_UNREACHABLE) & 0xFFFFFFFF))
            _only_fragmentation_needed(made)
        else:
            made = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, IPPROTO_ICMPV6)
            made.setsockopt(
                IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("8I", ~(1 << ICMPV6_TOO_BIG) & 0xFFFFFFFF, *[0xFFFFFFFF] * 7)
            )
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
    except OSError as error:
        raise HostError(f"raw ICMP socket for IPv{version}: {error.strerror}") from error
    return made


def listener(remote: Address, local: Address | None = None) -> socket.socket:
    """While it is open, this kernel learns that bare ESP to an IPv6 peer was too big, and fragments what must be (RFC 8200 §5).

    For raw IPv6 sockets it takes note of such a message only where one of them is connected to that peer: from `local`, since the
    host's rules may know no way from elsewhere. Nothing is received. HostError.
    """
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, PROTOCOL_ESP)
        try:
            steering.attach(made, steering.SO_ATTACH_FILTER, steering.REFUSE)
            made.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
            if local is not None and not local.is_link_local:
                made.bind((str(local), 0))
            made.connect((str(remote), 0))
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise HostError(f"raw socket to {remote}: {error.strerror}") from error
    return made


# Classic BPF over the packet from its IP header on: the code in the octet behind the ICMP type, else nothing.
_PROGRAM = (
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf)
    (0x50, 0, 0, 1),  # ldb [x + 1]
    (0x15, 0, 1, ICMP_FRAGMENTATION_NEEDED),  # jeq, else the last
    (0x06, 0, 0, 0xFFFFFFFF),  # ret all
    (0x06, 0, 0, 0),  # ret nothing
)


def _only_fragmentation_needed(target: socket.socket) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in _PROGRAM))
    target.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(_PROGRAM), ctypes.addressof(code)))
    del code  # the kernel has its own copy now
