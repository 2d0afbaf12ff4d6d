"""All IKE SAs of one gateway: whose a datagram is, who may begin one, and how many may be between the same two ends.

Implements `interface.IkeCore`. What it keeps for strangers is bounded (`strangers`, `admission`) and belongs to no tunnel
before AUTH has shown whose it is; IKE SAs that authenticated peers make are bounded for each pair of identities. Whatever happens
to one session, no other is looked at but those in its succession. What is to happen to many at once is begun with a few, and waits
for the others (`later`) until `timer` comes to them, or anything else wants to happen to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from ipsec_dp.ike.actions import NO_SPI, Action, Cause, Kind, Report, Send
from ipsec_dp.ike.authenticated import PEER_LIMITS, Accounts
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.interface import Counters, IkeStatus
from ipsec_dp.ike.later import AT_ONCE, Later
from ipsec_dp.ike.peer_table import PeerTable
from ipsec_dp.ike.post_quantum import NOTHING, PostQuantum
from ipsec_dp.ike.strangers import LIMITS, KeyExchanges, StrangersEvents
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.ike.traffic_selectors import asked_by
from ipsec_dp.ike.v2 import (
    acquire,
    delete,
    elsewhere,
    first_message,
    ike_rekey,
    reconfigure,
    replacement,
    report,
    shorter,
    timers,
    uniqueness,
)
from ipsec_dp.ike.v2.admission import Admission
from ipsec_dp.ike.v2.downgrades import Downgrades
from ipsec_dp.ike.v2.errors import Ikev1MessageError, InvalidMajorVersionError, UnsupportedCriticalPayloadError, notify_of
from ipsec_dp.ike.v2.holdings import Holdings
from ipsec_dp.ike.v2.lengths import Lengths
from ipsec_dp.ike.v2.lingering import Lingering
from ipsec_dp.ike.v2.message import Header, Message, begins, parse_message, receivers_spi
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.probe import PathProbe
from ipsec_dp.ike.v2.reception import Reception
from ipsec_dp.ike.v2.sa import CARRYING, HALF_OPEN, ChildState, State
from ipsec_dp.ike.v2.session import IkeSession, initiator, responder
from ipsec_dp.ike.v2.session_index import SessionIndex
from ipsec_dp.ike.v2.unsolicited import UnsolicitedAnswers
from ipsec_dp.ike.v2.wire import IKE_SPI, ExchangeType, NotifyType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipsec_dp.ike.actions import Endpoint, Path
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.peer_table import Candidates
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child, IkeSa
    from ipsec_dp.ipsec.selectors import SelectorPair

LATEST: Final = 32  # IKE SAs of a tunnel by which its state is judged


_Step = Callable[[float], list[Action]]  # of `now`


class IkeManager:
    """See `interface.IkeCore` for its calls."""

    def __init__(self, environment: Environment, peers: Iterable[Peer] = (), events: StrangersEvents | None = None) -> None:
        """`events`: which of those that strangers cause are told, where others have a part in it too."""
        self.environment = environment
        self.holdings = Holdings()
        self.downgrades = Downgrades()
        self.further = KeyExchanges(LIMITS.further_a_second, LIMITS.further_of_network_a_second)
        self.lengths = Lengths()
        self._peers = PeerTable(peers)
        self._sessions = SessionIndex()
        self._timers: TimerQueue[IkeSession] = TimerQueue()
        self._number = 0  # the last one given to a CHILD_SA
        self._spawned: list[IkeSession] = []  # by the session that acts just now
        self._later: Later[IkeSession, list[Action]] = Later()
        self._children: WeakValueDictionary[int, Child] = WeakValueDictionary()
        self._met: list[IkeSession] = []  # whose place it takes, or the other way round
        self._admission: Admission[IkeSession] = Admission(environment.rng)
        self._reception = Reception(environment.watcher, environment.keys)
        environment.watcher.cookie_secret(self._admission.cookie_secret)
        self._lingering: Lingering[IkeSession] = Lingering()
        self._accounts = Accounts()
        self._counts: Counter[str] = Counter()
        self._retransmissions: Counter[str] = Counter()  # by tunnel
        self._unsolicited = UnsolicitedAnswers()
        self._events = StrangersEvents() if events is None else events

    def set_peers(self, peers: Iterable[Peer]) -> None:
        self._peers = PeerTable(peers)

    def set_peer(self, peer: Peer) -> None:
        self._peers.set(peer)

    def reconfigure(self, peers: Iterable[Peer], effects: Mapping[str, Effect], now: float) -> list[Action]:
        new = {peer.tunnel: peer for peer in peers}
        for peer in new.values():
            self._peers.set(peer)
        for tunnel in effects.keys() - new.keys():
            self._peers.discard(tunnel)
            self._retransmissions.pop(tunnel, None)
        concerned: list[tuple[IkeSession, _Step]] = []
        for tunnel, effect in effects.items():
            concerned += self._to_reconfigure(tunnel, effect)
        for session, _ in concerned:
            if effects.get(session.peer.tunnel) is Effect.RESTART:
                session.withdrawn = True  # at once: a new one may begin before its turn has come
        return self._each(concerned, now)

    def _to_reconfigure(self, tunnel: str, effect: Effect) -> list[tuple[IkeSession, _Step]]:
        sessions = (session for session in self._sessions.of_tunnel(tunnel) if session.in_use)
        return [(session, partial(self._reconfigure, session, effect)) for session in sessions]

    def _reconfigure(self, session: IkeSession, effect: Effect, now: float) -> list[Action]:
        reconfigure.reconfigure(session, self._peers.get(session.peer.tunnel), effect, now)
        return _send_next(session, now)

    def judge_again(self, tunnel: str, now: float) -> list[Action]:
        return self._each(self._to_reconfigure(tunnel, Effect.RECHECK), now)

    # ---- many at once

    def _each(self, steps: Iterable[tuple[IkeSession, _Step]], now: float) -> list[Action]:
        """Lets something happen to each of many sessions: to AT_ONCE of them now."""
        self._later.add(steps)
        return self._go_on(now)

    def _go_on(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for session in self._later.first():
            actions += self._run(session, now, list)
        return actions

    # ---- what sessions ask

    def next_child(self) -> int:
        self._number += 1
        return self._number

    def holds(self, child: Child) -> None:
        self._children[child.number] = child

    def count(self, counter: str) -> None:
        self._counts[counter] += 1

    def retransmitted(self, tunnel: str) -> None:
        self._retransmissions[tunnel] += 1
        self.count("retransmissions")

    def spawn(self, candidates: Candidates, sa: IkeSa, path: Path, now: float) -> IkeSession:
        self._spawned.append(IkeSession(self, candidates, sa, path, now))
        return self._spawned[-1]

    def first_contact(self, session: Context) -> bool:
        alone = not self._others(session) and not self._admission.half_open.any_from(session.path.remote.address)
        return alone and not self.environment.on_trial

    def children(self, session: Context) -> int:
        tables = {id(one.children): len(one.children) for one in self._sessions.of_ends(session)}  # two may see the same ones
        return sum(tables.values())

    def has_room(self, session: Context) -> bool:
        held = (one for one in self._sessions.of_ends(session) if one.state is not State.LINGERING)
        return sum(1 for _ in held) < PEER_LIMITS.ike_sas

    def admits(self, session: Context) -> bool:
        return uniqueness.admits(session, self._others(session))

    def expected(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        return tuple(peer for one in peers if (peer := self._peers.get(one.tunnel)) is not None)

    def configured(self, peer: Peer) -> Peer:
        return self._peers.get(peer.tunnel) or peer

    def lacks(self, session: Context) -> bool:
        current = self._current(session.peer.tunnel)
        return self._peers.get(session.peer.tunnel) is not None and (current is None or current.state is not State.ESTABLISHED)

    def came_up(self, session: Context, now: float) -> None:
        shorter.keep(session)
        others = self._others(session)
        for other in others:
            if replacement.overlap(other, session):
                replacement.settle(session, other, now)
                self._met.append(other)
        old = next((other for other in others if replacement.replaces(session, other)), None)
        if old is not None and not replacement.overlap(old, session):
            replacement.begin(session, old, now)

    def _others(self, session: Context) -> list[IkeSession]:
        """Further IKE SAs that are up between the same identities, of whatever tunnel."""
        up = (other for other in self._sessions.of_ends(session) if other is not session)
        return [one for one in up if one.state in CARRYING and one.in_use]

    def candidates(self, path: Path) -> Candidates | None:
        """Whom somebody there may be; None: nobody is expected."""
        return self._peers.candidates(path)

    # ---- datagrams

    def knows(self, datagram: bytes) -> bool:
        session = self._sessions.get(receivers_spi(datagram))
        return session is not None and (session.sa.initiator or session.authenticated)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        try:
            message = parse_message(datagram)
        except Ikev1MessageError as error:
            self.count("ikev1")
            about = self._unusable(datagram, error, path, now, Kind.IKEV1)
            text = f"{path.remote} offers IKEv1, which is not spoken here"
            return self._events.report(Kind.IKEV1, text, now, LIMITS.ikev1_event_seconds) if about is None else about
        except (InvalidMajorVersionError, UnsupportedCriticalPayloadError) as error:
            self.count("malformed")
            about = self._unusable(datagram, error, path, now) or []
            due = isinstance(error, InvalidMajorVersionError) or begins(datagram)
            return about + (self._answer(notify_of(error), datagram, path, now) if due else [])
        except IkeSyntaxError as error:
            self.count("malformed")
            return self._unusable(datagram, error, path, now) or []
        header = message.header
        spi = header.spi_r if header.from_initiator else header.spi_i
        session = self._sessions.get(spi)
        if session is None and header.exchange == ExchangeType.IKE_SA_INIT and not header.is_response:
            return self._receive_init(datagram, message, path, now)
        if session is None or not _fits(session, header):
            self.count("unknown_spi")
            known = (
                header.spi_i in self._sessions or header.spi_r in self._sessions
            )  # one of our own messages, come back, or half of one
            return [] if known else self._answer(Notify(NotifyType.INVALID_IKE_SPI), datagram, path, now)
        return self._run(session, now, lambda: session.receive(datagram, message, path, now))

    def _unusable(
        self, datagram: bytes, error: IkeSyntaxError, path: Path, now: float, kind: Kind = Kind.IKE_FAILED
    ) -> list[Action] | None:
        """A datagram that is no message of IKEv2. It may be for a request of ours, or a peer's first one; None: of nobody's."""
        session = self._sessions.get(receivers_spi(datagram))
        if session is not None:
            session.handshake.spoken |= not isinstance(error, Ikev1MessageError)
            return self._run(session, now, partial(session.unusable, f"a message that cannot be read: {error}", path))
        event = first_message.unreadable(self._peers.candidates(path), datagram, error, path, kind)
        return None if event is None else self._events.allowed([Report(event)], now)

    def _answer(self, notify: Notify | None, datagram: bytes, path: Path, now: float) -> list[Action]:
        reply = None if notify is None else self._unsolicited.answer(notify, datagram, now)
        return [] if reply is None else [Send(reply, path)]

    def _receive_init(self, datagram: bytes, message: Message, path: Path, now: float) -> list[Action]:
        """Somebody begins. State is made only for a whole request, from where a peer may come, within the limits."""
        header = message.header
        if header.spi_r != NO_SPI or header.message_id != 0 or not header.from_initiator or header.spi_i in self._sessions:
            self.count("malformed")
            return []
        known = self._sessions.by_request((header.spi_i, path.remote))
        if known is not None:
            return self._run(known, now, lambda: known.receive(datagram, message, path, now))
        candidates = self._peers.candidates(path)
        if candidates is None:
            self.count("no_peer")
            text = f"{path.remote} begins IKE with {path.local.address}, and no tunnel expects anybody from there"
            return self._events.report(Kind.WARNING, text, now)
        demand = self._admission.demand(message, path, now)
        if demand is not None:
            self.count("cookies_sent")
            return [demand]
        session = responder(self, candidates, header.spi_i, path, now)
        actions = session.receive(datagram, message, path, now)
        if session.state in HALF_OPEN:
            configured = path.remote.address in candidates.first.remotes and self._admission.returned(message, path, now)
            return actions + self._hold(session, configured=configured, now=now)
        return self._events.allowed(actions, now)

    def _hold(self, session: IkeSession, *, configured: bool, now: float) -> list[Action]:
        """A session for a stranger. `configured`: a tunnel names his address, and a cookie came back from there."""
        remote = session.path.remote
        self._sessions.add_stranger(session)
        self._timers.set(session, session.next_timeout())
        self._reception.note(session)
        pushed_out = self._admission.half_open.add(session, remote.address, reserved=configured)
        if pushed_out is None:
            return []
        self.count("refused")
        return self._run(pushed_out, now, partial(_push_out, pushed_out, now))

    # ---- time

    def next_timeout(self) -> float | None:
        return -inf if self._later else self._timers.next()

    def timer(self, now: float) -> list[Action]:
        actions = self._go_on(now)
        for _ in range(AT_ONCE if not self._later else 1):
            session = self._timers.pop(now)
            if session is None:
                break
            actions += self._run(session, now, partial(session.timer, now))
        return actions

    # ---- commands

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        peer = self._peers[tunnel]
        up = self._current(tunnel)
        if up is not None:
            return self._run(up, now, partial(_acquire, up, packet, now))
        session = initiator(self, peer, path, now)
        for expired in self._sessions.of_tunnel(tunnel):
            if expired.state is State.EXPIRED and expired.in_use and expired.succession.after is None:
                session.succession.before, expired.succession.after = expired, session
        self._sessions.add(session)
        asked = None if packet is None else asked_by(packet, peer.proxy_ids)
        acquire.want(session, asked)
        return self._run(session, now, lambda: session.initiate(now, packet=asked))

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        session = self._current(tunnel)
        if session is None:
            return None
        return self._run(session, now, partial(_acquire, session, packet, now))

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        session = self._current(tunnel)
        if session is None or session.state is not State.ESTABLISHED:
            return []

        def step() -> list[Action]:
            if ike:
                ike_rekey.rekey(session, now)
            else:
                for child in list(session.children.values()):
                    timers.rekey_child(session, child, now)
            return _send_next(session, now)

        return self._run(session, now, step)

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        sessions = (one for one in self._sessions.of_tunnel(tunnel) if one.alive and not one.succession.handed_over)
        return self._each([(one, partial(_terminate, one)) for one in sessions], now)

    def leave(self, tunnel: str, now: float) -> list[Action]:
        """Ends a tunnel's IKE SAs at once, each with one DELETE whose answer nobody waits for: the way to the peer is gone."""
        return self._each([(one, one.close) for one in self._sessions.of_tunnel(tunnel) if one.alive], now)

    def delete_child(self, tunnel: str, child: int, now: float) -> list[Action]:
        def step(session: IkeSession, one: Child) -> None:
            delete.child(session, one, now)
            session.report(Kind.CHILD_DOWN, "deleted here", cause=Cause.LOCAL, child=child)

        return self._child_step(tunnel, child, now, step)

    def soft_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._child_step(tunnel, child, now, lambda session, one: timers.rekey_child(session, one, now))

    def hard_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._child_step(tunnel, child, now, lambda session, one: timers.expire(session, one, now))

    def peer_moved(self, tunnel: str, child: int, remote: Endpoint, now: float) -> list[Action]:
        def step(session: IkeSession, _one: Child) -> None:
            elsewhere.follow(session, replace(session.path, remote=remote), now)

        return self._child_step(tunnel, child, now, step)

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        session = self._sender(message)
        if session is None or (path.remote.address, path.remote.port) != (session.path.remote.address, session.path.remote.port):
            return []
        session.handshake.unreachable = session.path.natt
        text = f"an ICMP message says that UDP port {path.remote.port} of {path.remote.address} is not reached: {reason}"
        return self._run(session, now, partial(session.unusable, text, session.path))

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        session = self._sender(datagram)
        return [] if session is None else self._run(session, now, partial(session.unsent, datagram, why))

    def _sender(self, message: bytes) -> IkeSession | None:
        """Whose a message of ours is."""
        return self._sessions.get(message[:IKE_SPI]) or self._sessions.get(message[IKE_SPI : 2 * IKE_SPI])

    def probe(self, tunnel: str, octets: int, first_wait: float, now: float) -> list[Action] | None:
        session = self._current(tunnel)
        if session is None or session.state is not State.ESTABLISHED or any(session.pending()):
            return None
        session.enqueue(PathProbe(octets, first_wait, session.peer.liveness.retries))
        return self._run(session, now, lambda: _send_next(session, now))

    def check_liveness(self, tunnel: str, now: float) -> list[Action]:
        sessions = (one for one in self._sessions.of_tunnel(tunnel) if one.state is State.ESTABLISHED and one.in_use)
        return self._each([(one, one.check_liveness) for one in sessions], now)

    def close(self, now: float) -> list[Action]:
        sessions = (one for one in self._sessions.all() if one.alive and not one.succession.handed_over)
        return self._each([(one, one.close) for one in sessions], now)

    def forget(self, now: float) -> list[Action]:
        self._admission.renew()
        self.environment.watcher.cookie_secret(self._admission.cookie_secret)
        return self._each([(one, one.forget) for one in self._sessions.all()], now)

    def unfinished(self) -> bool:
        return bool(self._later)

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        sessions = self._sessions.of_tunnel(tunnel)
        return tuple(report.status(session, now) for session in sessions if session.in_use)

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        newest: list[IkeStatus] = []
        for session in self._sessions.newest_of_tunnel(tunnel):
            if session.in_use:
                newest.append(report.summary(session, now))
                if len(newest) == LATEST:
                    break
        return tuple(newest[::-1])

    def rekey_in(self, child: int, now: float) -> float | None:
        one, session = self._child(child)
        return None if one is None or session is None or session.state is not State.ESTABLISHED else report.rekey_in(one, now)

    def post_quantum(self, child: int) -> PostQuantum:
        one, _ = self._child(child)
        return NOTHING if one is None else report.post_quantum(one)

    def retransmissions(self, tunnel: str) -> int:
        return self._retransmissions.get(tunnel, 0)

    def sessions(self, tunnel: str | None = None) -> tuple[IkeSession, ...]:
        """The IKE SAs that are held of a tunnel, or of all, oldest first: those too that are replaced or linger."""
        return self._sessions.all() if tunnel is None else self._sessions.of_tunnel(tunnel)

    # ---- what is carried away, and taken over (`ike.carried`)

    @property
    def last_number(self) -> int:
        """Of the CHILD_SA that was made last."""
        return self._number

    def carried(self) -> tuple[list[IkeSession], list[IkeSession]]:
        """The IKE SAs of tunnels, of each oldest first; and those among all that have something to do, the first one first."""
        return list(self._sessions.by_tunnel()), [session for session, _ in self._timers.entries()]

    def peer(self, tunnel: str) -> Peer | None:
        """What a tunnel says now; None: it is not there."""
        return self._peers.get(tunnel)

    def has_spi(self, own_spi: bytes) -> bool:
        """Whether an IKE SA here has it."""
        return own_spi in self._sessions

    def has_child(self, number: int) -> bool:
        """Whether a CHILD_SA here has it."""
        return number in self._children

    def strangers(self) -> list[IkeSession]:
        """Those whose peer has proven nothing yet, and that he began."""
        return [session for session in self._sessions.all() if not session.authenticated and not session.sa.initiator]

    def knows_request(self, session: IkeSession) -> bool:
        """Whether a repeat of the first message finds it."""
        return self._sessions.by_request(session.handshake.request_key) is session

    def tallies(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was counted, and how often each tunnel's requests were sent again."""
        return dict(self._counts), dict(self._retransmissions)

    def go_on_from(self, number: int, tallies: tuple[Mapping[str, int], Mapping[str, int]]) -> None:
        """Numbers of CHILD_SAs follow those that another gave, and what it counted is counted on."""
        self._number = max(self._number, number)
        self._counts.update(tallies[0])
        self._retransmissions.update(tallies[1])

    def take_over(self, session: IkeSession, *, by_request: bool) -> None:
        """An IKE SA that was carried here is one of these from now on; `settle` follows for all that came together."""
        if by_request:
            self._sessions.add_stranger(session)
        self._sessions.add(session)
        session.ends.account = self._accounts.of(session.ends.meaning(), len(session.peer.proxy_ids))
        if session.children.holder is not session:
            return
        for child in session.children.values():
            self.holds(child)
            if child.installed and child.state is not ChildState.DELETED:
                self.holdings.hold(child, session.peer, session.ends.theirs)

    def settle(self, session: IkeSession) -> None:
        """It was taken over with all that belongs to it: its times count."""
        self._settle(session)

    @property
    def empty(self) -> bool:
        """True when nothing at all is held of any peer."""
        return self._sessions.empty and not self._timers and not self._admission.half_open and not self._lingering

    def counters(self) -> Counters:
        counted = {name: self._counts[name] for name in Counters.__dataclass_fields__ if name not in ("half_open", "sessions")}
        return Counters(**counted, half_open=len(self._admission.half_open), sessions=len(self._sessions))

    # ---- sessions

    def _current(self, tunnel: str) -> IkeSession | None:
        """The newest IKE SA of a tunnel that is up, else one that we are making."""
        ours = None
        for session in self._sessions.newest_of_tunnel(tunnel):
            if not session.in_use or session.state in (State.EXPIRED, State.DELETING):
                continue
            if session.state is State.ESTABLISHED and not replacement.replaced(session):
                return session
            if ours is None and session.sa.initiator:
                ours = session
        return ours

    def _child(self, number: int) -> tuple[Child | None, IkeSession | None]:
        """A CHILD_SA, and the IKE SA that has it; None: not any more."""
        one = self._children.get(number)
        return one, None if one is None or one.table is None else self._sessions.get(one.table.holder.sa.own_spi)

    def _child_step(self, tunnel: str, child: int, now: float, step: Callable[[IkeSession, Child], None]) -> list[Action]:
        one, session = self._child(child)
        if one is None or session is None or session.peer.tunnel != tunnel or session.succession.handed_over:
            return []

        def run() -> list[Action]:
            if child in session.children:
                step(session, one)
            return _send_next(session, now)

        return self._run(session, now, run)

    def _run(self, session: IkeSession, now: float, step: Callable[[], list[Action]]) -> list[Action]:
        """Let a session act, then see what became of it, and of those in its succession."""
        was_up, before = session.authenticated, _succession(session)
        actions: list[Action] = []
        for done in self._later.catch_up(session, now):
            actions += done
        actions += step()
        spawned, self._spawned = self._spawned, []
        for new in spawned:
            self._sessions.add(new)
        for new in spawned:
            actions += self._run(new, now, partial(_send_next, new, now))
        if session.authenticated and not was_up:
            actions += self._came_up(session, now)
        met, self._met = self._met, []
        for one in {**before, **_succession(session), **dict.fromkeys(met)}:
            self._settle(one)
        return self._events.allowed(actions, now)

    def _came_up(self, session: IkeSession, now: float) -> list[Action]:
        """AUTH has shown whose it is."""
        actions: list[Action] = []
        self._admission.half_open.discard(session)
        self._sessions.add(session)
        session.ends.account = self._accounts.of(session.ends.meaning(), len(session.peer.proxy_ids))
        for one, consequence in uniqueness.consequences(session, self._others(session), now):
            actions += self._run(one, now, partial(_do, one, consequence))
        for one in uniqueness.in_vain(session, self._sessions.of_tunnel(session.peer.tunnel)):
            actions += self._run(one, now, partial(_do, one, partial(uniqueness.give_up, one, session, now)))
        return actions

    def _settle(self, session: IkeSession) -> None:
        """Its timer, or its end."""
        if session.state is State.CLOSED:
            self._drop(session)
        elif session.sa.own_spi in self._sessions:
            self._timers.set(session, session.next_timeout())
            self._reception.note(session)
            if session.state is State.LINGERING and session.authenticated and session not in self._lingering:
                self._release(self._lingering.add(session, session.ends.meaning()))

    def _release(self, oldest: IkeSession | None) -> None:
        """One that has ended makes room for others that have."""
        if oldest is not None:
            oldest.release()
            self._drop(oldest)

    def _drop(self, session: IkeSession) -> None:
        self._later.discard(session)
        self._sessions.drop(session)
        self._reception.gone(session)
        self._timers.discard(session)
        self._lingering.discard(session)
        self._admission.half_open.discard(session)


def _fits(session: IkeSession, header: Header) -> bool:
    """Both SPIs are those of the session; its responder's is not known before the first response."""
    spis = (session.sa.spi_i, session.sa.spi_r)
    return header.spi_i == spis[0] and (header.spi_r == spis[1] or session.state is State.INIT_SENT)


def _succession(session: IkeSession) -> dict[IkeSession, None]:
    """The session and those that are to replace it or be replaced by it: what one step may change."""
    ways = session.succession
    if ways.before is ways.after is None and not isinstance(session.task, ike_rekey.IkeRekey):
        return {session: None}
    found: dict[IkeSession, None] = {}
    waiting: list[Any] = [session]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found[one] = None
            rival = one.task.rival if isinstance(one.task, ike_rekey.IkeRekey) else None
            waiting += [one.succession.before, one.succession.after, rival]
    return found


def _terminate(session: IkeSession, now: float) -> list[Action]:
    delete.ike(session, Cause.LOCAL, "terminated here", now)
    return _send_next(session, now)


def _push_out(session: IkeSession, now: float) -> list[Action]:
    session.end(Cause.RESOURCES, "others came after it", now, quiet=True)
    return session.take()


def _acquire(session: IkeSession, packet: SelectorPair | None, now: float) -> list[Action]:
    acquire.acquire(session, packet)
    return _send_next(session, now)


def _do(session: IkeSession, step: Callable[[], None]) -> list[Action]:
    step()
    return session.take()


def _send_next(session: IkeSession, now: float) -> list[Action]:
    session.send_next(now)
    return session.take()
