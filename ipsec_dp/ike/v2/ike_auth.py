"""IKE_AUTH in both roles: identities, proof by shared key or signature, and the first CHILD_SA (RFC 7296 §1.2, §2.15, §2.16)."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import auth, identity
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.identity import Identity, IdentityError, IdType
from ipsec_dp.ike.negotiation import select
from ipsec_dp.ike.peer import SharedKeyAuth
from ipsec_dp.ike.proposal import Proposal, ProtocolId
from ipsec_dp.ike.v2 import child_create, child_offer, child_respond, initiator_proof, keymat, ppk_auth, proof, refusals
from ipsec_dp.ike.v2.cert_payloads import certificate_payloads, certificate_request
from ipsec_dp.ike.v2.context import Farewell, Task
from ipsec_dp.ike.v2.errors import notify_of
from ipsec_dp.ike.v2.payloads import (
    Authentication,
    Delete,
    IdentificationInitiator,
    IdentificationResponder,
    Notify,
    Payload,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from ipsec_dp.ike.v2.peer_proof import PeerProof, keys_of
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.ts import permitted
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.octets import Buffer
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.ppk import Ppk
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import ReceivedMessage

CANDIDATES = (
    "either the secrets differ, or the identities do, or it does not trust our certificate; a peer does not say which: its log "
    "names the identity it expected (remote_id there, local_id here); when that is ours, compare the secrets octet by octet "
    "(psk_file on both sides), or the authorities it trusts"
)


def address_identity(end: Endpoint) -> Identity:
    """What stands for an identity that is not configured."""
    return Identity(IdType.IPV4_ADDR if end.address.version == 4 else IdType.IPV6_ADDR, end.address.packed)


def own_identity(context: Context) -> Identity:
    """Who we say we are."""
    return context.peer.local_id or address_identity(context.path.local)


def expected_identity(peer: Peer, remote: Endpoint) -> Identity:
    """Who the peer must be."""
    return peer.remote_id or address_identity(remote)


def _mismatch(expected: Identity, theirs: Identity) -> str:
    return f"{identity.explain_mismatch(expected, theirs)}: write remote_id here as it is there, or local_id there as it is here"


class IkeAuth(Task):
    """Our IKE_AUTH request, which also asks for the first CHILD_SA."""

    exchange = ExchangeType.IKE_AUTH

    def __init__(self, pairs: tuple[ProxyId, ...], packet: ProxyId | None) -> None:
        self.pairs, self.packet = pairs, packet
        self.offer: child_offer.Offer | None = None

    @property
    def spi_in(self) -> int | None:
        return None if self.offer is None else self.offer.spi

    def build(self, context: Context, now: float) -> list[Payload] | None:
        own, expected = own_identity(context), expected_identity(context.peer, context.path.remote)
        context.ends.identities = (own, expected)
        try:
            proofs = _proofs(context, IdentificationInitiator(own.type, own.data).body(), context.window.next_id)
        except AuthenticationError as error:
            context.end(Cause.AUTHENTICATION, str(error), now)
            return None
        self.offer = child_offer.make_offer(context, self.pairs, self.packet, in_auth=True)
        if self.offer is None:
            context.end(Cause.RESOURCES, "no SPI is free for a CHILD_SA", now, again=True)
            return None
        context.ends.initial_contact = first = context.succession.before is None and context.host.first_contact(context)
        return [
            IdentificationInitiator(own.type, own.data),
            *_certificates(context.peer, request=True),
            *([Notify(NotifyType.INITIAL_CONTACT)] if first else []),
            IdentificationResponder(expected.type, expected.data),
            *proofs,
            *self.offer.notifies,
            *self.offer.payloads(),
        ]

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        message = received.message
        claimed, proof = message.get(IdentificationResponder), message.get(Authentication)
        if claimed is None or proof is None or context.ends.identities is None:
            return
        try:
            theirs = Identity.from_wire(claimed.id_type, claimed.data)
            if not context.ends.identities[1].matches(theirs):
                raise IdentityError(_mismatch(context.ends.identities[1], theirs))
            ppk_auth.confirmed(context, message)
            PeerProof(context, theirs, claimed.body(), proof, received, (context.peer,)).check(context.peer)
        except (AuthenticationError, IdentityError) as error:
            self._reject(context, error, received.now)
            return
        context.ends.identities = (context.ends.identities[0], theirs)
        established(context, received.now)
        if context.withdrawn:  # the peer believes that it is up, and hears of its end
            self.dropped(context)
            return
        context.host.came_up(context, received.now)
        if self.offer is not None:
            offer, self.offer = self.offer, None
            child_create.accept_first(context, offer, message, received.now)

    def _reject(self, context: Context, error: Exception, now: float) -> None:
        """The peer believes the SA is up: one word of why, not repeated (RFC 7296 §2.21.2), then forget it."""
        self._say(context, [Notify(NotifyType.AUTHENTICATION_FAILED)], now)
        cause = Cause.IDENTITY if isinstance(error, IdentityError) else Cause.AUTHENTICATION
        text = f"the peer at {context.path.remote} did not prove who it is: {error}{ppk_auth.blamed(context.handshake.ppk.used)}"
        context.end(cause, text, now, again=True)

    def unusable(self, context: Context, error: IkeError, now: float) -> None:
        """The peer believes the SA is up here too: a word of why, and a DELETE for those that do not know the word."""
        notify = notify_of(error)
        self._say(context, [*([] if notify is None else [notify]), Delete(ProtocolId.IKE)], now)
        context.end(Cause.SYNTAX, f"the peer's answer cannot be used: {error}", now, again=True)

    def _say(self, context: Context, payloads: list[Payload], now: float) -> None:
        outstanding = context.window.outstanding
        context.request(Farewell(payloads), now)
        context.window.outstanding = outstanding

    def refused(self, context: Context, notify: Notify | None, text: str, now: float) -> None:
        if notify is not None and notify.notify_type == NotifyType.AUTHENTICATION_FAILED:
            said = text
            ours, expected = context.ends.identities or (own_identity(context), None)
            text = f"the peer refused us ({ours}, expecting {expected}): {CANDIDATES}"
            text += ppk_auth.blamed(ppk_auth.named(context) or context.handshake.ppk.used)
            text += refusals.besides(said, notify.notify_type)
            context.end(Cause.AUTHENTICATION, text, now, again=True)
            return
        context.end(Cause.REFUSED, text, now, again=True)

    def dropped(self, context: Context) -> None:
        if self.offer is not None:
            context.release_spi(self.offer.spi)
            self.offer = None


# --- responder -------------------------------------------------------------------------------------------------------


def answer(context: Context, received: ReceivedMessage) -> list[Payload]:
    """IDr, AUTH and the first CHILD_SA; or AUTHENTICATION_FAILED and nothing else."""
    message = received.message
    try:
        proof = _authenticate(context, received)
    except (AuthenticationError, IdentityError) as error:
        cause = Cause.IDENTITY if isinstance(error, IdentityError) else Cause.AUTHENTICATION
        context.fail(cause, f"{received.path.remote} did not prove who it is: {error}")
        return [Notify(NotifyType.AUTHENTICATION_FAILED)]
    context.ends.initial_contact = message.notify(NotifyType.INITIAL_CONTACT) is not None
    established(context, received.now)
    context.host.came_up(context, received.now)
    own = own_identity(context)
    return [
        IdentificationResponder(own.type, own.data),
        *_certificates(context.peer, request=False),
        proof,
        *ppk_auth.said(context),
        *child_respond.answer_first(context, received),
    ]


def _authenticate(context: Context, received: ReceivedMessage) -> Authentication:
    """Find out which tunnel's peer it is, check its proof, make ours. Raises AuthenticationError, IdentityError."""
    message = received.message
    claimed, proof = message.get(IdentificationInitiator), message.get(Authentication)
    if claimed is None or proof is None:
        raise AuthenticationError("it wants to authenticate by EAP, which is not offered here")
    theirs = Identity.from_wire(claimed.id_type, claimed.data)
    proven = initiator_proof.proven(context, _fitting(context, theirs, message), theirs, claimed.body(), proof, received)
    _, suite, _ = keys_of(context)
    admitting = [(peer, ppk) for peer, ppk in proven if _admits_suite(peer, suite)]
    if not admitting:
        raise AuthenticationError(f"tunnel {proven[0][0].tunnel} does not admit the IKE proposal {suite}")
    meant = _choose([peer for peer, _ in admitting], message)
    context.settle_on(meant)
    context.ends.identities, context.path = (own_identity(context), theirs), received.path
    if not context.host.has_room(context):
        raise AuthenticationError(f"{theirs} has as many IKE SAs as one identity may have")
    if not context.host.admits(context):
        raise AuthenticationError(f"{theirs} has an IKE SA already, and unique = keep")
    ppk = next(ppk for peer, ppk in admitting if peer is meant)
    if ppk is not None:
        ppk_auth.mix(context, ppk)
    own = own_identity(context)
    return _prove(context, IdentificationResponder(own.type, own.data).body(), message.header.message_id)


