"""One quick mode, from its first message until no duplicate of its last one is expected any more (RFC 2409 §5.5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipsec_dp.ike.dh import KeyExchange
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.sa import IpsecSa, Waiting


class QuickStage(StrEnum):
    """What is awaited."""

    ASKED = "message 2"  # ours, as initiator
    ANSWERED = "message 3"  # as responder
    DONE = "nothing but duplicates"


@dataclass(slots=True, eq=False)
class QuickMode:
    """`iv`: of the next message, from either side. `replaces`: the number of the IPsec SA that it renews. `admitted`: as initiator,
    our proposals of then."""

    message_id: int
    initiator: bool
    iv: bytes
    pair: ProxyId
    stage: QuickStage
    began: float
    nonces: tuple[bytes, bytes] = (b"", b"")
    spi_in: int = 0
    key: KeyExchange | None = None
    replaces: int | None = None
    sa: IpsecSa | None = None
    waiting: Waiting | None = field(default=None, repr=False)
    last_in: bytes = field(default=b"", repr=False)
    last_out: bytes = field(default=b"", repr=False)
    forget_at: float = inf
    admitted: tuple[Proposal, ...] = ()

    @property
    def due_at(self) -> float:
        return min(self.forget_at, inf if self.waiting is None else self.waiting.deadline)
