"""What may happen to an IKE SA, as tables: what a message may do in a state, and into which states an SA goes from each.

A message for which there is no row changes nothing and gets no answer: that is the error path, and why an SA that was never
authenticated cannot be rekeyed, nor a closed one revived. Payloads that a row does not name are passed over (RFC 7296 §2.5).
A state into which no row leads from the one before is never entered: `session.IkeSession.enter` raises.

    initiator  NEW -> INIT_SENT -> AUTH_SENT -> ESTABLISHED          (COOKIE and INVALID_KE_PAYLOAD stay in INIT_SENT)
    responder  NEW -> INIT_ANSWERED -> ESTABLISHED
    additional key exchanges before these: INIT_SENT -> INTERMEDIATE_SENT -> AUTH_SENT, NEW -> INTERMEDIATE_AWAITED -> INIT_ANSWERED
    by a rekey NEW -> PROVISIONAL -> ESTABLISHED                     it stands
                      PROVISIONAL -> REKEYED                         each side made one, and the other stands
    both       ESTABLISHED -> REKEYED      the peer's rekey took its place; the peer deletes it
               ESTABLISHED -> EXPIRED      its hard limit, with a request of ours under way (`expiry`)
               EXPIRED -> REKEYED          that was a rekey, and its answer came after all
               EXPIRED -> DELETING         another has taken over, or nobody has in time
               ESTABLISHED -> DELETING     our DELETE is under way
               any but NEW and INIT_SENT -> LINGERING -> CLOSED      our answer to the message that ended it may be asked for again
               any but NEW -> CLOSED
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import child_respond, followup, ike_auth, ike_init, ike_rekey, informational, intermediate
from ipsec_dp.ike.v2.exchanges import Shape
from ipsec_dp.ike.v2.payloads import SecurityAssociation
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType, PayloadType

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.sa import ReceivedMessage

    Answer = Callable[[Context, ReceivedMessage], list[Payload] | None]  # None: not now, it is to be asked again

P = PayloadType
S = State
INIT, INTERMEDIATE, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH
CREATE, FOLLOWUP, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE, ExchangeType.INFORMATIONAL


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that may happen. `answer` makes the response to a request; a response goes to the task that asked for it.

    `next`: the states into which that may lead from `state`. What leads on without a message, or whatever it says, is in `STEPS`.
    """

    state: State
    exchange: ExchangeType
    shape: Shape
    next: tuple[State, ...]
    answer: Answer | None
    required: tuple[PayloadType, ...]
    optional: tuple[PayloadType, ...]
    section: str

    def missing(self, message: Message) -> tuple[PayloadType, ...]:
        """Required payloads that are not there."""
        there = {payload.type for payload in message.payloads}
        return tuple(kind for kind in self.required if kind not in there)


@dataclass(frozen=True, slots=True)
class Step:
    """One way from a state to another that no single row of a message leads."""

    state: State
    next: State
    why: str


_CHILD: Final = (P.SA, P.NONCE, P.TS_I, P.TS_R)
_IKE: Final = (P.SA, P.NONCE, P.KE)
_AUTH: Final = (P.ID_I, P.SA, P.TS_I, P.TS_R)
_AUTH_OPTIONS: Final = (P.CERT, P.CERTREQ, P.ID_R, P.AUTH, P.NOTIFY, P.CP)
_AUTH_ANSWERS: Final = (P.CERT, P.SA, P.TS_I, P.TS_R, P.NOTIFY)
_INFO_OPTIONS: Final = (P.DELETE, P.NOTIFY)
_BEGUN: Final = (S.INTERMEDIATE_AWAITED, S.INIT_ANSWERED)
_MADE: Final = (Shape.NEW_CHILD, Shape.REKEY_CHILD, Shape.REKEY_IKE)
_FURTHER: Final = "§1.2, RFC 9242 §3.2"
_CALLED: Final = (S.INTERMEDIATE_SENT, S.AUTH_SENT)
_ROUND: Final = "§2.25, RFC 9370 §2.2.4"

