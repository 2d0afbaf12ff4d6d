"""A PPK in the last IKE_INTERMEDIATE, so that all keys of the IKE SA have it before anybody says who he is (RFC 9867 §3.1).

The initiator offers each PPK by its identity with a confirmation that it has it; nobody is authenticated yet, so both are seen by
whoever answers, and what they cost here is bounded.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.ppk import parse_identity, parse_identity_key
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2.payloads import Notify, Payload
from ipsec_dp.ike.v2.peer_proof import keys_of
from ipsec_dp.ike.v2.wire import NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.ppk import Ppk
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message


def is_due(context: Context) -> bool:
    """Whether the round that comes next has it: the last one, or one of its own where there is no other."""
    return context.handshake.ppk.in_round and len(context.handshake.further) <= 1


def offers(context: Context) -> list[Payload]:
    """What the initiator says of each of its PPKs."""
    algorithm, ends = keys_of(context)[1].prf, _ends(context)
    return [
        Notify(NotifyType.PPK_IDENTITY_KEY, ppk.identity() + ppk.confirmation(algorithm, ends))
        for ppk in context.peer.ppks[: LIMITS.ppks]
    ]


def chosen(context: Context, message: Message) -> Ppk | None:
    """As responder: the first that both have; None: none is."""
    algorithm, ends = keys_of(context)[1].prf, _ends(context)
    tried = 0
    offered = (one.data for one in message.all(Notify) if one.notify_type == NotifyType.PPK_IDENTITY_KEY)
    for data in islice(offered, LIMITS.ppks):
        parsed = parse_identity_key(data)
        if parsed is None:
            continue
        for ppk in context.handshake.candidates.ppks(parsed[0]):
            if tried == LIMITS.ppks:
                return None
            tried += 1
            if ppk.is_confirmed(algorithm, ends, parsed[1]):
                return ppk
    return None


def said(ppk: Ppk | None) -> list[Payload]:
    """The responder's choice."""
    return [] if ppk is None else [Notify(NotifyType.PPK_IDENTITY, ppk.identity())]


def answer(context: Context, message: Message) -> Ppk | None:
    """As initiator: what the responder has chosen of ours; IkeSyntaxError for what we did not offer."""
    notify = message.notify(NotifyType.PPK_IDENTITY)
    if notify is None:
        return None
    identity = parse_identity(notify.data)
    ppk = next((one for one in context.peer.ppks[: LIMITS.ppks] if one.id == identity), None)
    if ppk is None:
        raise IkeSyntaxError("it chooses a PPK that was not offered")
    return ppk


def over(context: Context, ppk: Ppk | None) -> None:
    """The round is over: SKEYSEED' = prf+(PPK, SK_d), and all keys from it, where one was chosen (RFC 9867 §3.1.2)."""
    agreement = context.handshake.ppk
    agreement.in_round, agreement.tried, agreement.used = False, True, ppk
    if ppk is None:
        return
    keys, suite, _ = keys_of(context)
    seed = keymat.mixed(suite.prf, ppk.key.octets(), keys.sk_d)
    made = keymat.ike_keys(suite, seed, *context.handshake.nonces, context.sa.spi_i, context.sa.spi_r)
    context.sa.install(suite, made)
    context.host.environment.interference.keyed(context.sa)
    keys.wipe()
    seed[:] = bytes(len(seed))
    context.sa.post_quantum = context.sa.post_quantum.with_keys("ppk")


def _ends(context: Context) -> bytes:
    """Ni | Nr | SPIi | SPIr."""
    return b"".join((*context.handshake.nonces, context.sa.spi_i, context.sa.spi_r))
