"""What a handler may ask of one IKE SA and change in it, and the shape of a handler for our own requests.

`session.IkeSession` is the machine behind it: it alone moves the SA from state to state, sends and ends. The handlers, which are in
the modules named for the exchanges, get a `Context` and know no more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Action, Cause, Event, ExpectInbound, Kind, MovePath, Origin, ReleaseSpi, Report
from ipsec_dp.ike.nat import Nat
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2.child_table import ChildTable
from ipsec_dp.ike.v2.deadlines import Deadlines
from ipsec_dp.ike.v2.exchanges import Priority, Queue, Request, Window
from ipsec_dp.ike.v2.payloads import Delete
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.standing import Abilities, Ends, Handshake
from ipsec_dp.ike.v2.wire import ExchangeType
from ipsec_dp.ike.wanted import Wanted
from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipsec_dp.ike.actions import Path, Renewal
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.strangers import KeyExchanges
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.downgrades import Downgrades
    from ipsec_dp.ike.v2.holdings import Holdings
    from ipsec_dp.ike.v2.lengths import Lengths
    from ipsec_dp.ike.v2.payloads import Notify, Payload
    from ipsec_dp.ike.v2.sa import Child, IkeSa, ReceivedMessage
    from ipsec_dp.ike.v2.series import TheirSeries


class IkeHost(Protocol):
    """What an IKE SA asks of the gateway around it."""

    environment: Environment
    holdings: Holdings  # what the peers have of the address space
    further: KeyExchanges  # additional ones that strangers may still have
    lengths: Lengths  # of datagrams, that the ways to peers took
    downgrades: Downgrades  # which peers have had keys that withstand a quantum adversary

    def next_child(self) -> int:
        """A number for a CHILD_SA, never given twice."""

    def holds(self, child: Child) -> None:
        """A CHILD_SA was made, whose `table` knows who has it from now on."""

    def spawn(self, candidates: Candidates, sa: IkeSa, path: Path, now: float) -> Context:
        """A further IKE SA, in state NEW: one that is to take the place of the one that asks."""

    def first_contact(self, context: Context) -> bool:
        """True when no other IKE SA of ours is between the same identities, nor begun from there: INITIAL_CONTACT may be sent."""

    def expected(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        """What the tunnels of these say now; without those that are gone."""

    def configured(self, peer: Peer) -> Peer:
        """What the tunnel of `peer` says now; `peer` itself when it says nothing any more."""

    def children(self, context: Context) -> int:
        """How many CHILD_SAs the IKE SAs between these two identities have."""

    def has_room(self, context: Context) -> bool:
        """False when so many IKE SAs are held between these two identities that a peer may not make another by a rekey."""

    def admits(self, context: Context) -> bool:
        """False when `unique` forbids a peer that has just authenticated a further IKE SA."""

    def lacks(self, context: Context) -> bool:
        """True when the tunnel that this one may be of is there, and has no IKE SA that is up."""

    def came_up(self, context: Context, now: float) -> None:
        """It has just been authenticated: find out which IKE SA it replaces (`replacement.begin`)."""

    def count(self, counter: str) -> None:
        """One datagram led to nothing: "unauthenticated", "out_of_window" or "malformed"; or a series of them: "unfinished"."""

    def retransmitted(self, tunnel: str) -> None:
        """A request of ours to this tunnel's peer was sent once more."""


class Task(Request, ABC):
    """One request of ours, from the wish to the answer."""

    @property
    def spi_in(self) -> int | None:
        """The SPI that it names for an inbound SA of ours."""
        return None

    @abstractmethod
    def build(self, context: Context, now: float) -> list[Payload] | None:
        """The payloads of the request; None when there is nothing to ask for any more."""

    @abstractmethod
    def answered(self, context: Context, received: ReceivedMessage) -> None:
        """The response, with every payload that the table requires."""

    def refused(self, context: Context, notify: Notify | None, text: str, now: float) -> None:
        """A response without them; `notify` is the error in it, if there is one. By default that ends the IKE SA."""
        del notify
        context.end(Cause.REFUSED, text, now, again=True)

    def unusable(self, context: Context, error: IkeError, now: float) -> None:
        """A response that is no refusal and cannot be used: the two sides do not have the same state. By default they start over
        (RFC 7296 §2.21.3), with a DELETE for the peer, unless this was ours."""
        if context.state is not State.DELETING:
            context.request(Farewell([Delete(ProtocolId.IKE)]), now)
        context.end(Cause.SYNTAX, f"the peer's answer to {self.name} cannot be used: {error}", now, again=True)

    def dropped(self, context: Context) -> None:
        """The IKE SA ends before the answer: give back what was set aside."""


