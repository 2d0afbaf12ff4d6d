"""Quick mode in both roles (RFC 2409 §5.5): one proxy ID, one pair of IPsec SAs, with or without PFS.

Proxy IDs are equal on both sides or nothing comes of them: IKEv1 narrows none. Whoever is asked for something else says so, and
tells which part differs.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, lifetimes
from ipsec_dp.ike.actions import Cause, ExpectInbound, Kind, ReleaseSpi
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.proposal import FIRST_SPI, ProposalError
from ipsec_dp.ike.v1 import ipsec_sas, offers, vendors
from ipsec_dp.ike.v1.keymat import BLOCK, exchange_iv, phase2_hash
from ipsec_dp.ike.v1.message import build_payloads
from ipsec_dp.ike.v1.payloads import DeletePayload, HashPayload, IdPayload, KePayload, NoncePayload, NotificationPayload
from ipsec_dp.ike.v1.proxy import ProxyIdError, explain, host_pair, id_of, pair_of
from ipsec_dp.ike.v1.quick import QuickMode, QuickStage
from ipsec_dp.ike.v1.registry import suites_phase2
from ipsec_dp.ike.v1.sa import NONCE, Waiting
from ipsec_dp.ike.v1.sa_payload import SaPayload, attribute_octets, parse_attributes
from ipsec_dp.ike.v1.states import IpsecSaState
from ipsec_dp.ike.v1.wire import ESP_SPI, EncapsulationMode, ExchangeMode, NotifyCode, Phase2, Protocol, notify_text

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Life
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.context import IsakmpContext, Peering
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.offers import Phase2Choice
    from ipsec_dp.ike.v1.payloads import IsakmpPayload
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

REMEMBERED: Final = 60.0  # seconds in which a duplicate of the last message is answered
RESERVED_OF_PAIR: Final = 6  # IPsec SAs of one proxy ID that a peer may leave undeleted


class QuickModeError(IkeError):
    """A message of quick mode that makes no IPsec SA; `code`: what the peer is told."""

    def __init__(self, text: str, cause: Cause, code: NotifyCode | None) -> None:
        super().__init__(text)
        self.cause, self.code = cause, code


def _mode(context: IsakmpContext) -> EncapsulationMode:
    if not context.udp:
        return EncapsulationMode.TUNNEL
    return EncapsulationMode.UDP_TUNNEL_DRAFT if vendors.is_draft(context) else EncapsulationMode.UDP_TUNNEL


def covered(exchange: QuickMode | None, message_id: int, behind: bytes) -> tuple[bytes, ...]:
    """What the hash of the message that is expected next covers."""
    number = message_id.to_bytes(4, "big")
    if exchange is None:
        return number, behind
    if exchange.stage is QuickStage.ASKED:
        return number, exchange.nonces[0], behind
    return b"\0", number, *exchange.nonces


def _send(context: IsakmpContext, exchange: QuickMode, payloads: tuple[IsakmpPayload, ...]) -> None:
    """The next message of ours, its hash in front."""
    suite, keys = context.keyed
    _, octets = build_payloads(payloads)
    number = exchange.message_id.to_bytes(4, "big")
    covers: tuple[bytes, ...] = number, octets
    if exchange.stage is QuickStage.ANSWERED:
        covers = number, exchange.nonces[0], octets
    elif exchange.stage is QuickStage.DONE:
        covers = b"\0", number, *exchange.nonces
    header = context.header(ExchangeMode.QUICK, exchange.message_id, encrypted=True)
    proof = HashPayload(phase2_hash(suite.prf, keys.a, *covers))
    exchange.last_out, exchange.iv = context.send_chained(header, exchange.iv, (proof, *payloads))


# ---- as initiator --------------------------------------------------------------------------------------------------------------


def begin(context: IsakmpContext, pair: ProxyId, now: float, replaces: int | None = None) -> None:
    """Message 1."""
    peer, rng, (suite, _) = context.peer, context.host.environment.rng, context.keyed
    spi = context.host.environment.allocate_spi(peer.tunnel)
    if spi is None:
        _failed(context, pair, "no SPI is free for an IPsec SA", Cause.RESOURCES, now, replaces)
        return
    suites = suites_phase2(peer.esp_proposals)
    group = suites[0].group
    message_id = context.fresh_message_id()
    iv = exchange_iv(suite.prf, context.sa.last_block, message_id)
    exchange = QuickMode(message_id, True, iv, pair, QuickStage.ASKED, now, (rng(NONCE), b""), spi, replaces=replaces)
    exchange.admitted = peer.esp_proposals
    exchange.key = None if group is None else dh.initiate(group, rng)
    context.exchanges[message_id] = exchange
    context.host.emit(ExpectInbound(peer.tunnel, spi, context.path, context.udp))
    offered = offers.phase2_offer(suites, spi.to_bytes(ESP_SPI, "big"), _mode(context), peer.child_life)
    ke = () if exchange.key is None else (KePayload(exchange.key.public),)
    _send(context, exchange, (offered, NoncePayload(exchange.nonces[0]), *ke, id_of(pair.local), id_of(pair.remote)))
    exchange.waiting = Waiting.sent(exchange.last_out, now)


def take_answer(context: IsakmpContext, exchange: QuickMode, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 2 has come; message 3 leaves, and packets take the new SA."""
    try:
        choice, shared = _accepted(context, exchange, message)
        life = _life(context, choice, message)
    except IkeError as error:
        cause = error.cause if isinstance(error, QuickModeError | ProxyIdError) else Cause.SYNTAX
        cause = Cause.PROPOSAL if isinstance(error, ProposalError) else cause
        _refuse_answer(context, exchange, error)
        refused(context, exchange, f"the peer's answer cannot be used: {error}", cause, received.now)
        return
    if choice.suite not in suites_phase2(context.peer.esp_proposals) or exchange.pair not in context.peer.proxy_ids:
        _leave(context, exchange)
        return
    new = ipsec_sas.install(context, exchange, choice, choice.proposal.spi, shared, life, received.now)
    exchange.stage, exchange.waiting, exchange.key = QuickStage.DONE, None, None
    exchange.forget_at = received.now + REMEMBERED
    _send(context, exchange, ())
    ipsec_sas.switch_soon(context, new, received.now)


