"""A probe of the path's MTU: an INFORMATIONAL request of exactly so many octets, which only the peer can answer (RFC 4301 §8.2.2,
RFC 8899 §6.4).

It holds one status notify of a private type, which RFC 7296 §3.10.1 lets every peer ignore, and is answered with an empty response,
so nothing is amplified. A probe that is too big never arrives, and the window of requests must move on: after it was repeated, a
small request takes its place under the same message ID, and is the liveness check that every request is. An answer to that says
that the peer is there and the probe was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import ProbeResult
from ipsec_dp.ike.v2.context import Task
from ipsec_dp.ike.v2.exchanges import Priority, Shape
from ipsec_dp.ike.v2.fragment import datagram_octets, plaintext_room
from ipsec_dp.ike.v2.payloads import Notify, Payload
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import ReceivedMessage

PADDING_NOTIFY: Final = 58853  # private use: 40960 to 65535
NOTIFY_OCTETS: Final = 8  # of a notify without data


class PathProbe(Task):
    """`asked`: octets of the IP datagram; `octets` what came of it where the cipher has blocks."""

    exchange = ExchangeType.INFORMATIONAL
    shape = Shape.ANY
    priority = Priority.PROBE
    tries = 1
    whole = True

    def __init__(self, asked: int, first_wait: float, retries: int) -> None:
        self.asked = asked
        self.octets = 0
        self.first_wait = first_wait
        self.retries = retries

    def build(self, context: Context, now: float) -> list[Payload] | None:
        del now
        protection, path = context.sa.outgoing, context.path
        if protection is None:
            return None
        room = plaintext_room(protection, path.remote.address.version, marker=path.natt, datagram=self.asked) - NOTIFY_OCTETS
        if room < 0:
            return None
        self.octets = datagram_octets(protection, path.remote.address.version, marker=path.natt, plaintext=room + NOTIFY_OCTETS)
        return [Notify(PADDING_NOTIFY, bytes(room))]

    def instead(self) -> list[Payload] | None:
        if not self.whole:
            return None
        self.whole, self.tries = False, self.retries
        return []

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        del received
        context.emit(ProbeResult(context.peer.tunnel, self.asked, self.octets, passed=self.whole))
