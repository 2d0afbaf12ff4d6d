"""The longest IP datagrams of IKE that get to addresses where longer ones were lost: kept for a while, of proven peers."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address

REMEMBERED_S: Final = 600.0  # since a longer one was lost: then one is tried again (RFC 8201 §4)
REMEMBERED: Final = 1024


class Lengths:
    """Octets of IP datagram that the ways to peers' addresses took, of peers that had proven who they were."""

    def __init__(self) -> None:
        self._of: OrderedDict[Address, tuple[float, float]] = OrderedDict()  # octets, and until when; the newest last

    def note(self, remote: Address, octets: float, until: float) -> None:
        self._of[remote] = octets, until
        self._of.move_to_end(remote)
        if len(self._of) > REMEMBERED:
            self._of.popitem(last=False)

    @property
    def known(self) -> list[tuple[Address, float, float]]:
        """Address, octets, and until when that holds; the oldest first."""
        return [(remote, octets, until) for remote, (octets, until) in self._of.items()]

    def resume(self, known: list[tuple[Address, float, float]]) -> None:
        """It goes on from what another has `known`."""
        for remote, octets, until in known[-REMEMBERED:]:
            self._of[remote] = octets, until

    def forget(self, remote: Address) -> None:
        """Longer ones get there, as it seems."""
        self._of.pop(remote, None)

    def of(self, remote: Address, now: float) -> tuple[float, float]:
        """Octets, and until when that holds; inf: nothing is known."""
        octets, until = self._of.get(remote, (inf, inf))
        return (octets, until) if now < until else (inf, inf)
