"""What a message may do in a state, as tables: who takes it, which payloads it must have, whether it is encrypted.

A message for which there is no row changes nothing and gets no answer: so nothing of phase 2 happens before phase 1 is done.
Payloads that a row does not name are passed over. Message 3 of aggressive mode may be in clear (RFC 2409 §5.4), but then nothing
may be in it that is owed encryption: `in_clear` says what may. Into which states an ISAKMP SA goes from where is in `states`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.v1 import aggressive_mode, main_mode
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import ExchangeMode, PayloadKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

    Take = Callable[[IsakmpContext, ReceivedDatagram, IsakmpMessage], None]

P = PayloadKind
S = IsakmpState


@dataclass(frozen=True, slots=True)
class Phase1Row:
    """One message of phase 1. `encrypted` None: it may be or not. `next`: the state into which it leads."""

    state: IsakmpState
    number: int
    encrypted: bool | None
    required: tuple[PayloadKind, ...]
    optional: tuple[PayloadKind, ...]
    next: IsakmpState
    take: Take
    in_clear: tuple[PayloadKind, ...] = ()

    def missing(self, message: IsakmpMessage) -> tuple[PayloadKind, ...]:
        """Required payloads that are not there."""
        there = {payload.type for payload in message.payloads}
        return tuple(kind for kind in self.required if kind not in there)

    def bare(self, message: IsakmpMessage) -> tuple[PayloadKind, ...]:
        """Payloads in clear that are owed encryption."""
        if self.encrypted is not None or message.header.encrypted:
            return ()
        return tuple(payload.type for payload in message.payloads if payload.type not in self.in_clear)


_KE: Final = (P.KE, P.NONCE)
_KE_ALSO: Final = (P.NAT_D, P.NAT_D_DRAFT, P.CR, P.VENDOR_ID)
_PROOFS: Final = (P.HASH, P.SIG, P.CERT, P.CR, P.NOTIFICATION)
MAIN_MODE: Final = (
    #           in state, message, encrypted, required, optional, next state, taken by (RFC 2409 §5)
    Phase1Row(S.NEW, 1, False, (P.SA,), (P.VENDOR_ID,), S.SA_ANSWERED, main_mode.answer_sa),
    Phase1Row(S.SA_SENT, 2, False, (P.SA,), (P.VENDOR_ID,), S.KE_SENT, main_mode.take_sa),
    Phase1Row(S.SA_ANSWERED, 3, False, _KE, _KE_ALSO, S.KE_ANSWERED, main_mode.answer_ke),
    Phase1Row(S.KE_SENT, 4, False, _KE, _KE_ALSO, S.AUTH_SENT, main_mode.take_ke),
    Phase1Row(S.KE_ANSWERED, 5, True, (P.ID,), _PROOFS, S.ESTABLISHED, main_mode.answer_auth),
    Phase1Row(S.AUTH_SENT, 6, True, (P.ID,), _PROOFS, S.ESTABLISHED, main_mode.take_auth),
)
_BEGIN: Final = (P.SA, P.KE, P.NONCE, P.ID)
_CERTIFIED: Final = (P.HASH, P.SIG, P.CERT, P.NAT_D, P.NAT_D_DRAFT, P.VENDOR_ID)
AGGRESSIVE_MODE: Final = (
    Phase1Row(S.NEW, 1, False, _BEGIN, (P.CR, P.VENDOR_ID), S.AGGRESSIVE_ANSWERED, aggressive_mode.answer),
    Phase1Row(S.AGGRESSIVE_SENT, 2, False, _BEGIN, (*_CERTIFIED, P.CR), S.ESTABLISHED, aggressive_mode.take_answer),
    Phase1Row(
        S.AGGRESSIVE_ANSWERED, 3, None, (), (*_CERTIFIED, P.NOTIFICATION), S.ESTABLISHED, aggressive_mode.take_proof, _CERTIFIED
    ),
)
ROW_IN: Final = {
    (row.state, mode): row
    for mode, rows in ((ExchangeMode.MAIN, MAIN_MODE), (ExchangeMode.AGGRESSIVE, AGGRESSIVE_MODE))
    for row in rows
}
