"""What a message may do in a state, as tables: who takes it, which payloads it must have, whether it is encrypted.

A message for which there is no row changes nothing and gets no answer: so nothing of phase 2 happens before phase 1 is done.
Payloads that a row does not name are passed over. Into which states an ISAKMP SA goes from where is in `states`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.v1 import main_mode
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import PayloadKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

    Take = Callable[[IsakmpContext, ReceivedDatagram, IsakmpMessage], None]

P = PayloadKind
S = IsakmpState


@dataclass(frozen=True, slots=True)
class MainModeRow:
    """One message of main mode. `next`: the state into which it leads."""

    state: IsakmpState
    number: int
    encrypted: bool
    required: tuple[PayloadKind, ...]
    optional: tuple[PayloadKind, ...]
    next: IsakmpState
    take: Take

    def missing(self, message: IsakmpMessage) -> tuple[PayloadKind, ...]:
        """Required payloads that are not there."""
        there = {payload.kind for payload in message.payloads}
        return tuple(kind for kind in self.required if kind not in there)


_KE: Final = (P.KE, P.NONCE)
_KE_ALSO: Final = (P.NAT_D, P.NAT_D_DRAFT, P.CR, P.VENDOR_ID)
_PROOFS: Final = (P.HASH, P.SIG, P.CERT, P.CR, P.NOTIFICATION)
MAIN_MODE: Final = (
    #           in state, message, encrypted, required, optional, next state, taken by (RFC 2409 §5)
    MainModeRow(S.NEW, 1, False, (P.SA,), (P.VENDOR_ID,), S.SA_ANSWERED, main_mode.answer_sa),
    MainModeRow(S.SA_SENT, 2, False, (P.SA,), (P.VENDOR_ID,), S.KE_SENT, main_mode.take_sa),
    MainModeRow(S.SA_ANSWERED, 3, False, _KE, _KE_ALSO, S.KE_ANSWERED, main_mode.answer_ke),
    MainModeRow(S.KE_SENT, 4, False, _KE, _KE_ALSO, S.AUTH_SENT, main_mode.take_ke),
    MainModeRow(S.KE_ANSWERED, 5, True, (P.ID,), _PROOFS, S.ESTABLISHED, main_mode.answer_auth),
    MainModeRow(S.AUTH_SENT, 6, True, (P.ID,), _PROOFS, S.ESTABLISHED, main_mode.take_auth),
)
ROW_IN: Final = {row.state: row for row in MAIN_MODE}