class Farewell(Task):
    """The last that a peer is told of an IKE SA that it takes to be up: not repeated, and nobody waits for the answer."""

    exchange = ExchangeType.INFORMATIONAL
    tries = 0

    def __init__(self, payloads: list[Payload]) -> None:
        self._payloads = payloads

    def build(self, context: Context, now: float) -> list[Payload]:
        del context, now
        return self._payloads

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        """Never: the IKE SA is gone."""


@dataclass(slots=True)
class Succession:
    """The IKE SAs in whose place this one is, or that are in its place (`replacement`, `ike_rekey`)."""

    before: Context | None = None  # this one is to replace it
    after: Context | None = None  # it is to replace this one, up or not yet
    handed_over: bool = False  # what was on it is another's, and its end concerns nobody


@dataclass(slots=True)
class StepsAfterReply:
    """What a handler leaves to be done once its reply was sent."""

    steps: list[Callable[[], None]] = field(default_factory=list)
    closing: tuple[Cause, str, bool] | None = None


class Context(ABC):
    """One IKE SA as its handlers see it."""

    def __init__(self, host: IkeHost, candidates: Candidates, sa: IkeSa, path: Path, now: float) -> None:
        """`candidates`: who it may be; one when we initiate, and once IKE_AUTH has shown who."""
        sa.started = now
        self.host = host
        self.peer = candidates.first  # who it is, or the likeliest before IKE_AUTH
        self.sa = sa
        self.path = path
        self.nat = Nat()
        self.abilities = Abilities(*host.lengths.of(path.remote.address, now))
        self.handshake = Handshake((sa.spi_i, path.remote), candidates)
        self.ends = Ends(called=sa.initiator)
        self.window: Window[Task] = Window()
        self.queue: Queue[Task] = Queue()
        self.children: ChildTable = ChildTable(self)
        self.succession = Succession()
        self.series: dict[bytes, TheirSeries] = {}  # of key exchanges that the peer has not finished yet (`followup`), by link
        self.withdrawn = False  # its tunnel is configured otherwise now: what becomes of it concerns nobody
        self.deadlines = Deadlines()
        self.exchange = ""  # what events are about
        self.after_reply = StepsAfterReply()
        self._actions: list[Action] = []

    # ---- what it is

    @cached_property
    def wanted(self) -> Wanted:
        """Its CHILD_SAs, and those that lack; made when something asks, since nothing does while it is half-open."""
        return Wanted(self.peer.proxy_ids, lasting=self.peer.start == "start")

    @property
    @abstractmethod
    def state(self) -> State:
        """Where it stands; `enter` alone changes it."""

    @property
    def alive(self) -> bool:
        """False once nothing but duplicates can come of it."""
        return self.state not in (State.LINGERING, State.CLOSED)

    @property
    def in_use(self) -> bool:
        """True while it is its tunnel's: neither undecided nor replaced, withdrawn or at its end."""
        return self.alive and self.state is not State.PROVISIONAL and not self.succession.handed_over and not self.withdrawn

    @property
    def authenticated(self) -> bool:
        """True once both sides have proven themselves, on this SA or on the one that it rekeyed."""
        return self.sa.established_at < inf

    @property
    def origin(self) -> Origin:
        """Whose doing it is that this SA is there."""
        if self.ends.called:
            return Origin.OURS
        if self.authenticated:
            return Origin.PEER
        return Origin.CLAIMED if self.path.remote.address in self.peer.remotes else Origin.STRANGER

    @property
    def udp(self) -> bool:
        """True when ESP of this SA goes in UDP."""
        return self.nat.udp

    @property
    def keeps_way(self) -> bool:
        """True when keepalives are needed for what comes to us."""
        return self.nat.needs_keepalives(self.peer.liveness.interval_s, called=self.ends.called)

    @property
    def task(self) -> Task | None:
        """What our outstanding request is about."""
        return None if self.window.outstanding is None else self.window.outstanding.task

    def pending(self, *priorities: Priority) -> Iterator[Task]:
        """Our requests: the outstanding one, then those that wait for the window; of these `priorities`, none: of all."""
        if self.window.outstanding is not None:
            yield self.window.outstanding.task
        yield from self.queue.waiting(*priorities)

    def settle_on(self, peer: Peer) -> None:
        """It is known who it is."""
        self.peer, self.handshake.candidates = peer, Candidates((peer,))
        self.wanted.configure(peer.proxy_ids, lasting=peer.start == "start")

    # ---- what a handler has done by others

    def emit(self, *actions: Action) -> None:
        self._actions += actions

    def take(self) -> list[Action]:
        """The actions so far, which the caller then has."""
        actions, self._actions = self._actions, []
        return actions

    def report(
        self,
        kind: Kind,
        text: str,
        *,
        cause: Cause | None = None,
        child: int | None = None,
        again: bool = False,
        renewal: Renewal | None = None,
    ) -> None:
        if kind is Kind.CHILD_DOWN and child is not None:
            self.wanted.told(child, text)
        event = Event(
            kind,
            self.peer.tunnel,
            self.sa.spi_i,
            self.sa.spi_r,
            self.exchange,
            shown(text),
            cause,
            child,
            again,
            unspoken=kind is Kind.IKE_FAILED and self.handshake.unspoken,
            origin=self.origin,
            renewal=renewal,
            started=self.sa.started,
        )
        self.emit(Report(event))

    def release_spi(self, spi: int) -> None:
        self.emit(ReleaseSpi(spi))

    def move(self, path: Path, now: float) -> None:
        """Go after a peer behind a NAT to a new address, unless we are behind one ourselves (RFC 7296 §2.23)."""
        if not self.nat.remote or self.nat.local or path.natt != self.path.natt or now < self.deadlines.move_at:
            return
        self.deadlines.move_at = now + lifetimes.MOVE_EVERY
        self.path = path
        self.emit(MovePath(self.peer.tunnel, tuple(self.children), path))
        if self.task is not None and self.task.spi_in is not None:
            self.emit(expected_on(self, self.task.spi_in))
        self.report(Kind.PATH, f"the peer's address is now {path.remote}: its NAT changed the mapping")

    def start_deadlines(self, now: float) -> None:
        """It is up: its times begin."""
        initiator, called, rng = self.sa.initiator, self.ends.called, self.host.environment.rng
        self.deadlines.start(self.peer, now, rng, initiator=initiator, called=called, keeps=self.keeps_way)

    # ---- what it leaves to the machine

    def enqueue(self, task: Task) -> None:
        """A request to send when its turn comes."""
        self.queue.add(task)

    def defer(self, step: Callable[[], None]) -> None:
        """Do it right after the reply that a handler is preparing was sent."""
        self.after_reply.steps.append(step)

    def fail(self, cause: Cause, text: str, *, again: bool = False) -> None:
        """End this SA once the reply at hand is sent."""
        self.after_reply.closing = (cause, text, again)

    @abstractmethod
    def enter(self, state: State) -> None:
        """The SA is in `state` from now on. RuntimeError, a fault of ours, where `transitions` has no way to there."""

    @abstractmethod
    def initiate(self, now: float, pairs: Iterable[ProxyId] = (), packet: ProxyId | None = None) -> list[Action]:
        """Send IKE_SA_INIT. The first CHILD_SA is for `pairs` (none: all that are configured) and, first of all, for `packet`."""

    @abstractmethod
    def request(self, task: Task, now: float) -> None:
        """Send a request of ours; the window must be free."""

    @abstractmethod
    def request_again(self, task: Task, now: float) -> None:
        """IKE_SA_INIT once more with what the responder wants in it: message ID 0 again (RFC 7296 §2.6)."""

    @abstractmethod
    def send_next(self, now: float) -> None:
        """Send our next request if the window is free (RFC 7296 §2.3: one at a time)."""

    @abstractmethod
    def end(self, cause: Cause, text: str, now: float, *, again: bool = False, linger: bool = False, quiet: bool = False) -> None:
        """Nothing of this SA is left but, with `linger`, the answer to a duplicate. `quiet`: it is not worth an event."""


def expected_on(context: Context, spi: int) -> ExpectInbound:
    """For a request that names this SPI: before it is sent, and again when the peer moved while it is under way."""
    return ExpectInbound(context.peer.tunnel, spi, context.path, context.udp)