def _leave(context: IsakmpContext, exchange: QuickMode) -> None:
    """A reload has taken away, while we waited, what the peer chose or what it is for: the peer deletes what it made. What is still
    wanted is asked for anew."""
    context.exchanges.pop(exchange.message_id, None)
    context.host.emit(ReleaseSpi(exchange.spi_in))
    context.send_informational([DeletePayload(Protocol.ESP, (exchange.spi_in.to_bytes(ESP_SPI, "big"),))])


def _life(context: IsakmpContext, choice: Phase2Choice, message: IsakmpMessage) -> Life:
    """The shorter of both sides', by the transform and by RESPONDER-LIFETIME. Raises IkeSyntaxError."""
    life = ipsec_sas.agreed_life(context.peer.child_life, choice.life)
    for one in message.all(NotificationPayload):
        if one.code == NotifyCode.RESPONDER_LIFETIME and one.protocol == Protocol.ESP:
            said = offers.life_of(parse_attributes(one.data))
            life = life if said is None else ipsec_sas.agreed_life(life, said._replace(seconds=said.seconds or int(life.hard_s)))
    return life


def _accepted(context: IsakmpContext, exchange: QuickMode, message: IsakmpMessage) -> tuple[Phase2Choice, bytes]:
    """What message 2 agrees on, and g^xy under PFS. Raises IkeError."""
    answer, nonce, ke = message.get(SaPayload), message.get(NoncePayload), message.get(KePayload)
    if answer is None or nonce is None:
        raise QuickModeError("message 2 without SA or nonce", Cause.SYNTAX, None)
    choice = offers.phase2_accept(suites_phase2(exchange.admitted), _mode(context), answer)
    if int.from_bytes(choice.proposal.spi, "big") < FIRST_SPI:
        raise QuickModeError("an SPI that cannot be", Cause.SYNTAX, None)
    ids = message.all(IdPayload)
    if len(ids) != 2 or pair_of(*ids, initiator=True) != exchange.pair:
        said = explain((exchange.pair,), pair_of(*ids, initiator=True)) if len(ids) == 2 else f"ours: {exchange.pair}; its: none"
        raise ProxyIdError(f"it answers with other proxy IDs than it was asked for: {said}")
    exchange.nonces = exchange.nonces[0], nonce.data
    if (ke is None) != (exchange.key is None):
        raise QuickModeError("message 2 with another PFS than was agreed on", Cause.KEY_EXCHANGE, None)
    return choice, b"" if ke is None or exchange.key is None else bytes(exchange.key.shared_secret(ke.data))


