"""Key exchanges that belong together: what is still to come of a series, what has come, and what it is for (RFC 9370 §2.2.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.sa import Child, ReceivedMessage
    from ipsec_dp.ipsec.transforms import Group


@dataclass(slots=True, eq=False)
class Series:
    """Of one exchange: the methods that are still to come, and the shared secrets so far."""

    further: list[Group]
    secrets: list[bytearray] = field(repr=False)

    def wipe(self) -> None:
        """Nobody needs them any more."""
        for secret in self.secrets:
            secret[:] = bytes(len(secret))


class Purpose(Protocol):
    """What a series of the peer's is for."""

    def finish(self, context: Any, secrets: tuple[bytearray, ...], received: ReceivedMessage) -> list[Payload]:
        """Make it; the errors that stand against it now, none: it is made."""

    def release(self, context: Any) -> None:
        """Give back what was set aside for it."""


@dataclass(slots=True, eq=False)
class TheirSeries(Series):
    """`rekeys`: the CHILD_SA that is to be replaced; `of_ike`: the IKE SA is; neither: a further CHILD_SA is to be made.

    `until`: when the link is good no more.
    """

    nonces: tuple[bytes, bytes] = field(repr=False)
    purpose: Purpose
    rekeys: Child | None = None
    of_ike: bool = False
    link: bytes = b""
    until: float = inf

    @property
    def lowest_nonce(self) -> bytes:
        """By which two of one origin are told apart (RFC 7296 §2.8.1)."""
        return min(self.nonces)
