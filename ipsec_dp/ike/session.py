"""One IKE SA as a pure state machine: datagrams, `now` and commands go in, actions come out (RFC 7296).

The flow of a received message is `receive`: check SPIs, direction and message ID; open it; only then let it change anything. What
it may do then is the table in `state`; what each exchange does is in the module of its name. The flow of our own requests is
`enqueue`, `pump`, `Task.build`, the wire, `Task.answered`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from ipsec_dp.ike import delete, life, state
from ipsec_dp.ike.actions import Action, Cause, Event, Kind, MovePath, Path, ReleaseSpi, Report, Send
from ipsec_dp.ike.exchanges import Outstanding, Shape, Task, UnprovenError, Window
from ipsec_dp.ike.fragment import Reassembler, message_room, seal_datagrams
from ipsec_dp.ike.init import Init
from ipsec_dp.ike.message import Header, Message, build_message
from ipsec_dp.ike.payloads import Encrypted, EncryptedFragment, Notify, Payload
from ipsec_dp.ike.protect import open_payload, parse_inner
from ipsec_dp.ike.sa import NO_SPI, Child, IkeSa, Received, State, nonzero_spi
from ipsec_dp.ike.wire import ExchangeType, Flag, IkeError, IkeSyntaxError, IntegrityError, NotifyType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer, ProxyId

LINGER: Final = 30.0  # seconds in which a duplicate of the last request is still answered
HALF_OPEN: Final = 30.0  # seconds an initiator has to authenticate
MAX_HINTS: Final = 4  # of one IKE SA; whoever can send datagrams can cause them
MAX_QUEUE: Final = 256  # requests of ours that wait


class Host(Protocol):
    """What a session asks of the gateway around it."""

    environment: Environment

    def next_child(self) -> int:
        """A number for a CHILD_SA, never given twice."""

    def first_contact(self, session: IkeSession) -> bool:
        """True when no other IKE SA of ours is between the same identities: INITIAL_CONTACT may be sent."""

    def admits(self, session: IkeSession) -> bool:
        """False when `unique` forbids a peer that has just authenticated a further IKE SA."""

    def count(self, counter: str) -> None:
        """One datagram led to nothing: "unauthenticated", "out_of_window" or "malformed"."""


class IkeSession:
    """One IKE SA. After each call `spawned` may hold new sessions (IKE SAs that rekeyed this one), for the caller to take."""

    def __init__(self, host: Host, candidates: tuple[Peer, ...], sa: IkeSa, path: Path, now: float) -> None:
        """`candidates`: who it may be; one when we initiate, and once IKE_AUTH has told."""
        self.host = host
        self.candidates = candidates
        self.sa = sa
        self.path = path
        self.started = now
        self.request_key = (sa.spi_i, path.remote)  # by which a duplicate IKE_SA_INIT request finds its way
        self.state = State.NEW
        self.window = Window()
        self.queue: list[Task] = []
        self.children: dict[int, Child] = {}
        self.spawned: list[IkeSession] = []
        self.handed_over = False
        self.authenticated = False
        self.established_at = inf
        self.lowest_nonce = b""  # of the exchange that made this SA
        self.nonces = (b"", b"")  # Ni, Nr of IKE_SA_INIT, for AUTH
        self.init_messages = (b"", b"")  # request and response as sent, for AUTH
        self.identities: tuple[Identity, Identity] | None = None  # ours, the peer's
        self.initial_contact = False  # the peer sent it
        self.peer_hashes: frozenset[int] | None = None
        self.fragmentation = False
        self.nat_local = self.nat_remote = self.natt_supported = False
        self.single_pair = False  # the peer takes one pair of selectors in an exchange
        self.attempted: set[ProxyId] = set()
        self.close_at = inf
        self.timers = life.Timers()
        self.hints: list[UnprovenError] = []
        self._closing: tuple[Cause, str, bool] | None = None
        self._deferred: list[Callable[[], None]] = []
        self._exchange = ""  # what events are about
        self._out: list[Action] = []
        self._requests, self._responses = Reassembler(), Reassembler()

    # ---- the surface

    def initiate(self, now: float, pairs: Iterable[ProxyId] = (), packet: ProxyId | None = None) -> list[Action]:
        """Send IKE_SA_INIT. The first CHILD_SA is for `pairs` (none: all that are configured) and, first of all, for `packet`."""
        self.state = State.INIT_SENT
        self.request(Init(self, tuple(pairs) or self.peer.proxy_ids, packet), now)
        return self.take()

    def receive(self, datagram: bytes, message: Message, path: Path, now: float) -> list[Action]:
        """A message for this SA, `message` being what was parsed from `datagram`. Never raises for what is in it."""
        try:
            self._receive(Received(message, datagram, path, now))
        except IntegrityError:
            self.host.count("unauthenticated")
        except IkeSyntaxError:
            self.host.count("malformed")
        self.pump(now)
        return self.take()

    def timer(self, now: float) -> list[Action]:
        """Retransmissions, lifetimes, liveness, whatever is due."""
        outstanding = self.window.outstanding
        self._exchange = "" if outstanding is None else outstanding.task.name
        if outstanding is not None and now >= outstanding.deadline:
            if outstanding.again(now):
                self._transmit(outstanding.datagrams, self.path)
            else:
                self._unanswered(outstanding.task, now)
        if now >= self.close_at:
            self._expired(now)
        if self.state is State.ESTABLISHED and not self.handed_over:
            life.due(self, now)
        self.pump(now)
        return self.take()

    def vanish(self, now: float) -> list[Action]:
        """The peer has nothing of this SA any more (INITIAL_CONTACT): forget it without a word."""
        self.end(Cause.REPLACED, "the peer began anew (INITIAL_CONTACT)", now)
        return self.take()

    def close(self, now: float) -> list[Action]:
        """End it with one DELETE, of which nobody waits for the answer."""
        if self.state is State.ESTABLISHED:
            self.request(delete.DeleteIke(Cause.LOCAL, ""), now)
        self.end(Cause.LOCAL, "closed here", now)
        return self.take()

    def next_timeout(self) -> float:
        """When `timer` wants to be called; inf: never."""
        if self.state is State.ESTABLISHED and not self.handed_over:
            return min(self.window.deadline, self.close_at, life.next_due(self))
        return min(self.window.deadline, self.close_at)

    def take(self) -> list[Action]:
        """The actions so far, which the caller then has."""
        actions, self._out = self._out, []
        return actions

    @property
    def peer(self) -> Peer:
        """Who it is, or the likeliest before IKE_AUTH told."""
        return self.candidates[0]

    @property
    def alive(self) -> bool:
        """False once nothing but duplicates can come of it."""
        return self.state not in (State.LINGERING, State.CLOSED)

    @property
    def task(self) -> Task | None:
        """What our outstanding request is about."""
        return None if self.window.outstanding is None else self.window.outstanding.task

    # ---- what exchanges use

    def emit(self, action: Action) -> None:
        self._out.append(action)

    def defer(self, step: Callable[[], None]) -> None:
        """Do it right after the reply that a handler is preparing was sent."""
        self._deferred.append(step)

    def report(self, kind: Kind, text: str, *, cause: Cause | None = None, child: int | None = None, again: bool = False) -> None:
        self.emit(Report(Event(kind, self.peer.tunnel, self.sa.spi_i, self.sa.spi_r, self._exchange, text, cause, child, again)))

    def enqueue(self, task: Task) -> bool:
        """A request to send when its turn comes; false when too many wait."""
        if len(self.queue) >= MAX_QUEUE:
            return False
        self.queue.append(task)
        return True

    def pump(self, now: float) -> None:
        """Send our next request if the window is free (RFC 7296 §2.3: one at a time)."""
        while self.window.outstanding is None and self.queue and self.state in state.MAY_REQUEST:
            task = min(self.queue, key=lambda task: task.priority)  # the oldest of the most urgent
            self.queue.remove(task)
            self.request(task, now)

    def request(self, task: Task, now: float) -> None:
        """Send a request of ours; the window must be free."""
        payloads = task.build(self, now)
        if payloads is None:
            return
        if self.window.exhausted:
            task.dropped(self)
            self.end(Cause.LIFETIME, "no message ID is left", now, again=True)
            return
        header = Header(self.sa.spi_i, self.sa.spi_r, task.exchange, self.sa.request_flags, self.window.next_id)
        datagrams = self._build(header, payloads)
        if task.exchange == ExchangeType.IKE_SA_INIT:
            self.init_messages = (datagrams[0], b"")
        self.window.sent(task, datagrams, now)
        self._transmit(datagrams, self.path)

    def init_again(self, task: Init, now: float) -> None:
        """IKE_SA_INIT once more with what the responder wants in it: message ID 0 again (RFC 7296 §2.6)."""
        self.window.next_id = 0
        self.request(task, now)

    def fail(self, cause: Cause, text: str, *, again: bool = False) -> None:
        """End this SA once the reply at hand is sent."""
        self._closing = (cause, text, again)

    def end(self, cause: Cause, text: str, now: float, *, again: bool = False, linger: bool = False, quiet: bool = False) -> None:
        """Nothing of this SA is left but, with `linger`, the answer to a duplicate. `quiet`: it is not worth an event."""
        established, task = self.established_at < inf, self.task
        self.window.outstanding = None
        if task is not None:
            task.dropped(self)  # a rekey by the peer may take everything over here
        if not quiet and not self.handed_over:
            self.report(Kind.IKE_DOWN if established else Kind.IKE_FAILED, text, cause=cause, again=again)
        for waiting in self.queue:
            waiting.dropped(self)
        self.queue.clear()
        if not self.handed_over:
            for child in list(self.children.values()):
                delete.forget(self, child)
        self.sa.wipe(keep_incoming=linger)
        self.state = State.LINGERING if linger else State.CLOSED
        self.close_at = now + LINGER if linger else inf

    def release_spi(self, spi: int) -> None:
        self.emit(ReleaseSpi(spi))

    # ---- receiving

    def _receive(self, received: Received) -> None:
        header = received.message.header
        self._exchange = ExchangeType(header.exchange).name if header.exchange in list(ExchangeType) else ""
        if header.exchange == ExchangeType.IKE_SA_INIT:
            self._receive_init(received)
        elif self.sa.incoming is None or header.from_initiator == self.sa.initiator:
            self.host.count("unauthenticated")
        elif header.is_response:
            self._receive_response(received)
        elif self.window.reply and header.message_id == self.window.expected - 1:
            self._repeat_reply(received)
        elif header.message_id == self.window.expected and self.state is not State.LINGERING:
            self._receive_request(received)
        else:
            self.host.count("out_of_window")

    def _receive_init(self, received: Received) -> None:
        """Nothing in it is authenticated before IKE_AUTH covers it."""
        outstanding = self.window.outstanding
        if received.message.header.is_response:
            if self.state is State.INIT_SENT and outstanding is not None:
                self._init_response(outstanding, received)
        elif self.state is State.NEW:
            self._init_request(received)
        elif self.state is State.INIT_ANSWERED and received.datagram == self.init_messages[0]:
            self._transmit(self.window.reply, received.path)

    def _init_request(self, received: Received) -> None:
        row = state.request_row(self.state, received.message)
        if row is None or row.answer is None or row.missing(received.message):
            raise IkeSyntaxError("IKE_SA_INIT without its payloads")
        payloads = row.answer(self, received)
        header = received.message.header
        reply = Header(header.spi_i, self.sa.spi_r, header.exchange, self.sa.request_flags | Flag.RESPONSE, 0)
        datagrams = self._build(reply, payloads)
        if self.state is State.INIT_ANSWERED:
            self.init_messages = (received.datagram, datagrams[0])
            self.window.replied(datagrams)
            self.close_at = received.now + HALF_OPEN
        self._transmit(datagrams, received.path)

    def _init_response(self, outstanding: Outstanding, received: Received) -> None:
        header = received.message.header
        if header.from_initiator or header.message_id != 0:
            return
        self.window.outstanding = None
        try:
            outstanding.task.answered(self, received)
        except IkeError as error:  # whoever sent it: the genuine answer may still come
            self.window.outstanding = outstanding
            self._hint(error, outstanding, received.now)

    def _hint(self, error: IkeError, outstanding: Outstanding, now: float) -> None:
        """Keep asking, but not for long once the peer, as it seems, refuses."""
        hint = error if isinstance(error, UnprovenError) else UnprovenError(str(error))
        if any(str(known) == str(hint) for known in self.hints) or len(self.hints) == MAX_HINTS:
            return
        self.hints.append(hint)
        self.report(Kind.HINT, str(hint), cause=hint.cause)
        if hint.cause is not None:
            outstanding.attempt = outstanding.task.tries
            outstanding.deadline = min(outstanding.deadline, now + life.HINT_PATIENCE)

    def _receive_request(self, received: Received) -> None:
        try:
            message = self._open(received, self._requests)
            if message is None:
                return
            row = state.request_row(self.state, message)
            if row is None or row.answer is None:
                self.host.count("out_of_window")
                return
            self._heard(received)
            if row.missing(message):
                raise IkeSyntaxError(f"{row.exchange.name} request without {', '.join(kind.name for kind in row.missing(message))}")
            payloads = row.answer(self, Received(message, received.datagram, received.path, received.now))
        except IkeSyntaxError as error:
            payloads = self._syntax_error(error)
        except IkeError as error:
            payloads = [Notify(getattr(error, "notify", NotifyType.INVALID_SYNTAX))]
            self.fail(Cause.SYNTAX, str(error))
        self._reply(payloads, received)

    def _syntax_error(self, error: IkeSyntaxError) -> list[Payload]:
        """INVALID_SYNTAX is fatal on both sides (RFC 7296 §2.21.3), a critical payload we do not know is not."""
        notify = NotifyType.INVALID_SYNTAX if error.notify is None else error.notify
        if notify == NotifyType.INVALID_SYNTAX or not self.authenticated:
            self.fail(Cause.SYNTAX, str(error))
        return [Notify(notify, error.notify_data)]

    def _reply(self, payloads: list[Payload], received: Received) -> None:
        header = received.message.header
        flags = self.sa.request_flags | Flag.RESPONSE
        datagrams = self._build(Header(self.sa.spi_i, self.sa.spi_r, header.exchange, flags, header.message_id), payloads)
        self.window.replied(datagrams)
        self._transmit(datagrams, received.path)
        deferred, self._deferred = self._deferred, []
        for step in deferred:
            step()
        closing, self._closing = self._closing, None
        if closing is not None:
            cause, text, again = closing
            self.end(cause, text, received.now, again=again, linger=True)

    def _repeat_reply(self, received: Received) -> None:
        """A duplicate: its sender may have the reply again, of a fragmented request for the first fragment (RFC 7383 §2.6.1)."""
        sealed = received.message.get(Encrypted) or received.message.get(EncryptedFragment)
        if sealed is None or self.sa.incoming is None:
            return
        open_payload(self.sa.incoming, received.datagram, sealed)
        if isinstance(sealed, Encrypted) or sealed.number == 1:
            self._transmit(self.window.reply, received.path)

    def _receive_response(self, received: Received) -> None:
        header, outstanding = received.message.header, self.window.outstanding
        if (
            outstanding is None
            or header.message_id != outstanding.message_id
            or header.exchange != outstanding.task.exchange
            or self.state not in state.MAY_RECEIVE
        ):
            self.host.count("out_of_window")
            return
        task = outstanding.task
        try:
            message = self._open(received, self._responses)
            if message is None:
                return
            self._heard(received)
            row = state.response_row(self.state, task.exchange, task.shape)
            if row is None:
                raise IkeSyntaxError("a response that nobody waits for")
            missing = row.missing(message)
            if missing:
                self._refused(task, message, received.now)
            else:
                task.answered(self, Received(message, received.datagram, received.path, received.now))
        except IntegrityError:
            raise
        except IkeError as error:
            task.refused(self, None, f"the peer's answer cannot be used: {error}", received.now)
        if self.window.outstanding is outstanding:
            self.window.outstanding = None

    def _refused(self, task: Task, message: Message, now: float) -> None:
        errors = [notify for notify in message.all(Notify) if notify.is_error]
        if errors:
            task.refused(self, errors[0], f"the peer refuses: {notify_text(errors[0])}", now)
        else:
            task.refused(self, None, "the peer's answer lacks payloads it must have", now)

    def _open(self, received: Received, reassembler: Reassembler) -> Message | None:
        """The message with what was protected in it; None while fragments are missing. Raises IntegrityError, IkeSyntaxError."""
        incoming, message = self.sa.incoming, received.message
        sealed = message.get(Encrypted)
        piece = message.get(EncryptedFragment)
        if incoming is not None and sealed is not None:
            return message.with_payloads(parse_inner(sealed.first_inner, open_payload(incoming, received.datagram, sealed)))
        if incoming is None or piece is None or not self.fragmentation:
            raise IntegrityError("nothing protected in it")
        plaintext = open_payload(incoming, received.datagram, piece)
        whole = reassembler.add(message.header.message_id, piece, plaintext, received.now)
        return None if whole is None else message.with_payloads(parse_inner(*whole))

    def _heard(self, received: Received) -> None:
        """An authenticated message that is news: the peer lives, and where it is (RFC 7296 §2.23)."""
        self.timers.heard = received.now
        if self.authenticated and received.path.remote != self.path.remote:
            self.move(received.path, received.now)

    def move(self, path: Path, now: float) -> None:
        """Follow a peer behind a NAT to a new address, unless we are behind one ourselves (RFC 7296 §2.23)."""
        if not self.nat_remote or self.nat_local or path.natt != self.path.natt or now < self.timers.move_at:
            return
        self.timers.move_at = now + life.MOVE_EVERY
        self.path = path
        self.emit(MovePath(self.peer.tunnel, tuple(self.children), path))
        self.report(Kind.PATH, f"the peer's address is now {path.remote}: its NAT changed the mapping")

    # ---- sending

    def _build(self, header: Header, payloads: list[Payload]) -> tuple[bytes, ...]:
        if header.exchange == ExchangeType.IKE_SA_INIT or self.sa.outgoing is None:
            return (build_message(Message(header, tuple(payloads))),)
        room = message_room(self.path.remote.address.version, marker=self.path.natt, datagram=self.peer.datagram)
        rng = self.host.environment.rng
        return seal_datagrams(self.sa.outgoing, header, payloads, rng, room=room, fragment=self.fragmentation)

    def _transmit(self, datagrams: Iterable[bytes], path: Path) -> None:
        for datagram in datagrams:
            self.emit(Send(datagram, path))

    # ---- ends

    def _unanswered(self, task: Task, now: float) -> None:
        if self.state is State.DELETING or self.handed_over:
            self.end(Cause.TIMEOUT, "the peer did not answer the DELETE", now)
            return
        hint = next((hint for hint in reversed(self.hints) if hint.cause is not None), None)
        if hint is not None and self.state is State.INIT_SENT:
            self.end(hint.cause or Cause.REFUSED, f"{hint} (not authenticated)", now, again=True)
            return
        cause = Cause.LIVENESS if task.shape is Shape.ANY and self.state is State.ESTABLISHED else Cause.TIMEOUT
        self.end(cause, life.silence_text(self, task), now, again=True)

    def _expired(self, now: float) -> None:
        if self.state is State.INIT_ANSWERED:
            self.end(Cause.TIMEOUT, "the initiator did not authenticate in time", now, quiet=True)
        elif self.state is State.LINGERING:
            self.sa.wipe()
            self.state, self.close_at = State.CLOSED, inf
        else:
            self.end(Cause.TIMEOUT, "the peer did not delete an IKE SA that was rekeyed", now, quiet=True)


def notify_text(notify: Notify) -> str:
    """A notify's type in words."""
    known = notify.notify_type in list(NotifyType)
    return NotifyType(notify.notify_type).name if known else f"notify type {notify.notify_type}"


def initiator(host: Host, peer: Peer, path: Path, now: float) -> IkeSession:
    """A session that is going to call `peer`."""
    return IkeSession(host, (peer,), IkeSa(initiator=True, spi_i=nonzero_spi(host.environment.rng)), path, now)


def responder(host: Host, candidates: tuple[Peer, ...], spi_i: bytes, path: Path, now: float) -> IkeSession:
    """A session for an IKE_SA_INIT request of somebody who may be one of `candidates`; it comes to life by `receive`."""
    return IkeSession(host, candidates, IkeSa(initiator=False, spi_i=spi_i, spi_r=NO_SPI), path, now)
