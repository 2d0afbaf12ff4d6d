"""What crosses a link beside a fast stream, by a filter in the kernel: IKE messages as they were, ESP packets counted.

IPv4 headers without options. Packets that one send call makes into many are seen one by one where the link does not take them whole
(`ethtool -K LINK tx-udp-segmentation off`).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ipsec_dp.host.steering import SO_ATTACH_FILTER, Instruction
from tests.netns.outer_packets import MARKER_OCTETS, IkeMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import Namespace

ETH_P_ALL, SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 3, 33, 263, 6  # <linux/if_ether.h>, <linux/if_packet.h>
BUFFER_OCTETS = 1 << 24
LONGEST = 1 << 16
LOAD_WORD, LOAD_HALF, LOAD_OCTET, EQUALS, RETURN = 0x20, 0x28, 0x30, 0x15, 0x06  # <linux/bpf_common.h>
LENGTH, PROTOCOL, SOURCE, SOURCE_PORT, PORT, MARKER = 2, 9, 12, 20, 22, 28  # where they are in an IPv4 packet of UDP
HEADERS = 28
IKE, NAT, IPV4, UDP = 500, 4500, 0x45, 17

Program = list[Instruction]


def _only(load: int, at: int, value: int, *, unlike: bool = False) -> Program:
    """What is so goes on; the rest is over."""
    return [Instruction(load, at), Instruction(EQUALS, value, *((0, 1) if unlike else (1, 0))), Instruction(RETURN, 0)]


def _of_ike() -> Program:
    """Of port 500, or of port 4500 behind the marker that ESP has not (RFC 3948 §2.2)."""
    return [
        *_only(LOAD_OCTET, 0, IPV4),
        *_only(LOAD_OCTET, PROTOCOL, UDP),
        *(Instruction(LOAD_HALF, SOURCE_PORT), Instruction(EQUALS, IKE, 7, 0)),
        *(Instruction(LOAD_HALF, PORT), Instruction(EQUALS, IKE, 5, 0)),
        *(Instruction(EQUALS, NAT, 1, 0), Instruction(RETURN, 0)),
        *_only(LOAD_WORD, MARKER, 0)[:2],
        *(Instruction(RETURN, 0), Instruction(RETURN, LONGEST)),
    ]


def _of_esp(source: str, octets: int) -> Program:
    """In UDP, of one sender and one length of the whole packet."""
    return [
        *_only(LOAD_OCTET, 0, IPV4),
        *_only(LOAD_OCTET, PROTOCOL, UDP),
        *_only(LOAD_WORD, SOURCE, int(ip_address(source))),
        *_only(LOAD_HALF, LENGTH, octets),
        *_only(LOAD_HALF, PORT, NAT),
        *_only(LOAD_WORD, MARKER, 0, unlike=True),
        Instruction(RETURN, 1),
    ]


class Tap:
    """A packet socket with a filter."""

    def __init__(self, interface: str, program: Program) -> None:
        octets = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", one.code, one.true, one.false, one.k) for one in program))
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(program), ctypes.addressof(octets)))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_OCTETS)
        self.socket.bind((interface, ETH_P_ALL))

    def statistics(self) -> tuple[int, int]:
        """Since they were asked last: packets that passed the filter, and how many of them are not kept."""
        passed, lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return passed, lost


@contextmanager
def _tap(namespace: Namespace, interface: str, program: Program) -> Iterator[Tap]:
    made = namespace.call(lambda: Tap(interface, program))
    with made.socket:
        yield made


@contextmanager
def ike_crossing(namespace: Namespace, interface: str = "wan") -> Iterator[list[IkeMessage]]:
    """The messages that cross while the block runs, both ways, once it is over. AssertionError where not all were kept."""
    messages: list[IkeMessage] = []
    with _tap(namespace, interface, _of_ike()) as tap:
        yield messages
        while True:
            try:
                packet = tap.socket.recv(LONGEST)
            except BlockingIOError:
                break
            marked = IKE not in struct.unpack_from(">HH", packet, SOURCE_PORT)
            messages.append(IkeMessage(packet[SOURCE : SOURCE + 4], packet[HEADERS + MARKER_OCTETS * marked :]))
        assert tap.statistics() == (len(messages), 0)


@contextmanager
def esp_crossing(namespace: Namespace, source: str, octets: int, interface: str = "wan") -> Iterator[list[int]]:
    """How many packets of `source` with so many octets crossed in ESP while the block ran, once it is over."""
    counted: list[int] = []
    with _tap(namespace, interface, _of_esp(source, octets)) as tap:
        yield counted
        counted.append(tap.statistics()[0])