def _refuse_answer(context: IsakmpContext, exchange: QuickMode, error: IkeError) -> None:
    """The responder believes that it stands: its SPI is deleted, and one word of why."""
    code = NotifyCode.INVALID_ID_INFORMATION if isinstance(error, ProxyIdError) else NotifyCode.NO_PROPOSAL_CHOSEN
    context.send_informational([NotificationPayload(Protocol.ESP, code, exchange.spi_in.to_bytes(ESP_SPI, "big"))])


def refused(context: IsakmpContext, exchange: QuickMode, text: str, cause: Cause, now: float) -> None:
    """Nothing comes of a quick mode of ours."""
    context.exchanges.pop(exchange.message_id, None)
    context.host.emit(ReleaseSpi(exchange.spi_in))
    _failed(context, exchange.pair, text, cause, now, exchange.replaces)


def _failed(context: IsakmpContext, pair: ProxyId, text: str, cause: Cause, now: float, replaces: int | None) -> None:
    peering, rng = context.peering, context.host.environment.rng
    if peering is None:
        return
    old = peering.sas.get(replaces or 0)
    if old is not None and old.state is IpsecSaState.UP:
        old.asked, old.soft = False, now + lifetimes.retry_after(old.failures, rng)
        old.failures += 1
        context.report(Kind.WARNING, f"the renewal of {pair} failed: {text}", cause=cause, exchange="quick mode", renewal="ours")
    elif peering.wanted.were_refused((pair,), text, now, rng):
        context.report(Kind.CHILD_FAILED, f"{pair}: {text}", cause=cause, again=True, exchange="quick mode")


def refusal_text(context: IsakmpContext, exchange: QuickMode, code: int) -> tuple[str, Cause]:
    """What an error notification of the peer's means for a quick mode of ours."""
    if code == NotifyCode.NO_PROPOSAL_CHOSEN:
        ours = offers.texts_phase2(suites_phase2(context.peer.esp_proposals), _mode(context))
        return f"the peer accepts none of our ESP proposals ({ours}), or other proxy IDs than {exchange.pair}; its log tells", (
            Cause.PROPOSAL
        )
    if code == NotifyCode.INVALID_ID_INFORMATION:
        return f"the peer has other proxy IDs than ours, which are {exchange.pair}: its log names its own", Cause.SELECTORS
    return f"the peer refuses: {notify_text(code)}", Cause.REFUSED


def unanswered(context: IsakmpContext, exchange: QuickMode, now: float) -> None:
    """Message 1 was sent often enough."""
    text = f"{context.path.remote} did not answer quick mode for {exchange.pair}, though it is there: its log tells why"
    refused(context, exchange, text, Cause.TIMEOUT, now)


# ---- as responder --------------------------------------------------------------------------------------------------------------


