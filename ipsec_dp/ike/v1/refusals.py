"""What a peer's refusal of phase 1 means, by its notification (RFC 2408 §3.14.1), and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.v1 import offers, proof
from ipsec_dp.ike.v1.registry import suites_phase1
from ipsec_dp.ike.v1.wire import NotifyCode, notify_text

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.context import IsakmpContext

KEYS: Final = "the shared keys or the identities differ"


def of_phase1(context: IsakmpContext, code: int) -> tuple[str, Cause]:
    """Of main or aggressive mode that we began. Anybody may have sent it."""
    said = f"the peer refuses {context.mode}: {notify_text(code)}"
    match code:
        case NotifyCode.NO_PROPOSAL_CHOSEN:
            ours = offers.texts_phase1(suites_phase1(context.peer.ike_proposals), proof.method_of(context.peer))
            why = f"it takes none of our phase-1 proposals ({ours}), or expects nobody from here; its log tells"
            return f"{said}: {why}", Cause.PROPOSAL
        case NotifyCode.INVALID_EXCHANGE_TYPE:
            return f"{said}: it may be told to speak another mode: both sides must be told the same one (ike.mode)", Cause.REFUSED
        case NotifyCode.AUTHENTICATION_FAILED:
            return f"{said}: {KEYS}; its log tells", Cause.REFUSED
    return said, Cause.REFUSED
