"""Is the peer there: the check, and what silence may mean (RFC 7296 §2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.v2.context import Task
from ipsec_dp.ike.v2.exchanges import Priority, Shape
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.sa import ReceivedMessage


class LivenessCheck(Task):
    """An empty INFORMATIONAL request: are you there (RFC 7296 §2.4)?"""

    exchange = ExchangeType.INFORMATIONAL
    shape = Shape.ANY
    priority = Priority.LIVENESS

    def __init__(self, retries: int) -> None:
        self.tries = retries

    def build(self, context: Context, now: float) -> list[Payload]:
        del context, now
        return []

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        """That it was answered is all there is to know."""


def silence_text(context: Context, task: Task) -> str:
    """What a peer that does not answer may mean, and how to tell."""
    asked = f"{context.path.remote} did not answer {task.name} ({task.tries + 1} times)"
    if task.exchange is ExchangeType.IKE_SA_INIT:
        port = context.path.remote.port
        return f"{asked}: it is down (ping it), UDP port {port} is blocked on the way (capture there), or no IKEv2 runs on it"
    if task.exchange in (ExchangeType.IKE_AUTH, ExchangeType.IKE_INTERMEDIATE):
        return f"{asked}, but did answer IKE_SA_INIT: UDP port {context.path.remote.port} is blocked, or large datagrams are lost"
    return f"{asked}: it is down or the way to it is"
