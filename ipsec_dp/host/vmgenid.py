"""Notices that this virtual machine was cloned or restored: a counter that goes back repeats GCM nonces (RFC 4106 §9).

Linux (drivers/virt/vmgenid.c) tells of a changed VM generation ID by a kernel uevent with NEW_VMGENID=1. It is sent when the
guest notices, which can be after its first packets: where machines are cloned, stop the gateway before the snapshot.
"""

from __future__ import annotations

import socket

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
UEVENT_OCTETS_MAX = 8192


def listen() -> socket.socket:
    """A non-blocking socket that gets kernel uevents. Raises OSError where the kernel has none to give."""
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    uevents = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
    try:
        uevents.bind((0, KERNEL_GROUP))
    except OSError:
        uevents.close()
        raise
    return uevents


def is_new_generation(message: bytes, sender: tuple[int, int]) -> bool:
    """Whether this uevent, truly from the kernel (port 0), says that the machine is another one now."""
    return sender[0] == 0 and b"NEW_VMGENID=1" in message.split(b"\0")


def drain(uevents: socket.socket) -> bool:
    """Reads what is there; whether any of it says that the machine is another one now."""
    found = False
    while True:
        try:
            message, sender = uevents.recvfrom(UEVENT_OCTETS_MAX)
        except BlockingIOError:
            return found
        except OSError:  # ENOBUFS: uevents were lost, and what they said is unknown: not enough to end every SA
            continue
        found = is_new_generation(message, sender) or found