def _admits_suite(peer: Peer, suite: IkeSuite) -> bool:
    """What IKE_SA_INIT agreed on may have been for another tunnel: is it good enough for this one?"""
    return select(peer.ike_proposals, (Proposal(1, ProtocolId.IKE, b"", suite.transforms),)) is not None


def _fitting(context: Context, theirs: Identity, message: Message) -> list[Peer]:
    """The tunnels that expect this identity, those that are meant by IDr first."""
    address = address_identity(context.path.remote)
    peers = context.host.expected(context.handshake.candidates.expecting(theirs, address))
    if not peers:
        expected = expected_identity(context.peer, context.path.remote)
        if expected.matches(theirs):
            raise IdentityError(f'tunnel "{context.peer.tunnel}" expected {theirs} when it began, and does so no longer')
        raise IdentityError(_mismatch(expected, theirs))
    wanted, default = _meant(message), address_identity(context.path.local)
    fitting = sorted(peers, key=lambda peer: wanted is not None and not (peer.local_id or default).matches(wanted))
    context.peer = fitting[0]  # whom events name
    return fitting


def _meant(message: Message) -> Identity | None:
    """Whom the initiator hopes to meet: a wish, so that what is no identity is none (RFC 7296 §1.2)."""
    meant = message.get(IdentificationResponder)
    try:
        return None if meant is None else Identity.from_wire(meant.id_type, meant.data)
    except IdentityError:
        return None


