"""Main mode in both roles (RFC 2409 §5): proposals, key exchange, NAT detection (RFC 3947), who is who.

Until message 5 or 6 has proven somebody nothing is authenticated: as initiator what does not suit is passed over as if it had never
come; as responder what is refused leaves no state behind. Message 3 brings our cookie back, so its sender receives at his address
before anything costly is computed for him.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, identity
from ipsec_dp.ike.actions import NO_SPI, Cause, Kind
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.identity import Identity, IdentityError, IdType
from ipsec_dp.ike.nat import detect, detection_hash, source_end
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.retransmission import FAIL_OVER_TRIES, TRIES
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1 import keymat, offers, proof, silence, vendors
from ipsec_dp.ike.v1.context import MODES
from ipsec_dp.ike.v1.message import build_payloads
from ipsec_dp.ike.v1.payloads import (
    IdPayload,
    KePayload,
    NatDDraftPayload,
    NatDPayload,
    NoncePayload,
    NotificationPayload,
)
from ipsec_dp.ike.v1.registry import suites_phase1
from ipsec_dp.ike.v1.sa import NONCE, Waiting, fresh_cookie
from ipsec_dp.ike.v1.sa_payload import SaPayload
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import HEADER, ExchangeMode, Method, NotifyCode, Protocol, notify_text

if TYPE_CHECKING:
    from datetime import datetime

    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.payloads import IsakmpPayload
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

EXCHANGE: Final = ExchangeMode.MAIN
_ENDS = {(0, 0), (17, 0), (17, 500), (17, 4500)}  # protocol and port in the ID of somebody who speaks ISAKMP (RFC 2407 §4.6.2)


def address_identity(end: Endpoint) -> Identity:
    """What stands for an identity that is not configured."""
    return Identity(IdType.IPV4_ADDR if end.address.version == 4 else IdType.IPV6_ADDR, end.address.packed)


def own_identity(context: IsakmpContext) -> Identity:
    """Who we say we are."""
    return context.peer.local_id or address_identity(context.path.local)


# ---- messages 1 and 2: proposals -----------------------------------------------------------------------------------------------


def begin(context: IsakmpContext, now: float) -> None:
    """Message 1."""
    peer = context.peer
    offered = offers.phase1_offer(suites_phase1(peer.ike_proposals), proof.method_of(peer), peer.ike_life)
    context.negotiation.sa_body = offered.body()
    context.enter(IsakmpState.SA_SENT)
    datagram = context.send_clear([offered, *vendors.offered(context.says)])
    context.waiting = Waiting.sent(datagram, now, FAIL_OVER_TRIES if peer.fail_over else TRIES)


def answer_sa(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 1 has come. What nobody here admits leaves the SA new, and is forgotten."""
    offered = message.get(SaPayload)
    if offered is None:
        return
    peers = [peer for peer in context.negotiation.candidates.offers if peer.mode == "main"]
    if not peers:
        refuse_mode(context, received.now)
        return
    if refuse_on_purpose(context, received.now):
        return
    found = ((peer, _chosen(peer, offered)) for peer in peers)
    peer, choice = next(((peer, one) for peer, one in found if one is not None), (peers[0], None))
    context.peer = peer
    if choice is None:
        refuse_proposals(context, offered, received.now)
        return
    sa = context.sa
    agreed(context, choice)
    sa.cookie_r = fresh_cookie(context.host.environment.rng)
    context.negotiation.sa_body = offered.body()
    vendors.note(context, message)
    context.enter(IsakmpState.SA_ANSWERED)
    context.deadlines.close_at = received.now + LIMITS.half_open_seconds
    silence.answered(context, received.now)
    context.negotiation.last_out = context.send_clear([SaPayload((choice.proposal,)), *vendors.answered(context)])


def _chosen(peer: Peer, offered: SaPayload) -> offers.Phase1Choice | None:
    return offers.phase1_select(suites_phase1(peer.ike_proposals), proof.method_of(peer), offered)


