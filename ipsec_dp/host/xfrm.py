"""The policies of the kernel's own IPsec, which takes packets before and after ours: read only.

struct nlmsghdr, then struct xfrm_userpolicy_info of <linux/xfrm.h>, 168 octets:
    selector  destination 16, source 16, ports and masks 8, family 2, prefix lengths 1 + 1, protocol 1, padding 3,
              interface 4, user 4
    lifetimes 96, priority 4, index 4, direction 1, action 1, flags 1, share 1, padding 4
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from ipsec_dp.host.bulk import DUMP
from ipsec_dp.host.requests import NLMSG_ERROR, REQUEST, NetlinkAnswer, NetlinkRefusedError, Requests

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
    try:
        with Requests(NETLINK_XFRM, "policies of the kernel's IPsec") as asking:
            asking.send(asking.next_message(GETPOLICY, REQUEST | DUMP, bytes(ID_OCTETS)))
            found = [_policy(each) for each in asking.answers()]
    except NetlinkRefusedError as error:
        if error.code in ABSENT:
            return []
        raise
    return [policy for policy in found if policy is not None]


def _policy(answer: NetlinkAnswer) -> XfrmPolicy | None:
    """None: it is none that counts, or the end of the list. Raises NetlinkRefusedError."""
    if answer.kind == NLMSG_ERROR and answer.code:
        raise NetlinkRefusedError("policies of the kernel's IPsec", answer.code)
    return xfrm_policy_of(answer.data, answer.at, answer.end) if answer.kind == NEWPOLICY else None
