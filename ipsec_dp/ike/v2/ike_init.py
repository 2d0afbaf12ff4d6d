"""IKE_SA_INIT in both roles: proposals, key exchange, COOKIE, INVALID_KE_PAYLOAD, NAT detection (RFC 7296 §1.2, §2.6, §2.23).

Nothing here is authenticated: as initiator an unsuitable answer is passed over as if it had never come; as responder what is
refused leaves no state behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import dh, negotiation, proposal, suites
from ipsec_dp.ike.actions import NO_SPI, Cause, Kind
from ipsec_dp.ike.auth import hash_algorithms_data, parse_hash_algorithms
from ipsec_dp.ike.nat import Said, detect, detection_hash, said_of, source_end
from ipsec_dp.ike.retransmission import FAIL_OVER_TRIES, TRIES
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import intermediate, keymat, ppk_auth, refusals
from ipsec_dp.ike.v2.context import Task
from ipsec_dp.ike.v2.exchanges import UnprovenError
from ipsec_dp.ike.v2.groups import groups_of, wanted_group
from ipsec_dp.ike.v2.payloads import (
    CERT_X509_SIGNATURE,
    CertificateRequest,
    KeyExchangePayload,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
)
from ipsec_dp.ike.v2.sa import State, nonce, nonzero_spi
from ipsec_dp.ike.v2.wire import MAX_COOKIE, ExchangeType, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.peer_table import Candidates
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import ReceivedMessage
    from ipsec_dp.ipsec.transforms import Group


class IkeSaInit(Task):
    """Our IKE_SA_INIT request. The nonce stays the same through COOKIE and INVALID_KE_PAYLOAD (RFC 7296 §2.6)."""

    exchange = ExchangeType.IKE_SA_INIT

    def __init__(self, context: Context, pairs: tuple[ProxyId, ...], packet: ProxyId | None) -> None:
        rng = context.host.environment.rng
        self.pairs, self.packet = pairs, packet
        self.tries = FAIL_OVER_TRIES if context.peer.fail_over else TRIES
        self.nonce = nonce(rng)
        self.cookie = b""
        self.rounds = 0
        self.key = dh.initiate(groups_of(context.peer.ike_proposals)[0], rng)

    def build(self, context: Context, now: float) -> list[Payload]:
        del now
        cookie: list[Payload] = [Notify(NotifyType.COOKIE, self.cookie)] if self.cookie else []
        return [
            *cookie,
            SecurityAssociation(context.peer.ike_proposals),
            KeyExchangePayload(self.key.group.id, self.key.public),
            Nonce(self.nonce),
            *_nat_detection(context, context.sa.spi_i, NO_SPI),
            Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
            Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, hash_algorithms_data()),
            *_intermediate(wanted=bool(context.peer.ppks) or negotiation.with_additional(context.peer.ike_proposals)),
            *ppk_auth.offered(context.peer),
        ]

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        """Raises IkeError for what is not to be acted on."""
        message = received.message
        context.handshake.spoken |= not refusals.of_version(message)
        if self._again(context, message, received.now):
            return
        sa, ke, peer_nonce = message.get(SecurityAssociation), message.get(KeyExchangePayload), message.get(Nonce)
        if sa is None or ke is None or peer_nonce is None or message.header.spi_r == NO_SPI:
            raise _refusal(context.peer, message)
        suite = suites.ike_suite(negotiation.accept(context.peer.ike_proposals, sa.proposals))
        if ke.group != self.key.group.id or suite.group.id != ke.group:
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {ke.group}")
        if suite.additional and message.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is None:
            chosen = f"the peer chooses {suite.additional[0].keyword}"
            raise UnprovenError(f"{chosen} without INTERMEDIATE_EXCHANGE_SUPPORTED (RFC 9370 §2.2.1)", Cause.PROPOSAL)
        ppk = ppk_auth.taken(context.peer, suite, message)
        secret = self.key.shared_secret(ke.data)
        context.handshake.ppk = ppk
        context.sa.spi_r = message.header.spi_r
        establish_keys(context, suite, (self.nonce, peer_nonce.data), secret)
        _note_abilities(context, message)
        context.handshake.messages = (context.handshake.messages[0], received.datagram)
        if context.udp and not context.path.natt:  # port 4500 for ESP in UDP (RFC 7296 §2.23)
            context.path, context.handshake.floated = context.path.floated(), True
        intermediate.proceed(context, self.pairs, self.packet, received.now)

    def _again(self, context: Context, message: Message, now: float) -> bool:
        """Ask again with the cookie or the group that the responder wants, a bounded number of times."""
        cookie, other = message.notify(NotifyType.COOKIE), message.notify(NotifyType.INVALID_KE_PAYLOAD)
        if (cookie is None and other is None) or message.get(SecurityAssociation) is not None:
            return False
        if self.rounds == LIMITS.rounds:
            raise UnprovenError("the peer asks for a cookie or another group again and again", Cause.KEY_EXCHANGE)
        if cookie is not None and 0 < len(cookie.data) <= MAX_COOKIE:
            self.cookie = cookie.data
        elif other is not None:
            self.key = dh.initiate(_wanted_group(context.peer, other, self.key), context.host.environment.rng)
        else:
            raise UnprovenError("the peer sends a cookie of a length that cannot be", None)
        self.rounds += 1
        context.request_again(self, now)
        return True


def _wanted_group(peer: Peer, notify: Notify, tried: dh.KeyExchange) -> Group:
    try:
        return wanted_group(notify, peer.ike_proposals, tried.group, "ike.proposals")
    except dh.KeyExchangeError as error:
        raise UnprovenError(str(error), Cause.KEY_EXCHANGE) from None


def answer(context: Context, received: ReceivedMessage) -> list[Payload]:
    """The response; when something is refused the IKE SA stays NEW, and is forgotten."""
    message = received.message
    sa, ke, peer_nonce = message.get(SecurityAssociation), message.get(KeyExchangePayload), message.get(Nonce)
    if sa is None or ke is None or peer_nonce is None:
        return []
    further = message.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
    found = ((peer, _select(peer, sa, further=further)) for peer in context.handshake.candidates.offers)
    context.peer, chosen = next(((peer, choice) for peer, choice in found if choice is not None), (context.peer, None))
    if chosen is None:
        text = negotiation.explain_mismatch(context.peer.ike_proposals, sa.proposals)
        text = f"no IKE proposal in common with {received.path.remote}: {text}; write one of the peer's into ike.proposals"
        context.report(Kind.IKE_FAILED, text, cause=Cause.PROPOSAL)
        return [Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    suite = suites.ike_suite(chosen)
    if ke.group != suite.group.id:
        return [Notify(NotifyType.INVALID_KE_PAYLOAD, suite.group.id.to_bytes(2, "big"))]
    rng = context.host.environment.rng
    public, secret = dh.respond(suite.group, ke.data, rng)
    own_nonce = nonce(rng)
    context.sa.spi_r = nonzero_spi(rng)
    establish_keys(context, suite, (peer_nonce.data, own_nonce), secret)
    _note_abilities(context, message)
    ppk = ppk_auth.answered(context, message)
    rounds = bool(suite.additional) or context.handshake.ppk.in_round
    if rounds:
        context.enter(State.INTERMEDIATE_AWAITED)
    else:
        context.enter(State.INIT_ANSWERED)
    return [
        SecurityAssociation((chosen,)),
        KeyExchangePayload(suite.group.id, public),
        Nonce(own_nonce),
        *_nat_detection(context, context.sa.spi_i, context.sa.spi_r),
        *_certificate_request(context.handshake.candidates),
        *([Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)] if context.abilities.fragmentation else []),
        *([Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, hash_algorithms_data())] if context.abilities.hashes is not None else []),
        *_intermediate(wanted=rounds),
        *ppk,
    ]


def _select(peer: Peer, sa: SecurityAssociation, *, further: bool) -> proposal.Proposal | None:
    """Our choice. `further`: the initiator can make additional key exchanges (RFC 9370 §2.2.1)."""
    ours = peer.ike_proposals
    return negotiation.select(ours if further else negotiation.without_additional(ours), sa.proposals)


def _intermediate(*, wanted: bool) -> list[Payload]:
    return [Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)] if wanted else []


def _certificate_request(candidates: Candidates) -> list[Payload]:
    """CERTREQ of every tunnel that it may turn out to be: many initiators send a certificate only when asked (RFC 7296 §1.2)."""
    return [CertificateRequest(CERT_X509_SIGNATURE, candidates.authority_hashes)] if candidates.authorities else []


def _nat_detection(context: Context, spi_i: bytes, spi_r: bytes) -> list[Payload]:
    """Both notifies, or neither."""
    said = _said(context)
    if said is Said.NOTHING:
        return []
    return [
        Notify(NotifyType.NAT_DETECTION_SOURCE_IP, detection_hash(spi_i, spi_r, source_end(context.path.local, said))),
        Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, detection_hash(spi_i, spi_r, context.path.remote)),
    ]


def _said(context: Context) -> Said:
    """A responder does not know yet which of its tunnels it is."""
    return said_of((context.peer.encapsulation,) if context.sa.initiator else context.handshake.candidates.encapsulations)


def _note_abilities(context: Context, message: Message) -> None:
    """What the peer's message says it can do, and whether there is a NAT on the way."""
    sources = [n.data for n in message.all(Notify) if n.notify_type == NotifyType.NAT_DETECTION_SOURCE_IP]
    destination = message.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    data = None if destination is None else destination.data
    context.nat = detect(message.header.spi_i, message.header.spi_r, context.path, sources, data, said=_said(context))
    context.abilities.fragmentation = message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None
    hashes = message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    context.abilities.hashes = None if hashes is None else parse_hash_algorithms(hashes.data)


