"""The policies of the kernel's own IPsec, which takes packets before and after ours: read only.

struct nlmsghdr, then struct xfrm_userpolicy_info of <linux/xfrm.h>, 168 octets:
    selector  destination 16, source 16, ports and masks 8, family 2, prefix lengths 1 + 1, protocol 1, padding 3,
              interface 4, user 4
    lifetimes 96, priority 4, index 4, direction 1, action 1, flags 1, share 1, padding 4
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from ipsec_dp.host import HostError
from ipsec_dp.host.bulk import ANSWER_SECONDS, DUMP, HEADER, NLMSG_DONE, NLMSG_ERROR, READ_OCTETS, REQUEST, messages

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Network

NETLINK_XFRM, NEWPOLICY, GETPOLICY = 6, 0x13, 0x15
INFO = struct.Struct("=16s16s8xHBBB3x8x96xII4B4x")
ID_OCTETS = 64  # struct xfrm_userpolicy_id
DIRECTIONS = {0: "in", 1: "out", 2: "fwd"}  # others are of single sockets
ABSENT = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT)


@dataclass(frozen=True, slots=True)
class XfrmPolicy:
    """`direction`: "in", "out" or "fwd"; `blocks`: it drops rather than protects."""

    direction: str
    source: Network
    destination: Network
    blocks: bool

    def __str__(self) -> str:
        return f"{self.direction} {self.source} to {self.destination}" + (" (block)" if self.blocks else "")


def xfrm_policy_of(data: bytes, at: int, end: int) -> XfrmPolicy | None:
    """From a message; None: of a socket alone, not of IP, or cut short."""
    if end > len(data) or at + INFO.size > end:
        return None
    to, start, family, to_length, start_length, _, _, index, direction, action, _, _ = INFO.unpack_from(data, at)
    if direction not in DIRECTIONS or index & 7 not in DIRECTIONS or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    networks = [_network(family, *each) for each in ((start, start_length), (to, to_length))]
    return XfrmPolicy(DIRECTIONS[direction], networks[0], networks[1], bool(action))


def _network(family: int, address: bytes, length: int) -> Network:
    if family == socket.AF_INET:
        return IPv4Network((int.from_bytes(address[:4]), min(length, 32)), strict=False)
    return IPv6Network((int.from_bytes(address), min(length, 128)), strict=False)


def policies() -> list[XfrmPolicy]:
    """Those of the network namespace of the calling thread; empty where the kernel has no such thing. HostError."""
    request = HEADER.pack(HEADER.size + ID_OCTETS, GETPOLICY, REQUEST | DUMP, 1, 0) + bytes(ID_OCTETS)
    found: list[XfrmPolicy] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM) as asking:
            asking.settimeout(ANSWER_SECONDS)
            asking.send(request)
            while _read(asking.recv(READ_OCTETS), found):
                pass
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise HostError(f"policies of the kernel's IPsec: {error.strerror or error}") from error
    return found


def _read(data: bytes, found: list[XfrmPolicy]) -> bool:
    """Adds the policies of a datagram; whether more will come. OSError."""
    for kind, _, _, at, end in messages(data):
        if kind == NLMSG_DONE:
            return False
        if kind == NLMSG_ERROR:
            code = -int(struct.unpack_from("=i", data, at)[0])
            raise OSError(code, os.strerror(code))
        policy = xfrm_policy_of(data, at, end) if kind == NEWPOLICY else None
        if policy is not None:
            found.append(policy)
    return True
