"""Echo requests put straight into TUN interfaces, and the replies that come out of them.

By packet sockets: what is sent enters the interface past the host's routes, rules and packet filter, whatever these are at the
moment, and only what the data plane has opened comes out of it. RFC 792, RFC 4443 §4.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ctypes import addressof, c_char, create_string_buffer
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.host import HostError
from ipsec_dp.util.checksum import internet_checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ipsec.addresses import Address

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
ICMP, ICMPV6 = 1, 58
HOP_LIMIT = 64
HEADERS = {4: 20, 6: 40}
REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}
SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
PACKET_MAX = 2048

# Classic BPF (<linux/filter.h>): jump if equal, else fall to the last instruction, which refuses.
LOAD_OCTET, LOAD_HALF, LOAD_HEADER_LENGTH = 0x30, 0x28, 0xB1
LOAD_OCTET_X, LOAD_HALF_X, JUMP_EQUAL, RETURN = 0x50, 0x48, 0x15, 0x06


class Echo(NamedTuple):
    """An echo reply, or what a request is made of."""

    source: Address
    destination: Address
    identifier: int
    sequence: int
    data: bytes


def request(echo: Echo) -> bytes:
    """The packet that asks, IP header included."""
    version = echo.source.version
    ends = echo.source.packed + echo.destination.packed
    message = struct.pack("!BBHHH", REQUEST[version], 0, 0, echo.identifier, echo.sequence) + echo.data
    pseudo = b"" if version == 4 else ends + struct.pack("!II", len(message), ICMPV6)
    message = message[:2] + struct.pack("!H", internet_checksum(pseudo + message)) + message[4:]
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, HOP_LIMIT) + ends + message
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, HOP_LIMIT, ICMP, 0) + ends
    return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:] + message


def reply(packet: bytes) -> Echo | None:
    """The echo reply that a packet is; None: it is none. Checksums are the sealed packet's affair."""
    version = packet[0] >> 4 if packet else 0
    if version not in HEADERS or len(packet) < HEADERS[version]:
        return None
    if version == 4:
        at, protocol, ends = (packet[0] & 15) * 4, packet[9], packet[12:20]
    else:
        at, protocol, ends = HEADERS[6], packet[6], packet[8:40]
    if protocol != (ICMP if version == 4 else ICMPV6) or len(packet) < at + 8 or packet[at] != REPLY[version]:
        return None
    identifier, sequence = struct.unpack_from("!HH", packet, at + 4)
    half = len(ends) // 2
    return Echo(ip_address(ends[:half]), ip_address(ends[half:]), identifier, sequence, packet[at + 8 :])


def _filter(version: int, identifier: int) -> bytes:
    """A program that takes echo replies with this identifier and nothing else, so that other packets cost nothing here."""
    header = HEADERS[6]
    if version == 4:
        tests = [(LOAD_OCTET, 9), (JUMP_EQUAL, ICMP), (LOAD_HEADER_LENGTH, 0), (LOAD_OCTET_X, 0), (JUMP_EQUAL, REPLY[4])]
        tests += [(LOAD_HALF_X, 4), (JUMP_EQUAL, identifier)]
    else:
        tests = [(LOAD_OCTET, 6), (JUMP_EQUAL, ICMPV6), (LOAD_OCTET, header), (JUMP_EQUAL, REPLY[6])]
        tests += [(LOAD_HALF, header + 4), (JUMP_EQUAL, identifier)]
    program = [*tests, (RETURN, PACKET_MAX), (RETURN, 0)]
    refuse = len(program) - 1
    return b"".join(
        struct.pack("=HBBI", code, 0, refuse - at - 1 if code == JUMP_EQUAL else 0, value)
        for at, (code, value) in enumerate(program)
    )


class EchoSockets:
    """Asks by TUN interfaces of the calling thread's namespace; `answered` gets every reply with `identifier` that comes out."""

    def __init__(self, identifier: int, answered: Callable[[Echo], None]) -> None:
        self.identifier, self._answered = identifier, answered
        self._sockets: dict[tuple[str, int], socket.socket] = {}

    def listen(self, interface: str, version: int) -> None:
        """Opens what `send` needs, and listens there. HostError."""
        if (interface, version) in self._sockets:
            return
        program = create_string_buffer(_filter(version, self.identifier))
        try:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
            fprog = struct.pack("HxxxxxxP", len(program.raw) // 8, addressof(c_char.from_buffer(program)))
            made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
            made.bind((interface, ETHERTYPES[version]))
        except OSError as error:
            raise HostError(f"interface {interface}: no packet socket: {error.strerror}") from error
        self._sockets[interface, version] = made
        asyncio.get_running_loop().add_reader(made.fileno(), self._readable, made)

    def keep(self, interfaces: set[str]) -> None:
        """Closes what listens at other interfaces than these."""
        for key in [key for key in self._sockets if key[0] not in interfaces]:
            self._close(key)

    def _close(self, key: tuple[str, int]) -> None:
        made = self._sockets.pop(key)
        asyncio.get_running_loop().remove_reader(made.fileno())
        made.close()

    def send(self, interface: str, echo: Echo) -> None:
        """Asks once. A packet that the interface does not take is lost like one that the network loses."""
        version = echo.source.version
        made = self._sockets.get((interface, version))
        if made is not None:
            try:
                made.sendto(request(echo), (interface, ETHERTYPES[version]))
            except OSError:
                return

    def reopen(self, interface: str) -> None:
        """The interface was made anew: what listened at the former one listens there. HostError."""
        for key in [key for key in self._sockets if key[0] == interface]:
            self._close(key)
            self.listen(*key)

    def _readable(self, made: socket.socket) -> None:
        try:
            packet = made.recv(PACKET_MAX)
        except OSError:  # the interface went
            return
        found = reply(packet)
        if found is not None:
            self._answered(found)
