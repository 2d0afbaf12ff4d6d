"""A PPK in IKE_AUTH: SK_d, SK_pi and SK_pr are mixed with it before both sides prove who they are (RFC 8784).

The keys of the IKE SA itself stay as they are until it is rekeyed. Who has begun names one PPK; where it need not be used, AUTH
stands there a second time, without it, in NO_PPK_AUTH. AUTH covers USE_PPK: whoever takes it out on the way gets no IKE SA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ike import post_quantum
from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.ppk import Ppk, PpkAgreement, parse_identity, ppk_text
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2.exchanges import UnprovenError
from ipsec_dp.ike.v2.payloads import Authentication, Notify, Payload
from ipsec_dp.ike.v2.peer_proof import keys_of
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message

_LIKELY = "it has no PPK for us, or somebody on the way took the notify out"


class PpkVerdict(NamedTuple):
    """What an initiator's IKE_AUTH says to one tunnel: by which PPK, and where the proof is."""

    ppk: Ppk | None
    proof: Authentication

    def asks_the_same(self, other: PpkVerdict) -> bool:
        if self.ppk is None or other.ppk is None:
            return self == other
        return self.ppk.same_as(other.ppk) and self.proof == other.proof


# --- IKE_SA_INIT -----------------------------------------------------------------------------------------------------


def offered(peer: Peer) -> list[Payload]:
    """As initiator: both ways, of which the responder takes one (RFC 9867 §3.1)."""
    return [Notify(NotifyType.USE_PPK), Notify(NotifyType.USE_PPK_INT)] if peer.ppks else []


def taken(peer: Peer, suite: IkeSuite, message: Message) -> PpkAgreement:
    """What the responder took of it. UnprovenError where that is less than the tunnel demands."""
    found = _agreed(message) if peer.ppks else PpkAgreement()
    if peer.needs_ppk and not (found.in_auth or found.in_round):
        raise UnprovenError(f'the peer does not answer USE_PPK ({_LIKELY}), and ppk = "required"', Cause.AUTHENTICATION)
    if peer.post_quantum == "required" and post_quantum.of_exchanges(suite) == "none" and not found.in_round:
        text = f"the peer agrees to neither ML-KEM nor a PPK in IKE_INTERMEDIATE (RFC 9867), chooses {suite}"
        raise UnprovenError(f'{text}, and post_quantum = "required"', Cause.PROPOSAL)
    return found


def answered(context: Context, message: Message) -> list[Payload]:
    """As responder: one of both, where one of those that it may be has PPKs."""
    if not context.handshake.candidates.have_ppks:
        return []
    context.handshake.ppk = found = _agreed(message)
    if found.in_round:
        return [Notify(NotifyType.USE_PPK_INT)]
    return [Notify(NotifyType.USE_PPK)] if found.in_auth else []


def _agreed(message: Message) -> PpkAgreement:
    further = message.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
    in_round = further and message.notify(NotifyType.USE_PPK_INT) is not None
    return PpkAgreement(in_auth=not in_round and message.notify(NotifyType.USE_PPK) is not None, in_round=in_round)


# --- before IKE_AUTH -------------------------------------------------------------------------------------------------


def unmet(context: Context, peer: Peer) -> str | None:
    """What the tunnel of `peer` demands before IKE_AUTH, and this IKE SA has not; None: nothing."""
    agreement = context.handshake.ppk
    if peer.post_quantum == "required" and context.sa.post_quantum.own == "none":
        return 'post_quantum = "required", and there was neither an ML-KEM round nor a PPK that both have (RFC 9867)'
    if agreement.used is not None and not any(one.same_as(agreement.used) for one in peer.ppks):
        return f"the PPK {agreement.used.text} is not that of tunnel {peer.tunnel}"
    if peer.needs_ppk and agreement.used is None and not agreement.in_auth:
        return 'ppk = "required", and none was used: ' + ("no PPK is the same on both sides" if agreement.tried else _LIKELY)
    return None


# --- IKE_AUTH --------------------------------------------------------------------------------------------------------


def named(context: Context) -> Ppk | None:
    """As initiator: the PPK that IKE_AUTH names."""
    return context.peer.ppks[0] if context.handshake.ppk.in_auth else None


def judge(context: Context, peer: Peer, message: Message, proof: Authentication) -> PpkVerdict:
    """As responder: what IKE_AUTH says to this tunnel (RFC 8784 §3). AuthenticationError where that cannot be enough."""
    why = unmet(context, peer)
    if why is not None:
        raise AuthenticationError(why)
    notify, without = message.notify(NotifyType.PPK_IDENTITY), message.notify(NotifyType.NO_PPK_AUTH)
    if not context.handshake.ppk.in_auth or (notify is None and not peer.needs_ppk):
        return PpkVerdict(None, proof)
    if notify is None:
        raise AuthenticationError('it names no PPK, and ppk = "required"')
    identity = parse_identity(notify.data)
    ppk = next((one for one in peer.ppks if one.id == identity), None)
    if ppk is not None:
        return PpkVerdict(ppk, proof)
    name = "of a kind that is not known here" if identity is None else shown(ppk_text(identity))
    if peer.needs_ppk or without is None:
        raise AuthenticationError(f"its PPK is {name}, and tunnel {peer.tunnel} has none of that name (ppk_id)")
    return PpkVerdict(None, Authentication(proof.method, without.data))


def mix(context: Context, ppk: Ppk) -> None:
    """SK_d, SK_pi, SK_pr = prf+(PPK, SK_d | SK_pi | SK_pr), each by itself (RFC 8784 §3)."""
    keys, suite, _ = keys_of(context)
    for sk in (keys.sk_d, keys.sk_pi, keys.sk_pr):
        mixed = keymat.mixed(suite.prf, ppk.key.octets(), sk)
        sk[:] = mixed
        mixed[:] = bytes(len(mixed))
    context.handshake.ppk.used = ppk
    context.sa.post_quantum = context.sa.post_quantum.with_seed("ppk")


def confirmed(context: Context, message: Message) -> None:
    """As initiator: the responder says whether it used the PPK that was named. AuthenticationError where it had to."""
    ppk = named(context)
    if ppk is None:
        return
    if message.notify(NotifyType.PPK_IDENTITY) is not None:
        mix(context, ppk)
    elif context.peer.needs_ppk:
        raise AuthenticationError(f'it did not use the PPK {ppk.text}, and ppk = "required"')


def said(context: Context) -> list[Payload]:
    """As responder: that we used it."""
    agreement = context.handshake.ppk
    return [Notify(NotifyType.PPK_IDENTITY)] if agreement.in_auth and agreement.used is not None else []


def blamed(ppk: Ppk | None) -> str:
    """What a proof that does not hold may be due to besides."""
    return "" if ppk is None else f"; or the PPK {ppk.text} is another one there (ppk_file)"
