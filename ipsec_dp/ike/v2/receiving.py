"""A datagram on its way to what it may do: SPIs, direction, message ID, protection, fragments, the table, the reply (RFC 7296 §2).

Until the ICV has held, nothing here changes a session; the first function that may is named in a row of `state`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.errors import IkeError, IkeSyntaxError
from ipsec_dp.ike.v2 import transitions
from ipsec_dp.ike.v2.errors import IntegrityError, UnsupportedCriticalPayloadError, notify_of
from ipsec_dp.ike.v2.exchanges import Outstanding, Task, UnprovenError
from ipsec_dp.ike.v2.message import Header, Message
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment, Notify, Payload
from ipsec_dp.ike.v2.protect import open_payload, parse_inner
from ipsec_dp.ike.v2.sa import Received, State
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.fragment import Reassembler
    from ipsec_dp.ike.v2.session import IkeSession

HALF_OPEN: Final = 30.0  # seconds an initiator has to authenticate
MAX_HINTS: Final = 4  # of one IKE SA; whoever can send datagrams can cause them


def receive(session: IkeSession, received: Received) -> None:
    """Raises IkeError, and has then changed nothing, for what is not the peer's or not well formed."""
    header = received.message.header
    session.exchange = ExchangeType(header.exchange).name if header.exchange in list(ExchangeType) else ""
    if header.exchange == ExchangeType.IKE_SA_INIT:
        _receive_init(session, received)
    elif session.sa.incoming is None or header.from_initiator == session.sa.initiator:
        session.host.count("unauthenticated")
    elif header.is_response:
        _receive_response(session, received)
    elif session.window.reply and header.message_id == session.window.expected - 1:
        _repeat_reply(session, received)
    elif header.message_id == session.window.expected and session.state is not State.LINGERING:
        _receive_request(session, received)
    else:
        session.host.count("out_of_window")


def _receive_init(session: IkeSession, received: Received) -> None:
    """Nothing in it is authenticated before IKE_AUTH covers it."""
    outstanding = session.window.outstanding
    if received.message.header.is_response:
        if session.state is State.INIT_SENT and outstanding is not None:
            _init_response(session, outstanding, received)
    elif session.state is State.NEW:
        _init_request(session, received)
    elif session.state is State.INIT_ANSWERED and received.datagram == session.init_messages[0]:
        session.transmit(session.window.reply, received.path)


def _init_request(session: IkeSession, received: Received) -> None:
    row = transitions.request_row(session.state, received.message)
    if row is None or row.answer is None or row.missing(received.message):
        raise IkeSyntaxError("IKE_SA_INIT without its payloads")
    payloads = row.answer(session, received)
    header = received.message.header
    reply = Header(header.spi_i, session.sa.spi_r, header.exchange, session.sa.request_flags | Flag.RESPONSE, 0)
    datagrams = session.build(reply, payloads)
    if session.state is State.INIT_ANSWERED:
        session.init_messages = (received.datagram, datagrams[0])
        session.window.replied(datagrams)
        session.deadlines.close_at = received.now + HALF_OPEN
    session.transmit(datagrams, received.path)


def _init_response(session: IkeSession, outstanding: Outstanding, received: Received) -> None:
    header = received.message.header
    if header.from_initiator or header.message_id != 0:
        return
    session.window.outstanding = None
    try:
        outstanding.task.answered(session, received)
    except IkeError as error:  # whoever sent it: the genuine answer may still come
        session.window.outstanding = outstanding
        _hint(session, error, outstanding, received.now)


def _hint(session: IkeSession, error: IkeError, outstanding: Outstanding, now: float) -> None:
    """Keep asking, but not for long once the peer, as it seems, refuses."""
    hint = error if isinstance(error, UnprovenError) else UnprovenError(str(error))
    if any(str(known) == str(hint) for known in session.hints) or len(session.hints) == MAX_HINTS:
        return
    session.hints.append(hint)
    session.report(Kind.HINT, str(hint), cause=hint.cause)
    if hint.cause is not None:
        outstanding.attempt = outstanding.task.tries
        outstanding.deadline = min(outstanding.deadline, now + lifetimes.HINT_PATIENCE)


def _receive_request(session: IkeSession, received: Received) -> None:
    payloads: list[Payload] | None
    try:
        message = _open(session, received, session.requests)
        payloads = None if message is None else _answered(session, message, received)
    except IntegrityError:
        raise  # anybody may have sent it
    except IkeSyntaxError as error:
        payloads = _syntax_error(session, error)
    except IkeError as error:
        payloads = _notifies(error)
        session.fail(Cause.SYNTAX, str(error))
    if payloads is not None:
        _reply(session, payloads, received)