def establish_keys(context: Context, suite: suites.IkeSuite, nonces: tuple[bytes, bytes], secret: bytearray) -> None:
    """SKEYSEED and everything from it (RFC 7296 §2.14); `secret` is overwritten."""
    seed = keymat.skeyseed(suite.prf, *nonces, secret)
    context.sa.install(suite, keymat.ike_keys(suite, seed, *nonces, context.sa.spi_i, context.sa.spi_r))
    context.host.environment.interference.keyed(context.sa)
    if context.sa.initiator:
        context.host.environment.keys.ike(context.sa)
    context.handshake.nonces, context.sa.lowest_nonce = nonces, min(nonces)
    intermediate.agreed(context, suite)
    for used in (seed, secret):
        used[:] = bytes(len(used))


def _refusal(peer: Peer, message: Message) -> UnprovenError:
    """What an error notify in an IKE_SA_INIT response may mean; anybody can have sent it."""
    errors = refusals.errors_in(message)
    if not errors:
        return UnprovenError("an IKE_SA_INIT response lacks payloads it must have", None)
    if NotifyType.NO_PROPOSAL_CHOSEN in errors:
        text = (
            f"{refusals.in_words(errors)}: the peer accepts none of our IKE proposals ({proposal.text(peer.ike_proposals)}) "
            "or expects nobody from our address; "
            "its log tells which, and what it would accept: add that to ike.proposals here"
        )
        return UnprovenError(text, Cause.PROPOSAL)
    return UnprovenError(f"the peer refuses IKE_SA_INIT: {refusals.in_words(errors)}", Cause.REFUSED)
