"""A datagram on its way to what it may do: state, encryption, duplicates, message IDs, hash, the table.

CBC proves nothing: what was decrypted is believed when its hash holds. Until then nothing here changes an ISAKMP SA, its IVs least
of all, and the first function that may is named in a row of `transitions` or below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.errors import IkeError, IkeSyntaxError
from ipsec_dp.ike.identity import IdentityError
from ipsec_dp.ike.lifetimes import HINT_PATIENCE
from ipsec_dp.ike.v1 import aggressive_mode, collecting, informational, main_mode, quick_mode, refusals, transaction, vendors
from ipsec_dp.ike.v1.context import MODES
from ipsec_dp.ike.v1.keymat import BLOCK, decrypt, exchange_iv, phase2_hash
from ipsec_dp.ike.v1.message import parse_payloads
from ipsec_dp.ike.v1.payloads import HashPayload, KePayload, NotificationPayload
from ipsec_dp.ike.v1.quick import QuickStage
from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.transitions import ROW_IN
from ipsec_dp.ike.v1.wire import HEADER, ExchangeMode, NotifyCode, PayloadKind, Protocol, notify_text

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.context import IsakmpContext
    from ipsec_dp.ike.v1.message import IsakmpMessage
    from ipsec_dp.ike.v1.quick import QuickMode
    from ipsec_dp.ike.v1.sa import ReceivedDatagram

SEEN_MOST: Final = 32_768  # message IDs of one ISAKMP SA; half of them make it be renewed
PRICE: Final = 1.0  # milliseconds of processor time (`authenticated`)
PRICE_OF_PFS: Final = 4.0
S = IsakmpState
_SECRETS: Final = "cannot be read: the shared keys differ, or somebody else sent it"


class UnprovenHashError(IkeError):
    """The hash of a message does not hold. Such a message changes nothing and is not answered."""


def receive(context: IsakmpContext, received: ReceivedDatagram) -> None:
    """A message for this SA. Never raises for what is in it."""
    try:
        message = collecting.collect(context, received) if received.first == PayloadKind.FRAGMENT else received
        if message is not None:
            _receive(context, message)
    except UnprovenHashError:
        context.host.count("unauthenticated")
    except IkeError:
        context.host.count("malformed")


def _receive(context: IsakmpContext, received: ReceivedDatagram) -> None:
    if received.header.exchange in MODES:
        _phase1(context, received)
    elif received.header.exchange in _UNDER_PHASE_1:
        _phase2(context, received)
    else:  # an exchange that is not there gets no answer
        context.host.count("out_of_window")


_UNDER_PHASE_1: Final = frozenset({ExchangeMode.QUICK, ExchangeMode.INFORMATIONAL, ExchangeMode.TRANSACTION})


# ---- phase 1 -------------------------------------------------------------------------------------------------------------------


def _phase1(context: IsakmpContext, received: ReceivedDatagram) -> None:
    said, exchange = context.negotiation, ExchangeMode(received.header.exchange)
    row = ROW_IN.get((context.state, exchange))
    if said.last_in and received.digest == said.last_in:
        said.repeated = True
        if said.last_out and context.repeats.take(received.now):
            context.send(said.last_out)
        return
    if row is None or received.header.message_id:
        context.host.count("out_of_window")
        if context.sa.initiator and context.waiting is not None and exchange is not context.sa.exchange:
            text = f"{received.path.remote} answers in {MODES[exchange]}, and the tunnel is to speak {context.mode}"
            _hint(context, text, Cause.REFUSED, received.now)
        return
    if row.encrypted not in (None, received.header.encrypted):
        raise IkeSyntaxError("encrypted where it must not be, or not where it must")
    message = _read(context, received, received.header.encrypted)
    context.describe(received.outside, received.header, message.payloads, proven=False)
    missing, bare = row.missing(message), row.bare(message)
    if bare:
        raise IkeSyntaxError(f"message {row.number} has {', '.join(kind.name for kind in bare)} in clear")
    if missing:
        raise IkeSyntaxError(f"message {row.number} without {', '.join(kind.name for kind in missing)}")
    try:
        row.take(context, received, message)
    except (AuthenticationError, IdentityError) as error:
        _not_proven(context, error, received)
        return
    except IkeError as error:
        if context.sa.initiator:  # whoever sent it: the genuine answer may still come
            _hint(context, str(error), Cause.PROPOSAL, received.now)
        raise
    if context.state is row.next:
        said.last_in = received.digest
        vendors.note_further(context, row.required, message)


def _read(context: IsakmpContext, received: ReceivedDatagram, encrypted: bool) -> IsakmpMessage:
    body = received.datagram[HEADER:]
    if not encrypted:
        return parse_payloads(received.header, received.first, body)
    try:
        plaintext = decrypt(context.keyed[1].cipher, context.negotiation.iv, body)
        return parse_payloads(received.header, received.first, plaintext, padded=True)
    except IkeSyntaxError:
        context.hint(f"the message of {received.path.remote} that says who it is {_SECRETS}", Cause.AUTHENTICATION)
        raise


def _not_proven(context: IsakmpContext, error: IkeError, received: ReceivedDatagram) -> None:
    """It is not who it must be."""
    cause = Cause.IDENTITY if isinstance(error, IdentityError) else Cause.AUTHENTICATION
    text = f"{received.path.remote} did not prove who it is: {error}"
    if context.sa.initiator and context.aggressive:
        aggressive_mode.disbelieve(context, received)
        _hint(context, text, cause, received.now)
        return
    if context.sa.initiator:  # a forged one may have been faster than the genuine one
        context.negotiation.refused = received.datagram[-BLOCK:]
        _hint(context, text, cause, received.now)
        return
    if context.sa.keys is None:  # message 1 of aggressive mode says who sent it
        main_mode.refuse(context, text, cause, NotifyCode.AUTHENTICATION_FAILED, received.now)
        return
    context.sa.last_block = received.datagram[-BLOCK:] if received.header.encrypted else context.negotiation.iv
    if context.host.may_refuse(received.now):
        context.send_informational([NotificationPayload(Protocol.ISAKMP, NotifyCode.AUTHENTICATION_FAILED)])
    context.report(Kind.IKE_FAILED, text, cause=cause, again=True, exchange=context.mode)
    context.close()


def _hint(context: IsakmpContext, text: str, cause: Cause, now: float) -> None:
    """Keep asking, but not for long once the peer, as it seems, refuses."""
    context.hint(text, cause)
    if context.waiting is not None:
        context.waiting.tries = context.waiting.attempt
        context.waiting.deadline = min(context.waiting.deadline, now + HINT_PATIENCE)


def _refusal_in_clear(context: IsakmpContext, received: ReceivedDatagram) -> None:
    """Anybody may have sent it."""
    asks = context.waiting is not None if context.sa.initiator else context.state is IsakmpState.AGGRESSIVE_ANSWERED
    if not asks or received.header.encrypted:
        context.host.count("unauthenticated")
        return
    message = parse_payloads(received.header, received.first, received.datagram[HEADER:])
    errors = [one for one in message.all(NotificationPayload) if one.is_error]
    if errors and not context.sa.initiator:
        said = f"the peer does not take our proof: {notify_text(errors[0].code)}: {refusals.KEYS}"
        context.hint(said, Cause.AUTHENTICATION)
    elif errors:
        _hint(context, *refusals.of_phase1(context, errors[0].code), received.now)


# ---- under phase 1 -------------------------------------------------------------------------------------------------------------


_NEGOTIATING: Final = frozenset({S.SA_SENT, S.KE_SENT, S.AUTH_SENT, S.AGGRESSIVE_SENT, S.AGGRESSIVE_ANSWERED})
_KEYED: Final = frozenset({S.AUTH_SENT, S.AGGRESSIVE_ANSWERED})


def _phase2(context: IsakmpContext, received: ReceivedDatagram) -> None:
    header = received.header
    if header.exchange == ExchangeMode.INFORMATIONAL and context.state in _NEGOTIATING:
        if header.encrypted and context.state in _KEYED:
            _refused_encrypted(context, received)
        else:
            _refusal_in_clear(context, received)
        return
    if not context.established or not header.encrypted or not header.message_id:
        context.host.count("out_of_window" if not context.established else "unauthenticated")
        return
    if _must_wait(context, received.now):
        return
    exchange = context.exchanges.get(header.message_id) if header.exchange == ExchangeMode.QUICK else None
    if exchange is not None and received.datagram == exchange.last_in:
        if exchange.last_out and context.repeats.take(received.now):
            context.send(exchange.last_out)
        return
    if (exchange is None and header.message_id in context.seen) or (exchange is not None and exchange.stage is QuickStage.DONE):
        context.host.count("out_of_window")
        return
    message = _open(context, received, exchange)
    context.describe(received.outside, header, message.payloads, proven=True)
    context.seen.add(header.message_id)
    if 2 * len(context.seen) > SEEN_MOST:
        context.deadlines.soft = min(context.deadlines.soft, received.now)
    context.heard(received.path, received.now)
    _charge(context, message, received.now)
    _dispatch(context, exchange, received, message)


def _must_wait(context: IsakmpContext, now: float) -> bool:
    """True when the peer has used up what its messages may cost: it repeats this one."""
    account = None if context.peering is None else context.peering.account
    if account is None or (not account.overdrawn(now) and len(context.seen) < SEEN_MOST):
        return False
    context.host.count("limited")
    if account.may_tell(now):
        context.report(Kind.WARNING, "the peer asks for more than its share: its messages have to wait")
    return True


def _charge(context: IsakmpContext, message: IsakmpMessage, now: float) -> None:
    if context.peering is not None and context.peering.account is not None:
        context.peering.account.spend(PRICE if message.get(KePayload) is None else PRICE_OF_PFS, now)


def _open(context: IsakmpContext, received: ReceivedDatagram, exchange: QuickMode | None) -> IsakmpMessage:
    """The payloads of a message whose hash holds. Raises UnprovenHashError for all others."""
    (suite, keys), number = context.keyed, received.header.message_id
    last_block = context.sa.last_block or context.negotiation.iv
    iv = exchange_iv(suite.prf, last_block, number) if exchange is None else exchange.iv
    try:
        message = parse_payloads(received.header, received.first, decrypt(keys.cipher, iv, received.datagram[HEADER:]), padded=True)
    except IkeSyntaxError:
        raise UnprovenHashError("what was decrypted is no message") from None
    proof = message.payloads[0] if message.payloads else None
    if type(proof) is not HashPayload:
        raise UnprovenHashError("no hash in front")
    expected = phase2_hash(suite.prf, keys.a, *quick_mode.covered(exchange, number, message.behind_hash))
    if not bytes_eq(expected, proof.data):
        raise UnprovenHashError("the hash does not hold")
    return message


def _refused_encrypted(context: IsakmpContext, received: ReceivedDatagram) -> None:
    """The peer says why it does not go on; who it is has not been shown."""
    context.sa.last_block = b""
    try:
        message = _open(context, received, None)
    except UnprovenHashError:
        number = 2 if context.state is S.AGGRESSIVE_ANSWERED else 5
        context.hint(f"what {received.path.remote} says of message {number} {_SECRETS}", Cause.AUTHENTICATION)
        raise
    for one in message.all(NotificationPayload):
        if one.is_error:
            _hint(context, f"the peer refuses us: {notify_text(one.code)}; its log tells why", Cause.AUTHENTICATION, received.now)


def _dispatch(context: IsakmpContext, exchange: QuickMode | None, received: ReceivedDatagram, message: IsakmpMessage) -> None:
    if received.header.exchange == ExchangeMode.INFORMATIONAL:
        informational.take(context, received, message)
    elif received.header.exchange == ExchangeMode.TRANSACTION:
        transaction.refuse(context, message)
    elif exchange is None:
        quick_mode.answer(context, received, message)
    else:
        exchange.iv, exchange.last_in = received.datagram[-BLOCK:], received.datagram
        if exchange.initiator:
            quick_mode.take_answer(context, exchange, received, message)
        else:
            quick_mode.take_last(context, exchange, received)