def _answered(session: IkeSession, message: Message, received: Received) -> list[Payload] | None:
    """What the table says; None when it says nothing."""
    row = transitions.request_row(session.state, message)
    if row is None or row.answer is None:
        session.host.count("out_of_window")
        return None
    session.heard(received)
    if row.missing(message):
        raise IkeSyntaxError(f"{row.exchange.name} request without {', '.join(kind.name for kind in row.missing(message))}")
    return row.answer(session, Received(message, received.datagram, received.path, received.now))


def _syntax_error(session: IkeSession, error: IkeSyntaxError) -> list[Payload]:
    """INVALID_SYNTAX is fatal on both sides (RFC 7296 §2.21.3), a critical payload we do not know is not."""
    if not isinstance(error, UnsupportedCriticalPayloadError) or not session.authenticated:
        session.fail(Cause.SYNTAX, str(error))
    return _notifies(error)


def _notifies(error: IkeError) -> list[Payload]:
    notify = notify_of(error)
    return [] if notify is None else [notify]


def _reply(session: IkeSession, payloads: list[Payload], received: Received) -> None:
    header = received.message.header
    flags = session.sa.request_flags | Flag.RESPONSE
    datagrams = session.build(Header(session.sa.spi_i, session.sa.spi_r, header.exchange, flags, header.message_id), payloads)
    session.window.replied(datagrams)
    session.transmit(datagrams, received.path)
    deferred, session.deferred = session.deferred, []
    for step in deferred:
        step()
    closing, session.closing = session.closing, None
    if closing is not None:
        cause, text, again = closing
        session.end(cause, text, received.now, again=again, linger=True)


def _repeat_reply(session: IkeSession, received: Received) -> None:
    """A duplicate: its sender may have the reply again, of a fragmented request for the first fragment (RFC 7383 §2.6.1)."""
    sealed = received.message.get(Encrypted) or received.message.get(EncryptedFragment)
    if sealed is None or session.sa.incoming is None:
        return
    open_payload(session.sa.incoming, received.datagram, sealed)
    if isinstance(sealed, Encrypted) or sealed.number == 1:
        session.transmit(session.window.reply, received.path)


def _receive_response(session: IkeSession, received: Received) -> None:
    header, outstanding = received.message.header, session.window.outstanding
    if (
        outstanding is None
        or header.message_id != outstanding.message_id
        or header.exchange != outstanding.task.exchange
        or session.state not in transitions.MAY_RECEIVE
    ):
        session.host.count("out_of_window")
        return
    task = outstanding.task
    try:
        message = _open(session, received, session.responses)
        if message is None:
            return
        session.heard(received)
        row = transitions.response_row(session.state, task.exchange, task.shape)
        if row is None:
            raise IkeSyntaxError("a response that nobody waits for")
        missing = row.missing(message)
        if missing:
            _refused(session, task, message, received.now)
        else:
            task.answered(session, Received(message, received.datagram, received.path, received.now))
    except IntegrityError:
        raise
    except IkeError as error:
        task.refused(session, None, f"the peer's answer cannot be used: {error}", received.now)
    if session.window.outstanding is outstanding:
        session.window.outstanding = None


def _refused(session: IkeSession, task: Task, message: Message, now: float) -> None:
    errors = [notify for notify in message.all(Notify) if notify.is_error]
    if errors:
        task.refused(session, errors[0], f"the peer refuses: {notify_text(errors[0])}", now)
    else:
        task.refused(session, None, "the peer's answer lacks payloads it must have", now)


def _open(session: IkeSession, received: Received, reassembler: Reassembler) -> Message | None:
    """The message with what was protected in it; None while fragments are missing. Raises IntegrityError, IkeSyntaxError."""
    incoming, message = session.sa.incoming, received.message
    sealed = message.get(Encrypted)
    piece = message.get(EncryptedFragment)
    if incoming is not None and sealed is not None:
        return message.with_payloads(parse_inner(sealed.first_inner, open_payload(incoming, received.datagram, sealed)))
    if incoming is None or piece is None or not session.fragmentation:
        raise IntegrityError("nothing protected in it")
    plaintext = open_payload(incoming, received.datagram, piece)
    whole = reassembler.add(message.header.message_id, piece, plaintext, received.now)
    return None if whole is None else message.with_payloads(parse_inner(*whole))


def notify_text(notify: Notify) -> str:
    """A notify's type in words."""
    known = notify.notify_type in list(NotifyType)
    return NotifyType(notify.notify_type).name if known else f"notify type {notify.notify_type}"