def answer(context: IsakmpContext, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    """Message 1 has come: message 2, or a refusal."""
    peering = context.peering
    if peering is None:
        return
    try:
        code = context.host.environment.interference.refused_isakmp(ExchangeMode.QUICK)
        if code is not None:
            raise QuickModeError(f"refused on purpose: {notify_text(code)}", Cause.REFUSED, NotifyCode(code))
        _answer(context, peering, received, message)
    except QuickModeError as error:
        context.report(Kind.CHILD_FAILED, str(error), cause=error.cause, exchange="quick mode")
        if error.code is not None:
            sa = message.get(SaPayload)
            spi = b"" if sa is None else sa.proposals[0].spi
            context.send_informational([NotificationPayload(Protocol.ESP, error.code, spi)])


def _answer(context: IsakmpContext, peering: Peering, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    offered, nonce, ke, ids = message.get(SaPayload), message.get(NoncePayload), message.get(KePayload), message.all(IdPayload)
    if offered is None or nonce is None or len(ids) not in (0, 2):
        context.host.count("malformed")
        raise QuickModeError("message 1 lacks payloads", Cause.SYNTAX, NotifyCode.PAYLOAD_MALFORMED)
    pair = _agreed_pair(context, peering, ids)
    choice = _agreed_choice(context, offered, ke)
    _check_room(peering, pair)
    environment = context.host.environment
    spi = environment.allocate_spi(context.peer.tunnel)
    if spi is None:
        raise QuickModeError("no SPI is free for an IPsec SA", Cause.RESOURCES, None)
    exchange = QuickMode(
        received.header.message_id, False, received.datagram[-BLOCK:], pair, QuickStage.ANSWERED, received.now, spi_in=spi
    )
    group = choice.suite.group
    try:
        public, shared = (b"", bytearray()) if ke is None or group is None else dh.respond(group, ke.data, environment.rng)
    except dh.KeyExchangeError as error:
        context.host.emit(ReleaseSpi(spi))
        raise QuickModeError(str(error), Cause.KEY_EXCHANGE, NotifyCode.INVALID_KEY_INFORMATION) from None
    exchange.nonces, exchange.last_in = (nonce.data, environment.rng(NONCE)), received.datagram
    old = next((one for one in peering.of_pair(pair) if one.state is IpsecSaState.UP), None)
    exchange.replaces = None if old is None else old.number
    context.exchanges[exchange.message_id] = exchange
    life = ipsec_sas.agreed_life(context.peer.child_life, choice.life)
    new = ipsec_sas.install(context, exchange, choice, choice.proposal.spi, shared, life, received.now)
    shared[:] = bytes(len(shared))
    new.look_at = received.now + lifetimes.SWITCH_LOOK
    own = SaPayload((replace(choice.proposal, spi=spi.to_bytes(ESP_SPI, "big")),))
    kes = (KePayload(public),) if public else ()
    _send(context, exchange, (own, NoncePayload(exchange.nonces[1]), *kes, *ids, *_responder_lifetime(context, choice, spi)))
    exchange.waiting = Waiting.sent(exchange.last_out, received.now)


def _agreed_pair(context: IsakmpContext, peering: Peering, ids: tuple[IdPayload, ...]) -> ProxyId:
    try:
        pair = pair_of(*ids, initiator=False) if ids else host_pair(context.path.local.address, context.path.remote.address)
    except ProxyIdError as error:
        context.host.count("malformed")
        raise QuickModeError(f"the peer asks for {error}", Cause.SELECTORS, NotifyCode.INVALID_ID_INFORMATION) from None
    if pair not in context.peer.proxy_ids:
        text = f"the peer's proxy IDs are not ours: {explain(context.peer.proxy_ids, pair)}"
        raise QuickModeError(text, Cause.SELECTORS, NotifyCode.INVALID_ID_INFORMATION)
    taken = context.host.taken_by(peering, pair)
    if taken is not None:
        raise QuickModeError(taken, Cause.SELECTORS, NotifyCode.INVALID_ID_INFORMATION)
    return pair


def _agreed_choice(context: IsakmpContext, offered: SaPayload, ke: KePayload | None) -> Phase2Choice:
    suites, mode = suites_phase2(context.peer.esp_proposals), _mode(context)
    fitting = tuple(one for one in suites if (one.group is None) == (ke is None))  # there are peers that offer both
    choice = offers.phase2_select(fitting, mode, offered) or offers.phase2_select(suites, mode, offered)
    if choice is None:
        text = f"no ESP proposal in common: {offers.phase2_mismatch(suites, mode, offered)}"
        raise QuickModeError(text, Cause.PROPOSAL, NotifyCode.NO_PROPOSAL_CHOSEN)
    if (choice.suite.group is None) != (ke is None):
        raise QuickModeError("a KE payload without PFS, or none with it", Cause.KEY_EXCHANGE, NotifyCode.INVALID_KEY_INFORMATION)
    if int.from_bytes(choice.proposal.spi, "big") < FIRST_SPI:
        raise QuickModeError("an SPI that cannot be", Cause.SYNTAX, NotifyCode.PAYLOAD_MALFORMED)
    return choice


def _check_room(peering: Peering, pair: ProxyId) -> None:
    most = PEER_LIMITS.children + PEER_LIMITS.children_of_proxy_id * len(peering.peer.proxy_ids)
    if len(peering.sas) >= most or len(peering.of_pair(pair)) >= RESERVED_OF_PAIR + most // 2:
        raise QuickModeError("it has as many IPsec SAs as one identity may have", Cause.RESOURCES, NotifyCode.NO_PROPOSAL_CHOSEN)


def _responder_lifetime(context: IsakmpContext, choice: Phase2Choice, spi: int) -> tuple[NotificationPayload, ...]:
    """What counts, where one of ours is shorter than the peer's (RFC 2407 §4.6.3.1)."""
    said = offers.SaLife(choice.life.seconds or offers.DEFAULT_LIFE, choice.life.kilobytes)
    life = ipsec_sas.agreed_life(context.peer.child_life, said)
    if life.hard_s == said.seconds and life.octets == ipsec_sas.octets_of(said):
        return ()
    data = b"".join(map(attribute_octets, offers.life_attributes(Phase2.LIFE_TYPE, Phase2.LIFE_DURATION, life, amount=True)))
    return (NotificationPayload(Protocol.ESP, NotifyCode.RESPONDER_LIFETIME, spi.to_bytes(ESP_SPI, "big"), data),)


def take_last(context: IsakmpContext, exchange: QuickMode, received: ReceivedDatagram) -> None:
    """Message 3 has come: the peer knows the new SA, and sends on it."""
    exchange.stage, exchange.waiting = QuickStage.DONE, None
    exchange.forget_at = received.now + REMEMBERED
    exchange.last_out = b""
    if exchange.sa is not None and exchange.sa.state is IpsecSaState.DELETED and context.peering is not None:
        ipsec_sas.tell(context.peering, [exchange.sa])  # what said so may have been faster than message 2
    elif exchange.sa is not None:
        ipsec_sas.switch(context, exchange.sa, received.now)


def look(context: IsakmpContext, exchange: QuickMode, now: float) -> None:
    """Message 2 was sent often enough: it came to nothing, unless ESP has come on the new SA."""
    sa, peering = exchange.sa, context.peering
    exchange.waiting, exchange.stage = None, QuickStage.DONE
    exchange.forget_at = now
    if sa is not None and peering is not None and sa.state is IpsecSaState.WAITING:
        if ipsec_sas.used_by_peer(peering, sa):
            ipsec_sas.switch(context, sa, now)
        else:  # the peer may believe that it stands
            ipsec_sas.delete(peering, sa, now)


def abandon(context: IsakmpContext) -> None:
    """The ISAKMP SA ends: what was set aside for quick modes under way is given back."""
    for exchange in context.exchanges.values():
        if exchange.initiator and exchange.stage is QuickStage.ASKED:
            context.host.emit(ReleaseSpi(exchange.spi_in))
            old = None if context.peering is None else context.peering.sas.get(exchange.replaces or 0)
            if old is not None and old.state is IpsecSaState.UP:
                old.asked, old.soft = False, min(old.soft, exchange.began) if old.soft < inf else exchange.began
    context.exchanges.clear()
