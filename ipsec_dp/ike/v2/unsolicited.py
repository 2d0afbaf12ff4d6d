"""Answers to messages of no IKE SA here: not authenticated, never larger than the question, few (RFC 7296 §2.5, §2.21.4).

A peer that has lost nothing learns from them why nobody answers; it must not act on them, and neither do we on the peer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.strangers import LIMITS, Allowance
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.wire import IKE_HEADER, IKE_SPI, Flag

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.payloads import Notify

_EXCHANGE, _FLAGS, _MESSAGE_ID = 18, 19, slice(20, 24)  # of the header; the same in every version so far


class UnsolicitedAnswers:
    """Makes the answers, and none beyond the limit."""

    def __init__(self) -> None:
        self._allowed = Allowance(LIMITS.answers_a_second)  # to whomever: senders can be forged

    def answer(self, notify: Notify, datagram: bytes, now: float) -> bytes | None:
        """The answer to a request that stands in `datagram`, None: none is due. Responses are never answered."""
        if len(datagram) < IKE_HEADER or datagram[_FLAGS] & Flag.RESPONSE:
            return None
        header = Header(
            datagram[:IKE_SPI],
            datagram[IKE_SPI : 2 * IKE_SPI],
            datagram[_EXCHANGE],
            Flag.RESPONSE | (~datagram[_FLAGS] & Flag.INITIATOR),
            int.from_bytes(datagram[_MESSAGE_ID], "big"),
        )
        reply = build_message(Message(header, (notify,)))
        return reply if len(reply) <= len(datagram) and self._allowed.take(now) else None
