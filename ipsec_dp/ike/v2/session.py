"""One IKE SA as a pure state machine: datagrams, `now` and commands go in, actions come out (RFC 7296).

The flow of a received message is `receiving`, what it may do is the table in `state`, what each exchange does is in the module of
its name. The flow of our own requests is `enqueue`, `pump`, `Task.build`, the wire, `Task.answered`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Action, Cause, Event, Kind, MovePath, Path, ReleaseSpi, Report, Send
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.nat import Nat
from ipsec_dp.ike.v2 import delete, reauth, receiving, timers, transitions
from ipsec_dp.ike.v2.deadlines import Deadlines
from ipsec_dp.ike.v2.errors import IntegrityError
from ipsec_dp.ike.v2.exchanges import Shape, Task, UnprovenError, Window
from ipsec_dp.ike.v2.fragment import Reassembler, message_room, seal_datagrams
from ipsec_dp.ike.v2.ike_init import Init
from ipsec_dp.ike.v2.liveness import silence_text
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.payloads import Payload
from ipsec_dp.ike.v2.sa import NO_SPI, Child, IkeSa, Received, State, nonzero_spi
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography import x509

    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.traffic_selectors import ProxyId

LINGER: Final = 30.0  # seconds in which a duplicate of the last request is still answered
MAX_QUEUE: Final = 256  # requests of ours that wait


class Host(Protocol):
    """What a session asks of the gateway around it."""

    environment: Environment

    def next_child(self) -> int:
        """A number for a CHILD_SA, never given twice."""

    def first_contact(self, session: IkeSession) -> bool:
        """True when no other IKE SA of ours is between the same identities: INITIAL_CONTACT may be sent."""

    def configured(self, peer: Peer) -> Peer:
        """What the tunnel of `peer` says now; `peer` itself when it says nothing any more."""

    def admits(self, session: IkeSession) -> bool:
        """False when `unique` forbids a peer that has just authenticated a further IKE SA."""

    def came_up(self, session: IkeSession, now: float) -> None:
        """It has just been authenticated: find out which IKE SA it replaces (`succession.come_up`)."""

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
        self.withdrawn = False  # its tunnel is configured otherwise now: what becomes of it concerns nobody
        self.authenticated = False
        self.established_at = inf
        self.lowest_nonce = b""  # of the exchange that made this SA
        self.nonces = (b"", b"")  # Ni, Nr of IKE_SA_INIT, for AUTH
        self.init_messages = (b"", b"")  # request and response as sent, for AUTH
        self.identities: tuple[Identity, Identity] | None = None  # ours, the peer's
        self.certificates: tuple[x509.Certificate, ...] = ()  # by which the peer proved itself
        self.initial_contact = False  # the peer sent it
        self.peer_hashes: frozenset[int] | None = None
        self.fragmentation = False
        self.nat = Nat()
        self.single_pair = False  # the peer takes one pair of selectors in an exchange
        self.attempted: set[ProxyId] = set()
        self.wanted: tuple[ProxyId, ...] = ()  # proxy IDs that are to have a CHILD_SA without any traffic
        self.called = sa.initiator  # of the SA that was authenticated: rekeys leave it
        self.before: IkeSession | None = None  # the IKE SA that this one is to replace (`succession`)
        self.after: IkeSession | None = None  # the one that replaces this, up or not yet
        self.deadlines = Deadlines()
        self.delayed: list[tuple[float, Task]] = []  # requests that wait until a time
        self.hints: list[UnprovenError] = []
        self.closing: tuple[Cause, str, bool] | None = None
        self.deferred: list[Callable[[], None]] = []
        self.exchange = ""  # what events are about
        self._out: list[Action] = []
        self.requests, self.responses = Reassembler(), Reassembler()

    # ---- the surface

    def initiate(self, now: float, pairs: Iterable[ProxyId] = (), packet: ProxyId | None = None) -> list[Action]:
        """Send IKE_SA_INIT. The first CHILD_SA is for `pairs` (none: all that are configured) and, first of all, for `packet`."""
        self.state = State.INIT_SENT
        self.request(Init(self, tuple(pairs) or self.peer.proxy_ids, packet), now)
        return self.take()

    def receive(self, datagram: bytes, message: Message, path: Path, now: float) -> list[Action]:
        """A message for this SA, `message` being what was parsed from `datagram`. Never raises for what is in it."""
        try:
            receiving.receive(self, Received(message, datagram, path, now))
        except IntegrityError:
            self.host.count("unauthenticated")
        except IkeError:
            self.host.count("malformed")
        self.pump(now)
        return self.take()

    def timer(self, now: float) -> list[Action]:
        """Retransmissions, lifetimes, liveness, whatever is due."""
        outstanding = self.window.outstanding
        self.exchange = "" if outstanding is None else outstanding.task.name
        if outstanding is not None and now >= outstanding.deadline:
            if outstanding.again(now):
                self.transmit(outstanding.datagrams, self.path, whole=outstanding.task.whole)
            elif (payloads := outstanding.task.instead()) is not None:
                header = Header(
                    self.sa.spi_i, self.sa.spi_r, outstanding.task.exchange, self.sa.request_flags, outstanding.message_id
                )
                outstanding.restart(self.build(header, payloads), now)
                self.transmit(outstanding.datagrams, self.path)
            else:
                self._unanswered(outstanding.task, now)
        if now >= self.deadlines.close_at:
            self._expired(now)
        if self.state is State.ESTABLISHED and not self.handed_over:
            timers.due(self, now)
        self.pump(now)
        return self.take()

    def vanish(self, now: float) -> list[Action]:
        """The peer has nothing of this SA any more (INITIAL_CONTACT): forget it without a word."""
        self.end(Cause.REPLACED, "the peer began anew (INITIAL_CONTACT)", now)
        return self.take()

    def forget(self, now: float) -> list[Action]:
        """A twin of this machine has the same keys: not one message more may leave under them."""
        self.after = None
        if self.alive:
            text = "this virtual machine was cloned or restored, and its keys are another's too"
            self.end(Cause.CLONED, text, now, again=True, quiet=self.state is State.INIT_ANSWERED)
        else:
            self.sa.wipe()
            self.state, self.deadlines.close_at = State.CLOSED, inf
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
            return min(self.window.deadline, self.deadlines.close_at, timers.next_due(self))
        return min(self.window.deadline, self.deadlines.close_at)

    def take(self) -> list[Action]:
        """The actions so far, which the caller then has."""
        actions, self._out = self._out, []
        return actions

    @property
    def peer(self) -> Peer:
        """Who it is, or the likeliest before IKE_AUTH told."""
        return self.candidates[0]

    @property
    def udp(self) -> bool:
        """True when ESP of this SA goes in UDP."""
        return self.nat.uses_udp(self.peer.encapsulation)

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
        self.deferred.append(step)

    def report(self, kind: Kind, text: str, *, cause: Cause | None = None, child: int | None = None, again: bool = False) -> None:
        self.emit(Report(Event(kind, self.peer.tunnel, self.sa.spi_i, self.sa.spi_r, self.exchange, text, cause, child, again)))

    def enqueue(self, task: Task) -> bool:
        """A request to send when its turn comes; false when too many wait."""
        if len(self.queue) >= MAX_QUEUE:
            return False
        self.queue.append(task)
        return True

    def pump(self, now: float) -> None:
        """Send our next request if the window is free (RFC 7296 §2.3: one at a time)."""
        while self.window.outstanding is None and self.queue and self.state in transitions.MAY_REQUEST:
            task = min(self.queue, key=lambda task: task.priority)  # the oldest of the most urgent
            self.queue.remove(task)
            self.request(task, now)
        if self.before is not None and self.window.outstanding is None:
            reauth.finish(self, now)

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
        datagrams = self.build(header, payloads, whole=task.whole)
        if task.exchange == ExchangeType.IKE_SA_INIT:
            self.init_messages = (datagrams[0], b"")
        self.window.sent(task, datagrams, now)
        self.transmit(datagrams, self.path, whole=task.whole)

    def init_again(self, task: Init, now: float) -> None:
        """IKE_SA_INIT once more with what the responder wants in it: message ID 0 again (RFC 7296 §2.6)."""
        self.window.next_id = 0
        self.request(task, now)

    def fail(self, cause: Cause, text: str, *, again: bool = False) -> None:
        """End this SA once the reply at hand is sent."""
        self.closing = (cause, text, again)

    def end(self, cause: Cause, text: str, now: float, *, again: bool = False, linger: bool = False, quiet: bool = False) -> None:
        """Nothing of this SA is left but, with `linger`, the answer to a duplicate. `quiet`: it is not worth an event."""
        established, task = self.established_at < inf, self.task
        self.window.outstanding = None
        if task is not None:
            task.dropped(self)  # a rekey by the peer may take everything over here
        quiet = self.withdrawn or (not self.handed_over and delete.inherit(self, now)) or quiet
        reauth.gone(self, now)
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
        self.deadlines.close_at = now + LINGER if linger else inf

    def release_spi(self, spi: int) -> None:
        self.emit(ReleaseSpi(spi))

    # ---- where the peer is

    def heard(self, received: Received) -> None:
        """An authenticated message that is news: the peer lives, and where it is (RFC 7296 §2.23)."""
        self.deadlines.heard = received.now
        if self.authenticated and received.path.remote != self.path.remote:
            self.move(received.path, received.now)

    def move(self, path: Path, now: float) -> None:
        """Follow a peer behind a NAT to a new address, unless we are behind one ourselves (RFC 7296 §2.23)."""
        if not self.nat.remote or self.nat.local or path.natt != self.path.natt or now < self.deadlines.move_at:
            return
        self.deadlines.move_at = now + lifetimes.MOVE_EVERY
        self.path = path
        self.emit(MovePath(self.peer.tunnel, tuple(self.children), path))
        self.report(Kind.PATH, f"the peer's address is now {path.remote}: its NAT changed the mapping")

    # ---- sending

    def build(self, header: Header, payloads: list[Payload], *, whole: bool = False) -> tuple[bytes, ...]:
        """The datagrams of a message; a `whole` one is not divided (RFC 7383), however long it is."""
        if header.exchange == ExchangeType.IKE_SA_INIT or self.sa.outgoing is None:
            return (build_message(Message(header, tuple(payloads))),)
        room = message_room(self.path.remote.address.version, marker=self.path.natt, datagram=self.peer.datagram)
        rng = self.host.environment.rng
        return seal_datagrams(self.sa.outgoing, header, payloads, rng, room=room, fragment=self.fragmentation and not whole)

    def transmit(self, datagrams: Iterable[bytes], path: Path, *, whole: bool = False) -> None:
        for datagram in datagrams:
            self.emit(Send(datagram, path, whole))

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
        self.end(cause, silence_text(self, task), now, again=True)

    def _expired(self, now: float) -> None:
        if self.state is State.INIT_ANSWERED:
            self.end(Cause.TIMEOUT, "the initiator did not authenticate in time", now, quiet=True)
        elif self.state is State.LINGERING:
            self.sa.wipe()
            self.state, self.deadlines.close_at = State.CLOSED, inf
        else:
            self.end(Cause.TIMEOUT, "the peer did not delete an IKE SA that was rekeyed", now, quiet=True)


def initiator(host: Host, peer: Peer, path: Path, now: float) -> IkeSession:
    """A session that is going to call `peer`."""
    return IkeSession(host, (peer,), IkeSa(initiator=True, spi_i=nonzero_spi(host.environment.rng)), path, now)


def responder(host: Host, candidates: tuple[Peer, ...], spi_i: bytes, path: Path, now: float) -> IkeSession:
    """A session for an IKE_SA_INIT request of somebody who may be one of `candidates`; it comes to life by `receive`."""
    return IkeSession(host, candidates, IkeSa(initiator=False, spi_i=spi_i, spi_r=NO_SPI), path, now)
