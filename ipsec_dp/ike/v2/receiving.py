"""A datagram on its way to what it may do: SPIs, direction, message ID, protection, fragments, the table, the reply (RFC 7296 §2).

Until the ICV has held, nothing here changes an IKE SA; the first function that may is named in a row of `transitions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.errors import IkeError, IkeSyntaxError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import elsewhere, half_open, hints, on_purpose, prices, refusals, shorter, transitions
from ipsec_dp.ike.v2.context import StepsAfterReply
from ipsec_dp.ike.v2.errors import IntegrityError, UnsupportedCriticalPayloadError, notify_of
from ipsec_dp.ike.v2.message import Header, Message, same_request
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment, Notify, Payload
from ipsec_dp.ike.v2.protect import open_payload, opened
from ipsec_dp.ike.v2.sa import HALF_OPEN, ReceivedMessage, State
from ipsec_dp.ike.v2.sending import seal, transmit
from ipsec_dp.ike.v2.tolerance import passed_over
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context, Task
    from ipsec_dp.ike.v2.exchanges import OutstandingRequest
    from ipsec_dp.ike.v2.fragment import Reassembler


_MAKING: Final = frozenset({ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE})


def receive(context: Context, received: ReceivedMessage) -> None:
    """Raises IkeError, and has then changed nothing, for what is not the peer's or not well formed."""
    header = received.message.header
    context.exchange = ExchangeType(header.exchange).name if header.exchange in list(ExchangeType) else ""
    if header.exchange == ExchangeType.IKE_SA_INIT:
        _receive_init(context, received)
    elif context.sa.incoming is None or header.from_initiator == context.sa.initiator:
        context.host.count("unauthenticated")
    elif header.is_response:
        _receive_response(context, received)
    elif context.window.reply and header.message_id == context.window.expected - 1:
        _repeat_reply(context, received)
    elif header.message_id == context.window.expected and context.state is not State.LINGERING:
        _receive_request(context, received)
    else:
        context.host.count("out_of_window")


def _receive_init(context: Context, received: ReceivedMessage) -> None:
    """Nothing in it is authenticated before IKE_AUTH covers it."""
    outstanding = context.window.outstanding
    if len(received.datagram) > LIMITS.init_octets:
        context.host.count("malformed")
    elif received.message.header.is_response:
        if context.state is State.INIT_SENT and outstanding is not None:
            _init_response(context, outstanding, received)
    elif context.state is State.NEW:
        _init_request(context, received)
    elif _answers_init(context) and same_request(received.datagram, context.handshake.messages[0]):
        context.handshake.repeated += 1
        _note_other_request(context, received.datagram)
        if context.window.repeats.take(received.now):
            transmit(context, context.window.reply, received.path)


def _answers_init(context: Context) -> bool:
    """Whether the answer to IKE_SA_INIT is the last one of ours: where another follows, it has got there."""
    return context.state in HALF_OPEN and context.window.expected == 1


def _note_other_request(context: Context, datagram: bytes) -> None:
    """A COOKIE answer and the genuine one may cross: which request the initiator's AUTH is over is then its choice."""
    handshake = context.handshake
    if datagram != handshake.messages[0] and not handshake.other_request:
        handshake.other_request = datagram


def _init_request(context: Context, received: ReceivedMessage) -> None:
    row = transitions.request_row(context.state, received.message)
    if row is None or row.answer is None or row.missing(received.message):
        raise IkeSyntaxError("IKE_SA_INIT without its payloads")
    payloads = on_purpose.refusal(context, received.message) or row.answer(context, received) or []
    header = received.message.header
    reply = Header(header.spi_i, context.sa.spi_r, header.exchange, context.sa.request_flags | Flag.RESPONSE, 0)
    sealed = seal(context, reply, payloads)
    if context.state in HALF_OPEN:
        context.handshake.messages = (received.datagram, sealed.datagrams[0])
        context.window.replied(sealed, len(received.datagram))
        half_open.begins(context, received.now)
    transmit(context, sealed.datagrams, received.path)