def agreed(context: IsakmpContext, choice: offers.Phase1Choice) -> None:
    """What the responder chose is what counts."""
    sa = context.sa
    sa.suite, sa.method = choice.suite, choice.method
    sa.life_s = min(context.peer.ike_life.hard_s, choice.life.seconds or offers.DEFAULT_LIFE)


def refuse_proposals(context: IsakmpContext, offered: SaPayload, now: float) -> None:
    """Both sides' algorithms are told, and where they differ."""
    text = offers.phase1_mismatch(suites_phase1(context.peer.ike_proposals), proof.method_of(context.peer), offered)
    where = f"no phase-1 proposal in common with {context.path.remote}"
    refuse(context, f"{where}: {text}", Cause.PROPOSAL, NotifyCode.NO_PROPOSAL_CHOSEN, now)


def refuse_mode(context: IsakmpContext, now: float) -> None:
    """The tunnels that expect somebody from there are to speak the other mode."""
    asked, ours = MODES[context.sa.exchange], context.peer.mode
    text = f"{context.path.remote} begins {asked}, and the tunnel is to speak {ours} mode: both sides must be told the same one"
    refuse(context, text, Cause.REFUSED, NotifyCode.INVALID_EXCHANGE_TYPE, now)


def refuse_on_purpose(context: IsakmpContext, now: float) -> bool:
    """True where a rig has message 1 refused."""
    code = context.host.environment.interference.refused_isakmp(context.sa.exchange)
    if code is not None:
        refuse(context, f"refused on purpose: {notify_text(code)}", Cause.REFUSED, NotifyCode(code), now)
    return code is not None


def refuse(context: IsakmpContext, text: str, cause: Cause, code: NotifyCode, now: float) -> None:
    """Message 1 leads to nothing. Whoever sent it is told in clear, as far as strangers are answered."""
    context.host.count("refused")
    context.report(Kind.IKE_FAILED, text, cause=cause, exchange=context.mode)
    if context.host.may_refuse(now):
        context.refuse_in_clear(context.header(ExchangeMode.INFORMATIONAL), NotificationPayload(Protocol.ISAKMP, code))


