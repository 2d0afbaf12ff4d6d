"""What a successor was offered of a gateway, by which is seen whether that is still what it was."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ipsec_dp.databases.sad_shape import ToldSad
    from ipsec_dp.network.inheritance import InheritedHost


class Places:
    """The descriptors that are handed over; each has one place."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def __call__(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return len(self.descriptors) - 1

    @property
    def inodes(self) -> list[int]:
        """What they are, whatever their numbers."""
        return [os.fstat(each).st_ino for each in self.descriptors]


class Offered(NamedTuple):
    """What the successor has, what its descriptors are, what it was told of SAs, and how it lays out their records."""

    host: InheritedHost
    inodes: list[int]
    told: ToldSad
    layout: bytes


def shape_of(host: InheritedHost) -> tuple[object, ...]:
    """What may not change between an offer and its state."""
    return (
        host.claim,
        tuple((tun.name, tun.index, tuple(tun.descriptors)) for tun in host.tuns),
        tuple((link.local, link.port, link.encapsulation, tuple(link.receivers), link.other) for link in host.links),
    )