REQUESTS: Final = (
    #   in state, exchange, about; next states; answered by, required, optional, RFC 7296
    Row(S.NEW, INIT, Shape.ANY, _BEGUN, ike_init.answer, (P.SA, P.KE, P.NONCE), (P.NOTIFY,), "§1.2"),
    Row(S.INTERMEDIATE_AWAITED, INTERMEDIATE, Shape.ANY, (S.INIT_ANSWERED,), intermediate.answer, (P.KE,), (P.NOTIFY,), _FURTHER),
    Row(S.INIT_ANSWERED, AUTH, Shape.ANY, (S.ESTABLISHED,), ike_auth.answer, _AUTH, _AUTH_OPTIONS, "§1.2"),
    Row(S.ESTABLISHED, CREATE, Shape.NEW_CHILD, (), child_respond.answer, _CHILD, (P.KE, P.NOTIFY), "§1.3.1"),
    Row(S.ESTABLISHED, CREATE, Shape.REKEY_CHILD, (), child_respond.answer, _CHILD, (P.KE, P.NOTIFY), "§1.3.3, §2.8"),
    Row(S.ESTABLISHED, CREATE, Shape.REKEY_IKE, (S.REKEYED,), ike_rekey.answer, _IKE, (P.NOTIFY,), "§1.3.2, §2.18"),
    Row(S.ESTABLISHED, FOLLOWUP, Shape.ANY, (S.REKEYED,), followup.answer, (P.KE,), (P.NOTIFY,), _ROUND),
    *(
        Row(state, exchange, shape, (), ike_rekey.not_now, (), (), "§2.25.2")
        for state in (S.PROVISIONAL, S.EXPIRED, S.REKEYED, S.DELETING)
        for exchange, shape in (*((CREATE, shape) for shape in _MADE), (FOLLOWUP, Shape.ANY))
    ),
    Row(S.PROVISIONAL, INFORMATIONAL, Shape.ANY, (S.LINGERING,), informational.answer, (), _INFO_OPTIONS, "§1.4, §2.8.1"),
    Row(S.ESTABLISHED, INFORMATIONAL, Shape.ANY, (S.LINGERING,), informational.answer, (), _INFO_OPTIONS, "§1.4, §2.21"),
    Row(S.EXPIRED, INFORMATIONAL, Shape.ANY, (S.LINGERING,), informational.answer, (), _INFO_OPTIONS, "§1.4, §2.8"),
    Row(S.REKEYED, INFORMATIONAL, Shape.ANY, (S.LINGERING,), informational.answer, (), _INFO_OPTIONS, "§1.4, §2.8"),
    Row(S.DELETING, INFORMATIONAL, Shape.ANY, (S.LINGERING,), informational.answer, (), _INFO_OPTIONS, "§1.4, §2.25"),
)
RESPONSES: Final = (
    Row(S.INIT_SENT, INIT, Shape.ANY, _CALLED, None, (P.SA, P.KE, P.NONCE), (P.NOTIFY, P.CERTREQ), "§1.2, §2.6"),
    Row(S.INTERMEDIATE_SENT, INTERMEDIATE, Shape.ANY, (S.AUTH_SENT, S.CLOSED), None, (P.KE,), (P.NOTIFY,), _FURTHER),
    Row(S.AUTH_SENT, AUTH, Shape.ANY, (S.ESTABLISHED, S.CLOSED), None, (P.ID_R, P.AUTH), _AUTH_ANSWERS, "§1.2, §2.15"),
    Row(S.ESTABLISHED, CREATE, Shape.NEW_CHILD, (), None, _CHILD, (P.KE, P.NOTIFY), "§1.3.1"),
    Row(S.ESTABLISHED, CREATE, Shape.REKEY_CHILD, (), None, _CHILD, (P.KE, P.NOTIFY), "§1.3.3"),
    Row(S.ESTABLISHED, CREATE, Shape.REKEY_IKE, (S.REKEYED,), None, _IKE, (P.NOTIFY,), "§1.3.2, §2.8.1"),
    *(
        Row(state, FOLLOWUP, shape, (S.REKEYED,) if shape is Shape.REKEY_IKE else (), None, (P.KE,), (P.NOTIFY,), _ROUND)
        for state in (S.ESTABLISHED, S.EXPIRED)
        for shape in _MADE
    ),
    Row(S.ESTABLISHED, INFORMATIONAL, Shape.ANY, (S.CLOSED,), None, (), _INFO_OPTIONS, "§1.4"),
    Row(S.EXPIRED, CREATE, Shape.NEW_CHILD, (), None, _CHILD, (P.KE, P.NOTIFY), "§1.3.1"),
    Row(S.EXPIRED, CREATE, Shape.REKEY_CHILD, (), None, _CHILD, (P.KE, P.NOTIFY), "§1.3.3"),
    Row(S.EXPIRED, CREATE, Shape.REKEY_IKE, (S.REKEYED,), None, _IKE, (P.NOTIFY,), "§1.3.2, §2.8.1"),
    Row(S.EXPIRED, INFORMATIONAL, Shape.ANY, (), None, (), _INFO_OPTIONS, "§1.4"),
    Row(S.REKEYED, INFORMATIONAL, Shape.ANY, (S.CLOSED,), None, (), _INFO_OPTIONS, "§1.4"),
    Row(S.DELETING, INFORMATIONAL, Shape.ANY, (S.CLOSED,), None, (), _INFO_OPTIONS, "§1.4.1"),
)
_OPEN: Final = (S.INTERMEDIATE_AWAITED, S.INIT_ANSWERED, S.INTERMEDIATE_SENT, S.AUTH_SENT)
_WITH_KEYS: Final = (*_OPEN, S.PROVISIONAL, S.ESTABLISHED, S.EXPIRED, S.REKEYED, S.DELETING)
STEPS: Final = (
    Step(S.NEW, S.INIT_SENT, "we begin (§1.2)"),
    Step(S.NEW, S.PROVISIONAL, "a rekey makes it (§2.18)"),
    Step(S.PROVISIONAL, S.ESTABLISHED, "it stands; or it does not, and is ours to delete (§2.8.1)"),
    Step(S.PROVISIONAL, S.REKEYED, "another stands, and this one is the peer's to delete (§2.8.1)"),
    Step(S.ESTABLISHED, S.EXPIRED, "its hard limit, with a request under way: another is made beside it (§2.8)"),
    Step(S.ESTABLISHED, S.DELETING, "our DELETE leaves (§1.4.1)"),
    Step(S.EXPIRED, S.DELETING, "our DELETE leaves (§1.4.1)"),
    *(Step(state, S.LINGERING, "a request was answered by an error that ends it (§2.21)") for state in _WITH_KEYS),
    *(Step(state, S.CLOSED, "its time is over, or it is ended here") for state in (S.INIT_SENT, *_WITH_KEYS, S.LINGERING)),
)
PAIRS: Final = frozenset(
    {(row.state, state) for row in (*REQUESTS, *RESPONSES) for state in row.next} | {(step.state, step.next) for step in STEPS}
)
"""(from, to): everything that `enter` lets pass."""

MAY_REQUEST: Final = {S.ESTABLISHED: frozenset({CREATE, INFORMATIONAL}), S.EXPIRED: frozenset({INFORMATIONAL})}
"""Where our own requests leave, and of which exchanges; those of IKE_SA_INIT, IKE_AUTH and a last DELETE lead elsewhere, and a
round of IKE_FOLLOWUP_KE leaves at the answer to the one before."""
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