def _choose(proven: list[Peer], message: Message) -> Peer:
    """Of the tunnels that are meant most, the one that carries what the traffic selectors ask for."""
    tsi, tsr = message.get(TrafficSelectorsInitiator), message.get(TrafficSelectorsResponder)

    def carries(peer: Peer) -> bool:
        return tsi is not None and tsr is not None and bool(permitted(peer.proxy_ids, tsr.selectors, tsi.selectors, 1))

    if len(proven) == 1:
        return proven[0]
    return next((peer for peer in proven if carries(peer)), proven[0])


# --- both roles ------------------------------------------------------------------------------------------------------


def established(context: Context, now: float) -> None:
    """Both sides have proven themselves. One that is withdrawn comes up for nobody: it is there to be deleted."""
    context.enter(State.ESTABLISHED)
    context.sa.established_at = now
    context.deadlines.close_at = context.deadlines.tell_at = inf
    context.handshake.messages, context.handshake.other_request = (b"", b""), b""
    context.start_deadlines(now)
    proof.begin(context, now)
    if context.withdrawn:
        return
    identities, udp = context.ends.identities, ", ESP in UDP" if context.udp else ""
    theirs = "" if identities is None else f" with {identities[1]}"
    less = None if identities is None else context.host.downgrades.of(context.peer, identities, context.sa)
    remark = "" if less is None or less.warns else f"; {less.text}"
    where = f"{context.path.remote}{_told_of(context)}"
    context.report(Kind.IKE_UP, f"IKE SA up{theirs} at {where}, {context.sa.suite}{udp}{remark}")
    if less is not None and less.warns:
        context.report(Kind.WARNING, less.text)


def _told_of(context: Context) -> str:
    """A name in `remote` says whom to call; that the peer called from elsewhere is worth a word, and no more."""
    elsewhere = context.peer.named and bool(context.peer.remotes) and context.path.remote.address not in context.peer.remotes
    return " (none of the addresses that its name means)" if elsewhere else ""


def _certificates(peer: Peer, *, request: bool) -> list[Payload]:
    if isinstance(peer.auth, SharedKeyAuth):
        return []
    return [*certificate_payloads(peer.auth.credential), *([certificate_request(peer.auth.trust)] if request else [])]


def _proofs(context: Context, body: bytes, message_id: int) -> list[Payload]:
    """As initiator: AUTH, and the PPK that is in it; where it need not be used, AUTH without it besides (RFC 8784 §3)."""
    ppk = ppk_auth.named(context)
    if ppk is None:
        return [_prove(context, body, message_id)]
    named = [_prove(context, body, message_id, ppk), Notify(NotifyType.PPK_IDENTITY, ppk.identity())]
    if context.peer.needs_ppk:
        return named
    return [*named, Notify(NotifyType.NO_PPK_AUTH, _prove(context, body, message_id).data)]


def _prove(context: Context, body: bytes, message_id: int, ppk: Ppk | None = None) -> Authentication:
    """AUTH over our first message, the peer's nonce, our identity and IKE_INTERMEDIATE (RFC 7296 §2.15, RFC 9242 §3.3.2).

    `ppk`: what SK_p is yet to be mixed with."""
    keys, suite, role = keys_of(context)
    sk_p: Buffer = keys.sk_pi if role else keys.sk_pr
    if ppk is not None:
        sk_p = keymat.mixed(suite.prf, ppk.key.octets(), sk_p)
    own = context.handshake.messages[0 if role else 1]
    int_auth = context.handshake.int_auth.over(message_id)
    octets = auth.signed_octets(suite.prf, own, context.handshake.nonces[1 if role else 0], sk_p, body, int_auth)
    how = context.peer.auth
    if isinstance(how, SharedKeyAuth):
        proof = how.key.sign(suite.prf, octets)
    else:
        proof = auth.sign(how.credential.key, octets, context.abilities.hashes, sha1=how.sha1)
    return Authentication(proof.method, proof.data)
