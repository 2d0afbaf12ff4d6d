"""A message of ours once it is protected: the datagrams that it left in, and shorter ones when those are lost (RFC 7383 §2.5.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.v2.fragment import seal_datagrams

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.v2.message import Header
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.protect import Protection


@dataclass(frozen=True, slots=True)
class Content:
    """What was protected, and by what: the keys may be others when it is to leave again."""

    protection: Protection
    header: Header
    payloads: tuple[Payload, ...]


@dataclass(slots=True, eq=False)
class Sealed:
    """`content` None: it cannot be divided otherwise, or need not be.

    What is protected in fragments of another length takes IVs of its own, and is these octets from then on: however often it
    leaves, it was encrypted once for a length.
    """

    datagrams: tuple[bytes, ...] = field(repr=False)
    content: Content | None = field(default=None, repr=False)
    shorter: dict[int, tuple[bytes, ...]] = field(default_factory=dict, repr=False)  # by the octets that none is longer than

    def __contains__(self, datagram: bytes) -> bool:
        return any(datagram in datagrams for datagrams in (self.datagrams, *self.shorter.values()))

    @property
    def divided(self) -> bool:
        """True once there were shorter ones of it."""
        return bool(self.shorter)

    @property
    def shortest(self) -> int:
        """Octets of the longest datagram, as short as it was sent until now."""
        return min(max(map(len, datagrams)) for datagrams in (self.datagrams, *self.shorter.values()))

    def within(self, room: int, environment: Environment) -> tuple[bytes, ...]:
        """Datagrams of `room` octets at the most; those that it left in where they are no longer.

        They are more than any before, since a receiver that has some of those knows by the number that these are others (§2.6).
        """
        if self.content is None or max(map(len, self.datagrams)) <= room:
            return self.datagrams
        fitting = max((octets for octets in self.shorter if octets <= room), default=None)
        if fitting is not None:
            return self.shorter[fitting]
        content, before = self.content, max(map(len, (self.datagrams, *self.shorter.values())))
        try:
            made = seal_datagrams(
                content.protection, content.header, content.payloads, environment.rng, room=room, fragment=True, before=before
            )
        except ValueError:
            return self.datagrams
        environment.trace.sealed(content.payloads, made)
        self.shorter[room] = made
        return made


NOTHING: Final = Sealed(())
