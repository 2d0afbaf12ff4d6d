"""What an odd peer has with a gateway: IKE SAs and CHILD_SAs, with their keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.v2.fragment import Reassembler
from ipsec_dp.ike.v2.message import Header
from ipsec_dp.ike.v2.protect import Protection, protections
from ipsec_dp.ike.v2.wire import Flag

if TYPE_CHECKING:
    from ipsec_dp.ike import suites
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.traffic_selectors import TrafficSelector
    from ipsec_dp.ike.v2 import keymat
    from ipsec_dp.rig.odd_esp import EspDirection


@dataclass(slots=True, eq=False)
class OddIkeSa:
    """One IKE SA. `ours`: we are its initiator."""

    spi_i: bytes
    spi_r: bytes = NO_SPI
    ours: bool = True
    suite: IkeSuite | None = None
    keys: keymat.IkeKeys | None = field(default=None, repr=False)
    outgoing: Protection | None = field(default=None, repr=False)
    incoming: Protection | None = field(default=None, repr=False)
    next_id: int = 0
    fragments: Reassembler = field(default_factory=Reassembler, repr=False)

    def establish(self, suite: IkeSuite, keys: keymat.IkeKeys) -> None:
        """Messages are protected by these from now on."""
        self.suite, self.keys = suite, keys
        initiators, responders = protections(suite, keys)
        self.outgoing, self.incoming = (initiators, responders) if self.ours else (responders, initiators)

    def header(self, exchange: int, message_id: int, flags: int | None = None) -> Header:
        """`flags`: None, those of a request of ours."""
        return Header(self.spi_i, self.spi_r, exchange, self.role if flags is None else flags, message_id)

    @property
    def role(self) -> int:
        """The flag that our messages bear (RFC 7296 §3.1)."""
        return Flag.INITIATOR if self.ours else 0

    @property
    def spis(self) -> tuple[bytes, bytes]:
        """Initiator's, responder's."""
        return self.spi_i, self.spi_r


@dataclass(frozen=True, slots=True, eq=False)
class OddChild:
    """One CHILD_SA: what we send and what we receive. `nonces`: of the exchange that made it; `ours`: we asked for it."""

    outgoing: EspDirection
    incoming: EspDirection
    selectors: tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]
    suite: suites.EspSuite
    nonces: tuple[bytes, bytes] = field(default=(b"", b""), repr=False)
    ours: bool = True
