"""Aggressive mode in both roles (RFC 2409 §5.1, §5.4): phase 1 in three messages, off unless a tunnel asks for it.

It gives away what main mode keeps: both identities go in clear, and the responder proves who it is to whoever begins. With a
shared key that is enough to guess it offline, so `check` wants a long one. A key exchange, and where there are certificates a
signature, is computed for a message that anybody may have sent, in anybody's name: they are rationed (`strangers.KeyExchanges`),
and only who comes from a configured address gets any. Message 2 is never sent again by itself; a duplicate of message 1 gets the
stored one.

The secret is chosen by the identity that message 1 says, and the group is not negotiated: we offer that of our first proposal.
Nobody acknowledges message 3, so it goes again until the peer says something under phase 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, identity
from ipsec_dp.ike.actions import NO_SPI, Cause, Kind
from ipsec_dp.ike.errors import IkeError, IkeSyntaxError
from ipsec_dp.ike.identity import IdentityError
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.retransmission import FAIL_OVER_TRIES, TRIES
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1 import keymat, main_mode, offers, proof, silence, vendors
from ipsec_dp.ike.v1.message import IsakmpHeader
from ipsec_dp.ike.v1.payloads import IdPayload, KePayload, NoncePayload, NotificationPayload
from ipsec_dp.ike.v1.registry import suites_phase1
from ipsec_dp.ike.v1.sa import NONCE, Waiting, fresh_cookie
from ipsec_dp.ike.v1.sa_payload import SaPayload
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import ExchangeMode, NotifyCode, Protocol

if TYPE_CHECKING:
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

EXCHANGE: Final = ExchangeMode.AGGRESSIVE


def _suites(peer: Peer) -> list[IkeSuite]:
    """What we offer: one KE payload serves them all."""
    suites = suites_phase1(peer.ike_proposals)
    return [suite for suite in suites if suite.group == suites[0].group]


def _id_of(who: Identity) -> IdPayload:
    return IdPayload(who.type, 0, 0, who.data)


# ---- message 1 -----------------------------------------------------------------------------------------------------------------


def begin(context: IsakmpContext, now: float) -> None:
    """Message 1."""
    peer, said, rng = context.peer, context.negotiation, context.host.environment.rng
    suites, own = _suites(peer), main_mode.own_identity(context)
    offered = offers.phase1_offer(suites, proof.method_of(peer), peer.ike_life)
    said.sa_body, said.key, said.nonces = offered.body(), dh.initiate(suites[0].group, rng), (rng(NONCE), b"")
    context.proven.identities = (own, peer.remote_id or main_mode.address_identity(context.path.remote))
    trust = peer.auth.trust.authorities if isinstance(peer.auth, SignatureAuth) else ()
    context.enter(IsakmpState.AGGRESSIVE_SENT)
    keys = (KePayload(said.key.public), NoncePayload(said.nonces[0]))
    asked = (*proof.certificate_requests(trust), *vendors.offered(context.says))
    datagram = context.send_clear([offered, *keys, _id_of(own), *asked])
    context.waiting = Waiting.sent(datagram, now, FAIL_OVER_TRIES if peer.fail_over else TRIES)


def answer(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 1 has come, and message 2 leaves. What nobody here admits leaves the SA new, and is forgotten."""
    offered, ke, nonce = message.get(SaPayload), message.get(KePayload), message.get(NoncePayload)
    if offered is None or ke is None or nonce is None:
        return
    admitted = [peer for peer in context.negotiation.candidates.offers if peer.mode == "aggressive"]
    if not admitted:
        main_mode.refuse_mode(context, received.now)
        return
    if main_mode.refuse_on_purpose(context, received.now):
        return
    context.peer = admitted[0]
    theirs, body = main_mode.claimed(message)
    choice = _choose(context, offered, ke, theirs, received.now)
    if choice is None:
        return
    if not context.host.may_begin(context.path.remote.address, received.now):
        context.host.count("limited")
        context.report(
            Kind.WARNING, f"{context.path.remote} begins aggressive mode more often than is answered, or somebody in its name"
        )
        return
    sa, said, rng = context.sa, context.negotiation, context.host.environment.rng
    public, shared = dh.respond(choice.suite.group, ke.data, rng)
    main_mode.agreed(context, choice)
    sa.cookie_r = fresh_cookie(rng)
    said.sa_body, said.peer_id = offered.body(), body
    said.publics, said.nonces = (ke.data, public), (nonce.data, rng(NONCE))
    main_mode.derive_keys(context, choice.suite, shared)
    vendors.note(context, message)
    own = main_mode.own_identity(context)
    context.proven.identities = (own, theirs)
    payload = _id_of(own)
    proven = proof.prove(context, payload.body())
    trust = context.peer.auth.trust.authorities if isinstance(context.peer.auth, SignatureAuth) else ()
    further = (*proof.certificate_requests(trust), *vendors.answered(context), *main_mode.nat_detection(context))
    silence.answered(context, received.now)
    context.enter(IsakmpState.AGGRESSIVE_ANSWERED)
    context.deadlines.close_at = received.now + LIMITS.half_open_seconds
    keys = (KePayload(public), NoncePayload(said.nonces[1]))
    said.last_out = context.send_clear([SaPayload((choice.proposal,)), *keys, payload, *proven, *further])