def _init_response(context: Context, outstanding: OutstandingRequest[Task], received: ReceivedMessage) -> None:
    header = received.message.header
    if header.from_initiator or header.message_id != 0:
        return
    context.window.outstanding = None
    try:
        outstanding.task.answered(context, received)
    except IkeError as error:  # whoever sent it: the genuine answer may still come
        context.window.outstanding = outstanding
        hints.refusal(context, error, outstanding, received.path, received.now)
    else:
        if context.state is not State.INIT_SENT:
            context.handshake.hints.clear()  # they were about a request that is answered
        _note(context, received.message)


def _note(context: Context, message: Message) -> None:
    """What of it means nothing here, once."""
    text = passed_over(message)
    if text and context.abilities.notes.first(text):
        context.report(Kind.NOTE, text)


def _receive_request(context: Context, received: ReceivedMessage) -> None:
    payloads: list[Payload] | None
    if _must_wait(context, received.now):
        return
    try:
        message = _open(context, received, context.window.requests)
        _charge(context, message, received.now)
        payloads = None if message is None else _answered(context, message, received)
    except IntegrityError:
        raise  # anybody may have sent it
    except IkeSyntaxError as error:
        payloads = _syntax_error(context, error)
    except IkeError as error:
        payloads = _notifies(error)
        context.fail(Cause.SYNTAX, str(error))
    if payloads is not None:
        _reply(context, payloads, received)


def _must_wait(context: Context, now: float) -> bool:
    """True when the peer has used up what its requests may cost: it repeats this one."""
    account = context.ends.account
    if account is None or not account.overdrawn(now):
        return False
    context.host.count("limited")
    if account.may_tell(now):
        context.report(Kind.WARNING, f"{context.ends.theirs} asks for more than its share: its requests have to wait")
    return True


def _charge(context: Context, message: Message | None, now: float) -> None:
    """The ICV has held. None: of a fragment."""
    if context.ends.account is not None:
        amount = prices.FRAGMENT if message is None else prices.price(message, context.peer.proxy_ids)
        context.ends.account.spend(amount, now)


def _answered(context: Context, message: Message, received: ReceivedMessage) -> list[Payload] | None:
    """What the table says; None when it says nothing."""
    row = transitions.request_row(context.state, message)
    if row is None or row.answer is None:
        context.host.count("out_of_window")
        return None
    _heard(context, received)
    if row.missing(message):
        raise IkeSyntaxError(f"{row.exchange.name} request without {', '.join(kind.name for kind in row.missing(message))}")
    payloads = on_purpose.refusal(context, message)
    if payloads is None:
        payloads = row.answer(context, ReceivedMessage(message, received.datagram, received.path, received.now))
    if payloads is None:
        context.host.count("limited")
    if context.authenticated:
        _note(context, message)
    return payloads


def _syntax_error(context: Context, error: IkeSyntaxError) -> list[Payload]:
    """INVALID_SYNTAX is fatal on both sides (RFC 7296 §2.21.3), a critical payload we do not know is not."""
    if not isinstance(error, UnsupportedCriticalPayloadError) or not context.authenticated:
        context.fail(Cause.SYNTAX, str(error))
    return _notifies(error)


def _notifies(error: IkeError) -> list[Payload]:
    notify = notify_of(error)
    return [] if notify is None else [notify]


def _reply(context: Context, payloads: list[Payload], received: ReceivedMessage) -> None:
    header = received.message.header
    flags = context.sa.request_flags | Flag.RESPONSE
    sealed = seal(context, Header(context.sa.spi_i, context.sa.spi_r, header.exchange, flags, header.message_id), payloads)
    context.window.replied(sealed, _came_in(received, context.window.requests))
    context.sa.answered = context.sa.incoming
    transmit(context, sealed.datagrams, received.path)
    later, context.after_reply = context.after_reply, StepsAfterReply()
    for step in later.steps:
        step()
    if later.closing is not None:
        cause, text, again = later.closing
        context.end(cause, text, received.now, again=again, linger=True)


def _repeat_reply(context: Context, received: ReceivedMessage) -> None:
    """A duplicate: its sender may have the reply again, of a fragmented request for the first fragment (RFC 7383 §2.6.1)."""
    sealed = received.message.get(Encrypted) or received.message.get(EncryptedFragment)
    incoming = context.sa.answered or context.sa.incoming
    if sealed is None or incoming is None or not context.window.repeats.any_left(received.now):
        return
    open_payload(incoming, received.datagram, sealed)
    if (isinstance(sealed, Encrypted) or sealed.number == 1) and context.window.repeats.take(received.now):
        transmit(context, shorter.reply(context, received), received.path)


