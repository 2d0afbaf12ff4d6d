"""What may happen to an IKE SA, as a table: state × exchange × direction × shape, the payloads that must and may be there.

A message for which there is no row changes nothing and gets no answer: that is the error path, and why an SA that was never
authenticated cannot be rekeyed, nor a closed one revived. Payloads that a row does not name are passed over (RFC 7296 §2.5).

    initiator  NEW -> INIT_SENT -> AUTH_SENT -> ESTABLISHED          (COOKIE and INVALID_KE_PAYLOAD stay in INIT_SENT)
    responder  NEW -> INIT_ANSWERED -> ESTABLISHED
    both       ESTABLISHED -> REKEYED    the peer's rekey took its place; the peer deletes it
               ESTABLISHED -> DELETING   our DELETE is under way
               any -> LINGERING -> CLOSED
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import child_respond, ike_auth, ike_init, ike_rekey, informational
from ipsec_dp.ike.v2.exchanges import Shape
from ipsec_dp.ike.v2.payloads import SecurityAssociation
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType, PayloadType

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.sa import Received
    from ipsec_dp.ike.v2.session import IkeSession

    Answer = Callable[[IkeSession, Received], list[Payload]]

P = PayloadType
INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that may happen. `answer` makes the response to a request; a response goes to the task that asked for it."""

    state: State
    exchange: ExchangeType
    shape: Shape
    answer: Answer | None
    required: tuple[PayloadType, ...]
    optional: tuple[PayloadType, ...]
    section: str

    def missing(self, message: Message) -> tuple[PayloadType, ...]:
        """Required payloads that are not there."""
        there = {payload.type for payload in message.payloads}
        return tuple(kind for kind in self.required if kind not in there)


_CHILD: Final = (P.SA, P.NONCE, P.TS_I, P.TS_R)
_IKE: Final = (P.SA, P.NONCE, P.KE)
_AUTH_OPTIONS: Final = (P.CERT, P.CERTREQ, P.ID_R, P.AUTH, P.NOTIFY, P.CP)

REQUESTS: Final = (
    #   in state             exchange       about              answered by            required    optional     RFC 7296
    Row(State.NEW, INIT, Shape.ANY, ike_init.answer, (P.SA, P.KE, P.NONCE), (P.NOTIFY,), "§1.2"),
    Row(State.INIT_ANSWERED, AUTH, Shape.ANY, ike_auth.answer, (P.ID_I, P.SA, P.TS_I, P.TS_R), _AUTH_OPTIONS, "§1.2"),
    Row(State.ESTABLISHED, CREATE, Shape.NEW_CHILD, child_respond.answer, _CHILD, (P.KE, P.NOTIFY), "§1.3.1"),
    Row(State.ESTABLISHED, CREATE, Shape.REKEY_CHILD, child_respond.answer, _CHILD, (P.KE, P.NOTIFY), "§1.3.3, §2.8"),
    Row(State.ESTABLISHED, CREATE, Shape.REKEY_IKE, ike_rekey.answer, _IKE, (P.NOTIFY,), "§1.3.2, §2.18"),
    Row(State.REKEYED, CREATE, Shape.NEW_CHILD, ike_rekey.not_now, (), (), "§2.25.2"),
    Row(State.REKEYED, CREATE, Shape.REKEY_CHILD, ike_rekey.not_now, (), (), "§2.25.2"),
    Row(State.REKEYED, CREATE, Shape.REKEY_IKE, ike_rekey.not_now, (), (), "§2.25.2"),
    Row(State.DELETING, CREATE, Shape.NEW_CHILD, ike_rekey.not_now, (), (), "§2.25.2"),
    Row(State.DELETING, CREATE, Shape.REKEY_CHILD, ike_rekey.not_now, (), (), "§2.25.2"),
    Row(State.DELETING, CREATE, Shape.REKEY_IKE, ike_rekey.not_now, (), (), "§2.25.2"),
    Row(State.ESTABLISHED, INFORMATIONAL, Shape.ANY, informational.answer, (), (P.DELETE, P.NOTIFY), "§1.4, §2.21"),
    Row(State.REKEYED, INFORMATIONAL, Shape.ANY, informational.answer, (), (P.DELETE, P.NOTIFY), "§1.4, §2.8"),
    Row(State.DELETING, INFORMATIONAL, Shape.ANY, informational.answer, (), (P.DELETE, P.NOTIFY), "§1.4, §2.25"),
)
RESPONSES: Final = (
    Row(State.INIT_SENT, INIT, Shape.ANY, None, (P.SA, P.KE, P.NONCE), (P.NOTIFY, P.CERTREQ), "§1.2, §2.6"),
    Row(State.AUTH_SENT, AUTH, Shape.ANY, None, (P.ID_R, P.AUTH), (P.CERT, P.SA, P.TS_I, P.TS_R, P.NOTIFY), "§1.2, §2.15"),
    Row(State.ESTABLISHED, CREATE, Shape.NEW_CHILD, None, _CHILD, (P.KE, P.NOTIFY), "§1.3.1"),
    Row(State.ESTABLISHED, CREATE, Shape.REKEY_CHILD, None, _CHILD, (P.KE, P.NOTIFY), "§1.3.3"),
    Row(State.ESTABLISHED, CREATE, Shape.REKEY_IKE, None, _IKE, (P.NOTIFY,), "§1.3.2"),
    Row(State.ESTABLISHED, INFORMATIONAL, Shape.ANY, None, (), (P.DELETE, P.NOTIFY), "§1.4"),
    Row(State.REKEYED, INFORMATIONAL, Shape.ANY, None, (), (P.DELETE, P.NOTIFY), "§1.4"),
    Row(State.DELETING, INFORMATIONAL, Shape.ANY, None, (), (P.DELETE, P.NOTIFY), "§1.4.1"),
)
MAY_REQUEST: Final = frozenset({State.ESTABLISHED})
"""Where our own requests leave; those of IKE_SA_INIT, IKE_AUTH and the last DELETE lead into the other states."""
MAY_RECEIVE: Final = frozenset(row.state for row in RESPONSES)

_REQUESTS: Final = {(row.state, row.exchange, row.shape): row for row in REQUESTS}
_RESPONSES: Final = {(row.state, row.exchange, row.shape): row for row in RESPONSES}


def shape_of(message: Message) -> Shape:
    """What a request is about."""
    if message.header.exchange != CREATE:
        return Shape.ANY
    sa = message.get(SecurityAssociation)
    if sa is not None and any(proposal.protocol == ProtocolId.IKE for proposal in sa.proposals):
        return Shape.REKEY_IKE
    return Shape.NEW_CHILD if message.notify(NotifyType.REKEY_SA) is None else Shape.REKEY_CHILD


def request_row(state: State, message: Message) -> Row | None:
    """The row of a request, None: nothing may come of it."""
    exchange = message.header.exchange
    if exchange not in list(ExchangeType):
        return None
    return _REQUESTS.get((state, ExchangeType(exchange), shape_of(message)))


def response_row(state: State, exchange: ExchangeType, shape: Shape) -> Row | None:
    """The row of a response to a request of ours."""
    return _RESPONSES.get((state, exchange, shape))