def take_sa(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 2 has come, and message 3 leaves."""
    answer, peer = message.get(SaPayload), context.peer
    if answer is None or received.header.cookie_r == NO_SPI:
        raise IkeSyntaxError("message 2 without a cookie")
    choice = offers.phase1_accept(suites_phase1(peer.ike_proposals), proof.method_of(peer), answer)
    rng = context.host.environment.rng
    agreed(context, choice)
    context.sa.cookie_r = received.header.cookie_r
    vendors.note(context, message)
    said = context.negotiation
    said.key, said.nonces = dh.initiate(choice.suite.group, rng), (rng(NONCE), b"")
    context.enter(IsakmpState.KE_SENT)
    datagram = context.send_clear([KePayload(said.key.public), NoncePayload(said.nonces[0]), *nat_detection(context)])
    context.waiting = Waiting.sent(datagram, received.now)


# ---- messages 3 and 4: key exchange --------------------------------------------------------------------------------------------


def _nat_d(context: IsakmpContext) -> type[NatDPayload | NatDDraftPayload]:
    return NatDDraftPayload if vendors.is_draft(context) else NatDPayload


def nat_detection(context: IsakmpContext) -> list[IsakmpPayload]:
    """The destination first, then the source (RFC 3947 §3.2)."""
    if not context.abilities.nat_t or context.sa.suite is None:
        return []
    cookies, algorithm = (context.sa.cookie_i, context.sa.cookie_r), context.sa.suite.prf.hash
    ends, kind = (context.path.remote, source_end(context.path.local, context.abilities.said)), _nat_d(context)
    return [kind(detection_hash(*cookies, end, algorithm)) for end in ends]


def detect_nat(context: IsakmpContext, message: IsakmpMessage) -> None:
    """By the ends that the peer says the message has, and those that it has."""
    sent = [one.data for one in message.all(_nat_d(context))]
    if context.abilities.nat_t and context.sa.suite is not None and len(sent) > 1:
        algorithm = context.sa.suite.prf.hash
        cookies = context.sa.cookie_i, context.sa.cookie_r
        context.nat = detect(*cookies, context.path, sent[1:], sent[0], algorithm, said=context.abilities.said)


def answer_ke(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 3 has come: its sender receives here."""
    ke, nonce, suite = message.get(KePayload), message.get(NoncePayload), context.sa.suite
    if ke is None or nonce is None or suite is None:
        return
    rng, said = context.host.environment.rng, context.negotiation
    public, shared = dh.respond(suite.group, ke.data, rng)
    said.publics, said.nonces = (ke.data, public), (nonce.data, rng(NONCE))
    derive_keys(context, suite, shared)
    detect_nat(context, message)
    asked = said.candidates.authorities if context.sa.method in SIGNING else ()
    context.enter(IsakmpState.KE_ANSWERED)
    payloads = [KePayload(public), NoncePayload(said.nonces[1]), *nat_detection(context)]
    room = context.room - HEADER - len(build_payloads(payloads)[1])
    silence.answered(context, received.now)
    said.last_out = context.send_clear([*payloads, *proof.certificate_requests(asked, room)])


SIGNING = frozenset({Method.RSA, *proof.CURVES})


def derive_keys(context: IsakmpContext, suite: IkeSuite, shared: bytearray) -> None:
    """SKEYID and everything from it; `shared` is overwritten."""
    said, sa = context.negotiation, context.sa
    if sa.method in SIGNING:
        skeyid = keymat.skeyid_of_signatures(suite.prf, shared, said.nonces)
    else:
        skeyid = keymat.skeyid_of_secret(suite.prf, _secret(context), said.nonces)
    sa.keys = keymat.skeyids(suite, skeyid, shared, sa.cookies)
    if sa.initiator:
        context.host.environment.keys.isakmp(sa)
    context.host.environment.interference.keyed_isakmp(sa)
    said.iv = keymat.first_iv(suite.prf, *said.publics)
    shared[:] = bytes(len(shared))


def _secret(context: IsakmpContext) -> bytes:
    """The secret is chosen by the peer's address: its identity comes encrypted by what follows from it (RFC 2409 §5.4)."""
    auth = context.peer.auth
    if not isinstance(auth, SharedKeyAuth):
        raise AuthenticationError("no shared key is configured")
    return auth.key.octets()


def take_ke(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 4 has come, and message 5 leaves: to port 4500 where ESP goes in UDP (RFC 3947 §4)."""
    ke, nonce, suite, said = message.get(KePayload), message.get(NoncePayload), context.sa.suite, context.negotiation
    if ke is None or nonce is None or suite is None or said.key is None:
        return
    shared = said.key.shared_secret(ke.data)
    said.publics, said.nonces = (said.key.public, ke.data), (said.nonces[0], nonce.data)
    derive_keys(context, suite, shared)
    detect_nat(context, message)
    if context.udp and not context.path.natt:
        context.path, said.floated = context.path.floated(), True
    said.key, said.initial_contact = None, context.host.first_contact(context)
    first = [NotificationPayload(Protocol.ISAKMP, NotifyCode.INITIAL_CONTACT, context.sa.cookies)] if said.initial_contact else []
    trust = context.peer.auth.trust.authorities if isinstance(context.peer.auth, SignatureAuth) else ()
    own = own_identity(context)
    context.proven.identities = (own, context.peer.remote_id or address_identity(context.path.remote))
    context.enter(IsakmpState.AUTH_SENT)
    datagram, said.iv = _identify(context, own, [*proof.certificate_requests(trust), *first])
    context.waiting = Waiting.sent(datagram, received.now)


def _identify(context: IsakmpContext, own: Identity, further: list[IsakmpPayload]) -> tuple[bytes, bytes]:
    """Message 5 or 6; the datagram, and its last block."""
    payload = IdPayload(own.type, 0, 0, own.data)
    header = context.header(ExchangeMode.MAIN, encrypted=True)
    return context.send_chained(header, context.negotiation.iv, [payload, *proof.prove(context, payload.body()), *further])


# ---- messages 5 and 6: who is who ----------------------------------------------------------------------------------------------


def claimed(message: IsakmpMessage) -> tuple[Identity, bytes]:
    """Who the peer says it is, and the body that says so. Raises IdentityError."""
    payload = message.get(IdPayload)
    if payload is None or (payload.protocol, payload.port) not in _ENDS:
        raise IdentityError("an ID payload for another protocol or port than IKE's")
    return Identity.from_wire(payload.id_type, payload.data), payload.body()


def take_auth(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 6 has come. Raises AuthenticationError, IdentityError."""
    theirs, body = claimed(message)
    own, expected = context.proven.identities or (own_identity(context), theirs)
    if not expected.matches(theirs):
        raise IdentityError(identity.explain_mismatch(expected, theirs))
    proof.check(context, context.peer, theirs, body, message, context.host.environment.utc(received.now))
    context.proven.identities = (own, theirs)
    established(context, received, received.datagram[-keymat.BLOCK :])


def answer_auth(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 5 has come: which tunnel's peer it is, and our own proof. Raises AuthenticationError, IdentityError."""
    theirs, body = claimed(message)
    at = context.host.environment.utc(received.now)
    context.path, context.negotiation.iv = received.path, received.datagram[-keymat.BLOCK :]
    peer = proven_to(context, fitting(context, theirs), theirs, body, message, at)
    context.peer, context.negotiation.candidates = peer, Candidates((peer,))
    own = own_identity(context)
    context.proven.identities = (own, theirs)
    context.negotiation.initial_contact = message.has_code(NotifyCode.INITIAL_CONTACT)
    context.negotiation.last_out, last_block = _identify(context, own, [])
    established(context, received, last_block)


def expecting(context: IsakmpContext, theirs: Identity) -> list[Peer]:
    """The tunnels that expect this identity from there, in the mode that it speaks."""
    found = context.negotiation.candidates.expecting(theirs, address_identity(context.path.remote))
    return [peer for peer in context.host.expected(found) if (peer.mode == "aggressive") is context.aggressive]


def fitting(context: IsakmpContext, theirs: Identity) -> list[Peer]:
    """The tunnels that expect this identity, and admit what messages 1 to 4 agreed on."""
    address = address_identity(context.path.remote)
    peers = expecting(context, theirs)
    if not peers:
        raise IdentityError(identity.explain_mismatch(context.peer.remote_id or address, theirs))
    sa = context.sa
    admitting = [one for one in peers if sa.suite in suites_phase1(one.ike_proposals) and proof.method_of(one) == sa.method]
    used = context.peer.auth
    admitting = [one for one in admitting if isinstance(one.auth, SignatureAuth) or one.auth.asks_the_same(used)]
    if not admitting:
        text = "has another shared key, or does not admit what was agreed on by its address: main mode chooses both by address"
        raise AuthenticationError(f'tunnel "{peers[0].tunnel}", which expects {theirs}, {text}')
    return admitting[: LIMITS.proofs]


def proven_to(
    context: IsakmpContext, peers: list[Peer], theirs: Identity, body: bytes, message: IsakmpMessage, at: datetime
) -> Peer:
    """The first of the tunnels to which the message proves it."""
    refused: AuthenticationError | None = None
    for peer in peers:
        try:
            proof.check(context, peer, theirs, body, message, at)
        except AuthenticationError as error:
            refused = refused or error
        else:
            return peer
    raise refused or AuthenticationError(f"no tunnel expects {theirs}")


def established(context: IsakmpContext, received: ReceivedDatagram, last_block: bytes) -> None:
    """Both sides have proven who they are."""
    context.sa.last_block, context.sa.established_at = last_block, received.now
    context.waiting = None
    context.enter(IsakmpState.ESTABLISHED)
    context.liveliness.heard = received.now
    context.host.came_up(context, received.now)