def _receive_response(context: Context, received: ReceivedMessage) -> None:
    header, outstanding = received.message.header, context.window.outstanding
    if (
        outstanding is None
        or header.message_id != outstanding.message_id
        or header.exchange != outstanding.task.exchange
        or context.state not in transitions.MAY_RECEIVE
    ):
        context.host.count("out_of_window")
        return
    task = outstanding.task
    try:
        message = _open(context, received, context.window.responses)
        if message is None:
            return
        _heard(context, received)
        shorter.answered(context, outstanding, _came_in(received, context.window.responses), received.now)
        context.handshake.hints.clear()
        row = transitions.response_row(context.state, task.exchange, task.shape)
        if row is None:
            raise IkeSyntaxError("a response that nobody waits for")
        _response(context, task, row, ReceivedMessage(message, received.datagram, received.path, received.now))
    except IntegrityError:
        raise
    except IkeError as error:
        task.unusable(context, error, received.now)
    if context.window.outstanding is outstanding:
        context.window.outstanding = None


def _response(context: Context, task: Task, row: transitions.Row, received: ReceivedMessage) -> None:
    """An error refuses a request for an SA whatever stands beside it (RFC 7296 §3.10.1); in IKE_AUTH it may be the CHILD_SA's
    alone. INVALID_SYNTAX says that the peer has ended the IKE SA, and so do we, without a DELETE (§2.21.3): unless that is what we
    asked for."""
    message, now = received.message, received.now
    errors = [notify for notify in message.all(Notify) if notify.is_error]
    missing = row.missing(message)
    if message.notify(NotifyType.INVALID_SYNTAX) is not None and context.state is not State.DELETING:
        text = f"the peer could not read our {task.name} request (INVALID_SYNTAX), which ends the IKE SA on both sides"
        context.end(Cause.SYNTAX, text, now, again=True)
    elif errors and (missing or task.exchange in _MAKING):
        worst = next((notify for notify in errors if notify.notify_type == NotifyType.AUTHENTICATION_FAILED), errors[0])
        task.refused(context, worst, f"the peer refuses: {refusals.in_words(refusals.errors_in(message))}", now)
    elif missing:
        raise IkeSyntaxError(f"it lacks {', '.join(kind.name for kind in missing)}")
    else:
        task.answered(context, received)
        _note(context, message)


def _open(context: Context, received: ReceivedMessage, reassembler: Reassembler) -> Message | None:
    """The message with what was protected in it; None while fragments are missing. Raises IntegrityError, IkeSyntaxError."""
    message = _opened(context, received, reassembler)
    if message is not None:
        context.host.environment.trace.opened(message)
    return message


def _opened(context: Context, received: ReceivedMessage, reassembler: Reassembler) -> Message | None:
    incoming, message = context.sa.incoming, received.message
    sealed = message.get(Encrypted)
    piece = message.get(EncryptedFragment)
    if incoming is not None and sealed is not None:
        plaintext = open_payload(incoming, received.datagram, sealed)
        shorter.came_longer(context, len(received.datagram))
        return opened(message, sealed.first_inner, plaintext)
    if incoming is None or piece is None or not context.abilities.fragmentation:
        raise IntegrityError("nothing protected in it")
    plaintext = open_payload(incoming, received.datagram, piece)
    whole = reassembler.add(message.header.message_id, piece, plaintext, received.now, len(received.datagram))
    if whole is None:
        return None
    shorter.came_longer(context, reassembler.longest)
    if not message.header.is_response:
        shorter.came(context, reassembler.longest, received.now)
    return opened(message, *whole)


def _came_in(received: ReceivedMessage, reassembler: Reassembler) -> int:
    """Octets of the longest datagram of a message that is whole now."""
    return len(received.datagram) if received.message.get(EncryptedFragment) is None else reassembler.longest


def _heard(context: Context, received: ReceivedMessage) -> None:
    """An authenticated message that was not here before: the peer lives, and where it is (RFC 7296 §2.23)."""
    context.deadlines.heard = received.now
    if context.authenticated and received.path.remote != context.path.remote:
        elsewhere.follow(context, received.path, received.now)