def _choose(context: IsakmpContext, offered: SaPayload, ke: KePayload, theirs: Identity, now: float) -> offers.Phase1Choice | None:
    """Which tunnel's peer it may be, by the identity that it says, and what is agreed on with it. None: it is refused, and told."""
    peers = main_mode.expecting(context, theirs)
    if not peers:
        expected = context.peer.remote_id or main_mode.address_identity(context.path.remote)
        raise IdentityError(identity.explain_mismatch(expected, theirs))
    for peer in peers[: LIMITS.proofs]:
        suites = [suite for suite in suites_phase1(peer.ike_proposals) if suite.group.public == len(ke.data)]
        choice = offers.phase1_select(suites, proof.method_of(peer), offered)
        if choice is not None:
            context.peer = peer
            return choice
    context.peer = peers[0]
    other = offers.phase1_select(suites_phase1(context.peer.ike_proposals), proof.method_of(context.peer), offered)
    if other is None:
        main_mode.refuse_proposals(context, offered, now)
        return None
    text = f"{context.path.remote} offers {other.suite.group.keyword}, and brings a public value of another group"
    remedy = "aggressive mode cannot agree on a group, so both sides must write the same one first"
    main_mode.refuse(context, f"{text}: {remedy}", Cause.PROPOSAL, NotifyCode.INVALID_KEY_INFORMATION, now)
    return None


# ---- messages 2 and 3 ----------------------------------------------------------------------------------------------------------


def take_answer(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 2 has come, and message 3 leaves: to port 4500 where ESP goes in UDP (RFC 3947 §4). One that proves nothing leaves
    all as it was, for the genuine one may come yet. Raises AuthenticationError, IdentityError, ProposalError, KeyExchangeError."""
    if not context.repeats.take(received.now):  # each costs a key exchange
        context.host.count("limited")
        return
    sa, said = context.sa, context.negotiation
    before = sa.suite, sa.method, sa.cookie_r, sa.life_s, said.nonces, said.publics
    try:
        own, theirs = _believe(context, received, message)
    except IkeError:
        sa.wipe()
        sa.suite, sa.method, sa.cookie_r, sa.life_s, said.nonces, said.publics = before
        raise
    vendors.note(context, message)
    main_mode.detect_nat(context, message)
    if context.udp and not context.path.natt:
        context.path, said.floated = context.path.floated(), True
    context.proven.identities = (own, theirs)
    said.key, said.initial_contact = None, context.host.first_contact(context)
    first = [NotificationPayload(Protocol.ISAKMP, NotifyCode.INITIAL_CONTACT, sa.cookies)] if said.initial_contact else []
    payloads = [*proof.prove(context, _id_of(own).body()), *main_mode.nat_detection(context), *first]
    header = context.header(ExchangeMode.AGGRESSIVE, encrypted=True)
    said.last_out, last_block = context.send_chained(header, said.iv, payloads)
    main_mode.established(context, received, last_block)
    if context.established:
        context.waiting = Waiting.sent(said.last_out, received.now)


def _believe(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> tuple[Identity, Identity]:
    """Who both sides are, once message 2 has proven it."""
    sa, said, peer = context.sa, context.negotiation, context.peer
    chosen, ke, nonce = message.get(SaPayload), message.get(KePayload), message.get(NoncePayload)
    if chosen is None or ke is None or nonce is None or said.key is None or received.header.cookie_r == NO_SPI:
        raise IkeSyntaxError("message 2 without a cookie")
    theirs, body = main_mode.claimed(message)
    own, expected = context.proven.identities or (main_mode.own_identity(context), theirs)
    if not expected.matches(theirs):
        raise IdentityError(identity.explain_mismatch(expected, theirs))
    choice = offers.phase1_accept(_suites(peer), proof.method_of(peer), chosen)
    shared = said.key.shared_secret(ke.data)
    main_mode.agreed(context, choice)
    sa.cookie_r = received.header.cookie_r
    said.publics, said.nonces = (said.key.public, ke.data), (said.nonces[0], nonce.data)
    main_mode.derive_keys(context, choice.suite, shared)
    proof.check(context, peer, theirs, body, message, context.host.environment.utc(received.now))
    return own, theirs


def disbelieve(context: IsakmpContext, received: ReceivedDatagram) -> None:
    """Message 2 proved nothing: its sender is told in clear, since there are no keys with him, as far as strangers are answered."""
    if context.host.may_refuse(received.now):
        header = IsakmpHeader(context.sa.cookie_i, received.header.cookie_r, ExchangeMode.INFORMATIONAL, 0, 0)
        context.refuse_in_clear(header, NotificationPayload(Protocol.ISAKMP, NotifyCode.AUTHENTICATION_FAILED))


def take_proof(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 3 has come: from here on its sender is somebody, and his address is where it came from. Raises AuthenticationError,
    IdentityError."""
    said, at = context.negotiation, context.host.environment.utc(received.now)
    own, theirs = context.proven.identities or (main_mode.own_identity(context), None)
    if theirs is None:
        return
    fitting = [peer for peer in main_mode.fitting(context, theirs) if peer.local_id == context.peer.local_id]
    peer = main_mode.proven_to(context, fitting, theirs, said.peer_id, message, at)
    context.peer, said.candidates = peer, Candidates((peer,))
    context.proven.identities, context.path = (own, theirs), received.path
    main_mode.detect_nat(context, message)
    said.last_out = b""  # message 3 again is answered by nothing
    said.initial_contact = message.has_code(NotifyCode.INITIAL_CONTACT)
    last_block = received.datagram[-keymat.BLOCK :] if received.header.encrypted else said.iv
    main_mode.established(context, received, last_block)
